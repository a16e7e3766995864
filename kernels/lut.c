/* SPDX-License-Identifier: MIT
 * Ternary rows into tiles of look-up indices. */
#include "kernels/lut.h"

#include <string.h>

/* Neighbours' codes, the first in the lowest byte. */
static inline uint32_t load4(const uint8_t *codes)
{
    uint32_t v;

    memcpy(&v, codes, sizeof v);
    return v;
}

/* The products that meet in the highest byte are 3 and 1 times the first two codes, 48 and 16 times the
 * others; no byte below it overflows. */
void bn_tl1_pack_row(const uint8_t *restrict codes, uint8_t *restrict tile, size_t row, size_t k)
{
    uint8_t *out = tile + bn_lut_place(row);

    for (size_t i = 0; i < k; i += BN_TL1_ELEMENTS, out += BN_LUT_ROWS)
        *out = (uint8_t)(load4(codes + i) * 0x03013010u >> 24);
}

/* Eight triples: their indices two a byte, and the signs. The products that meet in the third byte are 9, 3
 * and 1 times the codes of a triple. */
static inline unsigned eight_triples(const uint8_t *codes, uint8_t index[4])
{
    /* the index, and 128 if the triple is turned */
    static const uint8_t folded[32] = {141, 140, 139, 138, 137, 136, 135, 134, 133, 132, 131, 130, 129, 0,
                                       1,   2,   3,   4,   5,   6,   7,   8,   9,   10,  11,  12,  13};
    unsigned signs = 0, one[8];

    for (int t = 0; t < 8; t++) {
        /* the last one does not reach behind the codes */
        const uint32_t three = t < 7 ? load4(codes + 3 * t) : load4(codes + 20) >> 8;

        one[t] = folded[three * 0x090301u >> 16 & 31];
        signs = signs * 2 + (one[t] >> 7);
    }
    for (int i = 0; i < 4; i++)
        index[i] = (uint8_t)((one[2 * i] & 15) | one[2 * i + 1] << 4);
    return signs;
}

static inline int32_t count_bits(unsigned byte)
{
    byte -= byte >> 1 & 0x55;
    byte = (byte & 0x33) + (byte >> 2 & 0x33);
    return (int32_t)((byte + (byte >> 4)) & 15);
}

void bn_tl2_pack_row(const uint8_t *restrict codes, uint8_t *restrict tile, size_t row, size_t k)
{
    uint8_t *out = tile + BN_TL2_COUNTS + bn_lut_place(row);
    int32_t count = 0;

    for (; k >= BN_TL2_ELEMENTS; k -= BN_TL2_ELEMENTS, codes += BN_TL2_ELEMENTS, out += BN_TL2_GROUP) {
        uint8_t index[4];
        const unsigned signs = eight_triples(codes, index);

        out[0] = (uint8_t)signs;
        for (int i = 0; i < 4; i++)
            out[(i + 1) * BN_LUT_ROWS] = index[i];
        count += count_bits(signs);
    }
    memcpy(tile + sizeof count * row, &count, sizeof count);
    bn_tl1_pack_row(codes, out - bn_lut_place(row), row, k);
}
