/* SPDX-License-Identifier: MIT
 * Attention of a few queries over a cache in int8: products of bytes in 16 bits, added up in 32. */
#include "kernels/dot_neon.h"
#include "kernels/neon.h"

/* ---- scores ---- */

enum { SCORE_VECS = 2 };
#include "kernels/attn_i8_arm.h"

void i8_attn_scores_neon(const int8_t *q, const float *q_scale, const int32_t *q_sum, size_t n_q,
                         const uint8_t *k, const float *k_scale, float *s, size_t lds, size_t n_tiles,
                         size_t d)
{
    (void)q_sum;
    scores(q, q_scale, n_q, k, k_scale, s, lds, n_tiles, d);
}

/* ---- weights ---- */

void i8_attn_weights_neon(const float *a, float max, int16_t *w, size_t n)
{
    const float to_code = max > BN_ATTN_LEAST_WEIGHT ? 32767.0f / max : 0.0f;

    for (size_t p = 0; p < n; p += 4) {
        const int32x4_t codes = vcvtnq_s32_f32(vmulq_n_f32(load4(a + p, n - p), to_code));

        store4_16bit((uint16_t *)w + p, n - p, vreinterpret_u16_s16(vqmovn_s32(codes)));
    }
}

/* ---- values ---- */

enum {
    DIMENSIONS = 16,   /* done together … */
    VALUE_QUERIES = 4, /* … for as many queries: 16 sums in registers */
    VECS = DIMENSIONS / 4,
};

/* The first and the second positions' values of a pair, for 16 dimensions or the `left` that there are. */
BN_INLINE int8x16x2_t load_pairs(const int8_t *v, size_t left)
{
    int8_t partial[2 * DIMENSIONS] = {0};

    if (left >= DIMENSIONS)
        return vld2q_s8(v);
    memcpy(partial, v, 2 * left);
    return vld2q_s8(partial);
}

/* sum += values * w, in four vectors of four dimensions. */
BN_INLINE void add_values(int32x4_t sum[VECS], int8x16_t values, int16_t w)
{
    const int16x8_t low = vmovl_s8(vget_low_s8(values)), high = vmovl_high_s8(values);

    sum[0] = vmlal_n_s16(sum[0], vget_low_s16(low), w);
    sum[1] = vmlal_n_s16(sum[1], vget_high_s16(low), w);
    sum[2] = vmlal_n_s16(sum[2], vget_low_s16(high), w);
    sum[3] = vmlal_n_s16(sum[3], vget_high_s16(high), w);
}

/* The values behind these pairs are fetched ahead. */
BN_INLINE void value_queries(const int16_t *w, size_t ldw, const int8_t *v, float *out, size_t n_pairs,
                             size_t d, size_t left, int first, const size_t n)
{
    int32x4_t sum[VALUE_QUERIES][VECS];

    BN_UNROLL
    for (size_t i = 0; i < n * VECS; i++)
        sum[i / VECS][i % VECS] = vdupq_n_s32(0);
    for (size_t p = 0; p < n_pairs; p++, v += 2 * d) {
        const int8x16x2_t pairs = load_pairs(v, left);

        __builtin_prefetch(v + BN_ATTN_PAIRS * 2 * d);
        BN_UNROLL
        for (size_t j = 0; j < n; j++) {
            add_values(sum[j], pairs.val[0], w[j * ldw + 2 * p]);
            add_values(sum[j], pairs.val[1], w[j * ldw + 2 * p + 1]);
        }
    }
    BN_UNROLL
    for (size_t j = 0; j < n; j++) {
        BN_UNROLL
        for (size_t i = 0; i < VECS; i++) {
            const size_t here = left > 4 * i ? left - 4 * i : 0;
            float *o = out + j * d + 4 * i;
            const float32x4_t values = vcvtq_f32_s32(sum[j][i]);

            store4(o, here, first ? values : vaddq_f32(load4(o, here), values));
        }
    }
}

BN_INLINE void value_block(const int16_t *w, size_t ldw, size_t n_q, const int8_t *v, float *out,
                           size_t n_pairs, size_t d, size_t left, int first)
{
    size_t j = 0;

    for (; j + VALUE_QUERIES <= n_q; j += VALUE_QUERIES)
        value_queries(w + j * ldw, ldw, v, out + j * d, n_pairs, d, left, first, VALUE_QUERIES);
    for (; j < n_q; j++)
        value_queries(w + j * ldw, ldw, v, out + j * d, n_pairs, d, left, first, 1);
}

/* BN_ATTN_PAIRS of them are few enough to stay in the first cache while their dimensions are gone through. */
void i8_attn_values_neon(const int16_t *w, size_t ldw, const float *w_scale, size_t n_q, const int8_t *v,
                         float *out, size_t n_pairs, size_t d)
{
    for (size_t p = 0; p < n_pairs; p += BN_ATTN_PAIRS) {
        const size_t n = n_pairs - p < BN_ATTN_PAIRS ? n_pairs - p : BN_ATTN_PAIRS;
        size_t i = 0;

        for (; i + DIMENSIONS <= d; i += DIMENSIONS)
            value_block(w + 2 * p, ldw, n_q, v + 2 * (p * d + i), out + i, n, d, DIMENSIONS, p == 0);
        if (i < d)
            value_block(w + 2 * p, ldw, n_q, v + 2 * (p * d + i), out + i, n, d, d - i, p == 0);
    }
    for (size_t j = 0; j < n_q; j++, out += d) {
        for (size_t i = 0; i < d; i += 4)
            store4(out + i, d - i, vmulq_n_f32(load4(out + i, d - i), w_scale[j]));
    }
}
