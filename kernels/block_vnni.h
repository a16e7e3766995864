/* SPDX-License-Identifier: MIT
 * Private to kernels/, for the _avx512vnni files of the block formats: a lane is a row, codes are the
 * unsigned operand of dpbusd, four activations spread over all lanes the signed one. */
#ifndef KERNELS_BLOCK_VNNI_H
#define KERNELS_BLOCK_VNNI_H

#include "kernels/avx512.h"
#include "kernels/block.h"

enum { VECS = BN_TILE_ROWS / 16 /* vectors of 16 rows */ };

/* Sixteen sums. Not __m512i, whose lanes gcc takes for 64 bits wide: it would copy every sum before and after
 * it is added to. */
typedef int32_t sums __attribute__((vector_size(64)));

BN_INLINE sums add_products(sums sum, __m512i codes, __m512i x)
{
    return (sums)_mm512_dpbusd_epi32((__m512i)sum, codes, x);
}

BN_INLINE __m512i four_activations(const int8_t *x)
{
    int32_t four;

    memcpy(&four, x, sizeof four);
    return _mm512_set1_epi32(four);
}

BN_INLINE __m512i load_ahead(const uint8_t *w)
{
    _mm_prefetch((const char *)w + BLOCK_AHEAD_BYTES, _MM_HINT_T0);
    return _mm512_loadu_si512(w);
}

/* The low half of each byte. */
BN_INLINE __m512i low_halves(__m512i v)
{
    return _mm512_and_si512(v, _mm512_set1_epi8(15));
}

/* The high half of each byte, times 16. */
BN_INLINE __m512i high_halves_16(__m512i v)
{
    return _mm512_and_si512(v, _mm512_set1_epi8((char)0xf0));
}

/* F16 scales of sixteen rows. */
BN_INLINE __m512 load_scales(const uint8_t *w)
{
    return _mm512_cvtph_ps(_mm256_loadu_si256((const __m256i *)(const void *)w));
}

/* scale * sum, the scale a product of the rows' and the activations'. */
BN_INLINE __m512 scaled(sums sum, __m512 rows, float x)
{
    return _mm512_mul_ps(_mm512_cvtepi32_ps((__m512i)sum), _mm512_mul_ps(rows, _mm512_set1_ps(x)));
}

BN_INLINE void store_rows(float *y, size_t n_rows, const __m512 total[VECS], const size_t n_vecs)
{
    BN_UNROLL
    for (size_t v = 0; v < n_vecs; v++) {
        if (16 * v < n_rows)
            _mm512_mask_storeu_ps(y + 16 * v, lanes16(n_rows - 16 * v), total[v]);
    }
}

#endif
