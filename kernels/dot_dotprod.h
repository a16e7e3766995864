/* SPDX-License-Identifier: MIT
 * Private to kernels/, for the _dotprod files: sums of int8 products; each instruction adds four to an int32.
 */
#ifndef KERNELS_DOT_DOTPROD_H
#define KERNELS_DOT_DOTPROD_H

#include "kernels/isa.h"

#include <arm_neon.h>

enum {
    DOT_FEW_COLS = 3,  /* columns for which 32 rows' sums stay in registers */
    DOT_TILE_COLS = 4, /* the same for 16 rows */
};

struct sums {
    int32x4_t fours;
};

BN_INLINE struct sums no_sums(void)
{
    return (struct sums){vdupq_n_s32(0)};
}

/* Add the 16 products of codes and activations. */
BN_INLINE struct sums add_products(struct sums sum, int8x16_t codes, int8x16_t x)
{
    return (struct sums){vdotq_s32(sum.fours, codes, x)};
}

/* The same with the activations 4 p … 4 p + 3 in place of all fours. */
BN_INLINE struct sums add_products_of_four(struct sums sum, int8x16_t codes, int8x16_t x, const int p)
{
    return (struct sums){p == 0   ? vdotq_laneq_s32(sum.fours, codes, x, 0)
                         : p == 1 ? vdotq_laneq_s32(sum.fours, codes, x, 1)
                         : p == 2 ? vdotq_laneq_s32(sum.fours, codes, x, 2)
                                  : vdotq_laneq_s32(sum.fours, codes, x, 3)};
}

/* Lane i: the sum of the products of the bytes 4 i … 4 i + 3. */
BN_INLINE int32x4_t total(struct sums sum)
{
    return sum.fours;
}

/* The same for products of any int8: here there is no difference. */
struct wide {
    struct sums sums;
};

BN_INLINE struct wide no_wide(void)
{
    return (struct wide){no_sums()};
}

BN_INLINE struct wide add_wide_of_four(struct wide sum, int8x16_t w, int8x16_t x, const int p)
{
    return (struct wide){add_products_of_four(sum.sums, w, x, p)};
}

BN_INLINE int32x4_t wide_total(struct wide sum)
{
    return total(sum.sums);
}

#endif
