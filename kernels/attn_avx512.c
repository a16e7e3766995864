/* SPDX-License-Identifier: MIT
 * Attention of one head over a cache in F16, along the head's values 16 at a time. */
#include "kernels/avx512.h"

/* Positions done together. Scores share the loaded query; values are added up before their sum joins the
 * output, so that rounding errors grow with n_pos / 8. */
enum { TILE = 8 };

/* Eight vectors of 16 sums to eight sums. */
BN_INLINE __m256 sum_lanes_of_8(const __m512 *v)
{
    __m256 half[8], low, high;

    BN_UNROLL
    for (int i = 0; i < 8; i++)
        half[i] = _mm256_add_ps(_mm512_castps512_ps256(v[i]), _mm512_extractf32x8_ps(v[i], 1));
    low = _mm256_hadd_ps(_mm256_hadd_ps(half[0], half[1]), _mm256_hadd_ps(half[2], half[3]));
    high = _mm256_hadd_ps(_mm256_hadd_ps(half[4], half[5]), _mm256_hadd_ps(half[6], half[7]));
    return _mm256_add_ps(_mm256_permute2f128_ps(low, high, 0x20), _mm256_permute2f128_ps(low, high, 0x31));
}

/* sum[p] += k[p][i…] * q[i…] for n positions; the next tile's keys are fetched ahead. */
BN_INLINE void score_step(const float *q, const uint16_t *k, size_t stride, size_t i, __mmask16 lanes,
                          __m512 *sum, const size_t n)
{
    const __m512 qi = _mm512_maskz_loadu_ps(lanes, q + i);

    BN_UNROLL
    for (size_t p = 0; p < n; p++) {
        const uint16_t *at = k + p * stride + i;

        _mm_prefetch((const char *)(at + TILE * stride), _MM_HINT_T0);
        sum[p] = _mm512_fmadd_ps(load_f16x16(at, lanes), qi, sum[p]);
    }
}

/* A score is summed in the same order however many positions are done together. */
BN_INLINE void score_tile(const float *q, const uint16_t *k, size_t stride, float *s, size_t d, float scale,
                          const size_t n)
{
    __m512 sum[TILE];
    size_t i = 0;

    BN_UNROLL
    for (int p = 0; p < TILE; p++)
        sum[p] = _mm512_setzero_ps();
    for (; i + 16 <= d; i += 16)
        score_step(q, k, stride, i, 0xffff, sum, n);
    if (i < d)
        score_step(q, k, stride, i, lanes16(d - i), sum, n);
    _mm256_mask_storeu_ps(s, (__mmask8)((1u << n) - 1),
                          _mm256_mul_ps(sum_lanes_of_8(sum), _mm256_set1_ps(scale)));
}

void f16_attn_scores_avx512(const float *q, const uint16_t *k, size_t stride, float *s, size_t n_pos,
                            size_t d, float scale)
{
    size_t p = 0;

    for (; p + TILE <= n_pos; p += TILE)
        score_tile(q, k + p * stride, stride, s + p, d, scale, TILE);
    for (; p < n_pos; p++)
        score_tile(q, k + p * stride, stride, s + p, d, scale, 1);
}

BN_INLINE void value_step(const float *a, const uint16_t *v, size_t stride, float *out, size_t i,
                          __mmask16 lanes, const size_t n)
{
    __m512 sum = _mm512_setzero_ps();

    BN_UNROLL
    for (size_t p = 0; p < n; p++) {
        const uint16_t *at = v + p * stride + i;

        _mm_prefetch((const char *)(at + TILE * stride), _MM_HINT_T0);
        sum = _mm512_fmadd_ps(load_f16x16(at, lanes), _mm512_set1_ps(a[p]), sum);
    }
    _mm512_mask_storeu_ps(out + i, lanes, _mm512_add_ps(_mm512_maskz_loadu_ps(lanes, out + i), sum));
}

BN_INLINE void value_tile(const float *a, const uint16_t *v, size_t stride, float *out, size_t d,
                          const size_t n)
{
    size_t i = 0;

    for (; i + 16 <= d; i += 16)
        value_step(a, v, stride, out, i, 0xffff, n);
    if (i < d)
        value_step(a, v, stride, out, i, lanes16(d - i), n);
}

void f16_attn_values_avx512(const float *a, const uint16_t *v, size_t stride, float *out, size_t n_pos,
                            size_t d)
{
    size_t p = 0;

    for (size_t i = 0; i < d; i += 16)
        _mm512_mask_storeu_ps(out + i, lanes16(d - i), _mm512_setzero_ps());
    for (; p + TILE <= n_pos; p += TILE)
        value_tile(a + p, v + p * stride, stride, out, d, TILE);
    if (p < n_pos)
        value_tile(a + p, v + p * stride, stride, out, d, n_pos - p);
}
