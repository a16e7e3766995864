/* SPDX-License-Identifier: MIT
 * Private to kernels/, for the _neon files: partial vectors, halves, sums across lanes, exp. */
#ifndef KERNELS_NEON_H
#define KERNELS_NEON_H

#include "kernels/isa.h"

#include <arm_neon.h>
#include <math.h>
#include <string.h>

/* Four values, or the `left` that there still are and zeros; memory behind them is not touched. */
BN_INLINE float32x4_t load4(const float *p, size_t left)
{
    float partial[4] = {0};

    if (left >= 4)
        return vld1q_f32(p);
    memcpy(partial, p, left * sizeof *p);
    return vld1q_f32(partial);
}

BN_INLINE void store4(float *p, size_t left, float32x4_t v)
{
    float partial[4];

    if (left >= 4) {
        vst1q_f32(p, v);
        return;
    }
    vst1q_f32(partial, v);
    memcpy(p, partial, left * sizeof *p);
}

/* The same for 16-bit values. */
BN_INLINE uint16x4_t load4_16bit(const uint16_t *p, size_t left)
{
    uint16_t partial[4] = {0};

    if (left >= 4)
        return vld1_u16(p);
    memcpy(partial, p, left * sizeof *p);
    return vld1_u16(partial);
}

BN_INLINE void store4_16bit(uint16_t *p, size_t left, uint16x4_t v)
{
    uint16_t partial[4];

    if (left >= 4) {
        vst1_u16(p, v);
        return;
    }
    vst1_u16(partial, v);
    memcpy(p, partial, left * sizeof *p);
}

BN_INLINE float32x4_t floats_of_f16(uint16x4_t v)
{
    return vcvt_f32_f16(vreinterpret_f16_u16(v));
}

BN_INLINE float32x4_t floats_of_bf16(uint16x4_t v)
{
    return vreinterpretq_f32_u32(vshll_n_u16(v, 16));
}

BN_INLINE float64x2_t low_double(float32x4_t v)
{
    return vcvt_f64_f32(vget_low_f32(v));
}

/* 1 / sqrtf((float)(sum x^2 / n) + eps) in every lane, the sum in double. */
BN_INLINE float32x4_t norm_factor(const float *x, size_t n, float eps)
{
    float64x2_t low = vdupq_n_f64(0.0), high = low;

    for (size_t i = 0; i < n; i += 4) {
        const float32x4_t v = load4(x + i, n - i);
        const float64x2_t a = low_double(v), b = vcvt_high_f64_f32(v);

        low = vfmaq_f64(low, a, a);
        high = vfmaq_f64(high, b, b);
    }
    return vdupq_n_f32(1.0f / sqrtf((float)(vaddvq_f64(vaddq_f64(low, high)) / (double)n) + eps));
}

/* 2^n of whole n, -126 <= n <= 127. */
BN_INLINE float32x4_t power_of_two(int32x4_t n)
{
    return vreinterpretq_f32_s32(vshlq_n_s32(vaddq_s32(n, vdupq_n_s32(127)), 23));
}

/* exp(x) for x <= 0, relative error below 2^-21: 2^n times the power series of the rest, |rest| <= ln(2) / 2.
 * 2^n is applied in two halves, because it may be subnormal. */
BN_INLINE float32x4_t exp_negative(float32x4_t x)
{
    const float32x4_t limited = vmaxnmq_f32(x, vdupq_n_f32(-150.0f));
    const float32x4_t n = vrndnq_f32(vmulq_f32(limited, vdupq_n_f32(0x1.715476p+0f))); /* log2(e) */
    const float32x4_t rest = vfmsq_f32(vfmsq_f32(limited, n, vdupq_n_f32(0x1.62e4p-1f)), n,
                                       vdupq_n_f32(0x1.7f7d1cp-20f)); /* ln(2) in two parts */
    const int32x4_t whole = vcvtq_s32_f32(n), half = vshrq_n_s32(whole, 1);
    float32x4_t p = vdupq_n_f32(1.0f / 720);

    p = vfmaq_f32(vdupq_n_f32(1.0f / 120), p, rest);
    p = vfmaq_f32(vdupq_n_f32(1.0f / 24), p, rest);
    p = vfmaq_f32(vdupq_n_f32(1.0f / 6), p, rest);
    p = vfmaq_f32(vdupq_n_f32(0.5f), p, rest);
    p = vfmaq_f32(vdupq_n_f32(1.0f), p, rest);
    p = vfmaq_f32(vdupq_n_f32(1.0f), p, rest);
    return vmulq_f32(vmulq_f32(p, power_of_two(half)), power_of_two(vsubq_s32(whole, half)));
}

#endif
