/* SPDX-License-Identifier: MIT
 * Plain products with 16- and 32-bit float weights, and the conversions, 4 at a time. */
#include "kernels/neon.h"

enum weight_type { F16, BF16, F32 };

enum {
    TILE_ROWS = 4,      /* rows that share the loaded activations */
    STEP = 16,          /* values of a row between two prefetches */
    AHEAD_BYTES = 1024, /* how far a row is fetched ahead */
};

BN_INLINE float32x4_t load_weights(const void *w, size_t i, size_t left, enum weight_type type)
{
    switch (type) {
    case F16:
        return floats_of_f16(load4_16bit((const uint16_t *)w + i, left));
    case BF16:
        return floats_of_bf16(load4_16bit((const uint16_t *)w + i, left));
    default:
        return load4((const float *)w + i, left);
    }
}

/* A row's sum is built in the same order however many rows are done together, so that results do not depend
 * on how rows are shared out. Two partial sums a row hide the latency of an addition and keep the rounding
 * errors of a row to those of k / 8 additions. */
BN_INLINE void gemv_rows(const void *w, size_t first, const float *x, float *y, size_t k,
                         enum weight_type type, const size_t n_rows)
{
    const size_t weight_bytes = type == F32 ? 4 : 2;
    float32x4_t even[TILE_ROWS], odd[TILE_ROWS];
    size_t i = 0;

    BN_UNROLL
    for (size_t r = 0; r < n_rows; r++)
        even[r] = odd[r] = vdupq_n_f32(0.0f);
    for (; i + STEP <= k; i += STEP) {
        const float32x4_t x0 = vld1q_f32(x + i), x1 = vld1q_f32(x + i + 4);
        const float32x4_t x2 = vld1q_f32(x + i + 8), x3 = vld1q_f32(x + i + 12);

        BN_UNROLL
        for (size_t r = 0; r < n_rows; r++) {
            const size_t at = (first + r) * k + i;

            __builtin_prefetch((const char *)w + at * weight_bytes + AHEAD_BYTES);
            even[r] = vfmaq_f32(even[r], load_weights(w, at, 4, type), x0);
            odd[r] = vfmaq_f32(odd[r], load_weights(w, at + 4, 4, type), x1);
            even[r] = vfmaq_f32(even[r], load_weights(w, at + 8, 4, type), x2);
            odd[r] = vfmaq_f32(odd[r], load_weights(w, at + 12, 4, type), x3);
        }
    }
    for (; i < k; i += 4) {
        const float32x4_t xi = load4(x + i, k - i);

        BN_UNROLL
        for (size_t r = 0; r < n_rows; r++)
            even[r] = vfmaq_f32(even[r], load_weights(w, (first + r) * k + i, k - i, type), xi);
    }
    BN_UNROLL
    for (size_t r = 0; r < n_rows; r++)
        y[first + r] = vaddvq_f32(vaddq_f32(even[r], odd[r]));
}

BN_INLINE void gemv(const void *w, const float *x, float *y, size_t n_rows, size_t k, enum weight_type type)
{
    size_t r = 0;

    for (; r + TILE_ROWS <= n_rows; r += TILE_ROWS)
        gemv_rows(w, r, x, y, k, type, TILE_ROWS);
    for (; r < n_rows; r++)
        gemv_rows(w, r, x, y, k, type, 1);
}

void f16_gemv_neon(const uint16_t *w, const float *x, float *y, size_t n_rows, size_t k)
{
    gemv(w, x, y, n_rows, k, F16);
}

void bf16_gemv_neon(const uint16_t *w, const float *x, float *y, size_t n_rows, size_t k)
{
    gemv(w, x, y, n_rows, k, BF16);
}

void f32_gemv_neon(const float *w, const float *x, float *y, size_t n_rows, size_t k)
{
    gemv(w, x, y, n_rows, k, F32);
}

void f16_to_f32_neon(const uint16_t *x, float *y, size_t n)
{
    for (size_t i = 0; i < n; i += 4)
        store4(y + i, n - i, load_weights(x, i, n - i, F16));
}

void f32_to_f16_neon(const float *x, uint16_t *y, size_t n)
{
    for (size_t i = 0; i < n; i += 4)
        store4_16bit(y + i, n - i, vreinterpret_u16_f16(vcvt_f16_f32(load4(x + i, n - i))));
}

void bf16_to_f32_neon(const uint16_t *x, float *y, size_t n)
{
    for (size_t i = 0; i < n; i += 4)
        store4(y + i, n - i, load_weights(x, i, n - i, BF16));
}
