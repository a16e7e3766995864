/* SPDX-License-Identifier: MIT
 * Random models of real shapes: names, types, order and metadata as the published files have them, weights
 * such that activations keep their size from block to block. Right for speed, memory and arithmetic, not for
 * meaning. */
#ifndef CORE_SYNTH_H
#define CORE_SYNTH_H

#include "core/gguf.h"

struct bn_synth_shape {
    const char *name, *what; /* "2b4t", a line for lists */
    const char *arch, *model_name;
    uint32_t n_layer, n_embd, n_ff, n_head, n_head_kv, n_vocab, n_ctx;
    float rope_base;
    bool tied;      /* no output.weight of its own */
    uint32_t wtype; /* usual type of the projections */
};

/* By name ("2b4t", "large", "3b", "8b", "tiny"); NULL for an unknown one. By number from 0; NULL after the
 * last. */
const struct bn_synth_shape *bn_synth_shape(const char *name);
const struct bn_synth_shape *bn_synth_shape_at(size_t i);

struct bn_synth {
    const struct bn_synth_shape *shape;
    uint32_t wtype; /* projections: ternary, F16, BF16, F32 or a block format (core/block.h) */
    uint32_t etype; /* embedding and output matrix: the same but for ternary */
    uint64_t seed;  /* the same seed, shape and types give the same file */
    /* Whose vocabulary to copy; it then says how many tokens there are. NULL: byte tokens and numbered
     * fillers. */
    const struct bn_gguf *vocabulary;
    /* Called now and then with bytes of weights done; false = stop. May be NULL. */
    bool (*progress)(void *ctx, uint64_t done_bytes, uint64_t total_bytes);
    void *ctx;
};

/* Can the engine run such a model? 0, or -1 with a message that says which type fits. */
int bn_synth_check(const struct bn_synth *synth, struct bn_err *err);

/* Write the file; it appears at `path` whole or not at all. One thread, 4 MiB of memory and the vocabulary's.
 * 0, or -1 with one line (wrong types, a vocabulary without tokens, disk full, stopped). */
int bn_synth_write(const char *path, const struct bn_synth *synth, struct bn_err *err);

#endif
