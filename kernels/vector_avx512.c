/* SPDX-License-Identifier: MIT
 * Norm, addition, activations, exponentials and argmax over one vector, 16 values at a time. */
#include "kernels/attn.h"
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

/* The same for rows of many values, four vectors at a time: their maxima do not wait for each other. */
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
    for (; i < n; i += 16)
        max[0] =
            _mm512_mask_max_ps(max[0], lanes16(n - i), _mm512_maskz_loadu_ps(lanes16(n - i), x + i), max[0]);
    return _mm512_reduce_max_ps(_mm512_max_ps(_mm512_max_ps(max[0], max[1]), _mm512_max_ps(max[2], max[3])));
}

/* exp(x) for x <= 0, relative error below (|x| + 4) * 2^-24; below BN_ATTN_LEAST_EXPONENT as there. 2^y is 2
 * to the whole number below, which scalef takes itself, times a polynomial of the rest (0 to 1), that is 1 at
 * 0: five multiply-adds and as few other instructions as there can be. */
BN_INLINE __m512 exp_weight(__m512 x)
{
    const __m512 y = _mm512_mul_ps(_mm512_max_ps(x, _mm512_set1_ps(BN_ATTN_LEAST_EXPONENT)),
                                   _mm512_set1_ps(0x1.715476p+0f)); /* log2(e) */
    const __m512 rest = _mm512_reduce_ps(y, _MM_FROUND_TO_NEG_INF | _MM_FROUND_NO_EXC);
    __m512 p = _mm512_set1_ps(0x1.e97502p-10f);

    p = _mm512_fmadd_ps(p, rest, _mm512_set1_ps(0x1.277852p-7f));
    p = _mm512_fmadd_ps(p, rest, _mm512_set1_ps(0x1.c91ce6p-5f));
    p = _mm512_fmadd_ps(p, rest, _mm512_set1_ps(0x1.ebdb56p-3f));
    p = _mm512_fmadd_ps(p, rest, _mm512_set1_ps(0x1.62e4bap-1f));
    p = _mm512_fmadd_ps(p, rest, _mm512_set1_ps(1.0f));
    return _mm512_scalef_ps(p, y);
}

/* What the loop over a row's exponentials leaves in each lane. */
struct exp_sums {
    __m512d even, odd;
    __m512 largest;
};

/* n vectors at a time do not wait for each other, and only their sum goes into double precision. scale NULL:
 * none. */
BN_INLINE void exp_block(float *s, const float *scale, __m512 max, __mmask16 lanes, struct exp_sums *sums,
                         const int n)
{
    __m512 e[4], sum = _mm512_setzero_ps();

    BN_UNROLL
    for (int v = 0; v < n; v++)
        e[v] = _mm512_maskz_mov_ps(lanes,
                                   exp_weight(_mm512_sub_ps(_mm512_maskz_loadu_ps(lanes, s + 16 * v), max)));
    BN_UNROLL
    for (int v = 0; v < n; v++) {
        sum = _mm512_add_ps(sum, e[v]);
        if (scale) {
            e[v] = _mm512_mul_ps(e[v], _mm512_maskz_loadu_ps(lanes, scale + 16 * v));
            sums->largest = _mm512_max_ps(sums->largest, e[v]);
        }
        _mm512_mask_storeu_ps(s + 16 * v, lanes, e[v]);
    }
    sums->even = _mm512_add_pd(sums->even, low_double(sum));
    sums->odd = _mm512_add_pd(sums->odd, high_double(sum));
}

BN_INLINE struct bn_exp_sum exp_row(float *s, const float *scale, size_t n)
{
    const float most = largest_of_many(s, n);
    const __m512 max = _mm512_set1_ps(most);
    struct exp_sums sums = {_mm512_setzero_pd(), _mm512_setzero_pd(), _mm512_setzero_ps()};
    size_t i = 0;

    for (; i + 64 <= n; i += 64)
        exp_block(s + i, scale ? scale + i : NULL, max, 0xffff, &sums, 4);
    for (; i < n; i += 16)
        exp_block(s + i, scale ? scale + i : NULL, max, lanes16(n - i), &sums, 1);
    return (struct bn_exp_sum){most, (float)_mm512_reduce_add_pd(_mm512_add_pd(sums.even, sums.odd)),
                               scale ? _mm512_reduce_max_ps(sums.largest) : 1.0f};
}

struct bn_exp_sum f32_exp_sum_avx512(float *s, const float *scale, size_t n)
{
    return scale ? exp_row(s, scale, n) : exp_row(s, NULL, n);
}

BN_INLINE void join16(float *x, __m512 a, const float *y, __m512 b, __mmask16 lanes, int read_x)
{
    __m512 v = _mm512_mul_ps(_mm512_maskz_loadu_ps(lanes, y), b);

    if (read_x)
        v = _mm512_add_ps(_mm512_mul_ps(_mm512_maskz_loadu_ps(lanes, x), a), v);
    _mm512_mask_storeu_ps(x, lanes, v);
}

void f32_join_avx512(float *x, float a, const float *y, float b, size_t n)
{
    const __m512 of_x = _mm512_set1_ps(a), of_y = _mm512_set1_ps(b);
    size_t i = 0;

    for (; i + 16 <= n; i += 16)
        join16(x + i, of_x, y + i, of_y, 0xffff, a != 0.0f);
    if (i < n)
        join16(x + i, of_x, y + i, of_y, lanes16(n - i), a != 0.0f);
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
