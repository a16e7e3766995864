/* SPDX-License-Identifier: MIT
 * Ternary products with block scales over tiles, the definition: an exact integer sum a block, then the sum
 * of the blocks' floats in their order. */
#include "kernels/half.h"
#include "kernels/pack.h"

enum { SUM = 32 }; /* values an element of x_sums is the sum of */

/* One row's four bytes of each piece of a block. */
BN_INLINE int32_t block_dot(const uint8_t *w, const int8_t *x, size_t block)
{
    int32_t sum = 0;

    for (size_t i = 0; i < block; i += BN_PIECE_I2S, w += BN_PIECE_BYTES, x += BN_PIECE_I2S) {
        for (int j = 0; j < 4; j++)
            sum += (w[j] >> 6) * x[j] + (w[j] >> 4 & 3) * x[j + 4] + (w[j] >> 2 & 3) * x[j + 8] +
                   (w[j] & 3) * x[j + 12];
    }
    return sum;
}

BN_INLINE float row_dot(const uint8_t *tile, size_t row, const int8_t *x, const int32_t *x_sums, size_t k,
                        size_t block)
{
    float total = 0.0f;

    for (size_t i = 0; i < k; i += block, x += block) {
        const uint8_t *pieces = tile + 2 * BN_TILE_ROWS;
        int32_t x_sum = 0;
        uint16_t scale;

        memcpy(&scale, tile + 2 * row, sizeof scale);
        for (size_t j = 0; j < block; j += SUM)
            x_sum += *x_sums++;
        total += (float)(block_dot(pieces + 4 * row, x, block) - x_sum) * float_from_f16(scale);
        tile = pieces + block / BN_PIECE_I2S * BN_PIECE_BYTES;
    }
    return total;
}

void i2s_block_gemm_c(const uint8_t *w, const int8_t *x, const int32_t *x_sums, const float *act_scale,
                      float *y, size_t ldy, size_t n_rows, size_t k, size_t block, size_t n_cols)
{
    for (size_t r = 0; r < n_rows; r++) {
        const uint8_t *tile = w + r / BN_TILE_ROWS * bn_pack_block_bytes(BN_TILE_ROWS, k, block);

        for (size_t c = 0; c < n_cols; c++)
            y[c * ldy + r] =
                row_dot(tile, r % BN_TILE_ROWS, x + c * k, x_sums + c * (k / SUM), k, block) / act_scale[c];
    }
}

void i2s_block_gemv_c(const uint8_t *w, const int8_t *x, const int32_t *x_sums, float act_scale, float *y,
                      size_t n_rows, size_t k, size_t block)
{
    i2s_block_gemm_c(w, x, x_sums, &act_scale, y, n_rows, n_rows, k, block, 1);
}

void i8_block_sums_c(const int8_t *x, int32_t *sums, size_t n)
{
    for (size_t i = 0; i < n; i += SUM) {
        int32_t sum = 0;

        for (size_t j = 0; j < SUM; j++)
            sum += x[i + j];
        *sums++ = sum;
    }
}
