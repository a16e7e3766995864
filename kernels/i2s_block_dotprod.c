/* SPDX-License-Identifier: MIT
 * Ternary products with block scales over tiles with dot products. */
#include "kernels/dot_dotprod.h"
#include "kernels/i2s_block_arm.h"

void i2s_block_gemv_dotprod(const uint8_t *w, const int8_t *x, const int32_t *x_sums, float act_scale,
                            float *y, size_t n_rows, size_t k, size_t block)
{
    block_gemm(w, x, x_sums, &act_scale, y, n_rows, n_rows, k, block, 1);
}

void i2s_block_gemm_dotprod(const uint8_t *w, const int8_t *x, const int32_t *x_sums, const float *act_scale,
                            float *y, size_t ldy, size_t n_rows, size_t k, size_t block, size_t n_cols)
{
    block_gemm(w, x, x_sums, act_scale, y, ldy, n_rows, k, block, n_cols);
}
