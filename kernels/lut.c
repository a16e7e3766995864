/* SPDX-License-Identifier: MIT
 * Ternary rows into tiles of look-up indices. */
#include "kernels/lut.h"

#include <string.h>

void bn_tl1_pack_row(const uint8_t *codes, uint8_t *tile, size_t row, size_t k)
{
    uint8_t *out = tile + bn_lut_place(row);

    for (size_t i = 0; i < k; i += BN_TL1_ELEMENTS, codes += BN_TL1_ELEMENTS, out += BN_LUT_ROWS)
        *out = (uint8_t)(3 * codes[0] + codes[1] + (3 * codes[2] + codes[3]) * 16);
}

void bn_tl2_pack_row(const uint8_t *codes, uint8_t *tile, size_t row, size_t k)
{
    uint8_t *out = tile + BN_TL2_COUNTS + bn_lut_place(row);
    int32_t count = 0;

    for (; k >= BN_TL2_ELEMENTS; k -= BN_TL2_ELEMENTS, out += BN_TL2_GROUP) {
        unsigned signs = 0, index[8];

        for (int t = 0; t < 8; t++, codes += 3) {
            int value = 9 * codes[0] + 3 * codes[1] + codes[2] - 13;

            signs = signs * 2 + (value < 0);
            count += value < 0;
            index[t] = (unsigned)(value < 0 ? -value : value);
        }
        out[0] = (uint8_t)signs;
        for (int i = 0; i < 4; i++)
            out[(i + 1) * BN_LUT_ROWS] = (uint8_t)(index[2 * i] | index[2 * i + 1] << 4);
    }
    memcpy(tile + sizeof count * row, &count, sizeof count);
    bn_tl1_pack_row(codes, out - bn_lut_place(row), row, k);
}
