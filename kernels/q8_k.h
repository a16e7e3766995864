/* SPDX-License-Identifier: MIT
 * Private to kernels/: the scale of a block of 256 activations, one formula for every instruction set. */
#ifndef KERNELS_Q8_K_H
#define KERNELS_Q8_K_H

#include "kernels/block.h"

/* What a block whose value largest in size is `max` is multiplied by: it becomes -127. */
BN_INLINE float q8_k_factor(float max)
{
    return fabsf(max) < 0x1p-100f ? 0.0f : -127.0f / max;
}

BN_INLINE float q8_k_scale(float factor)
{
    return factor != 0.0f ? 1.0f / factor : 0.0f;
}

#endif
