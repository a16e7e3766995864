/* SPDX-License-Identifier: MIT
 * Private to kernels/: ternary products with rows in file order on ARM64.
 *
 * A few vectors read four rows in place. For more, 16 rows are unpacked once into bytes, in the order of
 * their elements, and used for all vectors; lanes are added up at the end of a stretch. */
#ifndef KERNELS_QK256_ARM_H
#define KERNELS_QK256_ARM_H

#include "kernels/ternary_arm.h"

enum {
    BLOCK = 128,         /* elements of a row that share 32 bytes */
    ROWS = 4,            /* rows that share the loaded activations */
    GEMM_FROM_COLS = 4,  /* fewer vectors do not repay the unpacking */
    TILE_ROWS = 16,      /* rows that are unpacked at a time */
    STRETCH = 8 * BLOCK, /* elements between two totals: 64 products a sum; unpacked: 16 KiB */
    AHEAD_BYTES = 512,   /* how far a row is fetched ahead */
    X_BYTES = 256 << 10, /* activations used by all tiles before the next ones: they stay in the L2 cache */
    MIN_COLS = 32,       /* but not fewer columns: unpacking must pay */
};

/* Four vectors' lanes added up. */
BN_INLINE int32x4_t across(int32x4_t a, int32x4_t b, int32x4_t c, int32x4_t d)
{
    return vpaddq_s32(vpaddq_s32(a, b), vpaddq_s32(c, d));
}

/* ---- few vectors ---- */

/* Four rows by one column. Rows beyond the n_rows that there are repeat the last; their sums are not
 * stored. */
BN_INLINE void four_rows(const uint8_t *w, const int8_t *x, int32_t x_sum, int32_t *y, size_t n_rows,
                         size_t k)
{
    const size_t row_bytes = k / 4;
    int32x4_t result = vdupq_n_s32(-x_sum);
    const uint8_t *row[ROWS];

    for (size_t r = 0; r < ROWS; r++)
        row[r] = w + (r < n_rows ? r : n_rows - 1) * row_bytes;
    for (size_t begin = 0; begin < row_bytes; begin += STRETCH / 4) {
        const size_t end = row_bytes - begin < STRETCH / 4 ? row_bytes : begin + STRETCH / 4;
        struct sums sum[ROWS];

        BN_UNROLL
        for (int r = 0; r < ROWS; r++)
            sum[r] = no_sums();
        for (size_t at = begin; at < end; at += 16) { /* half a block */
            const int8_t *xi = x + at / 32 * BLOCK + at % 32;

            BN_UNROLL
            for (int r = 0; r < ROWS; r++) {
                const uint8x16_t codes = vld1q_u8(row[r] + at);

                __builtin_prefetch(row[r] + at + AHEAD_BYTES);
                BN_UNROLL
                for (int p = 0; p < 4; p++)
                    sum[r] = add_products(sum[r], codes_at(codes, p), vld1q_s8(xi + 32 * p));
            }
        }
        result = vaddq_s32(result, across(total(sum[0]), total(sum[1]), total(sum[2]), total(sum[3])));
    }
    store_rows(y, n_rows, result);
}

BN_INLINE void gemm_few(const uint8_t *w, const int8_t *x, const int32_t *x_sum, int32_t *y, size_t ldy,
                        size_t n_rows, size_t k, size_t n_cols)
{
    for (size_t r = 0; r < n_rows; r += ROWS) {
        for (size_t c = 0; c < n_cols; c++)
            four_rows(w + r * (k / 4), x + c * k, x_sum[c], y + c * ldy + r, n_rows - r, k);
    }
}

/* ---- more vectors ---- */

/* Part of a product: up to TILE_ROWS rows by all columns over a stretch of k. */
struct part {
    const int8_t *x; /* column 0 at the start of the stretch; columns k apart */
    const int32_t *x_sum;
    int32_t *y; /* row 0 in column 0; columns ldy apart */
    size_t k, ldy, n_cols, depth, n_rows;
    int first; /* the sums begin here, with -x_sum; else they continue from y */
};

BN_INLINE void unpack_row(const uint8_t *w, int8_t *out, size_t depth)
{
    for (size_t i = 0; i < depth; i += BLOCK, w += BLOCK / 4, out += BLOCK) {
        BN_UNROLL
        for (int half = 0; half < 2; half++) {
            const uint8x16_t codes = vld1q_u8(w + 16 * half);

            BN_UNROLL
            for (int p = 0; p < 4; p++)
                vst1q_s8(out + 32 * p + 16 * half, codes_at(codes, p));
        }
    }
}

/* The innermost product: four rows, from row r on, by n_cols columns, from column c on. */
BN_INLINE void tile_product(int8_t (*w)[STRETCH], const struct part *part, size_t r, size_t c,
                            const size_t n_cols)
{
    const int8_t *x = part->x + c * part->k;
    const size_t left = part->n_rows - r;
    struct sums sum[DOT_TILE_COLS][ROWS];

    BN_UNROLL
    for (size_t j = 0; j < n_cols; j++) {
        BN_UNROLL
        for (int i = 0; i < ROWS; i++)
            sum[j][i] = no_sums();
    }
    for (size_t at = 0; at < part->depth; at += 16) {
        BN_UNROLL
        for (size_t j = 0; j < n_cols; j++) {
            const int8x16_t xj = vld1q_s8(x + j * part->k + at);

            BN_UNROLL
            for (size_t i = 0; i < ROWS; i++)
                sum[j][i] = add_products(sum[j][i], vld1q_s8(w[r + i] + at), xj);
        }
    }
    BN_UNROLL
    for (size_t j = 0; j < n_cols; j++) {
        int32_t *y = part->y + (c + j) * part->ldy + r;
        const int32x4_t before = part->first ? vdupq_n_s32(-part->x_sum[c + j]) : load_rows(y, left);

        store_rows(y, left,
                   vaddq_s32(before,
                             across(total(sum[j][0]), total(sum[j][1]), total(sum[j][2]), total(sum[j][3]))));
    }
}

BN_INLINE void all_columns(int8_t (*w)[STRETCH], const struct part *part)
{
    size_t c = 0;

    for (; c + DOT_TILE_COLS <= part->n_cols; c += DOT_TILE_COLS) {
        for (size_t r = 0; r < part->n_rows; r += ROWS)
            tile_product(w, part, r, c, DOT_TILE_COLS);
    }
    for (; c < part->n_cols; c++) {
        for (size_t r = 0; r < part->n_rows; r += ROWS)
            tile_product(w, part, r, c, 1);
    }
}

BN_INLINE void gemm_many(const uint8_t *w, const int8_t *x, const int32_t *x_sum, int32_t *y, size_t ldy,
                         size_t n_rows, size_t k, size_t n_cols)
{
    int8_t unpacked[TILE_ROWS][STRETCH];

    for (size_t r = 0; r < n_rows; r += TILE_ROWS) {
        for (size_t i = 0; i < k; i += STRETCH) {
            const struct part part = {
                .x = x + i,
                .x_sum = x_sum,
                .y = y + r,
                .k = k,
                .ldy = ldy,
                .n_cols = n_cols,
                .depth = k - i < STRETCH ? k - i : STRETCH,
                .n_rows = n_rows - r < TILE_ROWS ? n_rows - r : TILE_ROWS,
                .first = i == 0,
            };

            /* a group of four that is not full repeats the last row */
            for (size_t t = 0; t < (part.n_rows + ROWS - 1) / ROWS * ROWS; t++) {
                const size_t row = r + (t < part.n_rows ? t : part.n_rows - 1);

                unpack_row(w + row * (k / 4) + i / 4, unpacked[t], part.depth);
            }
            all_columns(unpacked, &part);
        }
    }
}

BN_INLINE void gemm(const uint8_t *w, const int8_t *x, const int32_t *x_sum, int32_t *y, size_t ldy,
                    size_t n_rows, size_t k, size_t n_cols)
{
    size_t fit = X_BYTES / k, groups;

    if (n_cols < GEMM_FROM_COLS) {
        gemm_few(w, x, x_sum, y, ldy, n_rows, k, n_cols);
        return;
    }
    fit = fit < MIN_COLS ? MIN_COLS : fit;
    groups = (n_cols + fit - 1) / fit;
    for (size_t c = 0; groups > 0; groups--) {
        size_t n = (n_cols - c + groups - 1) / groups;

        gemm_many(w, x + c * k, x_sum + c, y + c * ldy, ldy, n_rows, k, n);
        c += n;
    }
}

#endif
