/* SPDX-License-Identifier: MIT
 * Private to kernels/: scores over an int8 cache on ARM64. A vector holds four dimensions of four positions;
 * keys become signed, so that nothing has to be taken off for their offset.
 *
 * What includes this has included kernels/dot_<isa>.h and defined SCORE_VECS, the vectors of positions done
 * together. */
#ifndef KERNELS_ATTN_I8_ARM_H
#define KERNELS_ATTN_I8_ARM_H

#include "kernels/attn.h"
#include "kernels/isa.h"

#include <arm_neon.h>

enum {
    SCORE_QUERIES = 4, /* queries whose sums fit the registers */
    SCORE_POSITIONS = 4 * SCORE_VECS,
    KEYS_AHEAD_BYTES = 2048, /* how far the keys, one sequential stream, are fetched ahead */
};

/* Some positions of a tile. Rows of q have room for eight queries, so that four can always be read. */
BN_INLINE void score_queries(const int8_t *q, const float *q_scale, const uint8_t *k, const float *k_scale,
                             float *s, size_t lds, size_t d, const size_t n)
{
    struct wide sum[SCORE_QUERIES][SCORE_VECS];

    BN_UNROLL
    for (size_t i = 0; i < n * SCORE_VECS; i++)
        sum[i / SCORE_VECS][i % SCORE_VECS] = no_wide();
    for (size_t i = 0; i < d; i += 4, q += 4 * BN_ATTN_QUERIES, k += 4 * BN_ATTN_TILE) {
        const int8x16_t queries = vld1q_s8(q);

        __builtin_prefetch(k + KEYS_AHEAD_BYTES);
        BN_UNROLL
        for (size_t v = 0; v < SCORE_VECS; v++) {
            const int8x16_t keys = vreinterpretq_s8_u8(veorq_u8(vld1q_u8(k + 16 * v), vdupq_n_u8(0x80)));

            BN_UNROLL
            for (size_t j = 0; j < n; j++)
                sum[j][v] = add_wide_of_four(sum[j][v], keys, queries, (int)j);
        }
    }
    BN_UNROLL
    for (size_t j = 0; j < n; j++) {
        BN_UNROLL
        for (size_t v = 0; v < SCORE_VECS; v++) {
            const float32x4_t score = vmulq_n_f32(vcvtq_f32_s32(wide_total(sum[j][v])), q_scale[j]);

            vst1q_f32(s + j * lds + 4 * v, vmulq_f32(score, vld1q_f32(k_scale + 4 * v)));
        }
    }
}

BN_INLINE void scores(const int8_t *q, const float *q_scale, size_t n_q, const uint8_t *k,
                      const float *k_scale, float *s, size_t lds, size_t n_tiles, size_t d)
{
    const size_t tile_bytes = (d + 3) / 4 * 4 * BN_ATTN_TILE;

    for (size_t p = 0; p < n_tiles * BN_ATTN_TILE; p += SCORE_POSITIONS) {
        const uint8_t *at = k + p / BN_ATTN_TILE * tile_bytes + p % BN_ATTN_TILE * 4;
        size_t j = 0;

        for (; j + SCORE_QUERIES <= n_q; j += SCORE_QUERIES)
            score_queries(q + 4 * j, q_scale + j, at, k_scale + p, s + j * lds + p, lds, d, SCORE_QUERIES);
        if (n_q - j == 3)
            score_queries(q + 4 * j, q_scale + j, at, k_scale + p, s + j * lds + p, lds, d, 3);
        else if (n_q - j == 2)
            score_queries(q + 4 * j, q_scale + j, at, k_scale + p, s + j * lds + p, lds, d, 2);
        else if (n_q - j == 1)
            score_queries(q + 4 * j, q_scale + j, at, k_scale + p, s + j * lds + p, lds, d, 1);
    }
}

#endif
