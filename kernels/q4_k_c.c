/* SPDX-License-Identifier: MIT
 * Q4_K, the definition: blocks of 256 weights of 4 bits, 8 sub-blocks with a scale and a minimum of 6 bits
 * each, two F16 scales over them. */
#include "kernels/q4_k.h"

BN_INLINE int code_of(float v)
{
    return nearest(v < 0.0f ? 0.0f : v > 15.0f ? 15.0f : v);
}

BN_INLINE void encode_block(const float *x, uint8_t *w)
{
    float exact[8], exact_min[8], d, d_min;
    uint8_t sc[8], min[8], codes[BN_BLOCK_K];

    for (size_t j = 0; j < 8; j++) {
        float low = 0.0f, high = x[32 * j];

        for (size_t i = 32 * j; i < 32 * j + 32; i++) {
            low = x[i] < low ? x[i] : low;
            high = x[i] > high ? x[i] : high;
        }
        exact[j] = (high - low) / 15.0f;
        exact_min[j] = -low;
    }
    q4_k_choose(exact, exact_min, w, sc, min);
    d = load_f16(w);
    d_min = load_f16(w + Q4_K_MIN);
    for (size_t i = 0; i < BN_BLOCK_K; i++) {
        float scale = d * (float)sc[i / 32], to_code = scale > 0.0f ? 1.0f / scale : 0.0f;
        codes[i] = (uint8_t)code_of((x[i] + d_min * (float)min[i / 32]) * to_code);
    }
    for (size_t i = 0; i < BN_BLOCK_K / 2; i++)
        w[Q4_K_CODES + i] = (uint8_t)(codes[i / 32 * 64 + i % 32] | codes[i / 32 * 64 + 32 + i % 32] << 4);
}

void q4_k_encode_c(const float *x, uint8_t *w, size_t n)
{
    for (size_t b = 0; b < n / BN_BLOCK_K; b++)
        encode_block(x + b * BN_BLOCK_K, w + b * Q4_K_BYTES);
}

void q4_k_to_f32_c(const uint8_t *w, float *y, size_t n)
{
    for (size_t b = 0; b < n / BN_BLOCK_K; b++, w += Q4_K_BYTES) {
        float d = load_f16(w), d_min = load_f16(w + Q4_K_MIN);

        for (size_t j = 0; j < 8; j++, y += 32) {
            int sc, min;

            q4_k_scale(w, j, &sc, &min);
            float scale = d * (float)sc, offset = d_min * (float)min;
            for (size_t i = 0; i < 32; i++)
                y[i] = scale * (float)(w[Q4_K_CODES + j / 2 * 32 + i] >> 4 * (j % 2) & 15) - offset;
        }
    }
}

BN_INLINE void pack_block(const uint8_t *w, uint8_t *out, size_t lane)
{
    memcpy(out + 2 * lane, w, 2);
    memcpy(out + SCALES_F16 + 2 * lane, w + Q4_K_MIN, 2);
    for (size_t c = 0; c < Q4_K_CHUNKS; c++) {
        int sc[2], min[2];

        for (size_t j = 0; j < 2; j++) {
            q4_k_scale(w, 2 * c + j, &sc[j], &min[j]);
            out[Q4_K_TILE_LOW + (2 * c + j) * BN_TILE_ROWS + lane] =
                (uint8_t)((sc[j] & 15) | (min[j] & 15) << 4);
        }
        out[Q4_K_TILE_HIGH + c * BN_TILE_ROWS + lane] =
            (uint8_t)(sc[0] >> 4 | min[0] >> 4 << 2 | sc[1] >> 4 << 4 | min[1] >> 4 << 6);
    }
    for (size_t p = 0; p < BN_BLOCK_K / 8; p++)
        memcpy(out + Q4_K_TILE_CODES + p * BN_PIECE_BYTES + 4 * lane, w + Q4_K_CODES + 4 * p, 4);
}

void q4_k_pack_c(const uint8_t *w, uint8_t *packed, size_t n_rows, size_t k)
{
    const size_t row_bytes = k / BN_BLOCK_K * Q4_K_BYTES, tiles = (n_rows + BN_TILE_ROWS - 1) / BN_TILE_ROWS;

    if (n_rows % BN_TILE_ROWS)
        memset(packed + (tiles - 1) * BN_TILE_ROWS * row_bytes, 0, BN_TILE_ROWS * row_bytes);
    for (size_t r = 0; r < n_rows; r++, w += row_bytes) {
        uint8_t *out = packed + r / BN_TILE_ROWS * BN_TILE_ROWS * row_bytes;

        for (size_t b = 0; b < k / BN_BLOCK_K; b++)
            pack_block(w + b * Q4_K_BYTES, out + b * BN_TILE_ROWS * Q4_K_BYTES, r % BN_TILE_ROWS);
    }
}

/* Adds what sub-block j has to the sums of a block: scale times products, minimum times activations. */
BN_INLINE void add_sub_block(const uint8_t *w, size_t lane, size_t j, const int8_t *q, const int16_t *x_sum,
                             int *products, int *minima)
{
    const uint8_t *pieces = w + Q4_K_TILE_CODES + j / 2 * Q4_K_CHUNK_BYTES + 4 * lane;
    int low = w[Q4_K_TILE_LOW + j * BN_TILE_ROWS + lane];
    int high = w[Q4_K_TILE_HIGH + j / 2 * BN_TILE_ROWS + lane] >> 4 * (j % 2);
    int sum = 0;

    for (size_t i = 0; i < 32; i++)
        sum += (pieces[i / 4 * BN_PIECE_BYTES + i % 4] >> 4 * (j % 2) & 15) * q[32 * j + i];
    *products += ((low & 15) | (high & 3) << 4) * sum;
    *minima += (low >> 4 | (high >> 2 & 3) << 4) * (x_sum[2 * j] + x_sum[2 * j + 1]);
}

BN_INLINE float row_product(const uint8_t *w, size_t lane, const int8_t *q, const float *d,
                            const int16_t *x_sum, size_t n_blocks)
{
    float y = 0.0f;

    for (size_t b = 0; b < n_blocks; b++, w += BN_TILE_ROWS * Q4_K_BYTES, q += BN_BLOCK_K, x_sum += 16) {
        int products = 0, minima = 0;

        for (size_t j = 0; j < 8; j++)
            add_sub_block(w, lane, j, q, x_sum, &products, &minima);
        y -= load_f16(w + SCALES_F16 + 2 * lane) * d[b] * (float)minima;
        y += load_f16(w + 2 * lane) * d[b] * (float)products;
    }
    return y;
}

BN_INLINE void q4_k_tile(const uint8_t *w, const struct bn_q8 *x, size_t c, float *y, size_t ldy,
                         size_t n_rows, size_t k, const size_t n_cols)
{
    const size_t n_blocks = k / BN_BLOCK_K;

    for (size_t j = 0; j < n_cols; j++) {
        const size_t at = c + j;

        for (size_t r = 0; r < BN_TILE_ROWS && r < n_rows; r++)
            y[j * ldy + r] =
                row_product(w, r, x->q + at * k, x->d + at * n_blocks, x->sum + at * (k / 16), n_blocks);
    }
}

BN_BLOCK_PRODUCTS(q4_k, c, BN_BLOCK_K, Q4_K_BYTES, 1)
