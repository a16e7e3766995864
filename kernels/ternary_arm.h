/* SPDX-License-Identifier: MIT
 * Private to kernels/, for the ternary products on ARM64, which are the same with and without dot products:
 * what includes this has included kernels/dot_<isa>.h, whose sums take 85 products. */
#ifndef KERNELS_TERNARY_ARM_H
#define KERNELS_TERNARY_ARM_H

#include "kernels/isa.h"

#include <arm_neon.h>

/* The codes in the bit pair of place p of each byte: 7:6, 5:4, 3:2, 1:0. */
BN_INLINE int8x16_t codes_at(uint8x16_t v, const int p)
{
    const uint8x16_t code = vdupq_n_u8(3);
    const uint8x16_t at_p = p == 0   ? vshrq_n_u8(v, 6)
                            : p == 1 ? vandq_u8(vshrq_n_u8(v, 4), code)
                            : p == 2 ? vandq_u8(vshrq_n_u8(v, 2), code)
                                     : vandq_u8(v, code);

    return vreinterpretq_s8_u8(at_p);
}

/* Four sums of rows, or the `left` that there still are. */
BN_INLINE void store_rows(int32_t *y, size_t left, int32x4_t sum)
{
    int32_t partial[4];

    if (left >= 4) {
        vst1q_s32(y, sum);
        return;
    }
    vst1q_s32(partial, sum);
    for (size_t r = 0; r < left; r++)
        y[r] = partial[r];
}

BN_INLINE int32x4_t load_rows(const int32_t *y, size_t left)
{
    int32_t partial[4] = {0};

    if (left >= 4)
        return vld1q_s32(y);
    for (size_t r = 0; r < left; r++)
        partial[r] = y[r];
    return vld1q_s32(partial);
}

#endif
