/* SPDX-License-Identifier: MIT
 * Tiny random models of every architecture and weight type, for tests of the engine against the reference. */
#ifndef TESTS_UNIT_SYNTHETIC_H
#define TESTS_UNIT_SYNTHETIC_H

#include "core/synth.h"

/* Two layers of 256 with four query heads of 64, a feed-forward width of 384, 300 tokens and 128 positions.
 */
static inline struct bn_synth_shape synthetic_shape(const char *arch, bool tied, uint32_t n_head_kv)
{
    return (struct bn_synth_shape){.name = "test",
                                   .arch = arch,
                                   .model_name = "test",
                                   .n_layer = 2,
                                   .n_embd = 256,
                                   .n_ff = 384,
                                   .n_head = 4,
                                   .n_head_kv = n_head_kv,
                                   .n_vocab = 300,
                                   .n_ctx = 128,
                                   .rope_base = 10000,
                                   .tied = tied};
}

/* Write one to `path`. arch: bitnet-b1.58, bitnet-25, bitnet, llama; wtype: I2_S, F16, BF16, F32; etype: F16,
 * BF16, F32; tied: without output.weight. Two query heads share a KV head when the seed is odd, else each has
 * its own. 0, or -1 with a message on stderr. */
static inline int synthetic_model_write(const char *path, const char *arch, uint32_t wtype, uint32_t etype,
                                        bool tied, uint64_t seed)
{
    struct bn_synth_shape shape = synthetic_shape(arch, tied, seed % 2 ? 2 : 4);
    struct bn_synth synth = {.shape = &shape, .wtype = wtype, .etype = etype, .seed = seed};
    struct bn_err err;

    if (bn_synth_write(path, &synth, &err) == 0)
        return 0;
    fprintf(stderr, "%s\n", err.msg);
    return -1;
}

/* The same with .scale and .bias tensors of every projection, and rope_freqs.weight. */
static inline int synthetic_model_write_extras(const char *path, const char *arch, uint32_t wtype,
                                               uint64_t seed)
{
    struct bn_synth_shape shape = synthetic_shape(arch, true, 2);
    struct bn_synth synth = {
        .shape = &shape, .wtype = wtype, .etype = BN_TYPE_F16, .seed = seed, .extras = true};
    struct bn_err err;

    if (bn_synth_write(path, &synth, &err) == 0)
        return 0;
    fprintf(stderr, "%s\n", err.msg);
    return -1;
}

#endif
