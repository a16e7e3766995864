/* SPDX-License-Identifier: MIT
 * Private to kernels/: what TL1 and TL2 share in C: tables, and sums of pairs. */
#ifndef KERNELS_LUT_C_H
#define KERNELS_LUT_C_H

#include "kernels/isa.h"
#include "kernels/lut.h"

BN_INLINE void put_entry(uint8_t *table, unsigned index, int value)
{
    table[index] = (uint8_t)((unsigned)value & 255);
    table[16 + index] = (uint8_t)((unsigned)value >> 8 & 255);
}

BN_INLINE int32_t entry(const uint8_t *table, unsigned index)
{
    return (int16_t)(table[index] | table[16 + index] << 8);
}

BN_INLINE void pair_tables(const int8_t *x, uint8_t *table, size_t k)
{
    for (size_t i = 0; i < k; i += 2, table += BN_LUT_ENTRY) {
        for (unsigned e = 0; e < 16; e++)
            put_entry(table, e, e < 9 ? ((int)(e / 3) - 1) * x[i] + ((int)(e % 3) - 1) * x[i + 1] : 0);
    }
}

/* One row's bytes, BN_LUT_ROWS apart. */
BN_INLINE int32_t pair_sum(const uint8_t *w, const uint8_t *table, size_t k)
{
    int32_t sum = 0;

    for (size_t i = 0; i < k; i += BN_TL1_ELEMENTS, w += BN_LUT_ROWS, table += 2 * BN_LUT_ENTRY)
        sum += entry(table, *w & 15) + entry(table + BN_LUT_ENTRY, *w >> 4);
    return sum;
}

#endif
