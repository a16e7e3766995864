/* SPDX-License-Identifier: MIT
 * Activations to int8 and the way back, 8 and 4 at a time. */
#include "kernels/act.h"
#include "kernels/neon.h"

/* Nearest whole numbers, half to even, in int16; what does not fit becomes the limit. */
BN_INLINE int16x4_t whole4(float32x4_t v)
{
    return vqmovn_s32(vcvtnq_s32_f32(v));
}

struct bn_act i8_quantize_neon(const float *x, int8_t *q, size_t n)
{
    float32x4_t max = vdupq_n_f32(0.0f), scale;
    int32x4_t sum = vdupq_n_s32(0);
    struct bn_act act;
    size_t i;

    for (i = 0; i < n; i += 4)
        max = vmaxnmq_f32(vabsq_f32(load4(x + i, n - i)), max);
    act.scale = act_scale(vmaxnmvq_f32(max));
    scale = vdupq_n_f32(act.scale);
    for (i = 0; i + 8 <= n; i += 8) {
        const int16x4_t low = whole4(vmulq_f32(vld1q_f32(x + i), scale));
        const int16x4_t high = whole4(vmulq_f32(vld1q_f32(x + i + 4), scale));
        const int8x8_t bytes = vqmovn_s16(vcombine_s16(low, high));

        vst1_s8(q + i, bytes);
        sum = vpadalq_s16(sum, vmovl_s8(bytes));
    }
    for (; i < n; i += 4) {
        const size_t left = n - i < 4 ? n - i : 4;
        const int8x8_t bytes =
            vqmovn_s16(vcombine_s16(whole4(vmulq_f32(load4(x + i, left), scale)), vdup_n_s16(0)));
        int8_t partial[8];

        vst1_s8(partial, bytes);
        memcpy(q + i, partial, left);
        sum = vpadalq_s16(sum, vmovl_s8(bytes));
    }
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
