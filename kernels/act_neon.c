/* SPDX-License-Identifier: MIT
 * Activations to int8 and the way back, 4 at a time. */
#include "kernels/act.h"
#include "kernels/neon.h"

/* Nearest whole numbers, half to even, in int16; what does not fit becomes the limit. */
BN_INLINE int16x4_t whole4(float32x4_t v)
{
    return vqmovn_s32(vcvtnq_s32_f32(v));
}

/* Store four values times scale, or the `left` that there still are, as codes, and return sum plus them. */
BN_INLINE int32x4_t quantize4(int32x4_t sum, float32x4_t x, float32x4_t scale, int8_t *q, size_t left)
{
    const int16x4_t whole = whole4(vmulq_f32(x, scale));
    const int8x8_t codes = vqmovn_s16(vcombine_s16(whole, whole));
    const int32_t four = vget_lane_s32(vreinterpret_s32_s8(codes), 0);

    if (left >= 4)
        memcpy(q, &four, sizeof four);
    else
        memcpy(q, &four, left); /* the low byte is the first */
    return vaddw_s16(sum, vget_low_s16(vmovl_s8(codes)));
}

struct bn_act i8_quantize_neon(const float *x, int8_t *q, size_t n)
{
    float32x4_t max = vdupq_n_f32(0.0f), scale;
    int32x4_t sum = vdupq_n_s32(0);
    struct bn_act act;

    for (size_t i = 0; i < n; i += 4)
        max = vmaxnmq_f32(vabsq_f32(load4(x + i, n - i)), max);
    act.scale = act_scale(vmaxnmvq_f32(max));
    scale = vdupq_n_f32(act.scale);
    for (size_t i = 0; i < n; i += 4)
        sum = quantize4(sum, load4(x + i, n - i), scale, q + i, n - i);
    act.sum = vaddvq_s32(sum);
    return act;
}

BN_INLINE float32x4_t normed(const float *x, const float *g, float32x4_t r, size_t i, size_t left)
{
    return vmulq_f32(vmulq_f32(load4(x + i, left), r), load4(g + i, left));
}

struct bn_act i8_rmsnorm_neon(const float *x, const float *g, int8_t *q, size_t n, float eps)
{
    const float32x4_t r = norm_factor(x, n, eps);
    float32x4_t max = vdupq_n_f32(0.0f), scale;
    int32x4_t sum = vdupq_n_s32(0);
    struct bn_act act;

    for (size_t i = 0; i < n; i += 4)
        max = vmaxnmq_f32(vabsq_f32(normed(x, g, r, i, n - i)), max);
    act.scale = act_scale(vmaxnmvq_f32(max));
    scale = vdupq_n_f32(act.scale);
    for (size_t i = 0; i < n; i += 4)
        sum = quantize4(sum, normed(x, g, r, i, n - i), scale, q + i, n - i);
    act.sum = vaddvq_s32(sum);
    return act;
}

void i32_scale_neon(const int32_t *y, float *out, float a_scale, float w_scale, size_t n)
{
    const float32x4_t a = vdupq_n_f32(a_scale), w = vdupq_n_f32(w_scale);
    size_t i = 0;

    for (; i + 4 <= n; i += 4)
        vst1q_f32(out + i, vmulq_f32(vdivq_f32(vcvtq_f32_s32(vld1q_s32(y + i)), a), w));
    for (; i < n; i++)
        out[i] = (float)y[i] / a_scale * w_scale;
}
