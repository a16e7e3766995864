/* SPDX-License-Identifier: MIT
 * The oracle: the forward pass once more in double precision, straight from the definitions, sharing no code
 * with core/forward or the kernels. Slow on purpose: one token at a time, one thread, weights decoded as they
 * are read. */
#ifndef CORE_REFERENCE_H
#define CORE_REFERENCE_H

#include "core/gguf.h"

struct bn_reference;

/* Check the hyper-parameters and tensors of a model and make room for n_ctx (>= 1) positions, 16 bytes a
 * cached value. Architectures bitnet-b1.58, bitnet-25, bitnet, llama; weights I2_S and its
 * flavours, TQ1_0, TQ2_0, Q8_0, Q6_K, Q4_K, Q4_0,
 * F16, BF16, F32. Keeps pointers into the GGUF, which must outlive it. 0, or -1 with one line: file, key or
 * tensor, what was expected. */
int bn_reference_open(struct bn_reference **out, const struct bn_gguf *gguf, uint32_t n_ctx,
                      struct bn_err *err);
void bn_reference_free(struct bn_reference *ref);

uint32_t bn_reference_n_vocab(const struct bn_reference *ref);

/* Round keys and values to F16 as the engine's cache does (the default), or keep them as they are. */
void bn_reference_set_f16_cache(struct bn_reference *ref, bool on);

/* Process `token` (< n_vocab) at the next position (fewer than n_ctx so far).
 * logits: [n_vocab], overwritten; NULL leaves the output matrix out. Cannot fail. Threads: one at a time. */
void bn_reference_step(struct bn_reference *ref, uint32_t token, double *logits);

/* Forget all positions. */
void bn_reference_reset(struct bn_reference *ref);

#endif
