/* SPDX-License-Identifier: MIT
 * Weights into tiles, from any order of codes. The order of the common file formats has faster kernels. */
#include "kernels/pack.h"

#include <string.h>

void bn_pack_file_row(const uint8_t *codes, uint8_t *w, size_t k)
{
    for (; k > 0; k -= 128, codes += 128, w += 32) {
        for (int p = 0; p < 32; p++)
            w[p] = (uint8_t)(codes[p] << 6 | codes[p + 32] << 4 | codes[p + 64] << 2 | codes[p + 96]);
    }
}

void bn_pack_i2s_row(const uint8_t *codes, uint8_t *tile, size_t row, size_t k)
{
    uint8_t *out = tile + 4 * row;

    for (size_t i = 0; i < k; i += BN_PIECE_I2S, codes += BN_PIECE_I2S, out += BN_PIECE_BYTES) {
        for (int j = 0; j < 4; j++)
            out[j] = (uint8_t)(codes[j] << 6 | codes[j + 4] << 4 | codes[j + 8] << 2 | codes[j + 12]);
    }
}

void bn_pack_block_row(const uint8_t *codes, const uint16_t *scales, uint8_t *tile, size_t row, size_t k,
                       size_t block)
{
    for (; k > 0; k -= block, codes += block) {
        memcpy(tile + sizeof *scales * row, scales++, sizeof *scales);
        tile += sizeof *scales * BN_TILE_ROWS;
        bn_pack_i2s_row(codes, tile, row, block);
        tile += block / BN_PIECE_I2S * BN_PIECE_BYTES;
    }
}
