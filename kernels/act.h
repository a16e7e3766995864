/* SPDX-License-Identifier: MIT
 * Private to kernels/: the scale of a quantised row, one formula for every instruction set. */
#ifndef KERNELS_ACT_H
#define KERNELS_ACT_H

#include "kernels/isa.h"

#include <string.h>

/* max: largest magnitude of the row. The division is done in double, as the format's reference does. */
BN_INLINE float act_scale(float max)
{
    double limited = max > 1e-5 ? max : 1e-5;

    return (float)(127.0 / limited);
}

/* May quotients by `divisor` be made from its reciprocal, exactly as a division would round them? With the
 * correctly rounded reciprocal r: q0 = y * r is within 1.5 units in the last place; q1 = q0 + (y - q0 *
 * divisor) * r within one; q2, made from q1 in the same way, is the rounded quotient (Markstein 1990), unless
 * the divisor's mantissa is all ones. y is a whole number below 2^31, so between these bounds nothing over-
 * or underflows. */
BN_INLINE int has_exact_quotients(float divisor)
{
    uint32_t bits;

    memcpy(&bits, &divisor, sizeof bits);
    return divisor > 0x1p-60f && divisor < 0x1p60f && (bits & 0x7fffff) != 0x7fffff;
}

#endif
