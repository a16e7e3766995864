/* SPDX-License-Identifier: MIT
 * Ternary products with block scales over tiles with NEON. */
#include "kernels/dot_neon.h"
#include "kernels/i2s_block_arm.h"

void i2s_block_gemv_neon(const uint8_t *w, const int8_t *x, const int32_t *x_sums, float act_scale, float *y,
                         size_t n_rows, size_t k, size_t block)
{
    block_gemm(w, x, x_sums, &act_scale, y, n_rows, n_rows, k, block, 1);
}

void i2s_block_gemm_neon(const uint8_t *w, const int8_t *x, const int32_t *x_sums, const float *act_scale,
                         float *y, size_t ldy, size_t n_rows, size_t k, size_t block, size_t n_cols)
{
    block_gemm(w, x, x_sums, act_scale, y, ldy, n_rows, k, block, n_cols);
}

void i8_block_sums_neon(const int8_t *x, int32_t *sums, size_t n)
{
    for (size_t i = 0; i < n; i += SUM)
        *sums++ = vaddlvq_s16(vpadalq_s8(vpaddlq_s8(vld1q_s8(x + i)), vld1q_s8(x + i + 16)));
}
