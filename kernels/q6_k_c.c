/* SPDX-License-Identifier: MIT
 * Q6_K, the definition: blocks of 256 weights of 6 bits, 16 sub-blocks with a scale of 8 bits each and an F16
 * scale over them. */
#include "kernels/q6_k.h"

BN_INLINE int code_of(float v)
{
    v = v < -32.0f ? -32.0f : v > 31.0f ? 31.0f : v;
    return nearest(v) + 32;
}

BN_INLINE void encode_block(const float *x, uint8_t *w)
{
    float exact[16], d;
    int8_t sc[16];

    for (size_t j = 0; j < 16; j++)
        exact[j] = largest(x + 16 * j, 16) / -32.0f;
    store_f16(w + Q6_K_D, q6_k_scales(exact, sc));
    memcpy(w + Q6_K_SCALES, sc, sizeof sc);
    d = load_f16(w + Q6_K_D);
    for (size_t h = 0; h < 2; h++) {
        for (size_t i = 0; i < 32; i++) {
            int code[4];

            for (size_t quarter = 0; quarter < 4; quarter++)
                code[quarter] =
                    code_of(x[128 * h + 32 * quarter + i] * q6_k_factor(d, sc[8 * h + 2 * quarter + i / 16]));
            w[64 * h + i] = (uint8_t)((code[0] & 15) | (code[2] & 15) << 4);
            w[64 * h + 32 + i] = (uint8_t)((code[1] & 15) | (code[3] & 15) << 4);
            w[Q6_K_HIGH + 32 * h + i] =
                (uint8_t)(code[0] >> 4 | code[1] >> 4 << 2 | code[2] >> 4 << 4 | code[3] >> 4 << 6);
        }
    }
}

void q6_k_encode_c(const float *x, uint8_t *w, size_t n)
{
    for (size_t b = 0; b < n / BN_BLOCK_K; b++)
        encode_block(x + b * BN_BLOCK_K, w + b * Q6_K_BYTES);
}

void q6_k_to_f32_c(const uint8_t *w, float *y, size_t n)
{
    for (size_t b = 0; b < n / BN_BLOCK_K; b++, w += Q6_K_BYTES, y += BN_BLOCK_K) {
        float d = load_f16(w + Q6_K_D);

        for (size_t e = 0; e < BN_BLOCK_K; e++) {
            size_t h = e / 128, quarter = e / 32 % 4, i = e % 32;
            int low = w[64 * h + 32 * (quarter % 2) + i] >> 4 * (quarter / 2) & 15;
            int high = w[Q6_K_HIGH + 32 * h + i] >> 2 * quarter & 3;
            int8_t sc = (int8_t)w[Q6_K_SCALES + 8 * h + 2 * quarter + i / 16];
            y[e] = d * (float)sc * (float)((low | high << 4) - 32);
        }
    }
}

BN_INLINE void pack_block(const uint8_t *w, uint8_t *out, size_t lane)
{
    memcpy(out + 2 * lane, w + Q6_K_D, 2);
    out += SCALES_F16 + 4 * lane;
    for (size_t g = 0; g < Q6_K_GROUPS; g++, out += Q6_K_GROUP_BYTES) {
        const size_t h = g / 2, s = g % 2;

        for (size_t quarter = 0; quarter < 4; quarter++)
            out[quarter] = w[Q6_K_SCALES + 8 * h + s + 2 * quarter];
        for (size_t p = 0; p < 4; p++) {
            uint8_t *piece = out + BN_PIECE_BYTES + p * Q6_K_STEP_BYTES;
            const size_t i = 16 * s + 4 * p;

            memcpy(piece, w + 64 * h + i, 4);
            memcpy(piece + BN_PIECE_BYTES, w + 64 * h + 32 + i, 4);
            memcpy(piece + 2 * BN_PIECE_BYTES, w + Q6_K_HIGH + 32 * h + i, 4);
        }
    }
}

void q6_k_pack_c(const uint8_t *w, uint8_t *packed, size_t n_rows, size_t k)
{
    const size_t row_bytes = k / BN_BLOCK_K * Q6_K_BYTES, tiles = (n_rows + BN_TILE_ROWS - 1) / BN_TILE_ROWS;

    if (n_rows % BN_TILE_ROWS)
        memset(packed + (tiles - 1) * BN_TILE_ROWS * row_bytes, 0, BN_TILE_ROWS * row_bytes);
    for (size_t r = 0; r < n_rows; r++, w += row_bytes) {
        uint8_t *out = packed + r / BN_TILE_ROWS * BN_TILE_ROWS * row_bytes;

        for (size_t b = 0; b < k / BN_BLOCK_K; b++)
            pack_block(w + b * Q6_K_BYTES, out + b * BN_TILE_ROWS * Q6_K_BYTES, r % BN_TILE_ROWS);
    }
}

/* The sum over the four sub-blocks of a group; q: the half's activations from value 16 s on. */
BN_INLINE int group_sum(const uint8_t *w, const int8_t *q)
{
    int total = 0;

    for (size_t quarter = 0; quarter < 4; quarter++) {
        int sum = 0;

        for (size_t i = 0; i < 16; i++) {
            const uint8_t *piece = w + BN_PIECE_BYTES + i / 4 * Q6_K_STEP_BYTES + i % 4;
            int low = piece[quarter % 2 * BN_PIECE_BYTES] >> 4 * (quarter / 2) & 15;
            int high = piece[2 * BN_PIECE_BYTES] >> 2 * quarter & 3;
            sum += ((low | high << 4) - 32) * q[32 * quarter + i];
        }
        total += (int8_t)w[quarter] * sum;
    }
    return total;
}

BN_INLINE float row_product(const uint8_t *w, size_t lane, const int8_t *q, const float *d, size_t n_blocks)
{
    float y = 0.0f;

    for (size_t b = 0; b < n_blocks; b++, w += BN_TILE_ROWS * Q6_K_BYTES, q += BN_BLOCK_K) {
        int sum = 0;

        for (size_t g = 0; g < Q6_K_GROUPS; g++)
            sum +=
                group_sum(w + SCALES_F16 + g * Q6_K_GROUP_BYTES + 4 * lane, q + 128 * (g / 2) + 16 * (g % 2));
        y += load_f16(w + 2 * lane) * d[b] * (float)sum;
    }
    return y;
}

BN_INLINE void q6_k_tile(const uint8_t *w, const struct bn_q8 *x, size_t c, float *y, size_t ldy,
                         size_t n_rows, size_t k, const size_t n_cols)
{
    const size_t n_blocks = k / BN_BLOCK_K;

    for (size_t j = 0; j < n_cols; j++) {
        for (size_t r = 0; r < BN_TILE_ROWS && r < n_rows; r++)
            y[j * ldy + r] = row_product(w, r, x->q + (c + j) * k, x->d + (c + j) * n_blocks, n_blocks);
    }
}

BN_BLOCK_PRODUCTS(q6_k, c, BN_BLOCK_K, Q6_K_BYTES, 1)
