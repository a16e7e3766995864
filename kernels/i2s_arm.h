/* SPDX-License-Identifier: MIT
 * Private to kernels/: ternary products over tiles on ARM64. A vector holds four codes of each of four rows,
 * four activations are spread over it, a lane of the sums is a row.
 *
 * A few vectors are bound by memory: a tile is multiplied as it is read. More vectors are bound by
 * arithmetic: a stretch of a tile is unpacked into a buffer that stays in the L1 cache and is used for all.
 */
#ifndef KERNELS_I2S_ARM_H
#define KERNELS_I2S_ARM_H

#include "kernels/pack.h"
#include "kernels/ternary_arm.h"

enum {
    VECS = BN_TILE_ROWS / 4,     /* vectors of four rows */
    HALF = VECS / 2,             /* those that are multiplied at a time, when there are many columns */
    STRETCH = 16 * BN_PIECE_I2S, /* elements between two totals: 64 products a sum; unpacked: 8 KiB */
    AHEAD_BYTES = 2048,          /* how far the stream of weights is fetched ahead */
    X_BYTES = 256 << 10, /* activations used by all tiles before the next ones: they stay in the L2 cache */
    MIN_COLS = 32,       /* but not fewer columns: unpacking must pay */
};

/* ---- few vectors ---- */

/* One stretch of a tile. */
BN_INLINE void add_stretch(const uint8_t *w, const int8_t *x, size_t k, size_t depth, int32x4_t (*y)[VECS],
                           const size_t n_cols)
{
    struct sums sum[DOT_FEW_COLS][VECS];

    BN_UNROLL
    for (size_t c = 0; c < n_cols; c++) {
        BN_UNROLL
        for (int v = 0; v < VECS; v++)
            sum[c][v] = no_sums();
    }
    for (size_t i = 0; i < depth; i += BN_PIECE_I2S, w += BN_PIECE_BYTES) {
        __builtin_prefetch(w + AHEAD_BYTES);
        __builtin_prefetch(w + AHEAD_BYTES + 64);
        BN_UNROLL
        for (int v = 0; v < VECS; v++) {
            const uint8x16_t codes = vld1q_u8(w + 16 * v);

            BN_UNROLL
            for (int p = 0; p < 4; p++) {
                BN_UNROLL
                for (size_t c = 0; c < n_cols; c++)
                    sum[c][v] =
                        add_products_of_four(sum[c][v], codes_at(codes, p), vld1q_s8(x + c * k + i), p);
            }
        }
    }
    BN_UNROLL
    for (size_t c = 0; c < n_cols; c++) {
        BN_UNROLL
        for (int v = 0; v < VECS; v++)
            y[c][v] = vaddq_s32(y[c][v], total(sum[c][v]));
    }
}

BN_INLINE void gemm_few(const uint8_t *w, const int8_t *x, const int32_t *x_sum, int32_t *y, size_t ldy,
                        size_t n_rows, size_t k, const size_t n_cols)
{
    for (size_t r = 0; r < n_rows; r += BN_TILE_ROWS) {
        int32x4_t sum[DOT_FEW_COLS][VECS];

        for (size_t c = 0; c < n_cols; c++) {
            for (int v = 0; v < VECS; v++)
                sum[c][v] = vdupq_n_s32(-x_sum[c]);
        }
        for (size_t i = 0; i < k; i += STRETCH) {
            const size_t depth = k - i < STRETCH ? k - i : STRETCH;

            add_stretch(w, x + i, k, depth, sum, n_cols);
            w += depth * (BN_TILE_ROWS / 4);
        }
        for (size_t c = 0; c < n_cols; c++) {
            for (size_t v = 0; v < VECS && r + 4 * v < n_rows; v++)
                store_rows(y + c * ldy + r + 4 * v, n_rows - r - 4 * v, sum[c][v]);
        }
    }
}

/* ---- more vectors ---- */

/* Part of a product: a tile's rows by all columns over a stretch of k. */
struct part {
    const int8_t *x; /* column 0 at the start of the stretch; columns k apart */
    const int32_t *x_sum;
    int32_t *y; /* row 0 in column 0; columns ldy apart */
    size_t k, ldy, n_cols, depth, n_rows;
    int first; /* the sums begin here, with -x_sum; else they continue from y */
};

/* out[half][element / 4][vector] holds four codes of each of four rows. */
BN_INLINE void unpack(const uint8_t *w, int8x16_t (*out)[STRETCH / 4][HALF], size_t depth)
{
    for (size_t i = 0; i < depth / 4; i += 4, w += BN_PIECE_BYTES) {
        __builtin_prefetch(w + AHEAD_BYTES);
        __builtin_prefetch(w + AHEAD_BYTES + 64);
        BN_UNROLL
        for (int v = 0; v < VECS; v++) {
            const uint8x16_t codes = vld1q_u8(w + 16 * v);

            BN_UNROLL
            for (int p = 0; p < 4; p++)
                out[v / HALF][i + (size_t)p][v % HALF] = codes_at(codes, p);
        }
    }
}

/* The innermost product: 16 rows by n_cols columns, from column c on. */
BN_INLINE void tile_product(int8x16_t (*w)[HALF], const struct part *part, size_t c, const size_t n_cols)
{
    const int8_t *x = part->x + c * part->k;
    struct sums sum[DOT_TILE_COLS][HALF];

    BN_UNROLL
    for (size_t j = 0; j < n_cols; j++) {
        BN_UNROLL
        for (int v = 0; v < HALF; v++)
            sum[j][v] = no_sums();
    }
    for (size_t i = 0; i < part->depth; i += BN_PIECE_I2S, w += 4) {
        BN_UNROLL
        for (size_t j = 0; j < n_cols; j++) {
            const int8x16_t xj = vld1q_s8(x + j * part->k + i);

            BN_UNROLL
            for (int p = 0; p < 4; p++) {
                BN_UNROLL
                for (int v = 0; v < HALF; v++)
                    sum[j][v] = add_products_of_four(sum[j][v], w[p][v], xj, p);
            }
        }
    }
    for (size_t j = 0; j < n_cols; j++) {
        for (size_t v = 0; v < HALF && 4 * v < part->n_rows; v++) {
            int32_t *y = part->y + (c + j) * part->ldy + 4 * v;
            const size_t left = part->n_rows - 4 * v;
            const int32x4_t before = part->first ? vdupq_n_s32(-part->x_sum[c + j]) : load_rows(y, left);

            store_rows(y, left, vaddq_s32(before, total(sum[j][v])));
        }
    }
}

BN_INLINE void all_columns(int8x16_t (*w)[HALF], const struct part *part)
{
    size_t c = 0;

    for (; c + DOT_TILE_COLS <= part->n_cols; c += DOT_TILE_COLS)
        tile_product(w, part, c, DOT_TILE_COLS);
    for (; c < part->n_cols; c++)
        tile_product(w, part, c, 1);
}

BN_INLINE void gemm_many(const uint8_t *w, const int8_t *x, const int32_t *x_sum, int32_t *y, size_t ldy,
                         size_t n_rows, size_t k, size_t n_cols)
{
    int8x16_t unpacked[2][STRETCH / 4][HALF];

    for (size_t r = 0; r < n_rows; r += BN_TILE_ROWS) {
        for (size_t i = 0; i < k; i += STRETCH) {
            struct part part = {
                .x = x + i,
                .x_sum = x_sum,
                .y = y + r,
                .k = k,
                .ldy = ldy,
                .n_cols = n_cols,
                .depth = k - i < STRETCH ? k - i : STRETCH,
                .n_rows = n_rows - r,
                .first = i == 0,
            };

            unpack(w, unpacked, part.depth);
            w += part.depth * (BN_TILE_ROWS / 4);
            all_columns(unpacked[0], &part);
            if (part.n_rows > BN_TILE_ROWS / 2) {
                part.y += BN_TILE_ROWS / 2;
                part.n_rows -= BN_TILE_ROWS / 2;
                all_columns(unpacked[1], &part);
            }
        }
    }
}

BN_INLINE void gemm(const uint8_t *w, const int8_t *x, const int32_t *x_sum, int32_t *y, size_t ldy,
                    size_t n_rows, size_t k, size_t n_cols)
{
    size_t fit = X_BYTES / k, groups;

    fit = fit < MIN_COLS ? MIN_COLS : fit;
    groups = (n_cols + fit - 1) / fit;
    for (size_t c = 0; groups > 0; groups--) {
        size_t n = (n_cols - c + groups - 1) / groups;

        gemm_many(w, x + c * k, x_sum + c, y + c * ldy, ldy, n_rows, k, n);
        c += n;
    }
}

#endif
