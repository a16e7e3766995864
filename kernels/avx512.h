/* SPDX-License-Identifier: MIT
 * Private to kernels/, for the _avx512 files: what several of them need. */
#ifndef KERNELS_AVX512_H
#define KERNELS_AVX512_H

#include "kernels/isa.h"

#include <immintrin.h>
#include <math.h>

/* The lanes of a vector of 16 of which `left` values are still to come. Masked lanes are not touched in
 * memory, so a row may end anywhere. */
BN_INLINE __mmask16 lanes16(size_t left)
{
    return left >= 16 ? (__mmask16)0xffff : (__mmask16)((1u << left) - 1);
}

BN_INLINE __m512 load_f16x16(const uint16_t *p, __mmask16 lanes)
{
    return _mm512_cvtph_ps(_mm256_maskz_loadu_epi16(lanes, p));
}

BN_INLINE __m512d low_double(__m512 v)
{
    return _mm512_cvtps_pd(_mm512_castps512_ps256(v));
}

BN_INLINE __m512d high_double(__m512 v)
{
    return _mm512_cvtps_pd(_mm512_extractf32x8_ps(v, 1));
}

/* RMSNorm's factor of a row: 1 / sqrt(mean square + eps), the sum in double. */
BN_INLINE __m512 norm_factor(const float *x, size_t n, float eps)
{
    __m512d even = _mm512_setzero_pd(), odd = _mm512_setzero_pd();

    for (size_t i = 0; i < n; i += 16) {
        const __m512 v = _mm512_maskz_loadu_ps(lanes16(n - i), x + i);
        const __m512d low = low_double(v), high = high_double(v);

        even = _mm512_fmadd_pd(low, low, even);
        odd = _mm512_fmadd_pd(high, high, odd);
    }
    return _mm512_set1_ps(1.0f /
                          sqrtf((float)(_mm512_reduce_add_pd(_mm512_add_pd(even, odd)) / (double)n) + eps));
}

/* exp(x) for x <= 0, relative error below 2^-21: 2^n times the power series of the rest, |rest| <= ln(2) / 2.
 * Below -104 the result is 0; between, it may be subnormal. */
BN_INLINE __m512 exp_negative(__m512 x)
{
    const __m512 log2e = _mm512_set1_ps(0x1.715476p+0f);
    const __m512 ln2_high = _mm512_set1_ps(0x1.62e4p-1f), ln2_low = _mm512_set1_ps(0x1.7f7d1cp-20f);
    __m512 limited = _mm512_max_ps(x, _mm512_set1_ps(-150.0f));
    __m512 n =
        _mm512_roundscale_ps(_mm512_mul_ps(limited, log2e), _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC);
    __m512 rest = _mm512_fnmadd_ps(n, ln2_low, _mm512_fnmadd_ps(n, ln2_high, limited));
    __m512 p = _mm512_set1_ps(1.0f / 720);

    p = _mm512_fmadd_ps(p, rest, _mm512_set1_ps(1.0f / 120));
    p = _mm512_fmadd_ps(p, rest, _mm512_set1_ps(1.0f / 24));
    p = _mm512_fmadd_ps(p, rest, _mm512_set1_ps(1.0f / 6));
    p = _mm512_fmadd_ps(p, rest, _mm512_set1_ps(0.5f));
    p = _mm512_fmadd_ps(p, rest, _mm512_set1_ps(1.0f));
    p = _mm512_fmadd_ps(p, rest, _mm512_set1_ps(1.0f));
    return _mm512_scalef_ps(p, n);
}

#endif
