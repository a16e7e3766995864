/* SPDX-License-Identifier: MIT
 * Products by look-up in triples with AVX2. Where a triple's sign is turned its value's bits are flipped, low
 * and high bytes alike; the ones that are missing then are the tile's counts. */
#include "kernels/lut_avx2.h"

enum { GROUPS = 10 }; /* of eight triples before the sums are widened: 80 x 385 < 2^15 */

void tl2_table_avx2(const int8_t *x, uint8_t *table, size_t k)
{
    const __m256i u = _mm256_setr_epi16(0, 0, 0, 0, 0, 1, 1, 1, 1, 1, 1, 1, 1, 1, 0, 0);
    const __m256i v = _mm256_setr_epi16(0, 0, 1, 1, 1, -1, -1, -1, 0, 0, 0, 1, 1, 1, 0, 0);
    const __m256i w = _mm256_setr_epi16(0, 1, -1, 0, 1, -1, 0, 1, -1, 0, 1, -1, 0, 1, 0, 0);
    const size_t triples = k / BN_TL2_ELEMENTS * 8;

    for (size_t t = 0; t < triples; t++, x += 3, table += BN_LUT_ENTRY)
        lut_put_table(table, _mm256_add_epi16(_mm256_add_epi16(lut_term(u, x[0]), lut_term(v, x[1])),
                                              lut_term(w, x[2])));
    lut_pair_tables(x, table, k - 3 * triples);
}

/* Eight triples of half a tile. */
BN_INLINE void add_group(struct lut_part *part, const uint8_t *w, const uint8_t *table)
{
    const __m256i nibble = _mm256_set1_epi8(15), zero = _mm256_setzero_si256();
    __m256i signs = lut_load(w);

    BN_UNROLL
    for (int i = 0; i < 4; i++) {
        const __m256i indices = lut_load(w + (i + 1) * BN_LUT_ROWS);

        BN_UNROLL
        for (int half = 0; half < 2; half++, table += BN_LUT_ENTRY) {
            const __m256i index = _mm256_and_si256(_mm256_srli_epi16(indices, 4 * half), nibble);
            const __m256i turned = _mm256_cmpgt_epi8(zero, signs);

            lut_add(part, _mm256_xor_si256(_mm256_shuffle_epi8(lut_table(table), index), turned),
                    _mm256_xor_si256(_mm256_shuffle_epi8(lut_table(table + 16), index), turned));
            signs = _mm256_add_epi8(signs, signs);
        }
    }
}

BN_INLINE void tile_product(const uint8_t *w, const uint8_t *table, int32_t *y, size_t n_rows, size_t k)
{
    const size_t n = k / BN_TL2_ELEMENTS;
    lut_sums sum[LUT_HALVES][4];

    for (int i = 0; i < LUT_HALVES * 4; i++)
        sum[i % 2][i / 2] = (lut_sums)lut_load(w + 32 * i);
    w += BN_TL2_COUNTS;
    for (size_t i = 0; i < n; i += GROUPS) {
        const size_t end = n - i < GROUPS ? n : i + GROUPS;
        struct lut_part part[LUT_HALVES] = {{{0}, {0}, {0}}, {{0}, {0}, {0}}};

        for (size_t j = i; j < end; j++, w += BN_TL2_GROUP, table += 8 * BN_LUT_ENTRY) {
            BN_UNROLL
            for (int p = 0; p < 5; p++)
                _mm_prefetch((const char *)w + LUT_AHEAD_BYTES + p * BN_LUT_ROWS, _MM_HINT_T0);
            BN_UNROLL
            for (int h = 0; h < LUT_HALVES; h++)
                add_group(&part[h], w + 32 * h, table);
        }
        lut_widen(part, sum);
    }
    lut_pairs(w, table, k % BN_TL2_ELEMENTS, sum);
    lut_store(y, n_rows, sum);
}

void tl2_gemv_avx2(const uint8_t *w, const uint8_t *table, int32_t *y, size_t n_rows, size_t k)
{
    for (size_t r = 0; r < n_rows; r += BN_LUT_ROWS, w += bn_tl2_tile_bytes(k))
        tile_product(w, table, y + r, n_rows - r, k);
}

/* All columns by a tile before the next one: the tile stays in the L2 cache. */
void tl2_gemm_avx2(const uint8_t *w, const uint8_t *tables, int32_t *y, size_t ldy, size_t n_rows, size_t k,
                   size_t n_cols)
{
    for (size_t r = 0; r < n_rows; r += BN_LUT_ROWS, w += bn_tl2_tile_bytes(k)) {
        for (size_t c = 0; c < n_cols; c++)
            tile_product(w, tables + c * bn_tl2_table_bytes(k), y + c * ldy + r, n_rows - r, k);
    }
}
