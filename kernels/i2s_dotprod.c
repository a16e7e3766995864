/* SPDX-License-Identifier: MIT
 * Ternary products over tiles with dot products. */
#include "kernels/dot_dotprod.h"
#include "kernels/i2s_arm.h"

void i2s_gemv_dotprod(const uint8_t *w, const int8_t *x, int32_t x_sum, int32_t *y, size_t n_rows, size_t k)
{
    gemm_few(w, x, &x_sum, y, n_rows, n_rows, k, 1);
}

void i2s_gemm_dotprod(const uint8_t *w, const int8_t *x, const int32_t *x_sum, int32_t *y, size_t ldy,
                      size_t n_rows, size_t k, size_t n_cols)
{
    switch (n_cols) {
    case 1:
        i2s_gemv_dotprod(w, x, x_sum[0], y, n_rows, k);
        break;
    case 2:
        gemm_few(w, x, x_sum, y, ldy, n_rows, k, 2);
        break;
    case 3:
        gemm_few(w, x, x_sum, y, ldy, n_rows, k, 3);
        break;
    default:
        gemm(w, x, x_sum, y, ldy, n_rows, k, n_cols);
    }
}
