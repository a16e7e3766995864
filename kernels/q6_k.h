/* SPDX-License-Identifier: MIT
 * Private to kernels/: where the parts of a block of Q6_K lie in a file and in a tile, and how the scales of
 * its sub-blocks are chosen. */
#ifndef KERNELS_Q6_K_H
#define KERNELS_Q6_K_H

#include "kernels/block.h"

enum {
    Q6_K_HIGH = 128, /* in a file: behind the low halves of the codes their high bits … */
    Q6_K_SCALES = 192,
    Q6_K_D = 208,
    /* In a tile, a group: the scales of four sub-blocks, 4 times two pieces of low halves and one of high
     * bits. Group 2 h + s has the sub-blocks 8 h + s + 0, 2, 4, 6. */
    Q6_K_GROUPS = 4,
    Q6_K_STEP_BYTES = 3 * BN_PIECE_BYTES,
    Q6_K_GROUP_BYTES = BN_PIECE_BYTES + 4 * Q6_K_STEP_BYTES,
};

/* Value 128 h + 32 quarter + i of a block (i < 32) has its low half at byte 64 h + 32 (quarter mod 2) + i,
 * shifted by 4 (quarter div 2), its high bits at byte 32 h + i, shifted by 2 quarter, and the scale 8 h +
 * 2 quarter + i div 16. Its group is 2 h + i div 16. */

/* Scales of a row's block from its sub-blocks' exact ones (the largest value becomes -32): the largest scale
 * becomes -128. Returns d; sc gets the scales. */
BN_INLINE uint16_t q6_k_scales(const float exact[16], int8_t sc[16])
{
    float max = largest(exact, 16);
    uint16_t d = f16_from_float(max / -128.0f);
    float to_code = d & 0x7fff ? -128.0f / max : 0.0f;

    for (size_t j = 0; j < 16; j++) {
        int s = nearest(exact[j] * to_code);
        sc[j] = (int8_t)(s < 127 ? s : 127);
    }
    return d;
}

/* What the values of a sub-block are multiplied by to get their codes minus 32. */
BN_INLINE float q6_k_factor(float d, int8_t sc)
{
    float scale = d * (float)sc;

    return scale != 0.0f ? 1.0f / scale : 0.0f;
}

#endif
