/* SPDX-License-Identifier: MIT
 * Private to kernels/, for the _neon files: sums of int8 products, made in int16. kernels/dot_dotprod.h has
 * the same names for CPUs with dot products. */
#ifndef KERNELS_DOT_NEON_H
#define KERNELS_DOT_NEON_H

#include "kernels/isa.h"

#include <arm_neon.h>

enum {
    DOT_FEW_COLS = 1,  /* columns for which 32 rows' sums stay in registers */
    DOT_TILE_COLS = 2, /* the same for 16 rows */
};

/* A code is at most 3 and |x| at most 128, so that a product adds at most 384 to an int16: 85 fit. */
struct sums {
    int16x8_t low, high;
};

BN_INLINE struct sums no_sums(void)
{
    return (struct sums){vdupq_n_s16(0), vdupq_n_s16(0)};
}

/* Add the 16 products of codes and activations, at most 85 times. */
BN_INLINE struct sums add_products(struct sums sum, int8x16_t codes, int8x16_t x)
{
    sum.low = vmlal_s8(sum.low, vget_low_s8(codes), vget_low_s8(x));
    sum.high = vmlal_high_s8(sum.high, codes, x);
    return sum;
}

/* The bytes 4 p … 4 p + 3 in place of all fours. */
BN_INLINE int8x16_t four_of(int8x16_t x, const int p)
{
    const int32x4_t fours = vreinterpretq_s32_s8(x);

    return vreinterpretq_s8_s32(p == 0   ? vdupq_laneq_s32(fours, 0)
                                : p == 1 ? vdupq_laneq_s32(fours, 1)
                                : p == 2 ? vdupq_laneq_s32(fours, 2)
                                         : vdupq_laneq_s32(fours, 3));
}

/* The same with the activations 4 p … 4 p + 3 in place of all fours. */
BN_INLINE struct sums add_products_of_four(struct sums sum, int8x16_t codes, int8x16_t x, const int p)
{
    return add_products(sum, codes, four_of(x, p));
}

/* Lane i: the sum of the products of the bytes 4 i … 4 i + 3. */
BN_INLINE int32x4_t total(struct sums sum)
{
    return vpaddq_s32(vpaddlq_s16(sum.low), vpaddlq_s16(sum.high));
}

/* The same for products of any int8, any number of them. */
struct wide {
    int32x4_t low, high;
};

BN_INLINE struct wide no_wide(void)
{
    return (struct wide){vdupq_n_s32(0), vdupq_n_s32(0)};
}

BN_INLINE struct wide add_wide_of_four(struct wide sum, int8x16_t w, int8x16_t x, const int p)
{
    const int8x16_t four = four_of(x, p);

    sum.low = vpadalq_s16(sum.low, vmull_s8(vget_low_s8(w), vget_low_s8(four)));
    sum.high = vpadalq_s16(sum.high, vmull_high_s8(w, four));
    return sum;
}

BN_INLINE int32x4_t wide_total(struct wide sum)
{
    return vpaddq_s32(sum.low, sum.high);
}

#endif
