/* SPDX-License-Identifier: MIT
 * Private to kernels/: the scale of a quantised row, one formula for every instruction set. */
#ifndef KERNELS_ACT_H
#define KERNELS_ACT_H

#include "kernels/isa.h"

/* max: largest magnitude of the row. The division is done in double, as the format's reference does. */
BN_INLINE float act_scale(float max)
{
    double limited = max > 1e-5 ? max : 1e-5;

    return (float)(127.0 / limited);
}

#endif
