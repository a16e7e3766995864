/* SPDX-License-Identifier: MIT
 * Plain products with 16- and 32-bit float weights, and the conversions, the definition. */
#include "kernels/half.h"
#include "kernels/isa.h"

enum weight_type { F16, BF16, F32 };

BN_INLINE float weight(const void *w, size_t i, enum weight_type type)
{
    switch (type) {
    case F16:
        return float_from_f16(((const uint16_t *)w)[i]);
    case BF16:
        return float_from_bf16(((const uint16_t *)w)[i]);
    default:
        return ((const float *)w)[i];
    }
}

/* 16 partial sums keep the rounding errors of long rows apart. */
BN_INLINE void gemv(const void *w, const float *x, float *y, size_t n_rows, size_t k, enum weight_type type)
{
    for (size_t r = 0; r < n_rows; r++) {
        float part[16] = {0}, sum = 0.0f;
        size_t i = 0, row = r * k;

        for (; i + 16 <= k; i += 16) {
            for (size_t j = 0; j < 16; j++)
                part[j] += weight(w, row + i + j, type) * x[i + j];
        }
        for (size_t j = 0; i + j < k; j++)
            part[j] += weight(w, row + i + j, type) * x[i + j];
        for (size_t j = 0; j < 16; j++)
            sum += part[j];
        y[r] = sum;
    }
}

void f16_gemv_c(const uint16_t *w, const float *x, float *y, size_t n_rows, size_t k)
{
    gemv(w, x, y, n_rows, k, F16);
}

void bf16_gemv_c(const uint16_t *w, const float *x, float *y, size_t n_rows, size_t k)
{
    gemv(w, x, y, n_rows, k, BF16);
}

void f32_gemv_c(const float *w, const float *x, float *y, size_t n_rows, size_t k)
{
    gemv(w, x, y, n_rows, k, F32);
}

void f16_to_f32_c(const uint16_t *x, float *y, size_t n)
{
    for (size_t i = 0; i < n; i++)
        y[i] = float_from_f16(x[i]);
}

void f32_to_f16_c(const float *x, uint16_t *y, size_t n)
{
    for (size_t i = 0; i < n; i++)
        y[i] = f16_from_float(x[i]);
}

void bf16_to_f32_c(const uint16_t *x, float *y, size_t n)
{
    for (size_t i = 0; i < n; i++)
        y[i] = float_from_bf16(x[i]);
}
