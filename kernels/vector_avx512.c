/* SPDX-License-Identifier: MIT
 * Norm, addition, activations, softmax and argmax over one vector, 16 values at a time. */
#include "kernels/avx512.h"

#include <math.h>

void f32_rmsnorm_avx512(const float *x, const float *g, float *y, size_t n, float eps)
{
    const __m512 r = norm_factor(x, n, eps);

    for (size_t i = 0; i < n; i += 16) {
        const __mmask16 lanes = lanes16(n - i);
        const __m512 v = _mm512_mul_ps(_mm512_maskz_loadu_ps(lanes, x + i), r);

        _mm512_mask_storeu_ps(y + i, lanes, _mm512_mul_ps(v, _mm512_maskz_loadu_ps(lanes, g + i)));
    }
}

void f32_add_avx512(float *x, const float *y, size_t n)
{
    for (size_t i = 0; i < n; i += 16) {
        const __mmask16 lanes = lanes16(n - i);
        const __m512 a = _mm512_maskz_loadu_ps(lanes, x + i), b = _mm512_maskz_loadu_ps(lanes, y + i);

        _mm512_mask_storeu_ps(x + i, lanes, _mm512_add_ps(a, b));
    }
}

void f32_relu2_mul_avx512(const float *g, const float *u, float *out, size_t n)
{
    for (size_t i = 0; i < n; i += 16) {
        const __mmask16 lanes = lanes16(n - i);
        const __m512 r = _mm512_max_ps(_mm512_maskz_loadu_ps(lanes, g + i), _mm512_setzero_ps());
        const __m512 v = _mm512_mul_ps(_mm512_mul_ps(r, r), _mm512_maskz_loadu_ps(lanes, u + i));

        _mm512_mask_storeu_ps(out + i, lanes, v);
    }
}

/* As the C file: exp of the negative magnitude, in the numerator too for negative g. */
void f32_silu_mul_avx512(const float *g, const float *u, float *out, size_t n)
{
    const __m512 one = _mm512_set1_ps(1.0f);

    for (size_t i = 0; i < n; i += 16) {
        const __mmask16 lanes = lanes16(n - i);
        const __m512 v = _mm512_maskz_loadu_ps(lanes, g + i);
        const __m512 e = exp_negative(_mm512_sub_ps(_mm512_setzero_ps(), _mm512_abs_ps(v)));
        const __mmask16 negative = _mm512_cmp_ps_mask(v, _mm512_setzero_ps(), _CMP_LT_OQ);
        const __m512 sigmoid = _mm512_div_ps(_mm512_mask_blend_ps(negative, one, e), _mm512_add_ps(one, e));

        _mm512_mask_storeu_ps(out + i, lanes,
                              _mm512_mul_ps(_mm512_mul_ps(v, sigmoid), _mm512_maskz_loadu_ps(lanes, u + i)));
    }
}

/* The largest value, NaN aside; -infinity if there is none: max takes its second operand where one is NaN. */
BN_INLINE float largest(const float *x, size_t n)
{
    __m512 max = _mm512_set1_ps(-INFINITY);

    for (size_t i = 0; i < n; i += 16)
        max = _mm512_mask_max_ps(max, lanes16(n - i), _mm512_maskz_loadu_ps(lanes16(n - i), x + i), max);
    return _mm512_reduce_max_ps(max);
}

/* Four vectors at a time: their maxima and exponentials do not wait for each other, and only their sum goes
 * into double precision. */
BN_INLINE __m512 exp_block(float *s, __m512 max)
{
    __m512 e[4];

    BN_UNROLL
    for (int v = 0; v < 4; v++) {
        e[v] = exp_negative(_mm512_sub_ps(_mm512_loadu_ps(s + 16 * v), max));
        _mm512_storeu_ps(s + 16 * v, e[v]);
    }
    return _mm512_add_ps(_mm512_add_ps(e[0], e[1]), _mm512_add_ps(e[2], e[3]));
}

BN_INLINE float largest_of_many(const float *x, size_t n)
{
    __m512 max[4];
    size_t i = 0;

    BN_UNROLL
    for (int v = 0; v < 4; v++)
        max[v] = _mm512_set1_ps(-INFINITY);
    for (; i + 64 <= n; i += 64) {
        BN_UNROLL
        for (int v = 0; v < 4; v++)
            max[v] = _mm512_max_ps(_mm512_loadu_ps(x + i + 16 * v), max[v]);
    }
    max[0] = _mm512_max_ps(_mm512_max_ps(max[0], max[1]), _mm512_max_ps(max[2], max[3]));
    return fmaxf(_mm512_reduce_max_ps(max[0]), largest(x + i, n - i));
}

void f32_softmax_avx512(float *s, size_t n)
{
    const __m512 max = _mm512_set1_ps(largest_of_many(s, n));
    __m512d even = _mm512_setzero_pd(), odd = _mm512_setzero_pd();
    __m512 factor;
    size_t i = 0;

    for (; i + 64 <= n; i += 64) {
        const __m512 e = exp_block(s + i, max);

        even = _mm512_add_pd(even, low_double(e));
        odd = _mm512_add_pd(odd, high_double(e));
    }
    for (; i < n; i += 16) {
        const __mmask16 lanes = lanes16(n - i);
        const __m512 e =
            _mm512_maskz_mov_ps(lanes, exp_negative(_mm512_sub_ps(_mm512_maskz_loadu_ps(lanes, s + i), max)));

        _mm512_mask_storeu_ps(s + i, lanes, e);
        even = _mm512_add_pd(even, low_double(e));
        odd = _mm512_add_pd(odd, high_double(e));
    }
    factor = _mm512_set1_ps((float)(1.0 / _mm512_reduce_add_pd(_mm512_add_pd(even, odd))));
    for (i = 0; i + 16 <= n; i += 16)
        _mm512_storeu_ps(s + i, _mm512_mul_ps(_mm512_loadu_ps(s + i), factor));
    if (i < n)
        _mm512_mask_storeu_ps(s + i, lanes16(n - i),
                              _mm512_mul_ps(_mm512_maskz_loadu_ps(lanes16(n - i), s + i), factor));
}

/* First what the largest value is, then where it first stands. */
size_t f32_argmax_avx512(const float *x, size_t n)
{
    const __m512 max = _mm512_set1_ps(largest(x, n));

    for (size_t i = 0; i < n; i += 16) {
        const __mmask16 lanes = lanes16(n - i);
        const __mmask16 hit =
            _mm512_mask_cmp_ps_mask(lanes, _mm512_maskz_loadu_ps(lanes, x + i), max, _CMP_EQ_OQ);

        if (hit)
            return i + (size_t)__builtin_ctz(hit);
    }
    return 0;
}
