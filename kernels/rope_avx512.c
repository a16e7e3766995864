/* SPDX-License-Identifier: MIT
 * Rotary position embedding of one head, 16 pairs (neox) or 8 pairs (norm) at a time. */
#include "kernels/avx512.h"

void f32_rope_neox_avx512(float *v, const float *cos_t, const float *sin_t, size_t h)
{
    for (size_t j = 0; j < h; j += 16) {
        const __mmask16 lanes = lanes16(h - j);
        const __m512 a = _mm512_maskz_loadu_ps(lanes, v + j), b = _mm512_maskz_loadu_ps(lanes, v + h + j);
        const __m512 c = _mm512_maskz_loadu_ps(lanes, cos_t + j), s = _mm512_maskz_loadu_ps(lanes, sin_t + j);

        _mm512_mask_storeu_ps(v + j, lanes, _mm512_fmsub_ps(a, c, _mm512_mul_ps(b, s)));
        _mm512_mask_storeu_ps(v + h + j, lanes, _mm512_fmadd_ps(a, s, _mm512_mul_ps(b, c)));
    }
}

/* Each angle serves two neighbouring lanes; the even lane subtracts its neighbour's term, the odd one adds
 * it. */
void f32_rope_norm_avx512(float *v, const float *cos_t, const float *sin_t, size_t h)
{
    const __m512i twice = _mm512_setr_epi32(0, 0, 1, 1, 2, 2, 3, 3, 4, 4, 5, 5, 6, 6, 7, 7);

    for (size_t j = 0; j < h; j += 8) {
        const __mmask16 lanes = lanes16(2 * (h - j)), angles = lanes16(h - j) & 0xff;
        const __m512 own = _mm512_maskz_loadu_ps(lanes, v + 2 * j);
        const __m512 other = _mm512_permute_ps(own, 0xb1);
        const __m512 c = _mm512_permutexvar_ps(twice, _mm512_maskz_loadu_ps(angles, cos_t + j));
        const __m512 s = _mm512_permutexvar_ps(twice, _mm512_maskz_loadu_ps(angles, sin_t + j));

        _mm512_mask_storeu_ps(v + 2 * j, lanes, _mm512_fmaddsub_ps(own, c, _mm512_mul_ps(other, s)));
    }
}
