/* SPDX-License-Identifier: MIT
 * Activations for the formats with blocks of 256 values, the definition. */
#include "kernels/q8_k.h"

void q8_k_quantize_c(const float *x, const struct bn_q8 *out, size_t n)
{
    for (size_t b = 0; b < n / BN_BLOCK_K; b++, x += BN_BLOCK_K) {
        float to_code = q8_k_factor(largest(x, BN_BLOCK_K));

        out->d[b] = q8_k_scale(to_code);
        for (size_t i = 0; i < BN_BLOCK_K; i += 16) {
            int sum = 0;

            for (size_t j = i; j < i + 16; j++) {
                int q = nearest(x[j] * to_code);
                out->q[b * BN_BLOCK_K + j] = (int8_t)q;
                sum += q;
            }
            out->sum[(b * BN_BLOCK_K + i) / 16] = (int16_t)sum;
        }
    }
}
