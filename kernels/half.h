/* SPDX-License-Identifier: MIT
 * Private to kernels/: 16-bit floats to float and back, one value at a time, exact. */
#ifndef KERNELS_HALF_H
#define KERNELS_HALF_H

#include "kernels/isa.h"

#include <string.h>

BN_INLINE float float_from_bits(uint32_t bits)
{
    float f;

    memcpy(&f, &bits, sizeof f);
    return f;
}

BN_INLINE uint32_t bits_of_float(float f)
{
    uint32_t bits;

    memcpy(&bits, &f, sizeof bits);
    return bits;
}

/* Exponent and mantissa moved into a float's places are the value times 2^-112, subnormals included. Infinity
 * and NaN need the float's highest exponent; a NaN comes out quiet, as the CPU's conversion gives it. */
BN_INLINE float float_from_f16(uint16_t h)
{
    uint32_t sign = (uint32_t)(h & 0x8000) << 16, magnitude = h & 0x7fff;
    float f = float_from_bits(magnitude << 13) * 0x1p112f;
    uint32_t bits = bits_of_float(f);

    if (magnitude >= 0x7c00)
        bits = 0x7f800000 | magnitude << 13 | (magnitude > 0x7c00 ? 0x400000 : 0);
    return float_from_bits(sign | bits);
}

/* Round half to even by adding just less than half of the last kept place, plus one if that place is odd. */
BN_INLINE uint16_t f16_from_float(float f)
{
    uint32_t bits = bits_of_float(f), sign = bits >> 16 & 0x8000, magnitude = bits & 0x7fffffff;

    if (magnitude > 0x7f800000) /* NaN: quiet, the upper part of its payload */
        return (uint16_t)(sign | 0x7e00 | (magnitude >> 13 & 0x3ff));
    if (magnitude >= 0x477ff000) /* 65520 and more round to infinity */
        return (uint16_t)(sign | 0x7c00);
    if (magnitude <
        0x38800000) { /* below 2^-14: adding 1/2 leaves multiples of 2^-24, rounded, in the low bits */
        float shifted = float_from_bits(magnitude) + 0.5f;

        return (uint16_t)(sign | (bits_of_float(shifted) - 0x3f000000));
    }
    magnitude += 0xfff + (magnitude >> 13 & 1);
    return (uint16_t)(sign | ((magnitude - 0x38000000) >> 13));
}

BN_INLINE float float_from_bf16(uint16_t b)
{
    return float_from_bits((uint32_t)b << 16);
}

#endif
