/* SPDX-License-Identifier: MIT
 * Weights into tiles, from any order of codes. The order of the common file formats has faster kernels. */
#include "kernels/pack.h"

void bn_pack_i2s_row(const uint8_t *codes, uint8_t *tile, size_t row, size_t k)
{
    uint8_t *out = tile + 4 * row;

    for (size_t i = 0; i < k; i += BN_PIECE_I2S, codes += BN_PIECE_I2S, out += BN_PIECE_BYTES) {
        for (int j = 0; j < 4; j++)
            out[j] = (uint8_t)(codes[j] << 6 | codes[j + 4] << 4 | codes[j + 8] << 2 | codes[j + 12]);
    }
}
