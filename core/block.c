/* SPDX-License-Identifier: MIT
 * Block formats by type: a table, and calls into the table of kernels. */
#include "core/block.h"

#define FORMAT(type, name, elements, activations)                                                            \
    {                                                                                                        \
#name, type, elements, BN_KERNEL_##activations##_quantize, BN_KERNEL_##name##_gemv,                  \
            BN_KERNEL_##name##_gemm, BN_KERNEL_##name##_pack, BN_KERNEL_##name##_to_f32,                     \
            BN_KERNEL_##name##_encode                                                                        \
    }
static const struct bn_block blocks[] = {
    FORMAT(BN_TYPE_Q8_0, q8_0, BN_BLOCK, q8_0),
    FORMAT(BN_TYPE_Q4_0, q4_0, BN_BLOCK, q8_0),
    FORMAT(BN_TYPE_Q6_K, q6_k, BN_BLOCK_K, q8_k),
    FORMAT(BN_TYPE_Q4_K, q4_k, BN_BLOCK_K, q8_k),
};

const struct bn_block *bn_block_of(uint32_t type)
{
    for (size_t i = 0; i < BN_COUNT(blocks); i++) {
        if (blocks[i].type == type)
            return &blocks[i];
    }
    return NULL;
}

/* kernels-><format>_<op>(…) of the format that `type` is. */
#define CALL(type, op, ...)                                                                                  \
    ((type) == BN_TYPE_Q8_0   ? kernels->q8_0_##op(__VA_ARGS__)                                              \
     : (type) == BN_TYPE_Q4_0 ? kernels->q4_0_##op(__VA_ARGS__)                                              \
     : (type) == BN_TYPE_Q6_K ? kernels->q6_k_##op(__VA_ARGS__)                                              \
                              : kernels->q4_k_##op(__VA_ARGS__))

static bool is_small(uint32_t type)
{
    return type == BN_TYPE_Q8_0 || type == BN_TYPE_Q4_0;
}

void bn_block_quantize(const struct bn_kernels *kernels, uint32_t type, const float *x,
                       const struct bn_q8 *out, size_t n)
{
    (is_small(type) ? kernels->q8_0_quantize : kernels->q8_k_quantize)(x, out, n);
}

void bn_block_product(const struct bn_kernels *kernels, uint32_t type, const uint8_t *w,
                      const struct bn_q8 *x, float *y, size_t ldy, size_t n_rows, size_t k, size_t n_cols)
{
    if (n_cols == 1)
        CALL(type, gemv, w, x, y, n_rows, k);
    else
        CALL(type, gemm, w, x, y, ldy, n_rows, k, n_cols);
}

void bn_block_pack(const struct bn_kernels *kernels, uint32_t type, const uint8_t *w, uint8_t *packed,
                   size_t n_rows, size_t k)
{
    CALL(type, pack, w, packed, n_rows, k);
}

void bn_block_to_f32(const struct bn_kernels *kernels, uint32_t type, const uint8_t *w, float *y, size_t n)
{
    CALL(type, to_f32, w, y, n);
}

void bn_block_encode(const struct bn_kernels *kernels, uint32_t type, const float *x, uint8_t *w, size_t n)
{
    CALL(type, encode, x, w, n);
}

struct bn_q8 bn_block_column(uint32_t type, const struct bn_q8 *x, size_t c, size_t k)
{
    size_t at = c * k;

    return (struct bn_q8){x->q + at, x->d + at / (is_small(type) ? BN_BLOCK : BN_BLOCK_K),
                          x->sum + at / (is_small(type) ? BN_BLOCK : 16)};
}
