/* SPDX-License-Identifier: MIT
 * Attention of a few queries over a cache in F16, 32 values of the cache at a time: scores along the
 * positions, values along the head's dimensions. A key or value is converted once for all queries. */
#include "kernels/attn.h"
#include "kernels/avx512.h"

enum { AHEAD_BYTES = 4096 }; /* how far the keys, one sequential stream, are fetched ahead */

/* ---- scores ---- */

BN_INLINE void score_queries(const float *q, const uint16_t *k, float *s, size_t lds, size_t d,
                             const size_t n)
{
    __m512 low[BN_ATTN_QUERIES], high[BN_ATTN_QUERIES];

    BN_UNROLL
    for (size_t j = 0; j < n; j++)
        low[j] = high[j] = _mm512_setzero_ps();
    for (size_t i = 0; i < d; i++, q += BN_ATTN_QUERIES, k += BN_ATTN_TILE) {
        const __m512 k_low = load_f16x16(k, 0xffff), k_high = load_f16x16(k + 16, 0xffff);

        _mm_prefetch((const char *)k + AHEAD_BYTES, _MM_HINT_T0);
        BN_UNROLL
        for (size_t j = 0; j < n; j++) {
            const __m512 qj = _mm512_set1_ps(q[j]);

            low[j] = _mm512_fmadd_ps(k_low, qj, low[j]);
            high[j] = _mm512_fmadd_ps(k_high, qj, high[j]);
        }
    }
    BN_UNROLL
    for (size_t j = 0; j < n; j++) {
        _mm512_storeu_ps(s + j * lds, low[j]);
        _mm512_storeu_ps(s + j * lds + 16, high[j]);
    }
}

/* All queries' sums must fit the registers: how many there are is known where the loops are unrolled. */
BN_INLINE void score_tile(const float *q, size_t n_q, const uint16_t *k, float *s, size_t lds, size_t d)
{
    if (n_q == 8) {
        score_queries(q, k, s, lds, d, 8);
        return;
    }
    if (n_q >= 4) {
        score_queries(q, k, s, lds, d, 4);
        q += 4;
        s += 4 * lds;
    }
    if (n_q % 4 == 3)
        score_queries(q, k, s, lds, d, 3);
    else if (n_q % 4 == 2)
        score_queries(q, k, s, lds, d, 2);
    else if (n_q % 4 == 1)
        score_queries(q, k, s, lds, d, 1);
}

void f16_attn_scores_avx512(const float *q, size_t n_q, const uint16_t *k, float *s, size_t lds,
                            size_t n_tiles, size_t d)
{
    for (size_t t = 0; t < n_tiles; t++)
        score_tile(q, n_q, k + t * BN_ATTN_TILE * d, s + t * BN_ATTN_TILE, lds, d);
}

/* ---- values ---- */

/* What the lanes of 32 dimensions from one on are: all of them, or as many as there are left. */
struct lanes {
    __mmask16 low, high;
};

/* out[j][0 … 31] (+)= sum_p a[j][p] * v[p][0 … 31]; the values behind these positions are fetched ahead. */
BN_INLINE void value_queries(const float *a, size_t lda, const uint16_t *v, float *out, size_t n_pos,
                             size_t d, struct lanes lanes, int first, const size_t n)
{
    __m512 low[BN_ATTN_QUERIES], high[BN_ATTN_QUERIES];

    BN_UNROLL
    for (size_t j = 0; j < n; j++)
        low[j] = high[j] = _mm512_setzero_ps();
    for (size_t p = 0; p < n_pos; p++, v += d) {
        const __m512 v_low = load_f16x16(v, lanes.low), v_high = load_f16x16(v + 16, lanes.high);

        _mm_prefetch((const char *)(v + BN_ATTN_TILE * d), _MM_HINT_T0);
        BN_UNROLL
        for (size_t j = 0; j < n; j++) {
            const __m512 aj = _mm512_set1_ps(a[j * lda + p]);

            low[j] = _mm512_fmadd_ps(v_low, aj, low[j]);
            high[j] = _mm512_fmadd_ps(v_high, aj, high[j]);
        }
    }
    BN_UNROLL
    for (size_t j = 0; j < n; j++) {
        float *o = out + j * d;

        if (!first) {
            low[j] = _mm512_add_ps(_mm512_maskz_loadu_ps(lanes.low, o), low[j]);
            high[j] = _mm512_add_ps(_mm512_maskz_loadu_ps(lanes.high, o + 16), high[j]);
        }
        _mm512_mask_storeu_ps(o, lanes.low, low[j]);
        _mm512_mask_storeu_ps(o + 16, lanes.high, high[j]);
    }
}

BN_INLINE void value_block(const float *a, size_t lda, size_t n_q, const uint16_t *v, float *out,
                           size_t n_pos, size_t d, struct lanes lanes, int first)
{
    if (n_q == 8) {
        value_queries(a, lda, v, out, n_pos, d, lanes, first, 8);
        return;
    }
    if (n_q >= 4) {
        value_queries(a, lda, v, out, n_pos, d, lanes, first, 4);
        a += 4 * lda;
        out += 4 * d;
    }
    if (n_q % 4 == 3)
        value_queries(a, lda, v, out, n_pos, d, lanes, first, 3);
    else if (n_q % 4 == 2)
        value_queries(a, lda, v, out, n_pos, d, lanes, first, 2);
    else if (n_q % 4 == 1)
        value_queries(a, lda, v, out, n_pos, d, lanes, first, 1);
}

/* A tile of positions is small enough to stay in the first cache while its dimensions are gone through. */
void f16_attn_values_avx512(const float *a, size_t lda, size_t n_q, const uint16_t *v, float *out,
                            size_t n_pos, size_t d)
{
    const struct lanes all = {0xffff, 0xffff};

    for (size_t p = 0; p < n_pos; p += BN_ATTN_TILE) {
        const size_t n_tile = n_pos - p < BN_ATTN_TILE ? n_pos - p : BN_ATTN_TILE;
        size_t i = 0;

        for (; i + 32 <= d; i += 32)
            value_block(a + p, lda, n_q, v + p * d + i, out + i, n_tile, d, all, p == 0);
        if (i < d) {
            const struct lanes rest = {lanes16(d - i), d - i > 16 ? lanes16(d - i - 16) : 0};

            value_block(a + p, lda, n_q, v + p * d + i, out + i, n_tile, d, rest, p == 0);
        }
    }
}
