/* SPDX-License-Identifier: MIT
 * Rotary position embedding of one head, 4 pairs at a time. */
#include "kernels/neon.h"

void f32_rope_neox_neon(float *v, const float *cos_t, const float *sin_t, size_t h)
{
    for (size_t j = 0; j < h; j += 4) {
        const size_t left = h - j;
        const float32x4_t a = load4(v + j, left), b = load4(v + h + j, left);
        const float32x4_t c = load4(cos_t + j, left), s = load4(sin_t + j, left);

        store4(v + j, left, vfmsq_f32(vmulq_f32(a, c), b, s));
        store4(v + h + j, left, vfmaq_f32(vmulq_f32(a, s), b, c));
    }
}

/* Loads and stores that take pairs apart and put them together again leave the same work as above. */
void f32_rope_norm_neon(float *v, const float *cos_t, const float *sin_t, size_t h)
{
    for (size_t j = 0; j < h; j += 4) {
        const size_t left = h - j < 4 ? h - j : 4;
        const float32x4_t c = load4(cos_t + j, left), s = load4(sin_t + j, left);
        float partial[8] = {0}, *pairs = left < 4 ? partial : v + 2 * j;
        float32x4x2_t old, new;

        if (left < 4)
            memcpy(partial, v + 2 * j, 2 * left * sizeof *v);
        old = vld2q_f32(pairs);
        new.val[0] = vfmsq_f32(vmulq_f32(old.val[0], c), old.val[1], s);
        new.val[1] = vfmaq_f32(vmulq_f32(old.val[0], s), old.val[1], c);
        vst2q_f32(pairs, new);
        if (left < 4)
            memcpy(v + 2 * j, partial, 2 * left * sizeof *v);
    }
}
