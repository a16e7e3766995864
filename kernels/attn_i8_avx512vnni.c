/* SPDX-License-Identifier: MIT
 * Attention of a few queries over a cache in int8 with VNNI. Scores: the keys of 16 positions are the
 * unsigned operand of dpbusd, four dimensions of a query, spread over all lanes, the signed one. Values:
 * widened to 16 bits, two positions of 16 dimensions are one operand of dpwssd, a pair of weights the other.
 */
#include "kernels/attn.h"
#include "kernels/avx512.h"

enum { AHEAD_BYTES = 4096 }; /* how far the keys, one sequential stream, are fetched ahead */

/* Sixteen sums. Not __m512i, whose lanes gcc takes for 64 bits wide: it would copy every sum before and after
 * it is added to. */
typedef int32_t sums __attribute__((vector_size(64)));

BN_INLINE __m512i spread(const void *four_bytes)
{
    int32_t value;

    __builtin_memcpy(&value, four_bytes, sizeof value);
    return _mm512_set1_epi32(value);
}

/* ---- scores ---- */

BN_INLINE void store_scores(float *s, sums sum, int32_t q_sum, float q_scale, const float *k_scale)
{
    const __m512i keys_offset = _mm512_set1_epi32((int)(128u * (uint32_t)q_sum));
    const __m512 dot = _mm512_cvtepi32_ps(_mm512_sub_epi32((__m512i)sum, keys_offset));

    _mm512_storeu_ps(s, _mm512_mul_ps(_mm512_mul_ps(dot, _mm512_set1_ps(q_scale)), _mm512_loadu_ps(k_scale)));
}

BN_INLINE void score_queries(const int8_t *q, const float *q_scale, const int32_t *q_sum, const uint8_t *k,
                             const float *k_scale, float *s, size_t lds, size_t d, const size_t n)
{
    sums low[BN_ATTN_QUERIES], high[BN_ATTN_QUERIES];

    BN_UNROLL
    for (size_t j = 0; j < n; j++)
        low[j] = high[j] = (sums){0};
    for (size_t i = 0; i < d; i += 4, q += 4 * BN_ATTN_QUERIES, k += 4 * BN_ATTN_TILE) {
        const __m512i k_low = _mm512_loadu_si512(k), k_high = _mm512_loadu_si512(k + 64);

        _mm_prefetch((const char *)k + AHEAD_BYTES, _MM_HINT_T0);
        _mm_prefetch((const char *)k + AHEAD_BYTES + 64, _MM_HINT_T0);
        BN_UNROLL
        for (size_t j = 0; j < n; j++) {
            const __m512i qj = spread(q + 4 * j);

            low[j] = (sums)_mm512_dpbusd_epi32((__m512i)low[j], k_low, qj);
            high[j] = (sums)_mm512_dpbusd_epi32((__m512i)high[j], k_high, qj);
        }
    }
    BN_UNROLL
    for (size_t j = 0; j < n; j++) {
        store_scores(s + j * lds, low[j], q_sum[j], q_scale[j], k_scale);
        store_scores(s + j * lds + 16, high[j], q_sum[j], q_scale[j], k_scale + 16);
    }
}

/* How many queries there are must be known where the loops are unrolled. */
BN_INLINE void score_tile(const int8_t *q, const float *q_scale, const int32_t *q_sum, size_t n_q,
                          const uint8_t *k, const float *k_scale, float *s, size_t lds, size_t d)
{
    size_t j = 0;

    if (n_q == 8) {
        score_queries(q, q_scale, q_sum, k, k_scale, s, lds, d, 8);
        return;
    }
    if (n_q >= 4) {
        score_queries(q, q_scale, q_sum, k, k_scale, s, lds, d, 4);
        j = 4;
    }
    for (; j < n_q; j++)
        score_queries(q + 4 * j, q_scale + j, q_sum + j, k, k_scale, s + j * lds, lds, d, 1);
}

void i8_attn_scores_avx512vnni(const int8_t *q, const float *q_scale, const int32_t *q_sum, size_t n_q,
                               const uint8_t *k, const float *k_scale, float *s, size_t lds, size_t n_tiles,
                               size_t d)
{
    const size_t tile_bytes = (d + 3) / 4 * 4 * BN_ATTN_TILE;

    for (size_t t = 0; t < n_tiles; t++)
        score_tile(q, q_scale, q_sum, n_q, k + t * tile_bytes, k_scale + t * BN_ATTN_TILE,
                   s + t * BN_ATTN_TILE, lds, d);
}

/* ---- weights ---- */

BN_INLINE __m512 weights(const float *a, const float *v_scale, __mmask16 lanes)
{
    return _mm512_mul_ps(_mm512_maskz_loadu_ps(lanes, a), _mm512_maskz_loadu_ps(lanes, v_scale));
}

BN_INLINE float largest_weight(const float *a, const float *v_scale, size_t n)
{
    __m512 even = _mm512_setzero_ps(), odd = _mm512_setzero_ps();
    size_t p = 0;

    for (; p + 32 <= n; p += 32) {
        even = _mm512_max_ps(weights(a + p, v_scale + p, 0xffff), even);
        odd = _mm512_max_ps(weights(a + p + 16, v_scale + p + 16, 0xffff), odd);
    }
    for (; p < n; p += 16)
        even = _mm512_max_ps(weights(a + p, v_scale + p, lanes16(n - p)), even);
    return _mm512_reduce_max_ps(_mm512_max_ps(even, odd));
}

BN_INLINE void store_weights(const float *a, const float *v_scale, int16_t *w, __m512 to_code,
                             __mmask16 lanes)
{
    const __m512 codes = _mm512_mul_ps(weights(a, v_scale, lanes), to_code);

    _mm256_mask_storeu_epi16(w, lanes, _mm512_cvtepi32_epi16(_mm512_cvtps_epi32(codes)));
}

float i8_attn_weights_avx512vnni(const float *a, const float *v_scale, int16_t *w, size_t n)
{
    const float max = largest_weight(a, v_scale, n);
    const __m512 to_code = _mm512_set1_ps(max > BN_ATTN_LEAST_WEIGHT ? 32767.0f / max : 0.0f);
    size_t p = 0;

    for (; p + 16 <= n; p += 16)
        store_weights(a + p, v_scale + p, w + p, to_code, 0xffff);
    if (p < n)
        store_weights(a + p, v_scale + p, w + p, to_code, lanes16(n - p));
    return max / 32767.0f;
}

/* ---- values ---- */

/* What the lanes of 32 dimensions from one on are: all of them, or as many as there are left. */
struct lanes {
    __mmask16 low, high;
};

BN_INLINE __m512i load_pairs(const int8_t *v, __mmask16 lanes)
{
    return _mm512_cvtepi8_epi16(_mm256_maskz_loadu_epi16(lanes, v));
}

/* Thirty-two dimensions; the values behind these pairs are fetched ahead. */
BN_INLINE void value_queries(const int16_t *w, size_t ldw, const int8_t *v, float *out, size_t n_pairs,
                             size_t d, struct lanes lanes, int first, const size_t n)
{
    sums low[BN_ATTN_QUERIES], high[BN_ATTN_QUERIES];

    BN_UNROLL
    for (size_t j = 0; j < n; j++)
        low[j] = high[j] = (sums){0};
    for (size_t p = 0; p < n_pairs; p++, v += 2 * d) {
        const __m512i v_low = load_pairs(v, lanes.low), v_high = load_pairs(v + 32, lanes.high);

        _mm_prefetch((const char *)(v + BN_ATTN_PAIRS * 2 * d), _MM_HINT_T0);
        BN_UNROLL
        for (size_t j = 0; j < n; j++) {
            const __m512i wj = spread(w + j * ldw + 2 * p);

            low[j] = (sums)_mm512_dpwssd_epi32((__m512i)low[j], v_low, wj);
            high[j] = (sums)_mm512_dpwssd_epi32((__m512i)high[j], v_high, wj);
        }
    }
    BN_UNROLL
    for (size_t j = 0; j < n; j++) {
        __m512 sum_low = _mm512_cvtepi32_ps((__m512i)low[j]), sum_high = _mm512_cvtepi32_ps((__m512i)high[j]);
        float *o = out + j * d;

        if (!first) {
            sum_low = _mm512_add_ps(_mm512_maskz_loadu_ps(lanes.low, o), sum_low);
            sum_high = _mm512_add_ps(_mm512_maskz_loadu_ps(lanes.high, o + 16), sum_high);
        }
        _mm512_mask_storeu_ps(o, lanes.low, sum_low);
        _mm512_mask_storeu_ps(o + 16, lanes.high, sum_high);
    }
}

BN_INLINE void value_block(const int16_t *w, size_t ldw, size_t n_q, const int8_t *v, float *out,
                           size_t n_pairs, size_t d, struct lanes lanes, int first)
{
    size_t j = 0;

    if (n_q == 8) {
        value_queries(w, ldw, v, out, n_pairs, d, lanes, first, 8);
        return;
    }
    if (n_q >= 4) {
        value_queries(w, ldw, v, out, n_pairs, d, lanes, first, 4);
        j = 4;
    }
    for (; j < n_q; j++)
        value_queries(w + j * ldw, ldw, v, out + j * d, n_pairs, d, lanes, first, 1);
}

/* BN_ATTN_PAIRS of them are few enough to stay in the first cache while their dimensions are gone through. */
void i8_attn_values_avx512vnni(const int16_t *w, size_t ldw, const float *w_scale, size_t n_q,
                               const int8_t *v, float *out, size_t n_pairs, size_t d)
{
    const struct lanes all = {0xffff, 0xffff};

    for (size_t p = 0; p < n_pairs; p += BN_ATTN_PAIRS) {
        const size_t n = n_pairs - p < BN_ATTN_PAIRS ? n_pairs - p : BN_ATTN_PAIRS;
        size_t i = 0;

        for (; i + 32 <= d; i += 32)
            value_block(w + 2 * p, ldw, n_q, v + 2 * (p * d + i), out + i, n, d, all, p == 0);
        if (i < d) {
            const struct lanes rest = {lanes16(d - i), d - i > 16 ? lanes16(d - i - 16) : 0};

            value_block(w + 2 * p, ldw, n_q, v + 2 * (p * d + i), out + i, n, d, rest, p == 0);
        }
    }
    for (size_t j = 0; j < n_q; j++, out += d) {
        const __m512 scale = _mm512_set1_ps(w_scale[j]);

        for (size_t i = 0; i < d; i += 16) {
            const __mmask16 lanes = lanes16(d - i);

            _mm512_mask_storeu_ps(out + i, lanes,
                                  _mm512_mul_ps(_mm512_maskz_loadu_ps(lanes, out + i), scale));
        }
    }
}
