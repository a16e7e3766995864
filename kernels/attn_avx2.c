/* SPDX-License-Identifier: MIT
 * Attention of one head over a cache in F16, along the head's values 8 at a time. */
#include "kernels/avx2.h"

/* Positions done together. Scores share the loaded query; values are added up before their sum joins the
 * output, so that rounding errors grow with n_pos / 8. */
enum { TILE = 8 };

/* sum[p] += k[p][i…] * q[i…] for n positions; the next tile's keys are fetched ahead. */
BN_INLINE void score_step(const float *q, const uint16_t *k, size_t stride, size_t i, size_t left,
                          __m256 *sum, const size_t n)
{
    const __m256 qi = load8(q + i, left);

    BN_UNROLL
    for (size_t p = 0; p < n; p++) {
        const uint16_t *at = k + p * stride + i;

        _mm_prefetch((const char *)(at + TILE * stride), _MM_HINT_T0);
        sum[p] = _mm256_fmadd_ps(load8_f16(at, left), qi, sum[p]);
    }
}

/* A score is summed in the same order however many positions are done together. */
BN_INLINE void score_tile(const float *q, const uint16_t *k, size_t stride, float *s, size_t d, float scale,
                          const size_t n)
{
    __m256 sum[TILE];
    size_t i = 0;

    BN_UNROLL
    for (size_t p = 0; p < n; p++)
        sum[p] = _mm256_setzero_ps();
    for (; i + 8 <= d; i += 8)
        score_step(q, k, stride, i, 8, sum, n);
    if (i < d)
        score_step(q, k, stride, i, d - i, sum, n);
    BN_UNROLL
    for (size_t p = 0; p < n; p++)
        s[p] = sum8(sum[p]) * scale;
}

void f16_attn_scores_avx2(const float *q, const uint16_t *k, size_t stride, float *s, size_t n_pos, size_t d,
                          float scale)
{
    size_t p = 0;

    for (; p + TILE <= n_pos; p += TILE)
        score_tile(q, k + p * stride, stride, s + p, d, scale, TILE);
    for (; p < n_pos; p++)
        score_tile(q, k + p * stride, stride, s + p, d, scale, 1);
}

BN_INLINE void value_step(const float *a, const uint16_t *v, size_t stride, float *out, size_t i, size_t left,
                          const size_t n)
{
    __m256 sum = _mm256_setzero_ps();

    BN_UNROLL
    for (size_t p = 0; p < n; p++) {
        const uint16_t *at = v + p * stride + i;

        _mm_prefetch((const char *)(at + TILE * stride), _MM_HINT_T0);
        sum = _mm256_fmadd_ps(load8_f16(at, left), _mm256_set1_ps(a[p]), sum);
    }
    store8(out + i, left, _mm256_add_ps(load8(out + i, left), sum));
}

BN_INLINE void value_tile(const float *a, const uint16_t *v, size_t stride, float *out, size_t d,
                          const size_t n)
{
    size_t i = 0;

    for (; i + 8 <= d; i += 8)
        value_step(a, v, stride, out, i, 8, n);
    if (i < d)
        value_step(a, v, stride, out, i, d - i, n);
}

void f16_attn_values_avx2(const float *a, const uint16_t *v, size_t stride, float *out, size_t n_pos,
                          size_t d)
{
    size_t p = 0;

    memset(out, 0, d * sizeof *out);
    for (; p + TILE <= n_pos; p += TILE)
        value_tile(a + p, v + p * stride, stride, out, d, TILE);
    if (p < n_pos)
        value_tile(a + p, v + p * stride, stride, out, d, n_pos - p);
}
