/* SPDX-License-Identifier: MIT
 * Attention of one head over a cache in F16, the definition. */
#include "kernels/half.h"
#include "kernels/isa.h"

void f16_attn_scores_c(const float *q, const uint16_t *k, size_t stride, float *s, size_t n_pos, size_t d,
                       float scale)
{
    for (size_t p = 0; p < n_pos; p++, k += stride) {
        float part[16] = {0}, sum = 0.0f;

        for (size_t i = 0; i < d; i++)
            part[i % 16] += q[i] * float_from_f16(k[i]);
        for (size_t j = 0; j < 16; j++)
            sum += part[j];
        s[p] = sum * scale;
    }
}

/* Eight positions at a time, so that the rounding errors grow with n_pos / 8. */
void f16_attn_values_c(const float *a, const uint16_t *v, size_t stride, float *out, size_t n_pos, size_t d)
{
    for (size_t i = 0; i < d; i++)
        out[i] = 0.0f;
    for (size_t p = 0; p < n_pos; p += 8) {
        size_t n = n_pos - p < 8 ? n_pos - p : 8;

        for (size_t i = 0; i < d; i++) {
            float sum = 0.0f;

            for (size_t j = 0; j < n; j++)
                sum += a[p + j] * float_from_f16(v[(p + j) * stride + i]);
            out[i] += sum;
        }
    }
}
