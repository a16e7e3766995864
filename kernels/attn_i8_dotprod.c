/* SPDX-License-Identifier: MIT
 * Scores over an int8 cache with dot products. */
#include "kernels/dot_dotprod.h"

enum { SCORE_VECS = 4 };
#include "kernels/attn_i8_arm.h"

void i8_attn_scores_dotprod(const int8_t *q, const float *q_scale, const int32_t *q_sum, size_t n_q,
                            const uint8_t *k, const float *k_scale, float *s, size_t lds, size_t n_tiles,
                            size_t d)
{
    (void)q_sum;
    scores(q, q_scale, n_q, k, k_scale, s, lds, n_tiles, d);
}
