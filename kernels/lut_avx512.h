/* SPDX-License-Identifier: MIT
 * Private to kernels/: what TL1 and TL2 share in AVX-512: a vector is 64 rows' bytes, looked up in low and
 * high bytes of the tables apart.
 *
 * Three sums, all modulo 2^16, which is enough while the true sum fits int16: `all` adds the low bytes as
 * they stand, two rows in a lane of 16 bits; `odd` adds those of the odd bytes alone; `high` adds the high
 * bytes, of which only the low eight bits count. */
#ifndef KERNELS_LUT_AVX512_H
#define KERNELS_LUT_AVX512_H

#include "kernels/avx512.h"
#include "kernels/lut.h"

/* Not __m512i, whose lanes gcc takes for 64 bits wide: it would copy every sum. */
typedef int32_t lut_sums __attribute__((vector_size(64)));
typedef uint16_t lut_words __attribute__((vector_size(64)));
typedef uint8_t lut_bytes __attribute__((vector_size(64)));

struct lut_part {
    lut_words all, odd;
    lut_bytes high;
};

enum {
    LUT_AHEAD_BYTES = 4096, /* how far the stream of weights is fetched ahead */
    LUT_PAIRS = 60,         /* vectors of pairs before the sums are widened: 120 x 256 < 2^15 */
};

BN_INLINE __m512i lut_table(const uint8_t *p)
{
    return _mm512_broadcast_i32x4(_mm_loadu_si128((const __m128i *)(const void *)p));
}

BN_INLINE void lut_add(struct lut_part *part, __m512i low, __m512i high)
{
    part->all += (lut_words)low;
    part->odd += (lut_words)_mm512_srli_epi16(low, 8);
    part->high += (lut_bytes)high;
}

/* Rows 16 q … 16 q + 15 to sum[q]: byte q of each lane of 32 bits. */
BN_INLINE void lut_widen(const struct lut_part *part, lut_sums *sum)
{
    const __m512i high = (__m512i)part->high;
    const lut_words even = part->all - (part->odd << 8) + (lut_words)_mm512_slli_epi16(high, 8);
    const lut_words odd = part->odd + (lut_words)_mm512_and_si512(high, _mm512_set1_epi16((short)0xff00));

    sum[0] += (lut_sums)_mm512_srai_epi32(_mm512_slli_epi32((__m512i)even, 16), 16);
    sum[1] += (lut_sums)_mm512_srai_epi32(_mm512_slli_epi32((__m512i)odd, 16), 16);
    sum[2] += (lut_sums)_mm512_srai_epi32((__m512i)even, 16);
    sum[3] += (lut_sums)_mm512_srai_epi32((__m512i)odd, 16);
}

/* k elements as pairs, into the sums of a tile. */
BN_INLINE void lut_pairs(const uint8_t *w, const uint8_t *table, size_t k, lut_sums *sum)
{
    const __m512i nibble = _mm512_set1_epi8(15);
    size_t n = k / BN_TL1_ELEMENTS;

    for (size_t i = 0; i < n; i += LUT_PAIRS) {
        const size_t end = n - i < LUT_PAIRS ? n : i + LUT_PAIRS;
        struct lut_part part = {{0}, {0}, {0}};

        for (size_t j = i; j < end; j++, w += BN_LUT_ROWS, table += 2 * BN_LUT_ENTRY) {
            const __m512i indices = _mm512_loadu_si512(w);
            const __m512i first = _mm512_and_si512(indices, nibble);
            const __m512i second = _mm512_and_si512(_mm512_srli_epi16(indices, 4), nibble);

            _mm_prefetch((const char *)w + LUT_AHEAD_BYTES, _MM_HINT_T0);
            lut_add(&part, _mm512_shuffle_epi8(lut_table(table), first),
                    _mm512_shuffle_epi8(lut_table(table + 16), first));
            lut_add(&part, _mm512_shuffle_epi8(lut_table(table + 32), second),
                    _mm512_shuffle_epi8(lut_table(table + 48), second));
        }
        lut_widen(&part, sum);
    }
}

BN_INLINE void lut_store(int32_t *y, size_t n_rows, const lut_sums *sum)
{
    for (size_t q = 0; q < 4 && 16 * q < n_rows; q++)
        _mm512_mask_storeu_epi32(y + 16 * q, lanes16(n_rows - 16 * q), (__m512i)sum[q]);
}

#endif
