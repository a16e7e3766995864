/* SPDX-License-Identifier: MIT
 * Activations for the formats with blocks of 256 values, with AVX2. */
#include "kernels/q8_avx2.h"
#include "kernels/q8_k.h"

void q8_k_quantize_avx2(const float *x, const struct bn_q8 *out, size_t n)
{
    for (size_t b = 0; b < n / BN_BLOCK_K; b++, x += BN_BLOCK_K) {
        __m256 v[4], max = _mm256_setzero_ps(), min = max;
        float factor;

        for (size_t i = 0; i < BN_BLOCK_K; i += 8) {
            max = _mm256_max_ps(max, _mm256_loadu_ps(x + i));
            min = _mm256_min_ps(min, _mm256_loadu_ps(x + i));
        }
        factor = q8_k_factor(first_largest(x, BN_BLOCK_K, max, min));
        out->d[b] = q8_k_scale(factor);
        for (size_t i = 0; i < BN_BLOCK_K; i += BN_BLOCK) {
            int16_t *sum = out->sum + (b * BN_BLOCK_K + i) / 16;
            __m256i codes;

            load_block(x + i, v);
            codes = codes_of(v, factor);
            _mm256_storeu_si256((__m256i *)(void *)(out->q + b * BN_BLOCK_K + i), codes);
            sum[0] = (int16_t)sum16_bytes(_mm256_castsi256_si128(codes));
            sum[1] = (int16_t)sum16_bytes(_mm256_extracti128_si256(codes, 1));
        }
    }
}
