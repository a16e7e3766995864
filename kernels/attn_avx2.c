/* SPDX-License-Identifier: MIT
 * Attention of one head over a cache in F16, along the head's values 8 at a time. */
#include "kernels/avx2.h"

enum {
    TILE_SCORES = 4, /* positions that share the loaded query */
    TILE_VALUES = 8, /* positions added up before their sum joins the output: errors grow with n_pos / 8 */
};

/* A score is summed in the same order however many positions are done together. */
BN_INLINE void score_tile(const float *q, const uint16_t *k, size_t stride, float *s, size_t d, float scale,
                          const size_t n)
{
    __m256 sum[TILE_SCORES];

    BN_UNROLL
    for (size_t p = 0; p < n; p++)
        sum[p] = _mm256_setzero_ps();
    for (size_t i = 0; i < d; i += 8) {
        const __m256 qi = load8(q + i, d - i);

        BN_UNROLL
        for (size_t p = 0; p < n; p++)
            sum[p] = _mm256_fmadd_ps(load8_f16(k + p * stride + i, d - i), qi, sum[p]);
    }
    BN_UNROLL
    for (size_t p = 0; p < n; p++)
        s[p] = sum8(sum[p]) * scale;
}

void f16_attn_scores_avx2(const float *q, const uint16_t *k, size_t stride, float *s, size_t n_pos, size_t d,
                          float scale)
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
    for (size_t i = 0; i < d; i += 8) {
        __m256 sum = _mm256_setzero_ps();

        BN_UNROLL
        for (size_t p = 0; p < n; p++)
            sum = _mm256_fmadd_ps(load8_f16(v + p * stride + i, d - i), _mm256_set1_ps(a[p]), sum);
        store8(out + i, d - i, _mm256_add_ps(load8(out + i, d - i), sum));
    }
}

void f16_attn_values_avx2(const float *a, const uint16_t *v, size_t stride, float *out, size_t n_pos,
                          size_t d)
{
    size_t p = 0;

    memset(out, 0, d * sizeof *out);
    for (; p + TILE_VALUES <= n_pos; p += TILE_VALUES)
        value_tile(a + p, v + p * stride, stride, out, d, TILE_VALUES);
    if (p < n_pos)
        value_tile(a + p, v + p * stride, stride, out, d, n_pos - p);
}
