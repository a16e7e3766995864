/* SPDX-License-Identifier: MIT
 * A GGUF as a model: hyper-parameters and typed views of its weights, all checked at load, so that the
 * forward pass needs no checks. Immutable once loaded; any number of threads may read it. */
#ifndef CORE_MODEL_H
#define CORE_MODEL_H

#include "core/gguf.h"

enum bn_activation {
    BN_ACTIVATION_RELU2, /* max(gate, 0)^2 * up */
    BN_ACTIVATION_SILU,  /* gate / (1 + exp(-gate)) * up */
};

enum bn_rope {
    BN_ROPE_NEOX, /* pairs (j, j + n_rot/2) */
    BN_ROPE_NORM, /* pairs (2j, 2j + 1) */
};

/* How a weight matrix lies in the memory that the products read. */
enum bn_layout {
    BN_LAYOUT_FLOAT,     /* rows as in the file: F16, BF16 or F32 */
    BN_LAYOUT_FILE,      /* rows of blocks as in the file: for look-ups; products need tiles */
    BN_LAYOUT_BLOCKS,    /* blocks in tiles (kernels/block_slots.h) */
    BN_LAYOUT_QK256,     /* ternary rows as in I2_S files */
    BN_LAYOUT_I2S,       /* ternary, in tiles (kernels/pack.h) */
    BN_LAYOUT_I2S_BLOCK, /* the same with block scales */
    BN_LAYOUT_TL1,       /* ternary, indices of pairs in tiles (kernels/lut.h) */
    BN_LAYOUT_TL2,       /* the same of triples */
};

/* One weight matrix: [n_rows][k], k contiguous in the file. */
struct bn_weight {
    const void *data;   /* in the file */
    const void *packed; /* in the order of `layout`: data itself, or what bn_model_prepare made of it */
    enum bn_layout layout;
    uint32_t tile_rows; /* of the layout: its rows come in such groups … */
    size_t tile_bytes;  /* … of this size */
    uint32_t type;      /* ternary (bn_type_is_ternary), F16, BF16, F32 or a block format's (core/block.h) */
    uint32_t n_rows, k;
    uint32_t block;    /* ternary: weights of a row that share a scale in the layout; 0 = all of the matrix */
    float scale;       /* of a ternary matrix with one, finite; else 1 */
    float extra_scale; /* the one element of a `.scale` tensor, applied after scale; 1 = there is none */
    const float *bias; /* [n_rows], added last; NULL = none */
    uint64_t size_bytes;
};

struct bn_layer {
    const float *attn_norm;     /* [n_embd] */
    const float *attn_sub_norm; /* [n_head * head_dim], NULL = the architecture has none */
    const float *ffn_norm;      /* [n_embd] */
    const float *ffn_sub_norm;  /* [n_ff], NULL = the architecture has none */
    struct bn_weight q;         /* [n_head * head_dim][n_embd] */
    struct bn_weight k, v;      /* [n_head_kv * head_dim][n_embd] */
    struct bn_weight output;    /* [n_embd][n_head * head_dim] */
    struct bn_weight gate, up;  /* [n_ff][n_embd] */
    struct bn_weight down;      /* [n_embd][n_ff] */
};

struct bn_model {
    struct bn_gguf gguf;
    const char *arch, *name; /* general.architecture, general.name ("" = none) */
    const char *format;      /* of the projections, as in file names: "i2s", "tq2_0", "f16", "q4_k", … */
    enum bn_activation activation;
    enum bn_rope rope;
    uint32_t n_layer, n_embd, n_ff, n_head, n_head_kv, head_dim, n_vocab;
    uint32_t n_ctx; /* positions that the model was made for */
    uint32_t n_rot; /* leading values of a head that are rotated; even */
    float rope_base, norm_eps;
    const float *rope_factors;  /* [n_rot / 2], angles are divided by them; NULL = none */
    struct bn_weight embedding; /* [n_vocab][n_embd], no I2_S */
    struct bn_weight lm_head;   /* the same unless the file has output.weight */
    const float *output_norm;   /* [n_embd] */
    struct bn_layer *layers;    /* [n_layer] */
    void *packed;               /* what bn_model_prepare made; NULL = nothing */
    size_t packed_bytes;
    uint64_t weight_bytes; /* of all tensors */
    uint64_t
        bytes_per_token; /* weights that one decoded token reads: all but the embedding, of which one row */
};

/* Load a file, or bytes that stay valid until close (`label` stands for the path in messages). Every weight
 * has the layout of the file: ready to run unless that is BN_LAYOUT_FILE, but faster once prepared
 * (core/prepare.h). Architectures: bitnet-b1.58, bitnet-25, bitnet, llama. 0, or -1 with one line: file, key
 * or tensor, what was found and what was expected. */
int bn_model_load(struct bn_model *model, const char *path, struct bn_err *err);
int bn_model_load_memory(struct bn_model *model, const void *bytes, size_t n, const char *label,
                         struct bn_err *err);
/* Accepts a zeroed and a closed model. */
void bn_model_close(struct bn_model *model);

/* A type that models can have, as file names and reports have it: "i2s", "tq2_0", "f16", "q6_k". */
const char *bn_model_format_name(uint32_t type);

/* Does any projection use ternary weights? */
bool bn_model_is_ternary(const struct bn_model *model);

/* Is there a projection in this layout? */
bool bn_model_has_layout(const struct bn_model *model, enum bn_layout layout);

/* One row of the file is this many bytes. */
static inline uint64_t bn_weight_row_bytes(const struct bn_weight *w)
{
    return bn_type_row_bytes(w->type, w->k);
}

/* The rows from `row` on, the first of a group, in the layout. */
static inline const uint8_t *bn_weight_rows(const struct bn_weight *w, size_t row)
{
    return (const uint8_t *)w->packed + row / w->tile_rows * w->tile_bytes;
}

/* What a product with the whole matrix reads. */
static inline uint64_t bn_weight_stream_bytes(const struct bn_weight *w)
{
    return (uint64_t)((w->n_rows + w->tile_rows - 1) / w->tile_rows) * w->tile_bytes;
}

static inline bool bn_weight_is_ternary(const struct bn_weight *w)
{
    return bn_type_is_ternary(w->type);
}

enum { BN_LAYER_MATRICES = 7 };

/* A block's matrices in the order in which a token meets them, and their names without "blk.N." and
 * ".weight". */
extern const char *const bn_layer_matrix_names[BN_LAYER_MATRICES];
void bn_layer_matrices(struct bn_layer *layer, struct bn_weight *all[BN_LAYER_MATRICES]);

#endif
