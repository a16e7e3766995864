/* SPDX-License-Identifier: MIT
 * Products of screening codes with dot products. */
#include "kernels/dot_dotprod.h"
#include "kernels/screen_arm.h"

void screen_high_gemv_dotprod(const uint8_t *high, const int8_t *x, const float *scale, float center,
                              float unit, float *y, size_t n_tiles, size_t k)
{
    high_gemv(high, x, scale, center, unit, y, n_tiles, k);
}

void screen_mid_gemv_dotprod(const uint8_t *mid, const int8_t *x, int32_t x_sum, const float *scale,
                             float unit, float *y, const uint32_t *ids, size_t n_ids, size_t k)
{
    mid_gemv(mid, x, x_sum, scale, unit, y, ids, n_ids, k);
}

void screen_low_gemv_dotprod(const uint8_t *low, const int8_t *x, int32_t x_sum, const float *scale,
                             float unit, float *y, const uint32_t *ids, size_t n_ids, size_t k)
{
    low_gemv(low, x, x_sum, scale, unit, y, ids, n_ids, k);
}
