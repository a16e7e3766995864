/* SPDX-License-Identifier: MIT
 * Q8_0, the definition: blocks of 32 weights of 8 bits with an F16 scale. */
#include "kernels/block.h"

void q8_0_quantize_c(const float *x, const struct bn_q8 *out, size_t n)
{
    for (size_t b = 0; b < n / BN_BLOCK; b++, x += BN_BLOCK) {
        float max = fabsf(largest(x, BN_BLOCK)), d = float_from_f16(f16_from_float(max / 127.0f));
        float to_code = d > 0.0f ? 127.0f / max : 0.0f;
        int sum = 0;

        for (size_t i = 0; i < BN_BLOCK; i++) {
            int q = nearest(x[i] * to_code);
            out->q[b * BN_BLOCK + i] = (int8_t)q;
            sum += q;
        }
        out->d[b] = d;
        out->sum[b] = (int16_t)sum;
    }
}

/* The same arithmetic as for activations. */
void q8_0_encode_c(const float *x, uint8_t *w, size_t n)
{
    for (size_t b = 0; b < n / BN_BLOCK; b++, x += BN_BLOCK, w += Q8_0_BYTES) {
        float max = fabsf(largest(x, BN_BLOCK));
        uint16_t d = f16_from_float(max / 127.0f);
        float to_code = d ? 127.0f / max : 0.0f;

        store_f16(w, d);
        for (size_t i = 0; i < BN_BLOCK; i++)
            w[2 + i] = (uint8_t)nearest(x[i] * to_code);
    }
}

void q8_0_to_f32_c(const uint8_t *w, float *y, size_t n)
{
    for (size_t b = 0; b < n / BN_BLOCK; b++, w += Q8_0_BYTES, y += BN_BLOCK) {
        float d = load_f16(w);

        for (size_t i = 0; i < BN_BLOCK; i++)
            y[i] = (float)(int8_t)w[2 + i] * d;
    }
}

void q8_0_pack_c(const uint8_t *w, uint8_t *packed, size_t n_rows, size_t k)
{
    const size_t row_bytes = k / BN_BLOCK * Q8_0_BYTES, tiles = (n_rows + BN_TILE_ROWS - 1) / BN_TILE_ROWS;

    if (n_rows % BN_TILE_ROWS)
        memset(packed + (tiles - 1) * BN_TILE_ROWS * row_bytes, 0, BN_TILE_ROWS * row_bytes);
    for (size_t r = 0; r < n_rows; r++) {
        uint8_t *out = packed + r / BN_TILE_ROWS * BN_TILE_ROWS * row_bytes;
        const size_t lane = r % BN_TILE_ROWS;

        for (size_t b = 0; b < k / BN_BLOCK; b++, w += Q8_0_BYTES, out += BN_TILE_ROWS * Q8_0_BYTES) {
            memcpy(out + 2 * lane, w, 2);
            for (size_t i = 0; i < BN_BLOCK; i++)
                out[SCALES_F16 + i / 4 * BN_PIECE_BYTES + 4 * lane + i % 4] = w[2 + i] ^ 0x80;
        }
    }
}

BN_INLINE float row_product(const uint8_t *w, size_t lane, const int8_t *q, const float *d, size_t n_blocks)
{
    float y = 0.0f;

    for (size_t b = 0; b < n_blocks; b++, w += BN_TILE_ROWS * Q8_0_BYTES, q += BN_BLOCK) {
        const uint8_t *pieces = w + SCALES_F16 + 4 * lane;
        int sum = 0;

        for (size_t i = 0; i < BN_BLOCK; i++)
            sum += (pieces[i / 4 * BN_PIECE_BYTES + i % 4] - 128) * q[i];
        y += (float)sum * (load_f16(w + 2 * lane) * d[b]);
    }
    return y;
}

BN_INLINE void q8_0_tile(const uint8_t *w, const struct bn_q8 *x, size_t c, float *y, size_t ldy,
                         size_t n_rows, size_t k, const size_t n_cols)
{
    for (size_t j = 0; j < n_cols; j++) {
        for (size_t r = 0; r < BN_TILE_ROWS && r < n_rows; r++)
            y[j * ldy + r] =
                row_product(w, r, x->q + (c + j) * k, x->d + (c + j) * (k / BN_BLOCK), k / BN_BLOCK);
    }
}

BN_BLOCK_PRODUCTS(q8_0, c, BN_BLOCK, Q8_0_BYTES, 1)
