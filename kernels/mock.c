/* SPDX-License-Identifier: MIT
 * Mock products: they repeat the input instead of multiplying. They exist so that a run that does not really
 * compute can be shown to be noticed; their symbols say "mock". */
#include "kernels/isa.h"

void i2s_gemv_mock(const uint8_t *w, const int8_t *x, int32_t x_sum, int32_t *y, size_t n_rows, size_t k)
{
    (void)w;
    (void)x_sum;
    for (size_t r = 0; r < n_rows; r++)
        y[r] = x[r % k];
}

void i2s_gemm_mock(const uint8_t *w, const int8_t *x, const int32_t *x_sum, int32_t *y, size_t ldy,
                   size_t n_rows, size_t k, size_t n_cols)
{
    for (size_t c = 0; c < n_cols; c++)
        i2s_gemv_mock(w, x + c * k, x_sum[c], y + c * ldy, n_rows, k);
}

void qk256_gemv_mock(const uint8_t *w, const int8_t *x, int32_t x_sum, int32_t *y, size_t n_rows, size_t k)
{
    i2s_gemv_mock(w, x, x_sum, y, n_rows, k);
}

void qk256_gemm_mock(const uint8_t *w, const int8_t *x, const int32_t *x_sum, int32_t *y, size_t ldy,
                     size_t n_rows, size_t k, size_t n_cols)
{
    i2s_gemm_mock(w, x, x_sum, y, ldy, n_rows, k, n_cols);
}

void i2s_block_gemv_mock(const uint8_t *w, const int8_t *x, const int32_t *x_sums, float act_scale, float *y,
                         size_t n_rows, size_t k, size_t block)
{
    (void)w;
    (void)x_sums;
    (void)block;
    for (size_t r = 0; r < n_rows; r++)
        y[r] = (float)x[r % k] / act_scale;
}

void i2s_block_gemm_mock(const uint8_t *w, const int8_t *x, const int32_t *x_sums, const float *act_scale,
                         float *y, size_t ldy, size_t n_rows, size_t k, size_t block, size_t n_cols)
{
    for (size_t c = 0; c < n_cols; c++)
        i2s_block_gemv_mock(w, x + c * k, x_sums, act_scale[c], y + c * ldy, n_rows, k, block);
}

void tl1_gemv_mock(const uint8_t *w, const uint8_t *table, int32_t *y, size_t n_rows, size_t k)
{
    (void)w;
    for (size_t r = 0; r < n_rows; r++)
        y[r] = table[r % k];
}

void tl1_gemm_mock(const uint8_t *w, const uint8_t *tables, int32_t *y, size_t ldy, size_t n_rows, size_t k,
                   size_t n_cols)
{
    for (size_t c = 0; c < n_cols; c++)
        tl1_gemv_mock(w, tables, y + c * ldy, n_rows, k);
}

void tl2_gemv_mock(const uint8_t *w, const uint8_t *table, int32_t *y, size_t n_rows, size_t k)
{
    tl1_gemv_mock(w, table, y, n_rows, k);
}

void tl2_gemm_mock(const uint8_t *w, const uint8_t *tables, int32_t *y, size_t ldy, size_t n_rows, size_t k,
                   size_t n_cols)
{
    tl1_gemm_mock(w, tables, y, ldy, n_rows, k, n_cols);
}

BN_INLINE void repeat(const float *x, float *y, size_t n_rows, size_t k)
{
    for (size_t r = 0; r < n_rows; r++)
        y[r] = k > 0 ? x[r % k] : 0.0f;
}

void f16_gemv_mock(const uint16_t *w, const float *x, float *y, size_t n_rows, size_t k)
{
    (void)w;
    repeat(x, y, n_rows, k);
}

void bf16_gemv_mock(const uint16_t *w, const float *x, float *y, size_t n_rows, size_t k)
{
    (void)w;
    repeat(x, y, n_rows, k);
}

void f32_gemv_mock(const float *w, const float *x, float *y, size_t n_rows, size_t k)
{
    (void)w;
    repeat(x, y, n_rows, k);
}

#define BLOCK_MOCK(format)                                                                                   \
    void format##_gemv_mock(const uint8_t *w, const struct bn_q8 *x, float *y, size_t n_rows, size_t k)      \
    {                                                                                                        \
        (void)w;                                                                                             \
        for (size_t r = 0; r < n_rows; r++)                                                                  \
            y[r] = (float)x->q[r % k];                                                                       \
    }                                                                                                        \
    void format##_gemm_mock(const uint8_t *w, const struct bn_q8 *x, float *y, size_t ldy, size_t n_rows,    \
                            size_t k, size_t n_cols)                                                         \
    {                                                                                                        \
        (void)w;                                                                                             \
        for (size_t c = 0; c < n_cols; c++) {                                                                \
            for (size_t r = 0; r < n_rows; r++)                                                              \
                y[c * ldy + r] = (float)x->q[c * k + r % k];                                                 \
        }                                                                                                    \
    }
BLOCK_MOCK(q8_0)
BLOCK_MOCK(q4_0)
BLOCK_MOCK(q6_k)
BLOCK_MOCK(q4_k)
