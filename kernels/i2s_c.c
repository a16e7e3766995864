/* SPDX-License-Identifier: MIT
 * Ternary products over tiles, the definition: sum of code * x over a row, then minus the sum of x, because a
 * weight is its code minus one. */
#include "kernels/isa.h"
#include "kernels/pack.h"

#include <string.h>

BN_INLINE int32_t row_dot(const uint8_t *w, const int8_t *x, size_t k)
{
    int32_t sum = 0;

    for (size_t i = 0; i < k; i += BN_PIECE_I2S, w += BN_PIECE_BYTES, x += BN_PIECE_I2S) {
        for (int j = 0; j < 4; j++)
            sum += (w[j] >> 6) * x[j] + (w[j] >> 4 & 3) * x[j + 4] + (w[j] >> 2 & 3) * x[j + 8] +
                   (w[j] & 3) * x[j + 12];
    }
    return sum;
}

void i2s_gemm_c(const uint8_t *w, const int8_t *x, const int32_t *x_sum, int32_t *y, size_t ldy,
                size_t n_rows, size_t k, size_t n_cols)
{
    for (size_t r = 0; r < n_rows; r++) {
        const uint8_t *row = w + r / BN_TILE_ROWS * BN_TILE_ROWS * (k / 4) + r % BN_TILE_ROWS * 4;

        for (size_t c = 0; c < n_cols; c++)
            y[c * ldy + r] = row_dot(row, x + c * k, k) - x_sum[c];
    }
}

void i2s_gemv_c(const uint8_t *w, const int8_t *x, int32_t x_sum, int32_t *y, size_t n_rows, size_t k)
{
    i2s_gemm_c(w, x, &x_sum, y, n_rows, n_rows, k, 1);
}

/* Byte p of a block of 32 holds elements p, p + 32, p + 64, p + 96 in bits 7:6, 5:4, 3:2, 1:0. */
BN_INLINE void unpack_block(const uint8_t *w, uint8_t *codes)
{
    for (int p = 0; p < 32; p++) {
        codes[p] = w[p] >> 6;
        codes[p + 32] = w[p] >> 4 & 3;
        codes[p + 64] = w[p] >> 2 & 3;
        codes[p + 96] = w[p] & 3;
    }
}

void i2s_pack_c(const uint8_t *w, uint8_t *packed, size_t n_rows, size_t k)
{
    uint8_t codes[128];

    if (n_rows % BN_TILE_ROWS)
        memset(packed + n_rows / BN_TILE_ROWS * BN_TILE_ROWS * (k / 4), BN_I2S_ZERO, BN_TILE_ROWS * (k / 4));
    for (size_t r = 0; r < n_rows; r++) {
        uint8_t *tile = packed + r / BN_TILE_ROWS * BN_TILE_ROWS * (k / 4);

        for (size_t b = 0; b < k / 128; b++, w += 32) {
            unpack_block(w, codes);
            bn_pack_i2s_row(codes, tile + b * (128 / BN_PIECE_I2S) * BN_PIECE_BYTES, r % BN_TILE_ROWS, 128);
        }
    }
}
