/* SPDX-License-Identifier: MIT
 * Attention of a few queries over a cache in F16, 16 values of the cache at a time: scores along the
 * positions, values along the head's dimensions. A key or value is converted once for up to four queries. */
#include "kernels/attn.h"
#include "kernels/neon.h"

enum {
    VECS = 4,           /* vectors of four values that are done together … */
    TOGETHER = 4,       /* … for as many queries: 16 sums in registers */
    WIDTH = 4 * VECS,   /* values */
    AHEAD_BYTES = 2048, /* how far the keys, one sequential stream, are fetched ahead */
};

/* How many of `left` values vector v still has. */
BN_INLINE size_t left_for(size_t left, size_t v)
{
    return left > 4 * v ? left - 4 * v : 0;
}

/* sum + v * x[j] */
BN_INLINE float32x4_t add_scaled(float32x4_t sum, float32x4_t v, float32x4_t x, const size_t j)
{
    return j == 0   ? vfmaq_laneq_f32(sum, v, x, 0)
           : j == 1 ? vfmaq_laneq_f32(sum, v, x, 1)
           : j == 2 ? vfmaq_laneq_f32(sum, v, x, 2)
                    : vfmaq_laneq_f32(sum, v, x, 3);
}

/* ---- scores ---- */

/* Half a tile: 16 positions. Rows of q have room for eight queries, so that four can always be read. */
BN_INLINE void score_queries(const float *q, const uint16_t *k, float *s, size_t lds, size_t d,
                             const size_t n)
{
    float32x4_t sum[TOGETHER][VECS];

    BN_UNROLL
    for (size_t i = 0; i < n * VECS; i++)
        sum[i / VECS][i % VECS] = vdupq_n_f32(0.0f);
    for (size_t i = 0; i < d; i++, q += BN_ATTN_QUERIES, k += BN_ATTN_TILE) {
        const float32x4_t queries = vld1q_f32(q);

        __builtin_prefetch((const char *)k + AHEAD_BYTES);
        BN_UNROLL
        for (size_t v = 0; v < VECS; v++) {
            const float32x4_t key = floats_of_f16(vld1_u16(k + 4 * v));

            BN_UNROLL
            for (size_t j = 0; j < n; j++)
                sum[j][v] = add_scaled(sum[j][v], key, queries, j);
        }
    }
    BN_UNROLL
    for (size_t i = 0; i < n * VECS; i++)
        vst1q_f32(s + i / VECS * lds + i % VECS * 4, sum[i / VECS][i % VECS]);
}

/* How many queries there are must be known where the loops are unrolled. */
BN_INLINE void score_half_tile(const float *q, size_t n_q, const uint16_t *k, float *s, size_t lds, size_t d)
{
    for (; n_q >= TOGETHER; n_q -= TOGETHER, q += TOGETHER, s += TOGETHER * lds)
        score_queries(q, k, s, lds, d, TOGETHER);
    if (n_q == 3)
        score_queries(q, k, s, lds, d, 3);
    else if (n_q == 2)
        score_queries(q, k, s, lds, d, 2);
    else if (n_q == 1)
        score_queries(q, k, s, lds, d, 1);
}

void f16_attn_scores_neon(const float *q, size_t n_q, const uint16_t *k, float *s, size_t lds, size_t n_tiles,
                          size_t d)
{
    for (size_t t = 0; t < n_tiles; t++, k += BN_ATTN_TILE * d, s += BN_ATTN_TILE) {
        for (size_t half = 0; half < BN_ATTN_TILE; half += WIDTH)
            score_half_tile(q, n_q, k + half, s + half, lds, d);
    }
}

/* ---- values ---- */

/* out[j][0 … 15] (+)= sum_p a[j][p] * v[p][0 … 15], of which `left` are the head's; the values behind these
 * positions are fetched ahead. */
BN_INLINE void value_queries(const float *a, size_t lda, const uint16_t *v, float *out, size_t n_pos,
                             size_t d, size_t left, int first, const size_t n)
{
    float32x4_t sum[TOGETHER][VECS];

    BN_UNROLL
    for (size_t i = 0; i < n * VECS; i++)
        sum[i / VECS][i % VECS] = vdupq_n_f32(0.0f);
    for (size_t p = 0; p < n_pos; p++, v += d) {
        float32x4_t values[VECS];

        __builtin_prefetch(v + BN_ATTN_TILE * d);
        BN_UNROLL
        for (size_t i = 0; i < VECS; i++)
            values[i] = floats_of_f16(load4_16bit(v + 4 * i, left_for(left, i)));
        BN_UNROLL
        for (size_t j = 0; j < n; j++) {
            BN_UNROLL
            for (size_t i = 0; i < VECS; i++)
                sum[j][i] = vfmaq_n_f32(sum[j][i], values[i], a[j * lda + p]);
        }
    }
    BN_UNROLL
    for (size_t j = 0; j < n; j++) {
        BN_UNROLL
        for (size_t i = 0; i < VECS; i++) {
            float *o = out + j * d + 4 * i;
            const size_t here = left_for(left, i);

            store4(o, here, first ? sum[j][i] : vaddq_f32(load4(o, here), sum[j][i]));
        }
    }
}

BN_INLINE void value_block(const float *a, size_t lda, size_t n_q, const uint16_t *v, float *out,
                           size_t n_pos, size_t d, size_t left, int first)
{
    for (; n_q >= TOGETHER; n_q -= TOGETHER, a += TOGETHER * lda, out += TOGETHER * d)
        value_queries(a, lda, v, out, n_pos, d, left, first, TOGETHER);
    if (n_q == 3)
        value_queries(a, lda, v, out, n_pos, d, left, first, 3);
    else if (n_q == 2)
        value_queries(a, lda, v, out, n_pos, d, left, first, 2);
    else if (n_q == 1)
        value_queries(a, lda, v, out, n_pos, d, left, first, 1);
}

/* A tile of positions is small enough to stay in the first cache while its dimensions are gone through. */
void f16_attn_values_neon(const float *a, size_t lda, size_t n_q, const uint16_t *v, float *out, size_t n_pos,
                          size_t d)
{
    for (size_t p = 0; p < n_pos; p += BN_ATTN_TILE) {
        const size_t n_tile = n_pos - p < BN_ATTN_TILE ? n_pos - p : BN_ATTN_TILE;
        size_t i = 0;

        for (; i + WIDTH <= d; i += WIDTH)
            value_block(a + p, lda, n_q, v + p * d + i, out + i, n_tile, d, WIDTH, p == 0);
        if (i < d)
            value_block(a + p, lda, n_q, v + p * d + i, out + i, n_tile, d, d - i, p == 0);
    }
}
