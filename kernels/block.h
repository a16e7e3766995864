/* SPDX-License-Identifier: MIT
 * Private to kernels/: what the files of the block formats share: sizes, loops over tiles, rounding. */
#ifndef KERNELS_BLOCK_H
#define KERNELS_BLOCK_H

#include "kernels/half.h"
#include "kernels/isa.h"
#include "kernels/pack.h"

#include <math.h>
#include <string.h>

enum {
    Q8_0_BYTES = 34, /* a row's block in a file; in a tile BN_TILE_ROWS times as many */
    Q4_0_BYTES = 18,
    Q4_K_BYTES = 144,
    Q6_K_BYTES = 210,
    SCALES_F16 = 2 * BN_TILE_ROWS, /* bytes of a vector of scales */
    BLOCK_AHEAD_BYTES = 4096,      /* how far the stream of weights is fetched ahead */
    /* Activations used by all tiles before the next columns, so that they stay in the L2 cache; but not fewer
     * columns than that, for weights are then read once more. */
    BLOCK_X_BYTES = 384 << 10,
    BLOCK_MIN_COLS = 48,
};

BN_INLINE float load_f16(const uint8_t *p)
{
    uint16_t h;

    memcpy(&h, p, sizeof h);
    return float_from_f16(h);
}

BN_INLINE void store_f16(uint8_t *p, uint16_t h)
{
    memcpy(p, &h, sizeof h);
}

/* Nearest whole number of |v| <= 2^22, half to even. */
BN_INLINE int nearest(float v)
{
    const float to_integer = 12582912.0f; /* 1.5 * 2^23: adding it leaves no bits below the unit */
    float sum = v + to_integer;

    return (int)(bits_of_float(sum) & 0x7fffff) - 0x400000;
}

/* The value of n that is largest in size, the first of several. */
BN_INLINE float largest(const float *x, size_t n)
{
    float max = 0.0f;

    for (size_t i = 0; i < n; i++)
        max = fabsf(x[i]) > fabsf(max) ? x[i] : max;
    return max;
}

/* The gemv and gemm of a format from <format>_tile(w, x, c, y, ldy, n_rows, k, n_cols): one tile (n_rows of
 * its rows are wanted) by n_cols columns, a constant of at most max_cols, from column c on. Columns go
 * through a tile in groups of as equal a size as can be; a group reads the tile once more, from the L2 cache.
 */
#define BN_BLOCK_PRODUCTS(format, isa, block, block_bytes, max_cols)                                         \
    void format##_gemv_##isa(const uint8_t *w, const struct bn_q8 *x, float *y, size_t n_rows, size_t k)     \
    {                                                                                                        \
        for (size_t r = 0; r < n_rows; r += BN_TILE_ROWS)                                                    \
            format##_tile(w + r * (k / (block) * (block_bytes)), x, 0, y + r, n_rows, n_rows - r, k, 1);     \
    }                                                                                                        \
    BN_INLINE void format##_group(const uint8_t *w, const struct bn_q8 *x, size_t c, float *y, size_t ldy,   \
                                  size_t n_rows, size_t k, size_t n_cols)                                    \
    {                                                                                                        \
        for (size_t groups = (n_cols + (max_cols)-1) / (max_cols); groups > 0; groups--) {                   \
            size_t n = (n_cols + groups - 1) / groups;                                                       \
                                                                                                             \
            BN_BLOCK_CASE(format, 1, max_cols);                                                              \
            BN_BLOCK_CASE(format, 2, max_cols);                                                              \
            BN_BLOCK_CASE(format, 3, max_cols);                                                              \
            BN_BLOCK_CASE(format, 4, max_cols);                                                              \
            BN_BLOCK_CASE(format, 5, max_cols);                                                              \
            BN_BLOCK_CASE(format, 6, max_cols);                                                              \
            c += n;                                                                                          \
            y += n * ldy;                                                                                    \
            n_cols -= n;                                                                                     \
        }                                                                                                    \
    }                                                                                                        \
    void format##_gemm_##isa(const uint8_t *w, const struct bn_q8 *x, float *y, size_t ldy, size_t n_rows,   \
                             size_t k, size_t n_cols)                                                        \
    {                                                                                                        \
        size_t fit = BLOCK_X_BYTES / k < BLOCK_MIN_COLS ? BLOCK_MIN_COLS : BLOCK_X_BYTES / k;                \
        size_t groups = (n_cols + fit - 1) / fit;                                                            \
                                                                                                             \
        for (size_t c = 0; groups > 0; groups--) {                                                           \
            size_t n = (n_cols - c + groups - 1) / groups;                                                   \
                                                                                                             \
            for (size_t r = 0; r < n_rows; r += BN_TILE_ROWS)                                                \
                format##_group(w + r * (k / (block) * (block_bytes)), x, c, y + c * ldy + r, ldy,            \
                               n_rows - r, k, n);                                                            \
            c += n;                                                                                          \
        }                                                                                                    \
    }
#define BN_BLOCK_CASE(format, n_const, max_cols)                                                             \
    if (n_const <= (max_cols) && n == n_const)                                                               \
    format##_tile(w, x, c, y, ldy, n_rows, k, n_const)

#endif
