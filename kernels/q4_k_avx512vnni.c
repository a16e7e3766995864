/* SPDX-License-Identifier: MIT
 * Q4_K with VNNI: two sub-blocks are summed side by side, the one in the low and the one in the high halves
 * of the bytes, the latter 16 times too large. Minima meet the sums of activations in a product of their own.
 */
#include "kernels/block_vnni.h"
#include "kernels/q4_k.h"

enum {
    MAX_COLS = 4
}; /* with 2 vectors: two sums and a block's sum each, and a total that may be in memory */

/* Sixteen rows' bytes as lanes. */
BN_INLINE sums load_bytes(const uint8_t *w)
{
    return (sums)_mm512_cvtepu8_epi32(_mm_loadu_si128((const __m128i *)(const void *)w));
}

/* The header of a tile's block: F16 scales at w, minima 64 bytes on, bits of the sub-blocks. */
struct header {
    sums low[2], high; /* of two sub-blocks */
};

BN_INLINE struct header load_header(const uint8_t *w, size_t chunk, size_t v)
{
    const uint8_t *low = w + Q4_K_TILE_LOW + 2 * chunk * BN_TILE_ROWS + 16 * v;

    return (struct header){{load_bytes(low), load_bytes(low + BN_TILE_ROWS)},
                           load_bytes(w + Q4_K_TILE_HIGH + chunk * BN_TILE_ROWS + 16 * v)};
}

BN_INLINE sums scale_of(const struct header *h, const int j)
{
    return (h->low[j] & 15) | (h->high >> (4 * j) & 3) << 4;
}

BN_INLINE sums minimum_of(const struct header *h, const int j)
{
    return h->low[j] >> 4 | (h->high >> (4 * j + 2) & 3) << 4;
}

/* The minima of a block times the sums of each column's activations: subtracted from the totals. */
BN_INLINE void subtract_minima(const uint8_t *w, const int16_t *x_sum, const float *d, size_t k,
                               __m512 (*total)[VECS], const size_t n_cols)
{
    for (size_t v = 0; v < VECS; v++) {
        const __m512 rows = load_scales(w + SCALES_F16 + 32 * v);
        sums sum[MAX_COLS];

        BN_UNROLL
        for (size_t j = 0; j < n_cols; j++)
            sum[j] = (sums){0};
        for (size_t chunk = 0; chunk < Q4_K_CHUNKS; chunk++) {
            const struct header header = load_header(w, chunk, v);

            BN_UNROLL
            for (int s = 0; s < 2; s++) {
                sums minimum = minimum_of(&header, s);

                minimum |= minimum << 16; /* for the sums of both halves of a sub-block */
                BN_UNROLL
                for (size_t j = 0; j < n_cols; j++) {
                    const int16_t *two = x_sum + j * (k / 16) + 4 * chunk + 2 * (size_t)s;

                    sum[j] = (sums)_mm512_dpwssd_epi32((__m512i)sum[j], (__m512i)minimum,
                                                       four_activations((const int8_t *)two));
                }
            }
        }
        BN_UNROLL
        for (size_t j = 0; j < n_cols; j++)
            total[j][v] = _mm512_sub_ps(total[j][v], scaled(sum[j], rows, d[j * (k / BN_BLOCK_K)]));
    }
}

/* Two sub-blocks' share of the sums of a block. */
BN_INLINE void add_chunk(const uint8_t *w, size_t chunk, const int8_t *q, size_t k, sums (*block)[VECS],
                         const size_t n_cols)
{
    const uint8_t *pieces = w + Q4_K_TILE_CODES + chunk * Q4_K_CHUNK_BYTES;
    sums low[MAX_COLS][VECS], high[MAX_COLS][VECS];

    BN_UNROLL
    for (size_t j = 0; j < n_cols; j++)
        low[j][0] = low[j][1] = high[j][0] = high[j][1] = (sums){0};
    BN_UNROLL
    for (size_t p = 0; p < 8; p++, pieces += BN_PIECE_BYTES) {
        const __m512i codes[VECS] = {load_ahead(pieces), load_ahead(pieces + 64)};

        BN_UNROLL
        for (size_t j = 0; j < n_cols; j++) {
            const __m512i first = four_activations(q + j * k + 4 * p);
            const __m512i second = four_activations(q + j * k + 32 + 4 * p);

            BN_UNROLL
            for (size_t v = 0; v < VECS; v++) {
                low[j][v] = add_products(low[j][v], low_halves(codes[v]), first);
                high[j][v] = add_products(high[j][v], high_halves_16(codes[v]), second);
            }
        }
    }
    BN_UNROLL
    for (size_t v = 0; v < VECS; v++) {
        const struct header header = load_header(w, chunk, v);
        const sums first = scale_of(&header, 0), second = scale_of(&header, 1);

        BN_UNROLL
        for (size_t j = 0; j < n_cols; j++)
            block[j][v] += first * low[j][v] + second * (high[j][v] >> 4);
    }
}

BN_INLINE void q4_k_tile(const uint8_t *w, const struct bn_q8 *x, size_t c, float *y, size_t ldy,
                         size_t n_rows, size_t k, const size_t n_cols)
{
    const size_t n_blocks = k / BN_BLOCK_K;
    const int8_t *q = x->q + c * k;
    __m512 total[MAX_COLS][VECS];

    BN_UNROLL
    for (size_t j = 0; j < n_cols; j++)
        total[j][0] = total[j][1] = _mm512_setzero_ps();
    for (size_t b = 0; b < n_blocks; b++, w += BN_TILE_ROWS * Q4_K_BYTES, q += BN_BLOCK_K) {
        const __m512 rows[VECS] = {load_scales(w), load_scales(w + 32)};
        const float *d = x->d + c * n_blocks + b;
        sums block[MAX_COLS][VECS];

        BN_UNROLL
        for (size_t i = 0; i < Q4_K_TILE_CODES; i += 64)
            _mm_prefetch((const char *)w + i + BLOCK_AHEAD_BYTES, _MM_HINT_T0);
        subtract_minima(w, x->sum + c * (k / 16) + b * 16, d, k, total, n_cols);
        BN_UNROLL
        for (size_t j = 0; j < n_cols; j++)
            block[j][0] = block[j][1] = (sums){0};
        for (size_t chunk = 0; chunk < Q4_K_CHUNKS; chunk++)
            add_chunk(w, chunk, q + 64 * chunk, k, block, n_cols);
        BN_UNROLL
        for (size_t j = 0; j < n_cols; j++) {
            BN_UNROLL
            for (size_t v = 0; v < VECS; v++)
                total[j][v] = _mm512_add_ps(total[j][v], scaled(block[j][v], rows[v], d[j * n_blocks]));
        }
    }
    BN_UNROLL
    for (size_t j = 0; j < n_cols; j++)
        store_rows(y + j * ldy, n_rows, total[j], VECS);
}

BN_BLOCK_PRODUCTS(q4_k, avx512vnni, BN_BLOCK_K, Q4_K_BYTES, MAX_COLS)
