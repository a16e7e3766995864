/* SPDX-License-Identifier: MIT
 * Q4_0 with VNNI. Codes are weights plus 8: 8 times the sum of a block's activations is taken off again. High
 * halves of bytes are multiplied where they stand, 16 times too large, and have a sum of their own. */
#include "kernels/block_vnni.h"

enum { MAX_COLS = 4 }; /* with 2 vectors, two sums and a total each */

BN_INLINE void q4_0_tile(const uint8_t *w, const struct bn_q8 *x, size_t c, float *y, size_t ldy,
                         size_t n_rows, size_t k, const size_t n_cols)
{
    const size_t n_blocks = k / BN_BLOCK;
    const int8_t *q = x->q + c * k;
    const float *d = x->d + c * n_blocks;
    const int16_t *x_sum = x->sum + c * n_blocks;
    __m512 total[MAX_COLS][VECS];

    BN_UNROLL
    for (size_t j = 0; j < n_cols; j++)
        total[j][0] = total[j][1] = _mm512_setzero_ps();
    for (size_t b = 0; b < n_blocks; b++, w += BN_TILE_ROWS * Q4_0_BYTES, q += BN_BLOCK) {
        const __m512 rows[VECS] = {load_scales(w), load_scales(w + 32)};
        sums low[MAX_COLS][VECS], high[MAX_COLS][VECS];

        _mm_prefetch((const char *)w + BLOCK_AHEAD_BYTES, _MM_HINT_T0);
        BN_UNROLL
        for (size_t j = 0; j < n_cols; j++) {
            low[j][0] = low[j][1] = (sums)_mm512_set1_epi32(-8 * x_sum[j * n_blocks + b]);
            high[j][0] = high[j][1] = (sums){0};
        }
        BN_UNROLL
        for (size_t p = 0; p < 4; p++) {
            const uint8_t *piece = w + SCALES_F16 + p * BN_PIECE_BYTES;
            const __m512i codes[VECS] = {load_ahead(piece), load_ahead(piece + 64)};

            BN_UNROLL
            for (size_t j = 0; j < n_cols; j++) {
                const __m512i first = four_activations(q + j * k + 4 * p);
                const __m512i second = four_activations(q + j * k + 16 + 4 * p);

                BN_UNROLL
                for (size_t v = 0; v < VECS; v++) {
                    low[j][v] = add_products(low[j][v], low_halves(codes[v]), first);
                    high[j][v] = add_products(high[j][v], high_halves_16(codes[v]), second);
                }
            }
        }
        BN_UNROLL
        for (size_t j = 0; j < n_cols; j++) {
            BN_UNROLL
            for (size_t v = 0; v < VECS; v++)
                total[j][v] = _mm512_add_ps(
                    total[j][v], scaled(low[j][v] + (high[j][v] >> 4), rows[v], d[j * n_blocks + b]));
        }
    }
    BN_UNROLL
    for (size_t j = 0; j < n_cols; j++)
        store_rows(y + j * ldy, n_rows, total[j], VECS);
}

BN_BLOCK_PRODUCTS(q4_0, avx512vnni, BN_BLOCK, Q4_0_BYTES, MAX_COLS)
