/* SPDX-License-Identifier: MIT
 * Attention of one head over a cache in F16, along the head's values 16 at a time. */
#include "kernels/avx512.h"

enum {
    TILE_SCORES = 4, /* positions that share the loaded query */
    TILE_VALUES = 8, /* positions added up before their sum joins the output: errors grow with n_pos / 8 */
};

/* A score is summed in the same order however many positions are done together. */
BN_INLINE void score_tile(const float *q, const uint16_t *k, size_t stride, float *s, size_t d, float scale,
                          const size_t n)
{
    __m512 sum[TILE_SCORES];

    BN_UNROLL
    for (size_t p = 0; p < n; p++)
        sum[p] = _mm512_setzero_ps();
    for (size_t i = 0; i < d; i += 16) {
        const __mmask16 lanes = lanes16(d - i);
        const __m512 qi = _mm512_maskz_loadu_ps(lanes, q + i);

        BN_UNROLL
        for (size_t p = 0; p < n; p++)
            sum[p] = _mm512_fmadd_ps(load_f16x16(k + p * stride + i, lanes), qi, sum[p]);
    }
    BN_UNROLL
    for (size_t p = 0; p < n; p++)
        s[p] = _mm512_reduce_add_ps(sum[p]) * scale;
}

void f16_attn_scores_avx512(const float *q, const uint16_t *k, size_t stride, float *s, size_t n_pos,
                            size_t d, float scale)
{
    size_t p = 0;

    for (; p + TILE_SCORES <= n_pos; p += TILE_SCORES)
        score_tile(q, k + p * stride, stride, s + p, d, scale, TILE_SCORES);
    for (; p < n_pos; p++)
        score_tile(q, k + p * stride, stride, s + p, d, scale, 1);
}

BN_INLINE void value_tile(const float *a, const uint16_t *v, size_t stride, float *out, size_t d,
                          const size_t n)
{
    for (size_t i = 0; i < d; i += 16) {
        const __mmask16 lanes = lanes16(d - i);
        __m512 sum = _mm512_setzero_ps();

        BN_UNROLL
        for (size_t p = 0; p < n; p++)
            sum = _mm512_fmadd_ps(load_f16x16(v + p * stride + i, lanes), _mm512_set1_ps(a[p]), sum);
        sum = _mm512_add_ps(_mm512_maskz_loadu_ps(lanes, out + i), sum);
        _mm512_mask_storeu_ps(out + i, lanes, sum);
    }
}

void f16_attn_values_avx512(const float *a, const uint16_t *v, size_t stride, float *out, size_t n_pos,
                            size_t d)
{
    size_t p = 0;

    for (size_t i = 0; i < d; i += 16)
        _mm512_mask_storeu_ps(out + i, lanes16(d - i), _mm512_setzero_ps());
    for (; p + TILE_VALUES <= n_pos; p += TILE_VALUES)
        value_tile(a + p, v + p * stride, stride, out, d, TILE_VALUES);
    if (p < n_pos)
        value_tile(a + p, v + p * stride, stride, out, d, n_pos - p);
}
