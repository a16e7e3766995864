/* SPDX-License-Identifier: MIT
 * Attention of a few queries over a cache in F16, the definition. */
#include "kernels/attn.h"
#include "kernels/half.h"
#include "kernels/isa.h"

#include <string.h>

void f16_attn_scores_c(const float *q, size_t n_q, const uint16_t *k, float *s, size_t lds, size_t n_tiles,
                       size_t d)
{
    for (size_t t = 0; t < n_tiles; t++, s += BN_ATTN_TILE) {
        float sum[BN_ATTN_QUERIES][BN_ATTN_TILE] = {{0}};

        for (size_t i = 0; i < d; i++, k += BN_ATTN_TILE) {
            for (size_t p = 0; p < BN_ATTN_TILE; p++) {
                float key = float_from_f16(k[p]);

                for (size_t j = 0; j < n_q; j++)
                    sum[j][p] += q[i * BN_ATTN_QUERIES + j] * key;
            }
        }
        for (size_t j = 0; j < n_q; j++)
            memcpy(s + j * lds, sum[j], sizeof sum[j]);
    }
}

/* BN_ATTN_TILE positions at a time, so that the rounding errors grow with their number and that of the
 * tiles, not with the product. */
void f16_attn_values_c(const float *a, size_t lda, size_t n_q, const uint16_t *v, float *out, size_t n_pos,
                       size_t d)
{
    for (size_t j = 0; j < n_q; j++, a += lda, out += d) {
        for (size_t i = 0; i < d; i++)
            out[i] = 0.0f;
        for (size_t p = 0; p < n_pos; p += BN_ATTN_TILE) {
            size_t end = n_pos - p < BN_ATTN_TILE ? n_pos : p + BN_ATTN_TILE;

            for (size_t i = 0; i < d; i++) {
                float sum = 0.0f;

                for (size_t r = p; r < end; r++)
                    sum += a[r] * float_from_f16(v[r * d + i]);
                out[i] += sum;
            }
        }
    }
}
