/* SPDX-License-Identifier: MIT
 * Private to kernels/: products of the block formats over tiles on ARM64: a tile by a few columns. A vector
 * holds four bytes of each of four rows, a lane of the sums is a row. Includes after kernels/dot_<isa>.h,
 * whose int16 sums hold what a sub-block adds: codes of Q4_0 are below 9, of Q4_K 16, of Q6_K 33 in size, |q|
 * is at most 127. */
#ifndef KERNELS_BLOCK_ARM_H
#define KERNELS_BLOCK_ARM_H

#include "kernels/neon.h"
#include "kernels/q4_k.h"
#include "kernels/q6_k.h"

enum {
    VECS = BN_TILE_ROWS / 4, /* vectors of four rows */
    HALF = VECS / 2,         /* those done together, where a block has one sum */
};

BN_INLINE uint8x16_t load_ahead(const uint8_t *p)
{
    __builtin_prefetch(p + BLOCK_AHEAD_BYTES);
    return vld1q_u8(p);
}

/* F16 scales of four rows. */
BN_INLINE float32x4_t load_scales(const uint8_t *w)
{
    return floats_of_f16(vreinterpret_u16_u8(vld1_u8(w)));
}

BN_INLINE uint8x16_t low_halves(uint8x16_t v)
{
    return vandq_u8(v, vdupq_n_u8(15));
}

BN_INLINE uint8x16_t high_halves(uint8x16_t v)
{
    return vshrq_n_u8(v, 4);
}

/* Codes less their offset. */
BN_INLINE int8x16_t less(uint8x16_t codes, const int8_t offset)
{
    return vsubq_s8(vreinterpretq_s8_u8(codes), vdupq_n_s8(offset));
}

BN_INLINE void start_totals(float32x4_t (*total_of)[VECS], size_t n_cols)
{
    for (size_t i = 0; i < n_cols * VECS; i++)
        total_of[i / VECS][i % VECS] = vdupq_n_f32(0.0f);
}

BN_INLINE void store_totals(float *y, size_t ldy, size_t n_rows, float32x4_t (*total_of)[VECS], size_t n_cols)
{
    for (size_t j = 0; j < n_cols; j++) {
        for (size_t v = 0; v < VECS && 4 * v < n_rows; v++)
            store4(y + j * ldy + 4 * v, n_rows - 4 * v, total_of[j][v]);
    }
}

/* sum + (float)whole * (rows * x), each operation rounded. */
BN_INLINE float32x4_t add_scaled(float32x4_t sum, int32x4_t whole, float32x4_t rows, float x)
{
    return vaddq_f32(sum, vmulq_f32(vcvtq_f32_s32(whole), vmulq_n_f32(rows, x)));
}

/* ---- Q8_0 ---- */

BN_INLINE void q8_0_tile(const uint8_t *w, const struct bn_q8 *x, size_t c, float *y, size_t ldy,
                         size_t n_rows, size_t k, const size_t n_cols)
{
    const size_t n_blocks = k / BN_BLOCK;
    float32x4_t sum_of[DOT_TILE_COLS][VECS];

    start_totals(sum_of, n_cols);
    for (size_t b = 0; b < n_blocks; b++, w += BN_TILE_ROWS * Q8_0_BYTES) {
        for (size_t first = 0; first < VECS; first += HALF) {
            struct wide sum[DOT_TILE_COLS][HALF];

            BN_UNROLL
            for (size_t i = 0; i < n_cols * HALF; i++)
                sum[i / HALF][i % HALF] = no_wide();
            for (size_t half = 0; half < 2; half++) {
                BN_UNROLL
                for (int p = 0; p < 4; p++) {
                    const uint8_t *piece = w + SCALES_F16 + (4 * half + (size_t)p) * BN_PIECE_BYTES;

                    BN_UNROLL
                    for (size_t v = 0; v < HALF; v++) {
                        const uint8x16_t codes = load_ahead(piece + 16 * (first + v));
                        const int8x16_t weights = vreinterpretq_s8_u8(veorq_u8(codes, vdupq_n_u8(0x80)));

                        BN_UNROLL
                        for (size_t j = 0; j < n_cols; j++)
                            sum[j][v] =
                                add_wide_of_four(sum[j][v], weights,
                                                 vld1q_s8(x->q + (c + j) * k + b * BN_BLOCK + 16 * half), p);
                    }
                }
            }
            for (size_t v = 0; v < HALF; v++) {
                const float32x4_t rows = load_scales(w + 8 * (first + v));

                for (size_t j = 0; j < n_cols; j++)
                    sum_of[j][first + v] = add_scaled(sum_of[j][first + v], wide_total(sum[j][v]), rows,
                                                      x->d[(c + j) * n_blocks + b]);
            }
        }
    }
    store_totals(y, ldy, n_rows, sum_of, n_cols);
}

/* ---- Q4_0 ---- */

BN_INLINE void q4_0_tile(const uint8_t *w, const struct bn_q8 *x, size_t c, float *y, size_t ldy,
                         size_t n_rows, size_t k, const size_t n_cols)
{
    const size_t n_blocks = k / BN_BLOCK;
    float32x4_t sum_of[DOT_TILE_COLS][VECS];

    start_totals(sum_of, n_cols);
    for (size_t b = 0; b < n_blocks; b++, w += BN_TILE_ROWS * Q4_0_BYTES) {
        for (size_t first = 0; first < VECS; first += HALF) {
            struct sums sum[DOT_TILE_COLS][HALF];

            BN_UNROLL
            for (size_t i = 0; i < n_cols * HALF; i++)
                sum[i / HALF][i % HALF] = no_sums();
            BN_UNROLL
            for (int p = 0; p < 4; p++) {
                BN_UNROLL
                for (size_t v = 0; v < HALF; v++) {
                    const uint8x16_t codes =
                        load_ahead(w + SCALES_F16 + (size_t)p * BN_PIECE_BYTES + 16 * (first + v));
                    const int8x16_t low = less(low_halves(codes), 8), high = less(high_halves(codes), 8);

                    BN_UNROLL
                    for (size_t j = 0; j < n_cols; j++) {
                        const int8_t *q = x->q + (c + j) * k + b * BN_BLOCK;

                        sum[j][v] = add_products_of_four(sum[j][v], low, vld1q_s8(q), p);
                        sum[j][v] = add_products_of_four(sum[j][v], high, vld1q_s8(q + 16), p);
                    }
                }
            }
            for (size_t v = 0; v < HALF; v++) {
                const float32x4_t rows = load_scales(w + 8 * (first + v));

                for (size_t j = 0; j < n_cols; j++)
                    sum_of[j][first + v] = add_scaled(sum_of[j][first + v], total(sum[j][v]), rows,
                                                      x->d[(c + j) * n_blocks + b]);
            }
        }
    }
    store_totals(y, ldy, n_rows, sum_of, n_cols);
}

/* ---- Q6_K ---- */

/* The codes of the four sub-blocks in a step of a group: low halves of two pieces, high bits of the third. */
BN_INLINE void q6_k_unpack(const uint8_t *w, int8x16_t codes[4])
{
    const uint8x16_t top = vdupq_n_u8(0x30), bits = load_ahead(w + 2 * BN_PIECE_BYTES);
    const uint8x16_t a = load_ahead(w), b = load_ahead(w + BN_PIECE_BYTES);

    codes[0] = less(vorrq_u8(low_halves(a), vandq_u8(vshlq_n_u8(bits, 4), top)), 32);
    codes[1] = less(vorrq_u8(low_halves(b), vandq_u8(vshlq_n_u8(bits, 2), top)), 32);
    codes[2] = less(vorrq_u8(high_halves(a), vandq_u8(bits, top)), 32);
    codes[3] = less(vorrq_u8(high_halves(b), vandq_u8(vshrq_n_u8(bits, 2), top)), 32);
}

/* A group's share of the sums of a block for four rows (w: theirs). q: activations from the group's first
 * value on. */
BN_INLINE void q6_k_add_group(const uint8_t *w, const int8_t *q, size_t k, int32x4_t *block,
                              const size_t n_cols)
{
    const int32x4_t scales = vreinterpretq_s32_u8(load_ahead(w));
    struct sums sum[DOT_TILE_COLS][4];

    BN_UNROLL
    for (size_t i = 0; i < n_cols * 4; i++)
        sum[i / 4][i % 4] = no_sums();
    BN_UNROLL
    for (int p = 0; p < 4; p++) {
        int8x16_t codes[4];

        q6_k_unpack(w + BN_PIECE_BYTES + p * Q6_K_STEP_BYTES, codes);
        BN_UNROLL
        for (size_t j = 0; j < n_cols; j++) {
            BN_UNROLL
            for (size_t s = 0; s < 4; s++)
                sum[j][s] = add_products_of_four(sum[j][s], codes[s], vld1q_s8(q + j * k + 32 * s), p);
        }
    }
    BN_UNROLL
    for (int s = 0; s < 4; s++) { /* byte s of each lane, signed */
        const int32x4_t scale = vshrq_n_s32(vshlq_s32(scales, vdupq_n_s32(24 - 8 * s)), 24);

        BN_UNROLL
        for (size_t j = 0; j < n_cols; j++)
            block[j] = vmlaq_s32(block[j], total(sum[j][s]), scale);
    }
}

BN_INLINE void q6_k_tile(const uint8_t *w, const struct bn_q8 *x, size_t c, float *y, size_t ldy,
                         size_t n_rows, size_t k, const size_t n_cols)
{
    const size_t n_blocks = k / BN_BLOCK_K;
    float32x4_t sum_of[DOT_TILE_COLS][VECS];

    start_totals(sum_of, n_cols);
    for (size_t b = 0; b < n_blocks; b++, w += BN_TILE_ROWS * Q6_K_BYTES) {
        for (size_t v = 0; v < VECS; v++) {
            const float32x4_t rows = load_scales(w + 8 * v);
            int32x4_t block[DOT_TILE_COLS];

            for (size_t j = 0; j < n_cols; j++)
                block[j] = vdupq_n_s32(0);
            for (size_t g = 0; g < Q6_K_GROUPS; g++)
                q6_k_add_group(w + SCALES_F16 + g * Q6_K_GROUP_BYTES + 16 * v,
                               x->q + c * k + b * BN_BLOCK_K + 128 * (g / 2) + 16 * (g % 2), k, block,
                               n_cols);
            for (size_t j = 0; j < n_cols; j++)
                sum_of[j][v] = add_scaled(sum_of[j][v], block[j], rows, x->d[(c + j) * n_blocks + b]);
        }
    }
    store_totals(y, ldy, n_rows, sum_of, n_cols);
}

/* ---- Q4_K ---- */

/* A byte a row to a lane a row. */
BN_INLINE int32x4_t four_bytes(const uint8_t *p)
{
    uint32_t four;

    memcpy(&four, p, sizeof four);
    return vreinterpretq_s32_u32(vmovl_u16(vget_low_u16(vmovl_u8(vcreate_u8(four)))));
}

/* Bits `from` on of `mask` in size. */
BN_INLINE int32x4_t bits_from(int32x4_t v, const int from, const int mask)
{
    return vandq_s32(vshlq_s32(v, vdupq_n_s32(-from)), vdupq_n_s32(mask));
}

/* Two sub-blocks' share of the sums of a block for four rows (w: theirs, at the block's codes; low, high: the
 * bits of their scales). q: activations of the first one. */
BN_INLINE void q4_k_add_chunk(const uint8_t *w, const uint8_t *low, const uint8_t *high, const int8_t *q,
                              const int16_t *x_sum, size_t k, int32x4_t *products, int32x4_t *minima,
                              const size_t n_cols)
{
    struct sums sum[DOT_TILE_COLS][2];

    BN_UNROLL
    for (size_t i = 0; i < n_cols * 2; i++)
        sum[i / 2][i % 2] = no_sums();
    for (size_t half = 0; half < 2; half++) {
        BN_UNROLL
        for (int p = 0; p < 4; p++) {
            const uint8x16_t codes = load_ahead(w + (4 * half + (size_t)p) * BN_PIECE_BYTES);
            const int8x16_t one = less(low_halves(codes), 0), other = less(high_halves(codes), 0);

            BN_UNROLL
            for (size_t j = 0; j < n_cols; j++) {
                const int8_t *at = q + j * k + 16 * half;

                sum[j][0] = add_products_of_four(sum[j][0], one, vld1q_s8(at), p);
                sum[j][1] = add_products_of_four(sum[j][1], other, vld1q_s8(at + 32), p);
            }
        }
    }
    BN_UNROLL
    for (int s = 0; s < 2; s++) {
        const int32x4_t l = four_bytes(low + s * BN_TILE_ROWS), h = four_bytes(high);
        const int32x4_t scale = vorrq_s32(bits_from(l, 0, 15), vshlq_n_s32(bits_from(h, 4 * s, 3), 4));
        const int32x4_t min = vorrq_s32(bits_from(l, 4, 15), vshlq_n_s32(bits_from(h, 4 * s + 2, 3), 4));

        for (size_t j = 0; j < n_cols; j++) {
            const int16_t *two = x_sum + j * (k / 16) + 2 * s;

            products[j] = vmlaq_s32(products[j], total(sum[j][s]), scale);
            minima[j] = vmlaq_n_s32(minima[j], min, two[0] + two[1]);
        }
    }
}

BN_INLINE void q4_k_tile(const uint8_t *w, const struct bn_q8 *x, size_t c, float *y, size_t ldy,
                         size_t n_rows, size_t k, const size_t n_cols)
{
    const size_t n_blocks = k / BN_BLOCK_K;
    float32x4_t sum_of[DOT_TILE_COLS][VECS];

    start_totals(sum_of, n_cols);
    for (size_t b = 0; b < n_blocks; b++, w += BN_TILE_ROWS * Q4_K_BYTES) {
        for (size_t v = 0; v < VECS; v++) {
            const float32x4_t rows = load_scales(w + 8 * v), min_rows = load_scales(w + SCALES_F16 + 8 * v);
            int32x4_t products[DOT_TILE_COLS], minima[DOT_TILE_COLS];

            for (size_t j = 0; j < n_cols; j++)
                products[j] = minima[j] = vdupq_n_s32(0);
            for (size_t i = 0; i < Q4_K_CHUNKS; i++)
                q4_k_add_chunk(w + Q4_K_TILE_CODES + i * Q4_K_CHUNK_BYTES + 16 * v,
                               w + Q4_K_TILE_LOW + 2 * i * BN_TILE_ROWS + 4 * v,
                               w + Q4_K_TILE_HIGH + i * BN_TILE_ROWS + 4 * v,
                               x->q + c * k + b * BN_BLOCK_K + 64 * i,
                               x->sum + (c * k + b * BN_BLOCK_K) / 16 + 4 * i, k, products, minima, n_cols);
            for (size_t j = 0; j < n_cols; j++) {
                const float d = x->d[(c + j) * n_blocks + b];
                const float32x4_t off = vmulq_f32(vmulq_n_f32(min_rows, d), vcvtq_f32_s32(minima[j]));

                sum_of[j][v] = add_scaled(vsubq_f32(sum_of[j][v], off), products[j], rows, d);
            }
        }
    }
    store_totals(y, ldy, n_rows, sum_of, n_cols);
}

#endif
