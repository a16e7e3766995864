/* SPDX-License-Identifier: MIT
 * Activations to int8 and the way back, 16 at a time. */
#include "kernels/act.h"
#include "kernels/avx512.h"

#define NEAREST_EVEN (_MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC)

/* Store 16 values times scale as codes, and return them. */
BN_INLINE __m512i quantize16(__m512 x, __m512 scale, int8_t *q, __mmask16 lanes)
{
    __m512 v = _mm512_mul_ps(x, scale);
    __m512i whole;

    v = _mm512_min_ps(_mm512_max_ps(v, _mm512_set1_ps(-128.0f)), _mm512_set1_ps(127.0f));
    whole = _mm512_cvt_roundps_epi32(v, NEAREST_EVEN);
    _mm512_mask_cvtepi32_storeu_epi8(q, lanes, whole);
    return whole;
}

BN_INLINE __m512 normed(const float *x, const float *g, __m512 r, size_t i, __mmask16 lanes)
{
    return _mm512_mul_ps(_mm512_mul_ps(_mm512_maskz_loadu_ps(lanes, x + i), r),
                         _mm512_maskz_loadu_ps(lanes, g + i));
}

struct bn_act i8_quantize_avx512(const float *x, int8_t *q, size_t n)
{
    __m512 max = _mm512_setzero_ps(), scale;
    __m512i sum = _mm512_setzero_si512();
    struct bn_act act;

    for (size_t i = 0; i < n; i += 16)
        max = _mm512_max_ps(_mm512_abs_ps(_mm512_maskz_loadu_ps(lanes16(n - i), x + i)), max);
    act.scale = act_scale(_mm512_reduce_max_ps(max));
    scale = _mm512_set1_ps(act.scale);
    for (size_t i = 0; i < n; i += 16) {
        const __mmask16 lanes = lanes16(n - i);

        sum = _mm512_add_epi32(sum, quantize16(_mm512_maskz_loadu_ps(lanes, x + i), scale, q + i, lanes));
    }
    act.sum = _mm512_reduce_add_epi32(sum);
    return act;
}

struct bn_act i8_rmsnorm_avx512(const float *x, const float *g, int8_t *q, size_t n, float eps)
{
    const __m512 r = norm_factor(x, n, eps);
    __m512 max = _mm512_setzero_ps(), scale;
    __m512i sum = _mm512_setzero_si512();
    struct bn_act act;

    for (size_t i = 0; i < n; i += 16)
        max = _mm512_max_ps(_mm512_abs_ps(normed(x, g, r, i, lanes16(n - i))), max);
    act.scale = act_scale(_mm512_reduce_max_ps(max));
    scale = _mm512_set1_ps(act.scale);
    for (size_t i = 0; i < n; i += 16) {
        const __mmask16 lanes = lanes16(n - i);

        sum = _mm512_add_epi32(sum, quantize16(normed(x, g, r, i, lanes), scale, q + i, lanes));
    }
    act.sum = _mm512_reduce_add_epi32(sum);
    return act;
}

/* y / a, rounded as the division rounds it; see has_exact_quotients. */
BN_INLINE __m512 quotient(__m512 y, __m512 a, __m512 reciprocal)
{
    __m512 q = _mm512_mul_ps(y, reciprocal);

    q = _mm512_fmadd_ps(_mm512_fnmadd_ps(q, a, y), reciprocal, q);
    return _mm512_fmadd_ps(_mm512_fnmadd_ps(q, a, y), reciprocal, q);
}

BN_INLINE void scale16(const int32_t *y, float *out, __m512 a, __m512 reciprocal, __m512 w, __mmask16 lanes,
                       const int divide)
{
    const __m512 v = _mm512_cvtepi32_ps(_mm512_maskz_loadu_epi32(lanes, y));
    const __m512 q = divide ? _mm512_div_ps(v, a) : quotient(v, a, reciprocal);

    _mm512_mask_storeu_ps(out, lanes, _mm512_mul_ps(q, w));
}

/* A division takes sixteen times as long as one of the five operations of a quotient. */
void i32_scale_avx512(const int32_t *y, float *out, float a_scale, float w_scale, size_t n)
{
    const __m512 a = _mm512_set1_ps(a_scale), w = _mm512_set1_ps(w_scale);
    const __m512 reciprocal = _mm512_set1_ps(1.0f / a_scale);
    size_t i = 0;

    if (!has_exact_quotients(a_scale)) {
        for (; i < n; i += 16)
            scale16(y + i, out + i, a, reciprocal, w, lanes16(n - i), 1);
        return;
    }
    for (; i + 16 <= n; i += 16)
        scale16(y + i, out + i, a, reciprocal, w, 0xffff, 0);
    if (i < n)
        scale16(y + i, out + i, a, reciprocal, w, lanes16(n - i), 0);
}
