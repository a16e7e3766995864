/* SPDX-License-Identifier: MIT
 * Ternary products, the definition: sum of code * x over a row, then minus the sum of x, because a weight is
 * its code minus one. */
#include "kernels/isa.h"

/* Byte p of a block of 32 holds elements p, p + 32, p + 64, p + 96 in bits 7:6, 5:4, 3:2, 1:0. */
BN_INLINE int32_t row_dot(const uint8_t *w, const int8_t *x, size_t k)
{
    int32_t sum = 0;

    for (size_t b = 0; b < k / 128; b++, w += 32, x += 128) {
        for (int p = 0; p < 32; p++) {
            sum += (w[p] >> 6) * x[p] + (w[p] >> 4 & 3) * x[p + 32] + (w[p] >> 2 & 3) * x[p + 64] +
                   (w[p] & 3) * x[p + 96];
        }
    }
    return sum;
}

void qk256_gemv_c(const uint8_t *w, const int8_t *x, int32_t x_sum, int32_t *y, size_t n_rows, size_t k)
{
    for (size_t r = 0; r < n_rows; r++)
        y[r] = row_dot(w + r * (k / 4), x, k) - x_sum;
}

void qk256_gemm_c(const uint8_t *w, const int8_t *x, const int32_t *x_sum, int32_t *y, size_t ldy,
                  size_t n_rows, size_t k, size_t n_cols)
{
    for (size_t r = 0; r < n_rows; r++) {
        for (size_t c = 0; c < n_cols; c++)
            y[c * ldy + r] = row_dot(w + r * (k / 4), x + c * k, k) - x_sum[c];
    }
}
