/* SPDX-License-Identifier: MIT
 * Q4_0 with AVX2. */
#include "kernels/block_avx2.h"
#include "kernels/q8_avx2.h"

enum { MAX_COLS = 2 };

/* n_vecs vectors of rows, from vector `first` on. An int16 takes all 16 products of two codes (0 … 15) with
 * activations: at most 16 * 15 * 127. */
BN_INLINE void some_rows(const uint8_t *w, size_t first, const struct bn_q8 *x, size_t c, size_t k,
                         __m256 (*total)[VECS], const size_t n_vecs, const size_t n_cols)
{
    const size_t n_blocks = k / BN_BLOCK;
    const int8_t *q = x->q + c * k;
    const float *d = x->d + c * n_blocks;
    const int16_t *x_sum = x->sum + c * n_blocks;

    for (size_t b = 0; b < n_blocks; b++, w += BN_TILE_ROWS * Q4_0_BYTES, q += BN_BLOCK) {
        words sum[MAX_COLS][VECS];

        _mm_prefetch((const char *)w + BLOCK_AHEAD_BYTES, _MM_HINT_T0);
        BN_UNROLL
        for (size_t j = 0; j < n_cols; j++) {
            BN_UNROLL
            for (size_t v = 0; v < n_vecs; v++)
                sum[j][v] = (words){0};
        }
        BN_UNROLL
        for (size_t p = 0; p < 4; p++) {
            const uint8_t *piece = w + SCALES_F16 + p * BN_PIECE_BYTES;

            fetch_ahead(piece);
            BN_UNROLL
            for (size_t v = 0; v < n_vecs; v++) {
                const __m256i codes = load32(piece + 32 * (first + v));

                BN_UNROLL
                for (size_t j = 0; j < n_cols; j++)
                    sum[j][v] += products(low_halves(codes), four_activations(q + j * k + 4 * p)) +
                                 products(high_halves(codes), four_activations(q + j * k + 16 + 4 * p));
            }
        }
        BN_UNROLL
        for (size_t v = 0; v < n_vecs; v++) {
            const __m256 rows = load_scales(w + 16 * (first + v));

            BN_UNROLL
            for (size_t j = 0; j < n_cols; j++)
                total[j][first + v] =
                    _mm256_add_ps(total[j][first + v], scaled(widen(sum[j][v]) - 8 * x_sum[j * n_blocks + b],
                                                              rows, d[j * n_blocks + b]));
        }
    }
}

BN_INLINE void q4_0_tile(const uint8_t *w, const struct bn_q8 *x, size_t c, float *y, size_t ldy,
                         size_t n_rows, size_t k, const size_t n_cols)
{
    const size_t n_vecs = n_cols == 1 ? VECS : 2;
    __m256 total[MAX_COLS][VECS];

    for (size_t j = 0; j < n_cols; j++)
        total[j][0] = total[j][1] = total[j][2] = total[j][3] = _mm256_setzero_ps();
    BN_UNROLL
    for (size_t v = 0; v < VECS; v += n_vecs)
        some_rows(w, v, x, c, k, total, n_vecs, n_cols);
    for (size_t j = 0; j < n_cols; j++)
        store_rows(y + j * ldy, n_rows, total[j]);
}

BN_BLOCK_PRODUCTS(q4_0, avx2, BN_BLOCK, Q4_0_BYTES, MAX_COLS)

/* ---- into tiles ---- */

BN_INLINE void q4_0_pack_tile(const uint8_t *w, size_t row_bytes, uint8_t *out, size_t k)
{
    for (size_t b = 0; b < k / BN_BLOCK; b++, w += Q4_0_BYTES, out += BN_TILE_ROWS * Q4_0_BYTES) {
        for (size_t r = 0; r < BN_TILE_ROWS; r++)
            memcpy(out + 2 * r, w + r * row_bytes, 2);
        for (size_t v = 0; v < VECS; v++)
            pack_pieces(w + 2 + 8 * v * row_bytes, row_bytes, out + SCALES_F16 + 32 * v, BN_PIECE_BYTES, 4,
                        0);
    }
}

BN_BLOCK_PACK(q4_0, BN_BLOCK, Q4_0_BYTES)

/* ---- values ---- */

/* The values' codes: x * factor + 8.5 without its fraction, at most 15. */
BN_INLINE __m256i code_of(__m256 x, __m256 factor)
{
    const __m256 v = _mm256_add_ps(_mm256_mul_ps(x, factor), _mm256_set1_ps(8.5f));

    return _mm256_min_epi32(_mm256_cvttps_epi32(v), _mm256_set1_epi32(15));
}

void q4_0_encode_avx2(const float *x, uint8_t *w, size_t n)
{
    for (size_t b = 0; b < n / BN_BLOCK; b++, x += BN_BLOCK, w += Q4_0_BYTES) {
        __m256 v[4];
        float exact;
        uint16_t d;
        __m256 factor;

        load_block(x, v);
        exact =
            first_largest(x, BN_BLOCK, _mm256_max_ps(_mm256_max_ps(v[0], v[1]), _mm256_max_ps(v[2], v[3])),
                          _mm256_min_ps(_mm256_min_ps(v[0], v[1]), _mm256_min_ps(v[2], v[3]))) /
            -8.0f;
        d = half_of(exact);
        factor = _mm256_set1_ps(d & 0x7fff ? 1.0f / exact : 0.0f);
        const __m256i codes = to_bytes(code_of(v[0], factor), code_of(v[1], factor), code_of(v[2], factor),
                                       code_of(v[3], factor));
        const __m128i high = _mm_slli_epi16(_mm256_extracti128_si256(codes, 1), 4);

        store_f16(w, d);
        _mm_storeu_si128((__m128i *)(void *)(w + 2), _mm_or_si128(_mm256_castsi256_si128(codes), high));
    }
}

void q4_0_to_f32_avx2(const uint8_t *w, float *y, size_t n)
{
    for (size_t b = 0; b < n / BN_BLOCK; b++, w += Q4_0_BYTES, y += BN_BLOCK) {
        const __m256 d = _mm256_set1_ps(load_f16(w));

        for (size_t i = 0; i < BN_BLOCK / 2; i += 8) {
            const __m128i codes = _mm_loadl_epi64((const __m128i *)(const void *)(w + 2 + i));
            const __m256i both = _mm256_cvtepu8_epi32(codes), eight = _mm256_set1_epi32(8);
            const __m256i low = _mm256_sub_epi32(_mm256_and_si256(both, _mm256_set1_epi32(15)), eight);
            const __m256i high = _mm256_sub_epi32(_mm256_srli_epi32(both, 4), eight);

            _mm256_storeu_ps(y + i, _mm256_mul_ps(_mm256_cvtepi32_ps(low), d));
            _mm256_storeu_ps(y + i + 16, _mm256_mul_ps(_mm256_cvtepi32_ps(high), d));
        }
    }
}
