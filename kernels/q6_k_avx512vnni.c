/* SPDX-License-Identifier: MIT
 * Q6_K with VNNI: the four sub-blocks of a group are summed side by side, for several columns sixteen rows at
 * a time. Codes are weights plus 32: 32 times the sum of a sub-block's activations is taken off again. */
#include "kernels/block_vnni.h"
#include "kernels/q6_k.h"

enum { MAX_COLS = 4 }; /* with four sums, a block's and a total each */

/* The codes of the four sub-blocks in a step of a group: low halves of two pieces, high bits of the third. */
BN_INLINE void unpack(const uint8_t *w, __m512i codes[4])
{
    const __m512i high = _mm512_set1_epi8(0x30);
    const __m512i a = load_ahead(w), b = load_ahead(w + BN_PIECE_BYTES);
    const __m512i bits = load_ahead(w + 2 * BN_PIECE_BYTES);

    codes[0] = _mm512_or_si512(low_halves(a), _mm512_and_si512(_mm512_slli_epi16(bits, 4), high));
    codes[1] = _mm512_or_si512(low_halves(b), _mm512_and_si512(_mm512_slli_epi16(bits, 2), high));
    codes[2] = _mm512_or_si512(low_halves(_mm512_srli_epi16(a, 4)), _mm512_and_si512(bits, high));
    codes[3] = _mm512_or_si512(low_halves(_mm512_srli_epi16(b, 4)),
                               _mm512_and_si512(_mm512_srli_epi16(bits, 2), high));
}

/* A group's share of the sums of a block, for n_vecs vectors of rows. q: activations from the group's first
 * value on; x_sum: the half's from the group's first sub-block on. */
BN_INLINE void add_group(const uint8_t *w, const int8_t *q, const int16_t *x_sum, size_t k,
                         sums (*block)[VECS], const size_t n_vecs, const size_t n_cols)
{
    sums sum[MAX_COLS][VECS][4];

    BN_UNROLL
    for (size_t j = 0; j < n_cols; j++) {
        BN_UNROLL
        for (size_t s = 0; s < 4; s++)
            sum[j][0][s] = sum[j][n_vecs - 1][s] = (sums)_mm512_set1_epi32(-32 * x_sum[j * (k / 16) + 2 * s]);
    }
    BN_UNROLL
    for (size_t p = 0; p < 4; p++) {
        BN_UNROLL
        for (size_t v = 0; v < n_vecs; v++) {
            __m512i codes[4];

            unpack(w + BN_PIECE_BYTES + p * Q6_K_STEP_BYTES + 64 * v, codes);
            BN_UNROLL
            for (size_t j = 0; j < n_cols; j++) {
                BN_UNROLL
                for (size_t s = 0; s < 4; s++)
                    sum[j][v][s] =
                        add_products(sum[j][v][s], codes[s], four_activations(q + j * k + 32 * s + 4 * p));
            }
        }
    }
    BN_UNROLL
    for (size_t v = 0; v < n_vecs; v++) {
        const sums sc = (sums)load_ahead(w + 64 * v);

        BN_UNROLL
        for (size_t s = 0; s < 4; s++) {
            const sums scale = (sc << (24 - 8 * (int)s)) >> 24; /* byte s of each lane, signed */

            BN_UNROLL
            for (size_t j = 0; j < n_cols; j++)
                block[j][v] += scale * sum[j][v][s];
        }
    }
}

/* n_vecs vectors of rows of a tile, from vector `first` on. */
BN_INLINE void some_rows(const uint8_t *w, size_t first, const struct bn_q8 *x, size_t c, size_t k,
                         __m512 (*total)[VECS], const size_t n_vecs, const size_t n_cols)
{
    const size_t n_blocks = k / BN_BLOCK_K;
    const int8_t *q = x->q + c * k;
    const float *d = x->d + c * n_blocks;
    const int16_t *x_sum = x->sum + c * (k / 16);

    BN_UNROLL
    for (size_t j = 0; j < n_cols; j++)
        total[j][0] = total[j][n_vecs - 1] = _mm512_setzero_ps();
    for (size_t b = 0; b < n_blocks; b++, w += BN_TILE_ROWS * Q6_K_BYTES, q += BN_BLOCK_K, x_sum += 16) {
        sums block[MAX_COLS][VECS];

        BN_UNROLL
        for (size_t j = 0; j < n_cols; j++)
            block[j][0] = block[j][n_vecs - 1] = (sums){0};
        for (size_t g = 0; g < Q6_K_GROUPS; g++)
            add_group(w + SCALES_F16 + g * Q6_K_GROUP_BYTES + 64 * first, q + 128 * (g / 2) + 16 * (g % 2),
                      x_sum + 8 * (g / 2) + g % 2, k, block, n_vecs, n_cols);
        BN_UNROLL
        for (size_t v = 0; v < n_vecs; v++) {
            const __m512 rows = load_scales(w + 32 * (first + v));

            BN_UNROLL
            for (size_t j = 0; j < n_cols; j++)
                total[j][v] = _mm512_add_ps(total[j][v], scaled(block[j][v], rows, d[j * n_blocks + b]));
        }
    }
}

BN_INLINE void q6_k_tile(const uint8_t *w, const struct bn_q8 *x, size_t c, float *y, size_t ldy,
                         size_t n_rows, size_t k, const size_t n_cols)
{
    const size_t n_vecs = n_cols == 1 ? VECS : 1;

    for (size_t v = 0; v < VECS && 16 * v < n_rows; v += n_vecs) {
        __m512 total[MAX_COLS][VECS];

        some_rows(w, v, x, c, k, total, n_vecs, n_cols);
        BN_UNROLL
        for (size_t j = 0; j < n_cols; j++)
            store_rows(y + j * ldy + 16 * v, n_rows - 16 * v, total[j], n_vecs);
    }
}

BN_BLOCK_PRODUCTS(q6_k, avx512vnni, BN_BLOCK_K, Q6_K_BYTES, MAX_COLS)
