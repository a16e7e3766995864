/* SPDX-License-Identifier: MIT
 * Attention of a few queries over a cache in int8: bytes are widened to 16 bits, of which pairs are
 * multiplied and added into 32. */
#include "kernels/attn.h"
#include "kernels/avx2.h"

enum {
    TOGETHER = 4,       /* queries whose sums fit the registers */
    STEP_BYTES = 16,    /* four dimensions of four positions */
    AHEAD_BYTES = 4096, /* how far the keys, one sequential stream, are fetched ahead */
};

/* ---- scores ---- */

/* Four dimensions of a query, as often as there are positions in a vector. */
BN_INLINE __m256i four_dimensions(const int8_t *q)
{
    int32_t four;

    memcpy(&four, q, sizeof four);
    return _mm256_cvtepi8_epi16(_mm_set1_epi32(four));
}

/* Sums of the first and the last two of four dimensions, for positions 0 … 3 and 4 … 7: to one per position.
 */
BN_INLINE __m256 scale_sums(__m256i low, __m256i high, int32_t q_sum, float q_scale, const float *k_scale)
{
    __m256i sum = _mm256_permute4x64_epi64(_mm256_hadd_epi32(low, high), 0xd8);
    __m256 s = _mm256_cvtepi32_ps(_mm256_sub_epi32(sum, _mm256_set1_epi32((int)(128u * (uint32_t)q_sum))));

    return _mm256_mul_ps(_mm256_mul_ps(s, _mm256_set1_ps(q_scale)), _mm256_loadu_ps(k_scale));
}

/* Eight positions. */
BN_INLINE void score_queries(const int8_t *q, const float *q_scale, const int32_t *q_sum, const uint8_t *k,
                             const float *k_scale, float *s, size_t lds, size_t d, const size_t n)
{
    __m256i low[TOGETHER], high[TOGETHER];

    BN_UNROLL
    for (size_t j = 0; j < n; j++)
        low[j] = high[j] = _mm256_setzero_si256();
    for (size_t i = 0; i < d; i += 4, q += 4 * BN_ATTN_QUERIES, k += 4 * BN_ATTN_TILE) {
        const __m256i k_low = _mm256_cvtepu8_epi16(_mm_loadu_si128((const __m128i *)(const void *)k));
        const __m256i k_high =
            _mm256_cvtepu8_epi16(_mm_loadu_si128((const __m128i *)(const void *)(k + STEP_BYTES)));

        _mm_prefetch((const char *)k + AHEAD_BYTES, _MM_HINT_T0);
        BN_UNROLL
        for (size_t j = 0; j < n; j++) {
            const __m256i qj = four_dimensions(q + 4 * j);

            low[j] = _mm256_add_epi32(low[j], _mm256_madd_epi16(k_low, qj));
            high[j] = _mm256_add_epi32(high[j], _mm256_madd_epi16(k_high, qj));
        }
    }
    BN_UNROLL
    for (size_t j = 0; j < n; j++)
        _mm256_storeu_ps(s + j * lds, scale_sums(low[j], high[j], q_sum[j], q_scale[j], k_scale));
}

void i8_attn_scores_avx2(const int8_t *q, const float *q_scale, const int32_t *q_sum, size_t n_q,
                         const uint8_t *k, const float *k_scale, float *s, size_t lds, size_t n_tiles,
                         size_t d)
{
    const size_t tile_bytes = (d + 3) / 4 * 4 * BN_ATTN_TILE;

    for (size_t p = 0; p < n_tiles * BN_ATTN_TILE; p += 8) {
        const uint8_t *at = k + p / BN_ATTN_TILE * tile_bytes + p % BN_ATTN_TILE * 4;
        size_t j = 0;

        for (; j + TOGETHER <= n_q; j += TOGETHER)
            score_queries(q + 4 * j, q_scale + j, q_sum + j, at, k_scale + p, s + j * lds + p, lds, d,
                          TOGETHER);
        for (; j < n_q; j++)
            score_queries(q + 4 * j, q_scale + j, q_sum + j, at, k_scale + p, s + j * lds + p, lds, d, 1);
    }
}

/* ---- weights ---- */

void i8_attn_weights_avx2(const float *a, float max, int16_t *w, size_t n)
{
    const __m256 to_code = _mm256_set1_ps(max > BN_ATTN_LEAST_WEIGHT ? 32767.0f / max : 0.0f);

    for (size_t p = 0; p < n; p += 8) {
        __m256i codes = _mm256_cvtps_epi32(_mm256_mul_ps(load8(a + p, n - p), to_code));
        __m128i words = _mm_packs_epi32(_mm256_castsi256_si128(codes), _mm256_extracti128_si256(codes, 1));

        memcpy(w + p, &words, (n - p < 8 ? n - p : 8) * sizeof *w);
    }
}

/* ---- values ---- */

BN_INLINE __m256i load8_pairs(const int8_t *v, size_t left)
{
    return _mm256_cvtepi8_epi16(load8_16bit((const uint16_t *)(const void *)v, left));
}

/* Sixteen dimensions, of which `left` are the head's; the values behind these pairs are fetched ahead. */
BN_INLINE void value_queries(const int16_t *w, size_t ldw, const int8_t *v, float *out, size_t n_pairs,
                             size_t d, size_t left, int first, const size_t n)
{
    const size_t left_high = left > 8 ? left - 8 : 0;
    __m256i low[TOGETHER], high[TOGETHER];

    BN_UNROLL
    for (size_t j = 0; j < n; j++)
        low[j] = high[j] = _mm256_setzero_si256();
    for (size_t p = 0; p < n_pairs; p++, v += 2 * d) {
        const __m256i v_low = load8_pairs(v, left), v_high = load8_pairs(v + 16, left_high);

        _mm_prefetch((const char *)(v + BN_ATTN_PAIRS * 2 * d), _MM_HINT_T0);
        BN_UNROLL
        for (size_t j = 0; j < n; j++) {
            int32_t pair;

            memcpy(&pair, w + j * ldw + 2 * p, sizeof pair);
            const __m256i wj = _mm256_set1_epi32(pair);
            low[j] = _mm256_add_epi32(low[j], _mm256_madd_epi16(v_low, wj));
            high[j] = _mm256_add_epi32(high[j], _mm256_madd_epi16(v_high, wj));
        }
    }
    BN_UNROLL
    for (size_t j = 0; j < n; j++) {
        __m256 sum_low = _mm256_cvtepi32_ps(low[j]), sum_high = _mm256_cvtepi32_ps(high[j]);

        if (!first) {
            sum_low = _mm256_add_ps(load8(out + j * d, left), sum_low);
            sum_high = _mm256_add_ps(load8(out + j * d + 8, left_high), sum_high);
        }
        store8(out + j * d, left, sum_low);
        store8(out + j * d + 8, left_high, sum_high);
    }
}

BN_INLINE void value_block(const int16_t *w, size_t ldw, size_t n_q, const int8_t *v, float *out,
                           size_t n_pairs, size_t d, size_t left, int first)
{
    size_t j = 0;

    for (; j + TOGETHER <= n_q; j += TOGETHER)
        value_queries(w + j * ldw, ldw, v, out + j * d, n_pairs, d, left, first, TOGETHER);
    for (; j < n_q; j++)
        value_queries(w + j * ldw, ldw, v, out + j * d, n_pairs, d, left, first, 1);
}

/* BN_ATTN_PAIRS of them are few enough to stay in the first cache while their dimensions are gone through. */
void i8_attn_values_avx2(const int16_t *w, size_t ldw, const float *w_scale, size_t n_q, const int8_t *v,
                         float *out, size_t n_pairs, size_t d)
{
    for (size_t p = 0; p < n_pairs; p += BN_ATTN_PAIRS) {
        const size_t n = n_pairs - p < BN_ATTN_PAIRS ? n_pairs - p : BN_ATTN_PAIRS;
        size_t i = 0;

        for (; i + 16 <= d; i += 16)
            value_block(w + 2 * p, ldw, n_q, v + 2 * (p * d + i), out + i, n, d, 16, p == 0);
        if (i < d)
            value_block(w + 2 * p, ldw, n_q, v + 2 * (p * d + i), out + i, n, d, d - i, p == 0);
    }
    for (size_t j = 0; j < n_q; j++, out += d) {
        for (size_t i = 0; i < d; i += 8)
            store8(out + i, d - i, _mm256_mul_ps(load8(out + i, d - i), _mm256_set1_ps(w_scale[j])));
    }
}
