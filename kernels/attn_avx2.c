/* SPDX-License-Identifier: MIT
 * Attention of a few queries over a cache in F16, 16 values of the cache at a time: scores along the
 * positions, values along the head's dimensions. A key or value is converted once for up to four queries. */
#include "kernels/attn.h"
#include "kernels/avx2.h"

enum {
    TOGETHER = 4,       /* queries whose sums fit the registers */
    AHEAD_BYTES = 4096, /* how far the keys, one sequential stream, are fetched ahead */
};

/* ---- scores ---- */

/* Half a tile: 16 positions. */
BN_INLINE void score_queries(const float *q, const uint16_t *k, float *s, size_t lds, size_t d,
                             const size_t n)
{
    __m256 low[TOGETHER], high[TOGETHER];

    BN_UNROLL
    for (size_t j = 0; j < n; j++)
        low[j] = high[j] = _mm256_setzero_ps();
    for (size_t i = 0; i < d; i++, q += BN_ATTN_QUERIES, k += BN_ATTN_TILE) {
        const __m256 k_low = load8_f16(k, 8), k_high = load8_f16(k + 8, 8);

        _mm_prefetch((const char *)k + AHEAD_BYTES, _MM_HINT_T0);
        BN_UNROLL
        for (size_t j = 0; j < n; j++) {
            const __m256 qj = _mm256_set1_ps(q[j]);

            low[j] = _mm256_fmadd_ps(k_low, qj, low[j]);
            high[j] = _mm256_fmadd_ps(k_high, qj, high[j]);
        }
    }
    BN_UNROLL
    for (size_t j = 0; j < n; j++) {
        _mm256_storeu_ps(s + j * lds, low[j]);
        _mm256_storeu_ps(s + j * lds + 8, high[j]);
    }
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

void f16_attn_scores_avx2(const float *q, size_t n_q, const uint16_t *k, float *s, size_t lds, size_t n_tiles,
                          size_t d)
{
    for (size_t t = 0; t < n_tiles; t++, k += BN_ATTN_TILE * d, s += BN_ATTN_TILE) {
        score_half_tile(q, n_q, k, s, lds, d);
        score_half_tile(q, n_q, k + BN_ATTN_TILE / 2, s + BN_ATTN_TILE / 2, lds, d);
    }
}

/* ---- values ---- */

/* out[j][0 … 15] (+)= sum_p a[j][p] * v[p][0 … 15], of which `left` are the head's; the values behind these
 * positions are fetched ahead. */
BN_INLINE void value_queries(const float *a, size_t lda, const uint16_t *v, float *out, size_t n_pos,
                             size_t d, size_t left, int first, const size_t n)
{
    const size_t left_high = left > 8 ? left - 8 : 0;
    __m256 low[TOGETHER], high[TOGETHER];

    BN_UNROLL
    for (size_t j = 0; j < n; j++)
        low[j] = high[j] = _mm256_setzero_ps();
    for (size_t p = 0; p < n_pos; p++, v += d) {
        const __m256 v_low = load8_f16(v, left), v_high = load8_f16(v + 8, left_high);

        _mm_prefetch((const char *)(v + BN_ATTN_TILE * d), _MM_HINT_T0);
        BN_UNROLL
        for (size_t j = 0; j < n; j++) {
            const __m256 aj = _mm256_set1_ps(a[j * lda + p]);

            low[j] = _mm256_fmadd_ps(v_low, aj, low[j]);
            high[j] = _mm256_fmadd_ps(v_high, aj, high[j]);
        }
    }
    BN_UNROLL
    for (size_t j = 0; j < n; j++) {
        float *o = out + j * d;

        if (!first) {
            low[j] = _mm256_add_ps(load8(o, left), low[j]);
            high[j] = _mm256_add_ps(load8(o + 8, left_high), high[j]);
        }
        store8(o, left, low[j]);
        store8(o + 8, left_high, high[j]);
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
void f16_attn_values_avx2(const float *a, size_t lda, size_t n_q, const uint16_t *v, float *out, size_t n_pos,
                          size_t d)
{
    for (size_t p = 0; p < n_pos; p += BN_ATTN_TILE) {
        const size_t n_tile = n_pos - p < BN_ATTN_TILE ? n_pos - p : BN_ATTN_TILE;
        size_t i = 0;

        for (; i + 16 <= d; i += 16)
            value_block(a + p, lda, n_q, v + p * d + i, out + i, n_tile, d, 16, p == 0);
        if (i < d)
            value_block(a + p, lda, n_q, v + p * d + i, out + i, n_tile, d, d - i, p == 0);
    }
}
