/* SPDX-License-Identifier: MIT
 * Private to kernels/, for the _avx2 files of the block formats: 32 floats to 32 bytes. */
#ifndef KERNELS_Q8_AVX2_H
#define KERNELS_Q8_AVX2_H

#include "kernels/avx2.h"

/* 32 values and the largest size among them. */
BN_INLINE float load_block(const float *x, __m256 v[4])
{
    BN_UNROLL
    for (int i = 0; i < 4; i++)
        v[i] = _mm256_loadu_ps(x + 8 * i);
    return max8(_mm256_max_ps(_mm256_max_ps(abs8(v[0]), abs8(v[1])), _mm256_max_ps(abs8(v[2]), abs8(v[3]))));
}

/* The first of n (a multiple of 8) values whose size is `max`; 0 has no sign. */
BN_INLINE float first_of_size(const float *x, size_t n, float max)
{
    for (size_t i = 0; max > 0.0f && i < n; i += 8) {
        const __m256 equal = _mm256_cmp_ps(abs8(_mm256_loadu_ps(x + i)), _mm256_set1_ps(max), _CMP_EQ_OQ);
        int lanes = _mm256_movemask_ps(equal);

        if (lanes)
            return x[i + (size_t)__builtin_ctz((unsigned)lanes)];
    }
    return 0.0f;
}

/* The first of n values that is largest in size, given vectors of the largest and of the smallest of them (or
 * 0): their signs decide, and only where both are of one size a search. */
BN_INLINE float first_largest(const float *x, size_t n, __m256 max, __m256 min)
{
    const __m256 low = _mm256_sub_ps(_mm256_setzero_ps(), min);
    const __m128 m = _mm_max_ps(_mm256_castps256_ps128(max), _mm256_extractf128_ps(max, 1));
    const __m128 l = _mm_max_ps(_mm256_castps256_ps128(low), _mm256_extractf128_ps(low, 1));
    const __m128 two = _mm_max_ps(_mm_unpacklo_ps(m, l), _mm_unpackhi_ps(m, l));
    const __m128 both =
        _mm_max_ps(two, _mm_movehl_ps(two, two)); /* lane 0: the largest, 1: minus the smallest */
    const __m128 other = _mm_movehdup_ps(both);

    if (_mm_comieq_ss(both, other))
        return first_of_size(x, n, _mm_cvtss_f32(both));
    return _mm_cvtss_f32(
        _mm_blendv_ps(both, _mm_xor_ps(other, _mm_set1_ps(-0.0f)), _mm_cmplt_ss(both, other)));
}

/* The nearest F16 value, half to even. */
BN_INLINE uint16_t half_of(float f)
{
    return (uint16_t)_mm_cvtsi128_si32(_mm_cvtps_ph(_mm_set_ss(f), _MM_FROUND_TO_NEAREST_INT));
}

BN_INLINE float float_of_half(uint16_t h)
{
    return _mm_cvtss_f32(_mm_cvtph_ps(_mm_cvtsi32_si128(h)));
}

/* 32 whole numbers (-128 … 127) as bytes, in order. */
BN_INLINE __m256i to_bytes(__m256i a, __m256i b, __m256i c, __m256i d)
{
    const __m256i mixed = _mm256_packs_epi16(_mm256_packs_epi32(a, b), _mm256_packs_epi32(c, d));

    return _mm256_permutevar8x32_epi32(mixed, _mm256_setr_epi32(0, 4, 1, 5, 2, 6, 3, 7));
}

/* The values times `factor`, rounded half to even. */
BN_INLINE __m256i codes_of(const __m256 v[4], float factor)
{
    const __m256 f = _mm256_set1_ps(factor);

    return to_bytes(_mm256_cvtps_epi32(_mm256_mul_ps(v[0], f)), _mm256_cvtps_epi32(_mm256_mul_ps(v[1], f)),
                    _mm256_cvtps_epi32(_mm256_mul_ps(v[2], f)), _mm256_cvtps_epi32(_mm256_mul_ps(v[3], f)));
}

/* Sums of each 16 signed bytes. */
BN_INLINE int sum16_bytes(__m128i v)
{
    const __m128i sum = _mm_sad_epu8(_mm_xor_si128(v, _mm_set1_epi8(-128)), _mm_setzero_si128());

    return _mm_cvtsi128_si32(sum) + _mm_extract_epi16(sum, 4) - 16 * 128;
}

BN_INLINE int sum_bytes(__m256i v)
{
    return sum16_bytes(_mm256_castsi256_si128(v)) + sum16_bytes(_mm256_extracti128_si256(v, 1));
}

#endif
