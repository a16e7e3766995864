/* SPDX-License-Identifier: MIT
 * Private to kernels/, for the _avx2 files: partial vectors, halves, and sums across lanes. */
#ifndef KERNELS_AVX2_H
#define KERNELS_AVX2_H

#include "kernels/isa.h"

#include <immintrin.h>
#include <math.h>
#include <string.h>

/* All ones in the first `left` of 8 lanes. */
BN_INLINE __m256i lanes8(size_t left)
{
    return _mm256_cmpgt_epi32(_mm256_set1_epi32((int)left), _mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7));
}

/* Eight values, or the `left` that there still are and zeros; memory behind them is not touched. */
BN_INLINE __m256 load8(const float *p, size_t left)
{
    return left >= 8 ? _mm256_loadu_ps(p) : _mm256_maskload_ps(p, lanes8(left));
}

BN_INLINE void store8(float *p, size_t left, __m256 v)
{
    if (left >= 8)
        _mm256_storeu_ps(p, v);
    else
        _mm256_maskstore_ps(p, lanes8(left), v);
}

/* The same for 16-bit values, for which there is no masked load. */
BN_INLINE __m128i load8_16bit(const uint16_t *p, size_t left)
{
    uint16_t partial[8] = {0};

    if (left >= 8)
        return _mm_loadu_si128((const __m128i *)(const void *)p);
    memcpy(partial, p, left * sizeof *p);
    return _mm_loadu_si128((const __m128i *)(const void *)partial);
}

BN_INLINE __m256 load8_f16(const uint16_t *p, size_t left)
{
    return _mm256_cvtph_ps(load8_16bit(p, left));
}

BN_INLINE float sum8(__m256 v)
{
    __m128 s = _mm_add_ps(_mm256_castps256_ps128(v), _mm256_extractf128_ps(v, 1));

    s = _mm_add_ps(s, _mm_movehl_ps(s, s));
    s = _mm_add_ss(s, _mm_shuffle_ps(s, s, 1));
    return _mm_cvtss_f32(s);
}

BN_INLINE float max8(__m256 v)
{
    __m128 m = _mm_max_ps(_mm256_castps256_ps128(v), _mm256_extractf128_ps(v, 1));

    m = _mm_max_ps(m, _mm_movehl_ps(m, m));
    m = _mm_max_ss(m, _mm_shuffle_ps(m, m, 1));
    return _mm_cvtss_f32(m);
}

BN_INLINE double sum4_double(__m256d v)
{
    __m128d s = _mm_add_pd(_mm256_castpd256_pd128(v), _mm256_extractf128_pd(v, 1));

    return _mm_cvtsd_f64(_mm_add_sd(s, _mm_unpackhi_pd(s, s)));
}

BN_INLINE int32_t sum8_int(__m256i v)
{
    __m128i s = _mm_add_epi32(_mm256_castsi256_si128(v), _mm256_extracti128_si256(v, 1));

    s = _mm_add_epi32(s, _mm_shuffle_epi32(s, 0x4e));
    s = _mm_add_epi32(s, _mm_shuffle_epi32(s, 0xb1));
    return _mm_cvtsi128_si32(s);
}

BN_INLINE __m256 abs8(__m256 v)
{
    return _mm256_andnot_ps(_mm256_set1_ps(-0.0f), v);
}

BN_INLINE __m256d low_double(__m256 v)
{
    return _mm256_cvtps_pd(_mm256_castps256_ps128(v));
}

BN_INLINE __m256d high_double(__m256 v)
{
    return _mm256_cvtps_pd(_mm256_extractf128_ps(v, 1));
}

/* RMSNorm's factor of a row: 1 / sqrt(mean square + eps), the sum in double. */
BN_INLINE __m256 norm_factor(const float *x, size_t n, float eps)
{
    __m256d even = _mm256_setzero_pd(), odd = _mm256_setzero_pd();

    for (size_t i = 0; i < n; i += 8) {
        const __m256 v = load8(x + i, n - i);
        const __m256d low = low_double(v), high = high_double(v);

        even = _mm256_fmadd_pd(low, low, even);
        odd = _mm256_fmadd_pd(high, high, odd);
    }
    return _mm256_set1_ps(1.0f / sqrtf((float)(sum4_double(_mm256_add_pd(even, odd)) / (double)n) + eps));
}

/* 2^n of whole n, -126 <= n <= 127. */
BN_INLINE __m256 power_of_two(__m256i n)
{
    return _mm256_castsi256_ps(_mm256_slli_epi32(_mm256_add_epi32(n, _mm256_set1_epi32(127)), 23));
}

/* exp(x) for x <= 0, relative error below 2^-21: 2^n times the power series of the rest, |rest| <= ln(2) / 2.
 * 2^n is applied in two halves, because it may be subnormal. */
BN_INLINE __m256 exp_negative(__m256 x)
{
    const __m256 log2e = _mm256_set1_ps(0x1.715476p+0f);
    const __m256 ln2_high = _mm256_set1_ps(0x1.62e4p-1f), ln2_low = _mm256_set1_ps(0x1.7f7d1cp-20f);
    __m256 limited = _mm256_max_ps(x, _mm256_set1_ps(-150.0f));
    __m256 n = _mm256_round_ps(_mm256_mul_ps(limited, log2e), _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC);
    __m256 rest = _mm256_fnmadd_ps(n, ln2_low, _mm256_fnmadd_ps(n, ln2_high, limited));
    __m256 p = _mm256_set1_ps(1.0f / 720);
    __m256i whole = _mm256_cvtps_epi32(n), half = _mm256_srai_epi32(whole, 1);

    p = _mm256_fmadd_ps(p, rest, _mm256_set1_ps(1.0f / 120));
    p = _mm256_fmadd_ps(p, rest, _mm256_set1_ps(1.0f / 24));
    p = _mm256_fmadd_ps(p, rest, _mm256_set1_ps(1.0f / 6));
    p = _mm256_fmadd_ps(p, rest, _mm256_set1_ps(0.5f));
    p = _mm256_fmadd_ps(p, rest, _mm256_set1_ps(1.0f));
    p = _mm256_fmadd_ps(p, rest, _mm256_set1_ps(1.0f));
    p = _mm256_mul_ps(p, power_of_two(half));
    return _mm256_mul_ps(p, power_of_two(_mm256_sub_epi32(whole, half)));
}

#endif
