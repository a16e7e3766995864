/* SPDX-License-Identifier: MIT
 * Scores over an int8 cache with dot products. */
#include "kernels/isa.h"

#include <arm_neon.h>

enum { SCORE_VECS = 4 };

struct score {
    int32x4_t sum;
};

BN_INLINE struct score no_score(void)
{
    return (struct score){vdupq_n_s32(0)};
}

BN_INLINE struct score add_score(struct score s, int8x16_t keys, int8x16_t queries, const size_t j)
{
    return (struct score){j == 0   ? vdotq_laneq_s32(s.sum, keys, queries, 0)
                          : j == 1 ? vdotq_laneq_s32(s.sum, keys, queries, 1)
                          : j == 2 ? vdotq_laneq_s32(s.sum, keys, queries, 2)
                                   : vdotq_laneq_s32(s.sum, keys, queries, 3)};
}

BN_INLINE int32x4_t score_total(struct score s)
{
    return s.sum;
}

#include "kernels/attn_i8_arm.h"

void i8_attn_scores_dotprod(const int8_t *q, const float *q_scale, const int32_t *q_sum, size_t n_q,
                            const uint8_t *k, const float *k_scale, float *s, size_t lds, size_t n_tiles,
                            size_t d)
{
    (void)q_sum;
    scores(q, q_scale, n_q, k, k_scale, s, lds, n_tiles, d);
}
