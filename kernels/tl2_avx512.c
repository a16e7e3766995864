/* SPDX-License-Identifier: MIT
 * Products by look-up in triples with AVX-512BW. Where a triple's sign is turned its value's bits are
 * flipped, low and high bytes alike; the ones that are missing then are the tile's counts. */
#include "kernels/lut_avx512.h"

enum { GROUPS = 10 }; /* of eight triples before the sums are widened: 80 x 385 < 2^15 */

BN_INLINE void add_triple(struct lut_part *part, const uint8_t *table, __m512i index, __mmask64 turned)
{
    const __m512i ones = _mm512_set1_epi8(-1);
    const __m512i low = _mm512_shuffle_epi8(lut_table(table), index);
    const __m512i high = _mm512_shuffle_epi8(lut_table(table + 16), index);

    lut_add(part, _mm512_mask_sub_epi8(low, turned, ones, low),
            _mm512_mask_sub_epi8(high, turned, ones, high));
}

/* Eight triples. */
BN_INLINE void add_group(struct lut_part *part, const uint8_t *w, const uint8_t *table)
{
    const __m512i nibble = _mm512_set1_epi8(15);
    __m512i signs = _mm512_loadu_si512(w);

    _mm_prefetch((const char *)w + LUT_AHEAD_BYTES, _MM_HINT_T0);
    BN_UNROLL
    for (int i = 0; i < 4; i++, table += 2 * BN_LUT_ENTRY) {
        const __m512i indices = _mm512_loadu_si512(w + (i + 1) * BN_LUT_ROWS);

        _mm_prefetch((const char *)w + LUT_AHEAD_BYTES + (i + 1) * BN_LUT_ROWS, _MM_HINT_T0);
        add_triple(part, table, _mm512_and_si512(indices, nibble), _mm512_movepi8_mask(signs));
        signs = _mm512_add_epi8(signs, signs);
        add_triple(part, table + BN_LUT_ENTRY, _mm512_and_si512(_mm512_srli_epi16(indices, 4), nibble),
                   _mm512_movepi8_mask(signs));
        signs = _mm512_add_epi8(signs, signs);
    }
}

BN_INLINE void tile_product(const uint8_t *w, const uint8_t *table, int32_t *y, size_t n_rows, size_t k)
{
    const size_t n = k / BN_TL2_ELEMENTS;
    lut_sums sum[4];

    BN_UNROLL
    for (int q = 0; q < 4; q++)
        sum[q] = (lut_sums)_mm512_loadu_si512(w + 64 * q);
    w += BN_TL2_COUNTS;
    for (size_t i = 0; i < n; i += GROUPS) {
        const size_t end = n - i < GROUPS ? n : i + GROUPS;
        struct lut_part part = {{0}, {0}, {0}};

        for (size_t j = i; j < end; j++, w += BN_TL2_GROUP, table += 8 * BN_LUT_ENTRY)
            add_group(&part, w, table);
        lut_widen(&part, sum);
    }
    lut_pairs(w, table, k % BN_TL2_ELEMENTS, sum);
    lut_store(y, n_rows, sum);
}

void tl2_gemv_avx512(const uint8_t *w, const uint8_t *table, int32_t *y, size_t n_rows, size_t k)
{
    for (size_t r = 0; r < n_rows; r += BN_LUT_ROWS, w += bn_tl2_tile_bytes(k))
        tile_product(w, table, y + r, n_rows - r, k);
}

/* All columns by a tile before the next one: the tile stays in the L2 cache. */
void tl2_gemm_avx512(const uint8_t *w, const uint8_t *tables, int32_t *y, size_t ldy, size_t n_rows, size_t k,
                     size_t n_cols)
{
    for (size_t r = 0; r < n_rows; r += BN_LUT_ROWS, w += bn_tl2_tile_bytes(k)) {
        for (size_t c = 0; c < n_cols; c++)
            tile_product(w, tables + c * bn_tl2_table_bytes(k), y + c * ldy + r, n_rows - r, k);
    }
}
