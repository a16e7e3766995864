/* SPDX-License-Identifier: MIT
 * Ternary products with rows in file order, with NEON. */
#include "kernels/dot_neon.h"
#include "kernels/qk256_arm.h"

void qk256_gemv_neon(const uint8_t *w, const int8_t *x, int32_t x_sum, int32_t *y, size_t n_rows, size_t k)
{
    gemm_few(w, x, &x_sum, y, n_rows, n_rows, k, 1);
}

void qk256_gemm_neon(const uint8_t *w, const int8_t *x, const int32_t *x_sum, int32_t *y, size_t ldy,
                     size_t n_rows, size_t k, size_t n_cols)
{
    gemm(w, x, x_sum, y, ldy, n_rows, k, n_cols);
}
