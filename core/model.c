/* SPDX-License-Identifier: MIT
 * GGUF to model: every name, type, shape and number that the forward pass relies on is checked at load, once.
 *
 * A tensor that is not known is refused rather than ignored: a model that computes something else than its
 * makers meant is worse than none. */
#include "core/model_parts.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#include "core/block.h"

/* ---- tensors ---- */

static const struct bn_tensor *find(struct bn_model_loader *l, const char *name)
{
    const struct bn_tensor *t = bn_gguf_tensor(l->gguf, name);

    if (t)
        l->used[t - l->gguf->tensors] = true;
    return t;
}

static int check_shape(struct bn_model_loader *l, const struct bn_tensor *t, const char *name, uint64_t ne0,
                       uint64_t ne1)
{
    if (t->ne[0] == ne0 && t->ne[1] == ne1 && t->ne[2] == 1 && t->ne[3] == 1)
        return 0;
    char found[128], expected[64];
    if (t->ne[2] == 1 && t->ne[3] == 1)
        snprintf(found, sizeof found, "%llu x %llu", (unsigned long long)t->ne[0],
                 (unsigned long long)t->ne[1]);
    else
        snprintf(found, sizeof found, "%llu x %llu x %llu x %llu", (unsigned long long)t->ne[0],
                 (unsigned long long)t->ne[1], (unsigned long long)t->ne[2], (unsigned long long)t->ne[3]);
    snprintf(expected, sizeof expected, "%llu x %llu", (unsigned long long)ne0, (unsigned long long)ne1);
    return bn_err_set(l->err, "%s: tensor %s: shape %s, expected %s", l->gguf->path, name, found, expected);
}

static int check_type(struct bn_model_loader *l, const struct bn_tensor *t, const char *name, bool ternary)
{
    size_t align = 1; /* codes and their scales are read bytewise */

    switch (t->type) {
    case BN_TYPE_F32:
        align = 4;
        break;
    case BN_TYPE_F16:
    case BN_TYPE_BF16:
        align = 2;
        break;
    default:
        if (bn_block_of(t->type) || (ternary && bn_type_is_ternary(t->type)))
            break;
        const char *type = bn_type_name(t->type);
        return bn_err_set(l->err, "%s: tensor %s: type %s is not supported (%sF16, F32 or BF16 expected)",
                          l->gguf->path, name, type ? type : "unknown",
                          ternary ? "I2_S, TQ1_0, TQ2_0, Q8_0, Q6_K, Q4_K, Q4_0, "
                                  : "Q8_0, Q6_K, Q4_K, Q4_0, ");
    }
    if ((uintptr_t)t->data % align != 0)
        return bn_err_set(l->err, "%s: tensor %s: data not aligned to %zu bytes", l->gguf->path, name, align);
    return 0;
}

/* A vector of n finite float32 values; *out stays NULL when it is absent and optional. */
static int read_vector(struct bn_model_loader *l, const char *name, enum bn_need need, uint64_t n,
                       const float **out)
{
    const struct bn_tensor *t = find(l, name);

    *out = NULL;
    if (!t)
        return need == BN_OPTIONAL ? 0 : bn_err_set(l->err, "%s: tensor %s is missing", l->gguf->path, name);
    if (t->type != BN_TYPE_F32) {
        const char *type = bn_type_name(t->type);
        return bn_err_set(l->err, "%s: tensor %s: type %s is not supported (F32 expected)", l->gguf->path,
                          name, type ? type : "unknown");
    }
    if (check_type(l, t, name, false) != 0 || check_shape(l, t, name, n, 1) != 0)
        return -1;
    const float *values = (const float *)(const void *)t->data;
    for (uint64_t i = 0; i < n; i++) {
        if (!isfinite(values[i]))
            return bn_err_set(l->err, "%s: tensor %s: element %llu is not finite", l->gguf->path, name,
                              (unsigned long long)i);
    }
    *out = values;
    return 0;
}

/* The scale of an I2_S tensor stands behind its codes. */
static int read_scale(struct bn_model_loader *l, const struct bn_tensor *t, const char *name,
                      struct bn_weight *w)
{
    if (w->k % 128 != 0)
        return bn_err_set(l->err, "%s: tensor %s: rows of %u I2_S weights, a multiple of 128 expected",
                          l->gguf->path, name, w->k);
    memcpy(&w->scale, t->data + (uint64_t)w->k * w->n_rows / 4, sizeof w->scale);
    if (!isfinite(w->scale) || w->scale <= 0.0f)
        return bn_err_set(l->err, "%s: tensor %s: scale %g, expected a finite number above 0", l->gguf->path,
                          name, (double)w->scale);
    return 0;
}

/* The matrix `<stem>.weight`, rows of k weights. */
static int read_matrix(struct bn_model_loader *l, const char *stem, uint32_t k, uint32_t n_rows, bool ternary,
                       struct bn_weight *w)
{
    char name[BN_MODEL_MAX_NAME];
    const struct bn_tensor *t;

    snprintf(name, sizeof name, "%s.weight", stem);
    t = find(l, name);
    if (!t)
        return bn_err_set(l->err, "%s: tensor %s is missing", l->gguf->path, name);
    if (check_type(l, t, name, ternary) != 0 || check_shape(l, t, name, k, n_rows) != 0)
        return -1;
    *w = (struct bn_weight){
        .data = t->data, .type = t->type, .n_rows = n_rows, .k = k, .scale = 1.0f, .extra_scale = 1.0f};
    w->packed = t->data;
    w->layout = t->type == BN_TYPE_I2_S || t->type == BN_TYPE_QK256   ? BN_LAYOUT_QK256
                : bn_type_is_ternary(t->type) || bn_block_of(t->type) ? BN_LAYOUT_FILE
                                                                      : BN_LAYOUT_FLOAT;
    w->tile_rows = 1;
    w->tile_bytes = bn_weight_row_bytes(w);
    w->size_bytes = t->size_bytes;
    return t->type == BN_TYPE_I2_S ? read_scale(l, t, name, w) : 0;
}

/* A matrix of block `layer` with what may come with it: a one-element scale, a bias. */
static int read_projection(struct bn_model_loader *l, uint32_t layer, const char *what, uint32_t k,
                           uint32_t n_rows, struct bn_weight *w)
{
    char stem[64], name[BN_MODEL_MAX_NAME];
    const float *extra_scale;

    snprintf(stem, sizeof stem, "blk.%u.%s", layer, what);
    if (read_matrix(l, stem, k, n_rows, true, w) != 0)
        return -1;
    snprintf(name, sizeof name, "%s.scale", stem);
    if (read_vector(l, name, BN_OPTIONAL, 1, &extra_scale) != 0)
        return -1;
    if (extra_scale)
        w->extra_scale = *extra_scale;
    snprintf(name, sizeof name, "%s.bias", stem);
    return read_vector(l, name, BN_OPTIONAL, n_rows, &w->bias);
}

static int read_norm(struct bn_model_loader *l, uint32_t layer, const char *what, uint32_t n,
                     const float **out)
{
    char name[BN_MODEL_MAX_NAME];

    snprintf(name, sizeof name, "blk.%u.%s.weight", layer, what);
    return read_vector(l, name, BN_REQUIRED, n, out);
}

static int read_layer(struct bn_model_loader *l, uint32_t i, struct bn_layer *layer)
{
    const struct bn_model *m = l->model;
    uint32_t n_q = m->n_head * m->head_dim, n_kv = m->n_head_kv * m->head_dim;

    if (read_norm(l, i, "attn_norm", m->n_embd, &layer->attn_norm) != 0 ||
        read_norm(l, i, "ffn_norm", m->n_embd, &layer->ffn_norm) != 0)
        return -1;
    if (l->arch->sub_norms && (read_norm(l, i, "attn_sub_norm", n_q, &layer->attn_sub_norm) != 0 ||
                               read_norm(l, i, "ffn_sub_norm", m->n_ff, &layer->ffn_sub_norm) != 0))
        return -1;
    if (read_projection(l, i, "attn_q", m->n_embd, n_q, &layer->q) != 0 ||
        read_projection(l, i, "attn_k", m->n_embd, n_kv, &layer->k) != 0 ||
        read_projection(l, i, "attn_v", m->n_embd, n_kv, &layer->v) != 0 ||
        read_projection(l, i, "attn_output", n_q, m->n_embd, &layer->output) != 0 ||
        read_projection(l, i, "ffn_gate", m->n_embd, m->n_ff, &layer->gate) != 0 ||
        read_projection(l, i, "ffn_up", m->n_embd, m->n_ff, &layer->up) != 0 ||
        read_projection(l, i, "ffn_down", m->n_ff, m->n_embd, &layer->down) != 0)
        return -1;
    return 0;
}

/* The vocabulary's size is the embedding's: `vocab_size`, where present, must agree. */
static int read_embedding(struct bn_model_loader *l)
{
    struct bn_model *m = l->model;
    const struct bn_tensor *t = bn_gguf_tensor(l->gguf, "token_embd.weight");

    if (!t)
        return bn_err_set(l->err, "%s: tensor token_embd.weight is missing", l->gguf->path);
    if (t->ne[1] == 0 || t->ne[1] > BN_MODEL_MAX_WIDTH)
        return bn_err_set(l->err, "%s: tensor token_embd.weight: %llu rows, expected 1 to %d", l->gguf->path,
                          (unsigned long long)t->ne[1], BN_MODEL_MAX_WIDTH);
    m->n_vocab = (uint32_t)t->ne[1];
    if (bn_model_read_u32(l, "vocab_size", BN_OPTIONAL, m->n_vocab, m->n_vocab, &m->n_vocab) != 0 ||
        read_matrix(l, "token_embd", m->n_embd, m->n_vocab, false, &m->embedding) != 0)
        return -1;
    m->lm_head = m->embedding;
    if (bn_gguf_tensor(l->gguf, "output.weight"))
        return read_matrix(l, "output", m->n_embd, m->n_vocab, false, &m->lm_head);
    return 0;
}

static int read_rope_factors(struct bn_model_loader *l)
{
    struct bn_model *m = l->model;

    if (read_vector(l, "rope_freqs.weight", BN_OPTIONAL, m->n_rot / 2, &m->rope_factors) != 0)
        return -1;
    for (uint32_t i = 0; m->rope_factors && i < m->n_rot / 2; i++) {
        if (m->rope_factors[i] <= 0.0f)
            return bn_err_set(l->err, "%s: tensor rope_freqs.weight: element %u is %g, expected above 0",
                              l->gguf->path, i, (double)m->rope_factors[i]);
    }
    return 0;
}

static int read_tensors(struct bn_model_loader *l)
{
    struct bn_model *m = l->model;

    if (read_embedding(l) != 0 ||
        read_vector(l, "output_norm.weight", BN_REQUIRED, m->n_embd, &m->output_norm) != 0 ||
        read_rope_factors(l) != 0)
        return -1;
    /* Each block has nine tensors at least: a count that the file cannot hold ends here, not in memory. */
    if (m->n_layer > l->gguf->n_tensors)
        return bn_err_set(l->err, "%s: %u blocks in the metadata, but only %llu tensors", l->gguf->path,
                          m->n_layer, (unsigned long long)l->gguf->n_tensors);
    m->layers = bn_arena_array(&m->gguf.arena, m->n_layer, sizeof *m->layers);
    for (uint32_t i = 0; i < m->n_layer; i++) {
        if (read_layer(l, i, &m->layers[i]) != 0)
            return -1;
    }
    for (uint64_t i = 0; i < l->gguf->n_tensors; i++) {
        const struct bn_tensor *t = &l->gguf->tensors[i];
        if (!l->used[i])
            return bn_err_set(l->err, "%s: tensor %.*s is not known for architecture %s", l->gguf->path,
                              (int)bn_min_size(t->name.n, 100), t->name.p, m->arch);
    }
    return 0;
}

/* ---- what the load amounts to ---- */

const char *bn_model_format_name(uint32_t type)
{
    static const char *const names[] = {
        [BN_TYPE_F32] = "f32",     [BN_TYPE_F16] = "f16",     [BN_TYPE_BF16] = "bf16",
        [BN_TYPE_I2_S] = "i2s",    [BN_TYPE_QK256] = "qk256", [BN_TYPE_BITNET32] = "bitnet32",
        [BN_TYPE_TQ1_0] = "tq1_0", [BN_TYPE_TQ2_0] = "tq2_0",
    };

    return bn_block_of(type) ? bn_block_of(type)->name : names[type];
}

/* The first ternary matrix, else the first block's gate. */
static uint32_t main_type(struct bn_model *m)
{
    for (uint32_t i = 0; i < m->n_layer; i++) {
        struct bn_weight *all[BN_LAYER_MATRICES];
        bn_layer_matrices(&m->layers[i], all);
        for (int w = 0; w < BN_LAYER_MATRICES; w++) {
            if (bn_type_is_ternary(all[w]->type))
                return all[w]->type;
        }
    }
    return m->layers[0].gate.type;
}

static void summarise(struct bn_model *m)
{
    for (uint64_t i = 0; i < m->gguf.n_tensors; i++)
        m->weight_bytes += m->gguf.tensors[i].size_bytes;
    m->bytes_per_token = m->weight_bytes - m->embedding.size_bytes + bn_weight_row_bytes(&m->embedding);
    if (m->lm_head.data == m->embedding.data)
        m->bytes_per_token += m->lm_head.size_bytes;
    m->format = bn_model_format_name(main_type(m));
}

/* ---- looking through the layers ---- */

const char *const bn_layer_matrix_names[BN_LAYER_MATRICES] = {"attn_q",   "attn_k", "attn_v",  "attn_output",
                                                              "ffn_gate", "ffn_up", "ffn_down"};

void bn_layer_matrices(struct bn_layer *l, struct bn_weight *all[BN_LAYER_MATRICES])
{
    struct bn_weight *in_order[] = {&l->q, &l->k, &l->v, &l->output, &l->gate, &l->up, &l->down};

    memcpy(all, in_order, sizeof in_order);
}

bool bn_model_is_ternary(const struct bn_model *m)
{
    for (uint32_t i = 0; i < m->n_layer; i++) {
        struct bn_weight *all[BN_LAYER_MATRICES];
        bn_layer_matrices(&m->layers[i], all);
        for (int w = 0; w < BN_LAYER_MATRICES; w++) {
            if (bn_type_is_ternary(all[w]->type))
                return true;
        }
    }
    return false;
}

bool bn_model_has_layout(const struct bn_model *m, enum bn_layout layout)
{
    for (uint32_t i = 0; i < m->n_layer; i++) {
        struct bn_weight *all[BN_LAYER_MATRICES];
        bn_layer_matrices(&m->layers[i], all);
        for (int w = 0; w < BN_LAYER_MATRICES; w++) {
            if (all[w]->layout == layout)
                return true;
        }
    }
    return false;
}

static int load(struct bn_model *model, struct bn_err *err)
{
    struct bn_model_loader l = {.model = model, .gguf = &model->gguf, .err = err};
    int status = -1;

    l.used = bn_xcalloc(model->gguf.n_tensors + 1, sizeof *l.used);
    if (bn_model_read_config(&l) == 0 && read_tensors(&l) == 0) {
        summarise(model);
        status = 0;
    }
    free(l.used);
    if (status != 0)
        bn_model_close(model);
    return status;
}

int bn_model_load(struct bn_model *model, const char *path, struct bn_err *err)
{
    memset(model, 0, sizeof *model);
    if (bn_gguf_open(&model->gguf, path, err) != 0)
        return -1;
    return load(model, err);
}

int bn_model_load_memory(struct bn_model *model, const void *bytes, size_t n, const char *label,
                         struct bn_err *err)
{
    memset(model, 0, sizeof *model);
    if (bn_gguf_open_memory(&model->gguf, bytes, n, label, err) != 0)
        return -1;
    return load(model, err);
}

void bn_model_close(struct bn_model *model)
{
    if (model->packed)
        munmap(model->packed, model->packed_bytes);
    bn_gguf_close(&model->gguf);
    memset(model, 0, sizeof *model);
}
