/* SPDX-License-Identifier: MIT
 * Attention of a few queries over a cache in int8, the definition. */
#include "kernels/attn.h"
#include "kernels/isa.h"

#include <math.h>

void i8_attn_scores_c(const int8_t *q, const float *q_scale, const int32_t *q_sum, size_t n_q,
                      const uint8_t *k, const float *k_scale, float *s, size_t lds, size_t n_tiles, size_t d)
{
    size_t n_fours = (d + 3) / 4;

    for (size_t p = 0; p < n_tiles * BN_ATTN_TILE; p++) {
        const uint8_t *key = k + (p / BN_ATTN_TILE * n_fours * BN_ATTN_TILE + p % BN_ATTN_TILE) * 4;

        for (size_t j = 0; j < n_q; j++) {
            uint32_t sum = 0; /* wraps around on the way; the result fits */

            for (size_t i = 0; i < n_fours * 4; i++)
                sum += (uint32_t)(q[(i / 4 * BN_ATTN_QUERIES + j) * 4 + i % 4] *
                                  key[i / 4 * BN_ATTN_TILE * 4 + i % 4]);
            s[j * lds + p] = (float)(int32_t)(sum - 128 * (uint32_t)q_sum[j]) * q_scale[j] * k_scale[p];
        }
    }
}

void i8_attn_weights_c(const float *a, float max, int16_t *w, size_t n)
{
    const float to_code = max > BN_ATTN_LEAST_WEIGHT ? 32767.0f / max : 0.0f;

    for (size_t p = 0; p < n; p++)
        w[p] = (int16_t)rintf(a[p] * to_code);
}

void i8_attn_values_c(const int16_t *w, size_t ldw, const float *w_scale, size_t n_q, const int8_t *v,
                      float *out, size_t n_pairs, size_t d)
{
    for (size_t j = 0; j < n_q; j++, w += ldw) {
        for (size_t i = 0; i < d; i++) {
            float total = 0.0f;
            int32_t sum = 0;

            for (size_t p = 0; p < 2 * n_pairs; p++) {
                sum += w[p] * v[(p / 2 * d + i) * 2 + p % 2];
                if ((p + 1) % (2 * BN_ATTN_PAIRS) == 0 || p + 1 == 2 * n_pairs) {
                    total += (float)sum;
                    sum = 0;
                }
            }
            out[j * d + i] = total * w_scale[j];
        }
    }
}
