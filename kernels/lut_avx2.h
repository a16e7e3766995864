/* SPDX-License-Identifier: MIT
 * Private to kernels/: what TL1 and TL2 share in AVX2: as in lut_avx512.h, but a vector is 32 rows' bytes,
 * half a tile's, and both halves go through the tables together. Tables themselves are made here, too. */
#ifndef KERNELS_LUT_AVX2_H
#define KERNELS_LUT_AVX2_H

#include "kernels/avx2.h"
#include "kernels/lut.h"

/* Not __m256i, whose lanes gcc takes for 64 bits wide: it would copy every sum. */
typedef int32_t lut_sums __attribute__((vector_size(32)));
typedef uint16_t lut_words __attribute__((vector_size(32)));
typedef uint8_t lut_bytes __attribute__((vector_size(32)));

struct lut_part {
    lut_words all, odd;
    lut_bytes high;
};

enum {
    LUT_HALVES = 2,         /* of a tile */
    LUT_AHEAD_BYTES = 4096, /* how far the stream of weights is fetched ahead */
    LUT_PAIRS = 60,         /* vectors of pairs before the sums are widened: 120 x 256 < 2^15 */
};

BN_INLINE __m256i lut_load(const uint8_t *p)
{
    return _mm256_loadu_si256((const __m256i *)(const void *)p);
}

BN_INLINE __m256i lut_table(const uint8_t *p)
{
    return _mm256_broadcastsi128_si256(_mm_loadu_si128((const __m128i *)(const void *)p));
}

BN_INLINE void lut_add(struct lut_part *part, __m256i low, __m256i high)
{
    part->all += (lut_words)low;
    part->odd += (lut_words)_mm256_srli_epi16(low, 8);
    part->high += (lut_bytes)high;
}

/* Half h's share of rows 16 q … 16 q + 15, eight of them, to sum[h][q]: byte q of each lane of 32 bits. */
BN_INLINE void lut_widen(const struct lut_part *part, lut_sums (*sum)[4])
{
    BN_UNROLL
    for (int h = 0; h < LUT_HALVES; h++) {
        const __m256i high = (__m256i)part[h].high;
        const lut_words even = part[h].all - (part[h].odd << 8) + (lut_words)_mm256_slli_epi16(high, 8);
        const lut_words odd =
            part[h].odd + (lut_words)_mm256_and_si256(high, _mm256_set1_epi16((short)0xff00));

        sum[h][0] += (lut_sums)_mm256_srai_epi32(_mm256_slli_epi32((__m256i)even, 16), 16);
        sum[h][1] += (lut_sums)_mm256_srai_epi32(_mm256_slli_epi32((__m256i)odd, 16), 16);
        sum[h][2] += (lut_sums)_mm256_srai_epi32((__m256i)even, 16);
        sum[h][3] += (lut_sums)_mm256_srai_epi32((__m256i)odd, 16);
    }
}

/* k elements as pairs, into the sums of a tile. */
BN_INLINE void lut_pairs(const uint8_t *w, const uint8_t *table, size_t k, lut_sums (*sum)[4])
{
    const __m256i nibble = _mm256_set1_epi8(15);
    size_t n = k / BN_TL1_ELEMENTS;

    for (size_t i = 0; i < n; i += LUT_PAIRS) {
        const size_t end = n - i < LUT_PAIRS ? n : i + LUT_PAIRS;
        struct lut_part part[LUT_HALVES] = {{{0}, {0}, {0}}, {{0}, {0}, {0}}};

        for (size_t j = i; j < end; j++, w += BN_LUT_ROWS, table += 2 * BN_LUT_ENTRY) {
            const __m256i low0 = lut_table(table), high0 = lut_table(table + 16);
            const __m256i low1 = lut_table(table + 32), high1 = lut_table(table + 48);

            _mm_prefetch((const char *)w + LUT_AHEAD_BYTES, _MM_HINT_T0);
            BN_UNROLL
            for (int h = 0; h < LUT_HALVES; h++) {
                const __m256i indices = lut_load(w + 32 * h);
                const __m256i first = _mm256_and_si256(indices, nibble);
                const __m256i second = _mm256_and_si256(_mm256_srli_epi16(indices, 4), nibble);

                lut_add(&part[h], _mm256_shuffle_epi8(low0, first), _mm256_shuffle_epi8(high0, first));
                lut_add(&part[h], _mm256_shuffle_epi8(low1, second), _mm256_shuffle_epi8(high1, second));
            }
        }
        lut_widen(part, sum);
    }
}

BN_INLINE void lut_store(int32_t *y, size_t n_rows, lut_sums (*sum)[4])
{
    for (size_t q = 0; q < 4; q++) {
        for (size_t h = 0; h < LUT_HALVES; h++) {
            const size_t r = 16 * q + 8 * h;

            if (r < n_rows)
                _mm256_maskstore_epi32(y + r, lanes8(n_rows - r), (__m256i)sum[h][q]);
        }
    }
}

/* ---- tables ---- */

/* Sixteen entries as the format has them. */
BN_INLINE void lut_put_table(uint8_t *table, __m256i entries)
{
    const __m256i low = _mm256_and_si256(entries, _mm256_set1_epi16(255));
    const __m256i both = _mm256_packus_epi16(low, _mm256_srli_epi16(entries, 8));

    _mm256_storeu_si256((__m256i *)(void *)table, _mm256_permute4x64_epi64(both, 0xd8));
}

/* Entries u x for the weights u. */
BN_INLINE __m256i lut_term(__m256i weights, int8_t x)
{
    return _mm256_sign_epi16(_mm256_set1_epi16(x), weights);
}

BN_INLINE void lut_pair_tables(const int8_t *x, uint8_t *table, size_t k)
{
    const __m256i u = _mm256_setr_epi16(-1, -1, -1, 0, 0, 0, 1, 1, 1, 0, 0, 0, 0, 0, 0, 0);
    const __m256i v = _mm256_setr_epi16(-1, 0, 1, -1, 0, 1, -1, 0, 1, 0, 0, 0, 0, 0, 0, 0);

    for (size_t i = 0; i < k; i += 2, table += BN_LUT_ENTRY)
        lut_put_table(table, _mm256_add_epi16(lut_term(u, x[i]), lut_term(v, x[i + 1])));
}

#endif
