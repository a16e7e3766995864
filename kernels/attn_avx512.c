/* SPDX-License-Identifier: MIT
 * Attention of a few queries over a cache in F16, 32 values of the cache at a time: scores along the
 * positions, values along the head's dimensions. A key or value is converted once for all queries. */
#include "kernels/attn.h"
#include "kernels/avx512.h"

enum {
    AHEAD_BYTES = 4096,        /* how far the keys, one sequential stream, are fetched ahead */
    VALUES_AHEAD_BYTES = 6144, /* … and the values */
    VALUE_VECS = 4,            /* of dimensions that are done together, at most */
};

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

/* out[j][i] (+)= sum_p a[j][p] * v[p][i] for the `left` dimensions that are left, 16 * n_vecs at most; whole:
 * so many there are. *ahead goes along a later tile, as far as this call reads of its own: all columns of a
 * tile together fetch as much as they use, one line after the other. */
BN_INLINE void value_queries(const float *a, size_t lda, const uint16_t *v, float *out, size_t n_pos,
                             size_t d, size_t left, const char **ahead, int first, const size_t n,
                             const size_t n_vecs, const int whole)
{
    __m512 sum[BN_ATTN_QUERIES][VALUE_VECS];
    __mmask16 lanes[VALUE_VECS];

    BN_UNROLL
    for (size_t i = 0; i < n_vecs; i++)
        lanes[i] = whole ? (__mmask16)0xffff : left > 16 * i ? lanes16(left - 16 * i) : (__mmask16)0;
    BN_UNROLL
    for (size_t i = 0; i < n * n_vecs; i++)
        sum[i / n_vecs][i % n_vecs] = _mm512_setzero_ps();
    for (size_t p = 0; p < n_pos; p++, v += d, *ahead += 32 * n_vecs) {
        __m512 x[VALUE_VECS];

        BN_UNROLL
        for (size_t i = 0; i < n_vecs; i++)
            x[i] = load_f16x16(v + 16 * i, lanes[i]);
        BN_UNROLL
        for (size_t i = 0; i < n_vecs; i += 2)
            _mm_prefetch(*ahead + 32 * i, _MM_HINT_T0);
        BN_UNROLL
        for (size_t j = 0; j < n; j++) {
            const __m512 aj = _mm512_set1_ps(a[j * lda + p]);

            BN_UNROLL
            for (size_t i = 0; i < n_vecs; i++)
                sum[j][i] = _mm512_fmadd_ps(x[i], aj, sum[j][i]);
        }
    }
    BN_UNROLL
    for (size_t j = 0; j < n; j++) {
        BN_UNROLL
        for (size_t i = 0; i < n_vecs; i++) {
            float *o = out + j * d + 16 * i;

            if (!first)
                sum[j][i] = _mm512_add_ps(_mm512_maskz_loadu_ps(lanes[i], o), sum[j][i]);
            _mm512_mask_storeu_ps(o, lanes[i], sum[j][i]);
        }
    }
}

/* All dimensions of a tile, for n queries whose sums of n_vecs vectors fit the registers. */
BN_INLINE void value_tile(const float *a, size_t lda, const uint16_t *v, float *out, size_t n_pos, size_t d,
                          int first, const size_t n, const size_t n_vecs)
{
    const char *ahead = (const char *)v + VALUES_AHEAD_BYTES;
    size_t i = 0;

    for (; i + 16 * n_vecs <= d; i += 16 * n_vecs)
        value_queries(a, lda, v + i, out + i, n_pos, d, d - i, &ahead, first, n, n_vecs, 1);
    for (; i < d; i += 32)
        value_queries(a, lda, v + i, out + i, n_pos, d, d - i, &ahead, first, n, 2, 0);
}

BN_INLINE void value_tiles(const float *a, size_t lda, const uint16_t *v, float *out, size_t n_pos, size_t d,
                           const size_t n, const size_t n_vecs)
{
    for (size_t p = 0; p < n_pos; p += BN_ATTN_TILE)
        value_tile(a + p, lda, v + p * d, out, n_pos - p < BN_ATTN_TILE ? n_pos - p : BN_ATTN_TILE, d, p == 0,
                   n, n_vecs);
}

/* A tile of positions is small enough to stay in the first cache while its dimensions are gone through. */
void f16_attn_values_avx512(const float *a, size_t lda, size_t n_q, const uint16_t *v, float *out,
                            size_t n_pos, size_t d)
{
    if (n_q == 8) {
        value_tiles(a, lda, v, out, n_pos, d, 8, 2);
        return;
    }
    if (n_q >= 4) {
        value_tiles(a, lda, v, out, n_pos, d, 4, 4);
        a += 4 * lda;
        out += 4 * d;
    }
    if (n_q % 4 == 3)
        value_tiles(a, lda, v, out, n_pos, d, 3, 4);
    else if (n_q % 4 == 2)
        value_tiles(a, lda, v, out, n_pos, d, 2, 4);
    else if (n_q % 4 == 1)
        value_tiles(a, lda, v, out, n_pos, d, 1, 4);
}
