/* SPDX-License-Identifier: MIT
 * The block formats of ggml that the engine runs (docs/formats.md#block-formats): what differs between them,
 * by the tensor's type. */
#ifndef CORE_BLOCK_H
#define CORE_BLOCK_H

#include "core/gguf.h"
#include "kernels/kernels.h"

struct bn_block {
    const char *name; /* "q8_0" */
    uint32_t type;
    unsigned elements;                                    /* a row is a multiple of it */
    enum bn_kernel_slot quantize;                         /* of the activations it takes */
    enum bn_kernel_slot gemv, gemm, pack, to_f32, encode; /* kernels/block_slots.h */
};

/* NULL for a type that is no block format, or none that the engine runs. */
const struct bn_block *bn_block_of(uint32_t type);

/* The formats' kernels (kernels/block_slots.h) by type, one of those above. */
void bn_block_quantize(const struct bn_kernels *kernels, uint32_t type, const float *x,
                       const struct bn_q8 *out, size_t n);
/* gemv for one column, gemm for more. */
void bn_block_product(const struct bn_kernels *kernels, uint32_t type, const uint8_t *w,
                      const struct bn_q8 *x, float *y, size_t ldy, size_t n_rows, size_t k, size_t n_cols);
void bn_block_pack(const struct bn_kernels *kernels, uint32_t type, const uint8_t *w, uint8_t *packed,
                   size_t n_rows, size_t k);
void bn_block_to_f32(const struct bn_kernels *kernels, uint32_t type, const uint8_t *w, float *y, size_t n);
void bn_block_encode(const struct bn_kernels *kernels, uint32_t type, const float *x, uint8_t *w, size_t n);

/* Activations of column c, k values a column, as the type takes them. */
struct bn_q8 bn_block_column(uint32_t type, const struct bn_q8 *x, size_t c, size_t k);

#endif
