/* SPDX-License-Identifier: MIT
 * Plain products with 16- and 32-bit float weights, and the conversions, 16 at a time. */
#include "kernels/avx512.h"

enum weight_type { F16, BF16, F32 };

enum {
    TILE_ROWS = 4, /* rows that share the loaded activations; enough sums to hide an addition's latency */
    AHEAD_BYTES = 1024, /* how far a row is fetched ahead */
};

BN_INLINE __m512 load16(const void *w, size_t i, __mmask16 lanes, enum weight_type type)
{
    switch (type) {
    case F16:
        return load_f16x16((const uint16_t *)w + i, lanes);
    case BF16: {
        __m512i v = _mm512_cvtepu16_epi32(_mm256_maskz_loadu_epi16(lanes, (const uint16_t *)w + i));

        return _mm512_castsi512_ps(_mm512_slli_epi32(v, 16));
    }
    default:
        return _mm512_maskz_loadu_ps(lanes, (const float *)w + i);
    }
}

/* A row's sum is built in the same order however many rows are done together, so that results do not depend
 * on how rows are shared out. */
BN_INLINE void gemv_rows(const void *w, size_t first, const float *x, float *y, size_t k,
                         enum weight_type type, const size_t n_rows)
{
    const size_t weight_bytes = type == F32 ? 4 : 2;
    __m512 sum[TILE_ROWS];
    size_t i = 0;

    BN_UNROLL
    for (size_t r = 0; r < n_rows; r++)
        sum[r] = _mm512_setzero_ps();
    for (; i + 16 <= k; i += 16) {
        const __m512 xi = _mm512_loadu_ps(x + i);

        BN_UNROLL
        for (size_t r = 0; r < n_rows; r++) {
            size_t at = (first + r) * k + i;

            _mm_prefetch((const char *)w + at * weight_bytes + AHEAD_BYTES, _MM_HINT_T0);
            sum[r] = _mm512_fmadd_ps(load16(w, at, 0xffff, type), xi, sum[r]);
        }
    }
    if (i < k) {
        const __mmask16 lanes = lanes16(k - i);
        const __m512 xi = _mm512_maskz_loadu_ps(lanes, x + i);

        BN_UNROLL
        for (size_t r = 0; r < n_rows; r++)
            sum[r] = _mm512_fmadd_ps(load16(w, (first + r) * k + i, lanes, type), xi, sum[r]);
    }
    BN_UNROLL
    for (size_t r = 0; r < n_rows; r++)
        y[first + r] = _mm512_reduce_add_ps(sum[r]);
}

BN_INLINE void gemv(const void *w, const float *x, float *y, size_t n_rows, size_t k, enum weight_type type)
{
    size_t r = 0;

    for (; r + TILE_ROWS <= n_rows; r += TILE_ROWS)
        gemv_rows(w, r, x, y, k, type, TILE_ROWS);
    for (; r < n_rows; r++)
        gemv_rows(w, r, x, y, k, type, 1);
}

void f16_gemv_avx512(const uint16_t *w, const float *x, float *y, size_t n_rows, size_t k)
{
    gemv(w, x, y, n_rows, k, F16);
}

void bf16_gemv_avx512(const uint16_t *w, const float *x, float *y, size_t n_rows, size_t k)
{
    gemv(w, x, y, n_rows, k, BF16);
}

void f32_gemv_avx512(const float *w, const float *x, float *y, size_t n_rows, size_t k)
{
    gemv(w, x, y, n_rows, k, F32);
}

/* Only the last vectors need masks: making one takes longer than converting. */
void f16_to_f32_avx512(const uint16_t *x, float *y, size_t n)
{
    size_t i = 0;

    for (; i + 32 <= n; i += 32) {
        _mm512_storeu_ps(y + i, _mm512_cvtph_ps(_mm256_loadu_si256((const void *)(x + i))));
        _mm512_storeu_ps(y + i + 16, _mm512_cvtph_ps(_mm256_loadu_si256((const void *)(x + i + 16))));
    }
    for (; i < n; i += 16) {
        __mmask16 lanes = lanes16(n - i);

        _mm512_mask_storeu_ps(y + i, lanes, load_f16x16(x + i, lanes));
    }
}

void f32_to_f16_avx512(const float *x, uint16_t *y, size_t n)
{
    for (size_t i = 0; i < n; i += 16) {
        __mmask16 lanes = lanes16(n - i);
        __m512 v = _mm512_maskz_loadu_ps(lanes, x + i);

        _mm256_mask_storeu_epi16(y + i, lanes, _mm512_cvtps_ph(v, _MM_FROUND_TO_NEAREST_INT));
    }
}

void bf16_to_f32_avx512(const uint16_t *x, float *y, size_t n)
{
    for (size_t i = 0; i < n; i += 16) {
        __mmask16 lanes = lanes16(n - i);

        _mm512_mask_storeu_ps(y + i, lanes, load16(x, i, lanes, BF16));
    }
}
