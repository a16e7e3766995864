/* SPDX-License-Identifier: MIT
 * Attention of a few queries over a cache in int8 with VNNI. Scores: the keys of 16 positions are the
 * unsigned operand of dpbusd, four dimensions of a query, spread over all lanes, the signed one. Values:
 * widened to 16 bits, two positions of 16 dimensions are one operand of dpwssd, a pair of weights the other.
 */
#include "kernels/attn.h"
#include "kernels/avx512.h"

enum {
    AHEAD_BYTES = 4096,        /* how far the keys, one sequential stream, are fetched ahead */
    VALUES_AHEAD_BYTES = 6144, /* … and the values */
    VALUE_VECS = 4,            /* of dimensions that are done together, at most */
};

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

BN_INLINE void store_weights(const float *a, int16_t *w, __m512 to_code, __mmask16 lanes)
{
    const __m512i codes = _mm512_cvtps_epi32(_mm512_mul_ps(_mm512_maskz_loadu_ps(lanes, a), to_code));

    _mm256_mask_storeu_epi16(w, lanes, _mm512_cvtepi32_epi16(codes));
}

void i8_attn_weights_avx512vnni(const float *a, float max, int16_t *w, size_t n)
{
    const __m512 to_code = _mm512_set1_ps(max > BN_ATTN_LEAST_WEIGHT ? 32767.0f / max : 0.0f);
    size_t p = 0;

    for (; p + 16 <= n; p += 16)
        store_weights(a + p, w + p, to_code, 0xffff);
    if (p < n)
        store_weights(a + p, w + p, to_code, lanes16(n - p));
}

/* ---- values ---- */

/* The sums of the `left` dimensions that are left, 16 * n_vecs at most; whole: so many there are. *ahead: see
 * attn_avx512.c. */
BN_INLINE void value_queries(const int16_t *w, size_t ldw, const int8_t *v, float *out, size_t n_pairs,
                             size_t d, size_t left, const char **ahead, int first, const size_t n,
                             const size_t n_vecs, const int whole)
{
    sums sum[BN_ATTN_QUERIES][VALUE_VECS];
    __mmask16 lanes[VALUE_VECS];

    BN_UNROLL
    for (size_t i = 0; i < n_vecs; i++)
        lanes[i] = whole ? (__mmask16)0xffff : left > 16 * i ? lanes16(left - 16 * i) : (__mmask16)0;
    BN_UNROLL
    for (size_t i = 0; i < n * n_vecs; i++)
        sum[i / n_vecs][i % n_vecs] = (sums){0};
    for (size_t p = 0; p < n_pairs; p++, v += 2 * d, *ahead += 32 * n_vecs) {
        __m512i x[VALUE_VECS];

        BN_UNROLL
        for (size_t i = 0; i < n_vecs; i++)
            x[i] = _mm512_cvtepi8_epi16(_mm256_maskz_loadu_epi16(lanes[i], v + 32 * i));
        BN_UNROLL
        for (size_t i = 0; i < n_vecs; i += 2)
            _mm_prefetch(*ahead + 32 * i, _MM_HINT_T0);
        BN_UNROLL
        for (size_t j = 0; j < n; j++) {
            const __m512i wj = spread(w + j * ldw + 2 * p);

            BN_UNROLL
            for (size_t i = 0; i < n_vecs; i++)
                sum[j][i] = (sums)_mm512_dpwssd_epi32((__m512i)sum[j][i], x[i], wj);
        }
    }
    BN_UNROLL
    for (size_t j = 0; j < n; j++) {
        BN_UNROLL
        for (size_t i = 0; i < n_vecs; i++) {
            __m512 total = _mm512_cvtepi32_ps((__m512i)sum[j][i]);
            float *o = out + j * d + 16 * i;

            if (!first)
                total = _mm512_add_ps(_mm512_maskz_loadu_ps(lanes[i], o), total);
            _mm512_mask_storeu_ps(o, lanes[i], total);
        }
    }
}

/* All dimensions of BN_ATTN_PAIRS pairs, for n queries whose sums of n_vecs vectors fit the registers. */
BN_INLINE void value_tile(const int16_t *w, size_t ldw, const int8_t *v, float *out, size_t n_pairs, size_t d,
                          int first, const size_t n, const size_t n_vecs)
{
    const char *ahead = (const char *)v + VALUES_AHEAD_BYTES;
    size_t i = 0;

    for (; i + 16 * n_vecs <= d; i += 16 * n_vecs)
        value_queries(w, ldw, v + 2 * i, out + i, n_pairs, d, d - i, &ahead, first, n, n_vecs, 1);
    for (; i < d; i += 32)
        value_queries(w, ldw, v + 2 * i, out + i, n_pairs, d, d - i, &ahead, first, n, 2, 0);
}

BN_INLINE void value_tiles(const int16_t *w, size_t ldw, const int8_t *v, float *out, size_t n_pairs,
                           size_t d, const size_t n, const size_t n_vecs)
{
    for (size_t p = 0; p < n_pairs; p += BN_ATTN_PAIRS)
        value_tile(w + 2 * p, ldw, v + 2 * p * d, out,
                   n_pairs - p < BN_ATTN_PAIRS ? n_pairs - p : BN_ATTN_PAIRS, d, p == 0, n, n_vecs);
}

/* BN_ATTN_PAIRS of them are few enough to stay in the first cache while their dimensions are gone through. */
void i8_attn_values_avx512vnni(const int16_t *w, size_t ldw, const float *w_scale, size_t n_q,
                               const int8_t *v, float *out, size_t n_pairs, size_t d)
{
    size_t j = 0;

    if (n_q == 8) {
        value_tiles(w, ldw, v, out, n_pairs, d, 8, 2);
        j = 8;
    } else if (n_q >= 4) {
        value_tiles(w, ldw, v, out, n_pairs, d, 4, 4);
        j = 4;
    }
    for (; j < n_q; j++)
        value_tiles(w + j * ldw, ldw, v, out + j * d, n_pairs, d, 1, 4);
    for (j = 0; j < n_q; j++, out += d) {
        const __m512 scale = _mm512_set1_ps(w_scale[j]);

        for (size_t i = 0; i < d; i += 16) {
            const __mmask16 lanes = lanes16(d - i);

            _mm512_mask_storeu_ps(out + i, lanes,
                                  _mm512_mul_ps(_mm512_maskz_loadu_ps(lanes, out + i), scale));
        }
    }
}
