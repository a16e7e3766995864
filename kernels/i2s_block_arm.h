/* SPDX-License-Identifier: MIT
 * Private to kernels/: ternary products with block scales over tiles on ARM64: integer sums of a block as in
 * i2s_arm.h, then one multiplication and one addition in float, a lane being a row. */
#ifndef KERNELS_I2S_BLOCK_ARM_H
#define KERNELS_I2S_BLOCK_ARM_H

#include "kernels/i2s_arm.h"
#include "kernels/neon.h"

enum {
    SUM = 32, /* values an element of x_sums is the sum of */
    SCALE_BYTES = 2 * BN_TILE_ROWS,
};

BN_INLINE int32_t sum_of(const int32_t *x_sums, size_t block)
{
    int32_t sum = 0;

    for (size_t i = 0; i < block / SUM; i++)
        sum += x_sums[i];
    return sum;
}

/* One block of a tile by n_cols columns. */
BN_INLINE void add_block(const uint8_t *w, const int8_t *x, const int32_t *x_sums, size_t k, size_t block,
                         float32x4_t (*total)[VECS], const size_t n_cols)
{
    const uint8_t *pieces = w + SCALE_BYTES;
    int32x4_t sum[DOT_FEW_COLS][VECS];

    for (size_t c = 0; c < n_cols; c++) {
        const int32x4_t start = vdupq_n_s32(-sum_of(x_sums + c * (k / SUM), block));

        for (int v = 0; v < VECS; v++)
            sum[c][v] = start;
    }
    for (size_t i = 0; i < block; i += STRETCH)
        add_stretch(pieces + i * (BN_TILE_ROWS / 4), x + i, k, block - i < STRETCH ? block - i : STRETCH, sum,
                    n_cols);
    for (int v = 0; v < VECS; v++) {
        uint16_t halves[4];

        memcpy(halves, w + 8 * v, sizeof halves);
        const float32x4_t scale = floats_of_f16(vld1_u16(halves));
        for (size_t c = 0; c < n_cols; c++)
            total[c][v] = vaddq_f32(total[c][v], vmulq_f32(vcvtq_f32_s32(sum[c][v]), scale));
    }
}

/* One tile by n_cols columns. */
BN_INLINE void block_tile(const uint8_t *w, const int8_t *x, const int32_t *x_sums, const float *act_scale,
                          float *y, size_t ldy, size_t n_rows, size_t k, size_t block, const size_t n_cols)
{
    float32x4_t total[DOT_FEW_COLS][VECS];

    for (size_t c = 0; c < n_cols; c++) {
        for (int v = 0; v < VECS; v++)
            total[c][v] = vdupq_n_f32(0.0f);
    }
    for (size_t i = 0; i < k; i += block, w += SCALE_BYTES + block * (BN_TILE_ROWS / 4))
        add_block(w, x + i, x_sums + i / SUM, k, block, total, n_cols);
    for (size_t c = 0; c < n_cols; c++) {
        for (size_t v = 0; v < VECS && 4 * v < n_rows; v++)
            store4(y + c * ldy + 4 * v, n_rows - 4 * v, vdivq_f32(total[c][v], vdupq_n_f32(act_scale[c])));
    }
}

/* All columns by a tile, which stays in a cache, before the next one. */
BN_INLINE void block_gemm(const uint8_t *w, const int8_t *x, const int32_t *x_sums, const float *act_scale,
                          float *y, size_t ldy, size_t n_rows, size_t k, size_t block, size_t n_cols)
{
    const size_t tile_bytes = bn_pack_block_bytes(BN_TILE_ROWS, k, block);

    for (size_t r = 0; r < n_rows; r += BN_TILE_ROWS, w += tile_bytes) {
        size_t c = 0;

        for (; c + DOT_FEW_COLS <= n_cols; c += DOT_FEW_COLS)
            block_tile(w, x + c * k, x_sums + c * (k / SUM), act_scale + c, y + c * ldy + r, ldy, n_rows - r,
                       k, block, DOT_FEW_COLS);
        for (; c < n_cols; c++)
            block_tile(w, x + c * k, x_sums + c * (k / SUM), act_scale + c, y + c * ldy + r, ldy, n_rows - r,
                       k, block, 1);
    }
}

#endif
