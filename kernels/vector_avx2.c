/* SPDX-License-Identifier: MIT
 * Norm, addition, activations, exponentials and argmax over one vector, 8 values at a time. */
#include "kernels/attn.h"
#include "kernels/avx2.h"

#include <math.h>

void f32_rmsnorm_avx2(const float *x, const float *g, float *y, size_t n, float eps)
{
    const __m256 r = norm_factor(x, n, eps);

    for (size_t i = 0; i < n; i += 8) {
        const __m256 v = _mm256_mul_ps(load8(x + i, n - i), r);

        store8(y + i, n - i, _mm256_mul_ps(v, load8(g + i, n - i)));
    }
}

void f32_add_avx2(float *x, const float *y, size_t n)
{
    for (size_t i = 0; i < n; i += 8)
        store8(x + i, n - i, _mm256_add_ps(load8(x + i, n - i), load8(y + i, n - i)));
}

void f32_relu2_mul_avx2(const float *g, const float *u, float *out, size_t n)
{
    for (size_t i = 0; i < n; i += 8) {
        const __m256 r = _mm256_max_ps(load8(g + i, n - i), _mm256_setzero_ps());

        store8(out + i, n - i, _mm256_mul_ps(_mm256_mul_ps(r, r), load8(u + i, n - i)));
    }
}

/* As the C file: exp of the negative magnitude, in the numerator too for negative g. */
void f32_silu_mul_avx2(const float *g, const float *u, float *out, size_t n)
{
    const __m256 one = _mm256_set1_ps(1.0f);

    for (size_t i = 0; i < n; i += 8) {
        const __m256 v = load8(g + i, n - i);
        const __m256 e = exp_negative(_mm256_sub_ps(_mm256_setzero_ps(), abs8(v)));
        const __m256 negative = _mm256_cmp_ps(v, _mm256_setzero_ps(), _CMP_LT_OQ);
        const __m256 sigmoid = _mm256_div_ps(_mm256_blendv_ps(one, e, negative), _mm256_add_ps(one, e));

        store8(out + i, n - i, _mm256_mul_ps(_mm256_mul_ps(v, sigmoid), load8(u + i, n - i)));
    }
}

/* The largest value, NaN aside; -infinity if there is none: max takes its second operand where one is NaN. */
BN_INLINE float largest(const float *x, size_t n)
{
    __m256 max = _mm256_set1_ps(-INFINITY);
    size_t i = 0;
    float m;

    for (; i + 8 <= n; i += 8)
        max = _mm256_max_ps(_mm256_loadu_ps(x + i), max);
    m = max8(max);
    for (; i < n; i++)
        m = x[i] > m ? x[i] : m;
    return m;
}

struct bn_exp_sum f32_exp_sum_avx2(float *s, const float *scale, size_t n)
{
    const float most = largest(s, n);
    const __m256 max = _mm256_set1_ps(most), least = _mm256_set1_ps(BN_ATTN_LEAST_EXPONENT);
    __m256d even = _mm256_setzero_pd(), odd = _mm256_setzero_pd();
    __m256 most_of_all = _mm256_setzero_ps();

    for (size_t i = 0; i < n; i += 8) {
        const __m256 x = _mm256_sub_ps(load8(s + i, n - i), max);
        __m256 e = _mm256_and_ps(exp_negative(x), _mm256_cmp_ps(x, least, _CMP_GE_OQ));

        if (n - i < 8)
            e = _mm256_and_ps(e, _mm256_castsi256_ps(lanes8(n - i)));
        even = _mm256_add_pd(even, low_double(e));
        odd = _mm256_add_pd(odd, high_double(e));
        if (scale)
            e = _mm256_mul_ps(e, load8(scale + i, n - i));
        most_of_all = _mm256_max_ps(most_of_all, e);
        store8(s + i, n - i, e);
    }
    return (struct bn_exp_sum){most, (float)sum4_double(_mm256_add_pd(even, odd)), max8(most_of_all)};
}

void f32_join_avx2(float *x, float a, const float *y, float b, size_t n)
{
    const __m256 of_x = _mm256_set1_ps(a), of_y = _mm256_set1_ps(b);

    for (size_t i = 0; i < n; i += 8) {
        __m256 v = _mm256_mul_ps(load8(y + i, n - i), of_y);

        if (a != 0.0f)
            v = _mm256_add_ps(_mm256_mul_ps(load8(x + i, n - i), of_x), v);
        store8(x + i, n - i, v);
    }
}

/* First what the largest value is, then where it first stands. */
size_t f32_argmax_avx2(const float *x, size_t n)
{
    const __m256 max = _mm256_set1_ps(largest(x, n));

    for (size_t i = 0; i < n; i += 8) {
        const __m256i lanes = lanes8(n - i < 8 ? n - i : 8);
        const __m256 equal = _mm256_cmp_ps(load8(x + i, n - i), max, _CMP_EQ_OQ);
        const int hit = _mm256_movemask_ps(_mm256_and_ps(equal, _mm256_castsi256_ps(lanes)));

        if (hit)
            return i + (size_t)__builtin_ctz((unsigned)hit);
    }
    return 0;
}
