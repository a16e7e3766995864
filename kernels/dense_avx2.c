/* SPDX-License-Identifier: MIT
 * Plain products with 16- and 32-bit float weights, and the conversions, 8 at a time. */
#include "kernels/avx2.h"

enum weight_type { F16, BF16, F32 };

enum {
    TILE_ROWS = 4,      /* rows that share the loaded activations */
    AHEAD_BYTES = 1024, /* how far a row is fetched ahead */
};

BN_INLINE __m256 load_weights(const void *w, size_t i, size_t left, enum weight_type type)
{
    switch (type) {
    case F16:
        return load8_f16((const uint16_t *)w + i, left);
    case BF16: {
        __m256i v = _mm256_cvtepu16_epi32(load8_16bit((const uint16_t *)w + i, left));

        return _mm256_castsi256_ps(_mm256_slli_epi32(v, 16));
    }
    default:
        return load8((const float *)w + i, left);
    }
}

/* A row's sum is built in the same order however many rows are done together, so that results do not depend
 * on how rows are shared out. Two partial sums a row hide the latency of an addition. */
BN_INLINE void gemv_rows(const void *w, size_t first, const float *x, float *y, size_t k,
                         enum weight_type type, const size_t n_rows)
{
    const size_t weight_bytes = type == F32 ? 4 : 2;
    __m256 even[TILE_ROWS], odd[TILE_ROWS];
    size_t i = 0;

    BN_UNROLL
    for (size_t r = 0; r < n_rows; r++)
        even[r] = odd[r] = _mm256_setzero_ps();
    for (; i + 16 <= k; i += 16) {
        const __m256 x0 = _mm256_loadu_ps(x + i), x1 = _mm256_loadu_ps(x + i + 8);

        BN_UNROLL
        for (size_t r = 0; r < n_rows; r++) {
            size_t at = (first + r) * k + i;

            _mm_prefetch((const char *)w + at * weight_bytes + AHEAD_BYTES, _MM_HINT_T0);
            even[r] = _mm256_fmadd_ps(load_weights(w, at, 8, type), x0, even[r]);
            odd[r] = _mm256_fmadd_ps(load_weights(w, at + 8, 8, type), x1, odd[r]);
        }
    }
    for (; i < k; i += 8) {
        const __m256 xi = load8(x + i, k - i);

        BN_UNROLL
        for (size_t r = 0; r < n_rows; r++)
            even[r] = _mm256_fmadd_ps(load_weights(w, (first + r) * k + i, k - i, type), xi, even[r]);
    }
    BN_UNROLL
    for (size_t r = 0; r < n_rows; r++)
        y[first + r] = sum8(_mm256_add_ps(even[r], odd[r]));
}

BN_INLINE void gemv(const void *w, const float *x, float *y, size_t n_rows, size_t k, enum weight_type type)
{
    size_t r = 0;

    for (; r + TILE_ROWS <= n_rows; r += TILE_ROWS)
        gemv_rows(w, r, x, y, k, type, TILE_ROWS);
    for (; r < n_rows; r++)
        gemv_rows(w, r, x, y, k, type, 1);
}

void f16_gemv_avx2(const uint16_t *w, const float *x, float *y, size_t n_rows, size_t k)
{
    gemv(w, x, y, n_rows, k, F16);
}

void bf16_gemv_avx2(const uint16_t *w, const float *x, float *y, size_t n_rows, size_t k)
{
    gemv(w, x, y, n_rows, k, BF16);
}

void f32_gemv_avx2(const float *w, const float *x, float *y, size_t n_rows, size_t k)
{
    gemv(w, x, y, n_rows, k, F32);
}

void f16_to_f32_avx2(const uint16_t *x, float *y, size_t n)
{
    for (size_t i = 0; i < n; i += 8)
        store8(y + i, n - i, load_weights(x, i, n - i, F16));
}

void f32_to_f16_avx2(const float *x, uint16_t *y, size_t n)
{
    for (size_t i = 0; i < n; i += 8) {
        __m128i halves = _mm256_cvtps_ph(load8(x + i, n - i), _MM_FROUND_TO_NEAREST_INT);
        uint16_t partial[8];

        if (n - i >= 8) {
            _mm_storeu_si128((__m128i *)(void *)(y + i), halves);
        } else {
            _mm_storeu_si128((__m128i *)(void *)partial, halves);
            memcpy(y + i, partial, (n - i) * sizeof *y);
        }
    }
}

void bf16_to_f32_avx2(const uint16_t *x, float *y, size_t n)
{
    for (size_t i = 0; i < n; i += 8)
        store8(y + i, n - i, load_weights(x, i, n - i, BF16));
}
