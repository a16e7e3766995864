/* SPDX-License-Identifier: MIT
 * Rotary position embedding of one head, the definition. */
#include "kernels/isa.h"

void f32_rope_neox_c(float *v, const float *cos_t, const float *sin_t, size_t h)
{
    for (size_t j = 0; j < h; j++) {
        float a = v[j], b = v[j + h];

        v[j] = a * cos_t[j] - b * sin_t[j];
        v[j + h] = a * sin_t[j] + b * cos_t[j];
    }
}

void f32_rope_norm_c(float *v, const float *cos_t, const float *sin_t, size_t h)
{
    for (size_t j = 0; j < h; j++) {
        float a = v[2 * j], b = v[2 * j + 1];

        v[2 * j] = a * cos_t[j] - b * sin_t[j];
        v[2 * j + 1] = a * sin_t[j] + b * cos_t[j];
    }
}
