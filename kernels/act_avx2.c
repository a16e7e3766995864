/* SPDX-License-Identifier: MIT
 * Activations to int8 and the way back, 8 at a time. */
#include "kernels/act.h"
#include "kernels/avx2.h"

/* Eight int32 within int8's range to the first `left` of 8 bytes. */
BN_INLINE void store8_bytes(int8_t *p, size_t left, __m256i v)
{
    __m128i words = _mm_packs_epi32(_mm256_castsi256_si128(v), _mm256_extracti128_si256(v, 1));
    int8_t bytes[16];

    words = _mm_packs_epi16(words, words);
    if (left >= 8) {
        _mm_storel_epi64((__m128i *)(void *)p, words);
        return;
    }
    _mm_storeu_si128((__m128i *)(void *)bytes, words);
    memcpy(p, bytes, left);
}

/* Store eight values times scale, or the `left` that there still are, as codes, and return them. */
BN_INLINE __m256i quantize8(__m256 x, __m256 scale, int8_t *q, size_t left)
{
    __m256 v = _mm256_mul_ps(x, scale);
    __m256i whole;

    v = _mm256_min_ps(_mm256_max_ps(v, _mm256_set1_ps(-128.0f)), _mm256_set1_ps(127.0f));
    v = _mm256_round_ps(v, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC);
    whole = _mm256_cvtps_epi32(v);
    store8_bytes(q, left, whole);
    return whole;
}

BN_INLINE __m256 normed(const float *x, const float *g, __m256 r, size_t i, size_t left)
{
    return _mm256_mul_ps(_mm256_mul_ps(load8(x + i, left), r), load8(g + i, left));
}

struct bn_act i8_quantize_avx2(const float *x, int8_t *q, size_t n)
{
    __m256 max = _mm256_setzero_ps(), scale;
    __m256i sum = _mm256_setzero_si256();
    struct bn_act act;

    for (size_t i = 0; i < n; i += 8)
        max = _mm256_max_ps(abs8(load8(x + i, n - i)), max);
    act.scale = act_scale(max8(max));
    scale = _mm256_set1_ps(act.scale);
    for (size_t i = 0; i < n; i += 8) {
        sum = _mm256_add_epi32(sum, quantize8(load8(x + i, n - i), scale, q + i, n - i));
    }
    act.sum = sum8_int(sum);
    return act;
}

struct bn_act i8_rmsnorm_avx2(const float *x, const float *g, int8_t *q, size_t n, float eps)
{
    const __m256 r = norm_factor(x, n, eps);
    __m256 max = _mm256_setzero_ps(), scale;
    __m256i sum = _mm256_setzero_si256();
    struct bn_act act;

    for (size_t i = 0; i < n; i += 8)
        max = _mm256_max_ps(abs8(normed(x, g, r, i, n - i)), max);
    act.scale = act_scale(max8(max));
    scale = _mm256_set1_ps(act.scale);
    for (size_t i = 0; i < n; i += 8)
        sum = _mm256_add_epi32(sum, quantize8(normed(x, g, r, i, n - i), scale, q + i, n - i));
    act.sum = sum8_int(sum);
    return act;
}

/* y / a, rounded as the division rounds it; see has_exact_quotients. */
BN_INLINE __m256 quotient(__m256 y, __m256 a, __m256 reciprocal)
{
    __m256 q = _mm256_mul_ps(y, reciprocal);

    q = _mm256_fmadd_ps(_mm256_fnmadd_ps(q, a, y), reciprocal, q);
    return _mm256_fmadd_ps(_mm256_fnmadd_ps(q, a, y), reciprocal, q);
}

void i32_scale_avx2(const int32_t *y, float *out, float a_scale, float w_scale, size_t n)
{
    const __m256 a = _mm256_set1_ps(a_scale), w = _mm256_set1_ps(w_scale);
    const __m256 reciprocal = _mm256_set1_ps(1.0f / a_scale);
    size_t i = 0;

    for (; i + 8 <= n && has_exact_quotients(a_scale); i += 8) {
        __m256 v = _mm256_cvtepi32_ps(_mm256_loadu_si256((const __m256i *)(const void *)(y + i)));

        _mm256_storeu_ps(out + i, _mm256_mul_ps(quotient(v, a, reciprocal), w));
    }
    for (; i < n; i++)
        out[i] = (float)y[i] / a_scale * w_scale;
}
