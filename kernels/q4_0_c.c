/* SPDX-License-Identifier: MIT
 * Q4_0, the definition: blocks of 32 weights of 4 bits with an F16 scale. */
#include "kernels/block.h"

/* The value largest in size becomes -8, so that the scale carries its sign. */
void q4_0_encode_c(const float *x, uint8_t *w, size_t n)
{
    for (size_t b = 0; b < n / BN_BLOCK; b++, x += BN_BLOCK, w += Q4_0_BYTES) {
        float exact = largest(x, BN_BLOCK) / -8.0f;
        uint16_t d = f16_from_float(exact);
        float to_code = d & 0x7fff ? 1.0f / exact : 0.0f;

        store_f16(w, d);
        for (size_t i = 0; i < BN_BLOCK / 2; i++) {
            int low = (int)(x[i] * to_code + 8.5f), high = (int)(x[i + 16] * to_code + 8.5f);
            w[2 + i] = (uint8_t)((low < 15 ? low : 15) | (high < 15 ? high : 15) << 4);
        }
    }
}

void q4_0_to_f32_c(const uint8_t *w, float *y, size_t n)
{
    for (size_t b = 0; b < n / BN_BLOCK; b++, w += Q4_0_BYTES, y += BN_BLOCK) {
        float d = load_f16(w);

        for (size_t i = 0; i < BN_BLOCK / 2; i++) {
            y[i] = (float)((w[2 + i] & 15) - 8) * d;
            y[i + 16] = (float)((w[2 + i] >> 4) - 8) * d;
        }
    }
}

/* A piece is what a file has in 4 bytes. */
void q4_0_pack_c(const uint8_t *w, uint8_t *packed, size_t n_rows, size_t k)
{
    const size_t row_bytes = k / BN_BLOCK * Q4_0_BYTES, tiles = (n_rows + BN_TILE_ROWS - 1) / BN_TILE_ROWS;

    if (n_rows % BN_TILE_ROWS)
        memset(packed + (tiles - 1) * BN_TILE_ROWS * row_bytes, 0, BN_TILE_ROWS * row_bytes);
    for (size_t r = 0; r < n_rows; r++) {
        uint8_t *out = packed + r / BN_TILE_ROWS * BN_TILE_ROWS * row_bytes;
        const size_t lane = r % BN_TILE_ROWS;

        for (size_t b = 0; b < k / BN_BLOCK; b++, w += Q4_0_BYTES, out += BN_TILE_ROWS * Q4_0_BYTES) {
            memcpy(out + 2 * lane, w, 2);
            for (size_t p = 0; p < 4; p++)
                memcpy(out + SCALES_F16 + p * BN_PIECE_BYTES + 4 * lane, w + 2 + 4 * p, 4);
        }
    }
}

BN_INLINE float row_product(const uint8_t *w, size_t lane, const int8_t *q, const float *d, size_t n_blocks)
{
    float y = 0.0f;

    for (size_t b = 0; b < n_blocks; b++, w += BN_TILE_ROWS * Q4_0_BYTES, q += BN_BLOCK) {
        const uint8_t *pieces = w + SCALES_F16 + 4 * lane;
        int sum = 0;

        for (size_t i = 0; i < BN_BLOCK / 2; i++) {
            uint8_t codes = pieces[i / 4 * BN_PIECE_BYTES + i % 4];
            sum += ((codes & 15) - 8) * q[i] + ((codes >> 4) - 8) * q[i + 16];
        }
        y += (float)sum * (load_f16(w + 2 * lane) * d[b]);
    }
    return y;
}

BN_INLINE void q4_0_tile(const uint8_t *w, const struct bn_q8 *x, size_t c, float *y, size_t ldy,
                         size_t n_rows, size_t k, const size_t n_cols)
{
    for (size_t j = 0; j < n_cols; j++) {
        for (size_t r = 0; r < BN_TILE_ROWS && r < n_rows; r++)
            y[j * ldy + r] =
                row_product(w, r, x->q + (c + j) * k, x->d + (c + j) * (k / BN_BLOCK), k / BN_BLOCK);
    }
}

BN_BLOCK_PRODUCTS(q4_0, c, BN_BLOCK, Q4_0_BYTES, 1)
