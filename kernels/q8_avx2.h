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
