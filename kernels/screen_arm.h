/* SPDX-License-Identifier: MIT
 * Private to kernels/: products of screening codes on ARM64. Includes after kernels/dot_<isa>.h. */
#ifndef KERNELS_SCREEN_ARM_H
#define KERNELS_SCREEN_ARM_H

#include "kernels/isa.h"
#include "kernels/screen.h"

#include <arm_neon.h>

enum {
    VECS = BN_TILE_ROWS / 4, /* vectors of four rows … */
    HALF = VECS / 2,         /* … and those done together, with both parts of x */
    /* A code of 4 bits is at most 15 and |x| at most 128, a product 1920: 17 fit an int16. A bit: 255. */
    HIGH_STRETCH = 8 * BN_PIECE_SCREEN, /* elements between two totals: 16 products a sum */
    ROWS = 4,                           /* of the planes mid and low that are multiplied together */
    STREAM_AHEAD_BYTES = 2048,          /* how far a stream is fetched ahead */
};

/* ---- the plane high ---- */

/* A stretch of half a tile with one and the other part of x (k behind the first). */
BN_INLINE void high_stretch(const uint8_t *w, const int8_t *x, size_t k, int32x4_t *coarse, int32x4_t *fine)
{
    struct sums sum[2][HALF];

    BN_UNROLL
    for (int v = 0; v < HALF; v++)
        sum[0][v] = sum[1][v] = no_sums();
    for (size_t i = 0; i < HIGH_STRETCH; i += 2 * BN_PIECE_SCREEN, w += 2 * BN_PIECE_BYTES) {
        const int8x16_t x0 = vld1q_s8(x + i), x1 = vld1q_s8(x + k + i);

        BN_UNROLL
        for (int p = 0; p < 2; p++) {
            __builtin_prefetch(w + p * BN_PIECE_BYTES + STREAM_AHEAD_BYTES);
            BN_UNROLL
            for (int v = 0; v < HALF; v++) {
                const uint8x16_t codes = vld1q_u8(w + p * BN_PIECE_BYTES + 16 * v);
                const int8x16_t first = vreinterpretq_s8_u8(vshrq_n_u8(codes, 4));
                const int8x16_t second = vreinterpretq_s8_u8(vandq_u8(codes, vdupq_n_u8(15)));

                sum[0][v] = add_products_of_four(sum[0][v], first, x0, 2 * p);
                sum[1][v] = add_products_of_four(sum[1][v], first, x1, 2 * p);
                sum[0][v] = add_products_of_four(sum[0][v], second, x0, 2 * p + 1);
                sum[1][v] = add_products_of_four(sum[1][v], second, x1, 2 * p + 1);
            }
        }
    }
    BN_UNROLL
    for (int v = 0; v < HALF; v++) {
        coarse[v] = vaddq_s32(coarse[v], total(sum[0][v]));
        fine[v] = vaddq_s32(fine[v], total(sum[1][v]));
    }
}

BN_INLINE void high_gemv(const uint8_t *w, const int8_t *x, const float *scale, float center, float unit,
                         float *y, size_t n_tiles, size_t k)
{
    for (size_t t = 0; t < n_tiles; t++, scale += BN_TILE_ROWS, y += BN_TILE_ROWS) {
        int32x4_t coarse[VECS], fine[VECS];

        for (int v = 0; v < VECS; v++)
            coarse[v] = fine[v] = vdupq_n_s32(0);
        for (size_t i = 0; i < k; i += HIGH_STRETCH, w += HIGH_STRETCH / BN_PIECE_SCREEN * BN_PIECE_BYTES) {
            for (size_t v = 0; v < VECS; v += HALF)
                high_stretch(w + 16 * v, x + i, k, coarse + v, fine + v);
        }
        for (size_t v = 0; v < VECS; v++) {
            float32x4_t sum = vmulq_n_f32(vcvtq_f32_s32(coarse[v]), 256.0f);

            sum = vaddq_f32(sum, vcvtq_f32_s32(fine[v]));
            sum = vsubq_f32(sum, vdupq_n_f32(center));
            vst1q_f32(y + 4 * v, vmulq_f32(sum, vmulq_n_f32(vld1q_f32(scale + 4 * v), unit)));
        }
    }
}

/* ---- the planes mid and low ---- */

/* Four rows' sums of a group of 512 elements in the lanes of a vector each. */
BN_INLINE void mid_group(const uint8_t *const row[ROWS], size_t at, const int8_t *x, int32x4_t whole[ROWS])
{
    struct sums sum[ROWS];

    BN_UNROLL
    for (int r = 0; r < ROWS; r++)
        sum[r] = no_sums();
    for (size_t i = 0; i < 64; i += 16) {
        uint8x16_t bits[ROWS];

        BN_UNROLL
        for (int r = 0; r < ROWS; r++)
            bits[r] = vld1q_u8(row[r] + at + i);
        BN_UNROLL
        for (int b = 0; b < 8; b++) {
            const int8x16_t xb = vld1q_s8(x + 64 * b + i), down = vdupq_n_s8((int8_t)-b);

            BN_UNROLL
            for (int r = 0; r < ROWS; r++)
                sum[r] = add_products(
                    sum[r], vreinterpretq_s8_u8(vandq_u8(vshlq_u8(bits[r], down), vdupq_n_u8(1))), xb);
        }
    }
    BN_UNROLL
    for (int r = 0; r < ROWS; r++)
        whole[r] = vaddq_s32(whole[r], total(sum[r]));
}

/* The same of 128 codes of 2 bits. */
BN_INLINE void low_group(const uint8_t *const row[ROWS], size_t at, const int8_t *x, int32x4_t whole[ROWS])
{
    struct sums sum[ROWS];

    BN_UNROLL
    for (int r = 0; r < ROWS; r++)
        sum[r] = no_sums();
    for (size_t i = 0; i < 32; i += 16) {
        BN_UNROLL
        for (int p = 0; p < 4; p++) {
            const int8x16_t xp = vld1q_s8(x + 32 * p + i), down = vdupq_n_s8((int8_t)(2 * p - 6));

            BN_UNROLL
            for (int r = 0; r < ROWS; r++) {
                const uint8x16_t codes = vshlq_u8(vld1q_u8(row[r] + at + i), down);

                sum[r] = add_products(sum[r], vreinterpretq_s8_u8(vandq_u8(codes, vdupq_n_u8(3))), xp);
            }
        }
    }
    BN_UNROLL
    for (int r = 0; r < ROWS; r++)
        whole[r] = vaddq_s32(whole[r], total(sum[r]));
}

typedef void add_group(const uint8_t *const row[ROWS], size_t at, const int8_t *x, int32x4_t whole[ROWS]);

/* y[id] += (2 * sum - minus) * (scale[id] * unit). The last rows, fewer than four, repeat the last one. */
BN_INLINE void scattered_gemv(const uint8_t *plane, size_t row_bytes, const int8_t *x, int32_t minus,
                              const float *scale, float unit, float *y, const uint32_t *ids, size_t n_ids,
                              add_group *add, size_t group_bytes, size_t elements_a_byte)
{
    for (size_t r = 0; r < n_ids; r += ROWS) {
        const size_t left = n_ids - r < ROWS ? n_ids - r : ROWS;
        int32x4_t whole[ROWS];
        const uint8_t *row[ROWS];
        int32_t sum[ROWS];

        for (size_t i = 0; i < ROWS; i++) {
            row[i] = plane + ids[r + (i < left ? i : left - 1)] * row_bytes;
            whole[i] = vdupq_n_s32(0);
            for (size_t at = 0; at < row_bytes && r + ROWS + i < n_ids; at += 64)
                __builtin_prefetch(plane + ids[r + ROWS + i] * row_bytes + at);
        }
        for (size_t at = 0; at < row_bytes; at += group_bytes)
            add(row, at, x + at * elements_a_byte, whole);
        vst1q_s32(sum, vpaddq_s32(vpaddq_s32(whole[0], whole[1]), vpaddq_s32(whole[2], whole[3])));
        for (size_t i = 0; i < left; i++) {
            const size_t id = ids[r + i];

            y[id] += (float)(2 * sum[i] - minus) * (scale[id] * unit);
        }
    }
}

BN_INLINE void mid_gemv(const uint8_t *mid, const int8_t *x, int32_t x_sum, const float *scale, float unit,
                        float *y, const uint32_t *ids, size_t n_ids, size_t k)
{
    scattered_gemv(mid, bn_screen_mid_bytes(k), x, x_sum, scale, unit, y, ids, n_ids, mid_group, 64, 8);
}

BN_INLINE void low_gemv(const uint8_t *low, const int8_t *x, int32_t x_sum, const float *scale, float unit,
                        float *y, const uint32_t *ids, size_t n_ids, size_t k)
{
    scattered_gemv(low, bn_screen_low_bytes(k), x, 3 * x_sum, scale, unit, y, ids, n_ids, low_group, 32, 4);
}

#endif
