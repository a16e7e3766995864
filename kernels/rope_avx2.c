/* SPDX-License-Identifier: MIT
 * Rotary position embedding of one head, 8 pairs (neox) or 4 pairs (norm) at a time. */
#include "kernels/avx2.h"

void f32_rope_neox_avx2(float *v, const float *cos_t, const float *sin_t, size_t h)
{
    for (size_t j = 0; j < h; j += 8) {
        const size_t left = h - j;
        const __m256 a = load8(v + j, left), b = load8(v + h + j, left);
        const __m256 c = load8(cos_t + j, left), s = load8(sin_t + j, left);

        store8(v + j, left, _mm256_fmsub_ps(a, c, _mm256_mul_ps(b, s)));
        store8(v + h + j, left, _mm256_fmadd_ps(a, s, _mm256_mul_ps(b, c)));
    }
}

/* Each angle serves two neighbouring lanes; the even lane subtracts its neighbour's term, the odd one adds
 * it. */
void f32_rope_norm_avx2(float *v, const float *cos_t, const float *sin_t, size_t h)
{
    const __m256i twice = _mm256_setr_epi32(0, 0, 1, 1, 2, 2, 3, 3);

    for (size_t j = 0; j < h; j += 4) {
        const size_t pairs = h - j < 4 ? h - j : 4;
        const __m256 own = load8(v + 2 * j, 2 * pairs), other = _mm256_permute_ps(own, 0xb1);
        const __m256 c = _mm256_permutevar8x32_ps(_mm256_maskload_ps(cos_t + j, lanes8(pairs)), twice);
        const __m256 s = _mm256_permutevar8x32_ps(_mm256_maskload_ps(sin_t + j, lanes8(pairs)), twice);

        store8(v + 2 * j, 2 * pairs, _mm256_fmaddsub_ps(own, c, _mm256_mul_ps(other, s)));
    }
}
