/* SPDX-License-Identifier: MIT
 * Q8_0 with AVX2. */
#include "kernels/block_avx2.h"
#include "kernels/q8_avx2.h"

enum { MAX_COLS = 2 };

/* n_vecs vectors of rows, from vector `first` on. */
BN_INLINE void some_rows(const uint8_t *w, size_t first, const struct bn_q8 *x, size_t c, size_t k,
                         __m256 (*total)[VECS], const size_t n_vecs, const size_t n_cols)
{
    const size_t n_blocks = k / BN_BLOCK;
    const int8_t *q = x->q + c * k;
    const float *d = x->d + c * n_blocks;

    for (size_t b = 0; b < n_blocks; b++, w += BN_TILE_ROWS * Q8_0_BYTES, q += BN_BLOCK) {
        sums sum[MAX_COLS][VECS];

        _mm_prefetch((const char *)w + BLOCK_AHEAD_BYTES, _MM_HINT_T0);
        BN_UNROLL
        for (size_t j = 0; j < n_cols; j++) {
            BN_UNROLL
            for (size_t v = 0; v < n_vecs; v++)
                sum[j][v] = (sums){0};
        }
        BN_UNROLL
        for (size_t p = 0; p < 8; p++) {
            const uint8_t *piece = w + SCALES_F16 + p * BN_PIECE_BYTES;

            fetch_ahead(piece);
            BN_UNROLL
            for (size_t v = 0; v < n_vecs; v++) {
                const __m256i codes =
                    _mm256_xor_si256(load32(piece + 32 * (first + v)), _mm256_set1_epi8(-128));

                BN_UNROLL
                for (size_t j = 0; j < n_cols; j++)
                    sum[j][v] += widen(signed_products(codes, four_activations(q + j * k + 4 * p)));
            }
        }
        BN_UNROLL
        for (size_t v = 0; v < n_vecs; v++) {
            const __m256 rows = load_scales(w + 16 * (first + v));

            BN_UNROLL
            for (size_t j = 0; j < n_cols; j++)
                total[j][first + v] =
                    _mm256_add_ps(total[j][first + v], scaled(sum[j][v], rows, d[j * n_blocks + b]));
        }
    }
}

BN_INLINE void q8_0_tile(const uint8_t *w, const struct bn_q8 *x, size_t c, float *y, size_t ldy,
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

BN_BLOCK_PRODUCTS(q8_0, avx2, BN_BLOCK, Q8_0_BYTES, MAX_COLS)

/* ---- into tiles ---- */

BN_INLINE void q8_0_pack_tile(const uint8_t *w, size_t row_bytes, uint8_t *out, size_t k)
{
    for (size_t b = 0; b < k / BN_BLOCK; b++, w += Q8_0_BYTES, out += BN_TILE_ROWS * Q8_0_BYTES) {
        for (size_t r = 0; r < BN_TILE_ROWS; r++)
            memcpy(out + 2 * r, w + r * row_bytes, 2);
        for (size_t v = 0; v < VECS; v++)
            pack_pieces(w + 2 + 8 * v * row_bytes, row_bytes, out + SCALES_F16 + 32 * v, BN_PIECE_BYTES, 8,
                        -128);
    }
}

BN_BLOCK_PACK(q8_0, BN_BLOCK, Q8_0_BYTES)

/* ---- values ---- */

void q8_0_quantize_avx2(const float *x, const struct bn_q8 *out, size_t n)
{
    for (size_t b = 0; b < n / BN_BLOCK; b++, x += BN_BLOCK) {
        __m256 v[4];
        float max = load_block(x, v), d = float_of_half(half_of(max / 127.0f));
        const __m256i codes = codes_of(v, d > 0.0f ? 127.0f / max : 0.0f);

        _mm256_storeu_si256((__m256i *)(void *)(out->q + b * BN_BLOCK), codes);
        out->d[b] = d;
        out->sum[b] = (int16_t)sum_bytes(codes);
    }
}

void q8_0_encode_avx2(const float *x, uint8_t *w, size_t n)
{
    for (size_t b = 0; b < n / BN_BLOCK; b++, x += BN_BLOCK, w += Q8_0_BYTES) {
        __m256 v[4];
        float max = load_block(x, v);
        uint16_t d = half_of(max / 127.0f);

        store_f16(w, d);
        _mm256_storeu_si256((__m256i *)(void *)(w + 2), codes_of(v, d ? 127.0f / max : 0.0f));
    }
}

void q8_0_to_f32_avx2(const uint8_t *w, float *y, size_t n)
{
    for (size_t b = 0; b < n / BN_BLOCK; b++, w += Q8_0_BYTES) {
        const __m256 d = _mm256_set1_ps(load_f16(w));

        for (size_t i = 0; i < BN_BLOCK; i += 8, y += 8) {
            const __m128i codes = _mm_loadl_epi64((const __m128i *)(const void *)(w + 2 + i));

            _mm256_storeu_ps(y, _mm256_mul_ps(_mm256_cvtepi32_ps(_mm256_cvtepi8_epi32(codes)), d));
        }
    }
}
