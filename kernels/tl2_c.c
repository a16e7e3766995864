/* SPDX-License-Identifier: MIT
 * Products by look-up in triples, the definition. */
#include "kernels/isa.h"
#include "kernels/lut_c.h"

/* Entry e is u a + v b + w c with 9 u + 3 v + w = e: e's digits in base 3 where they are -1, 0 and 1. */
BN_INLINE int triple(const int8_t *x, int e)
{
    int w = (e + 1) % 3 - 1, v = (e - w) / 3, u;

    u = (v + 1) / 3;
    v -= 3 * u;
    return u * x[0] + v * x[1] + w * x[2];
}

void tl2_table_c(const int8_t *x, uint8_t *table, size_t k)
{
    size_t triples = k / BN_TL2_ELEMENTS * 8;

    for (size_t t = 0; t < triples; t++, x += 3, table += BN_LUT_ENTRY) {
        for (unsigned e = 0; e < 16; e++)
            put_entry(table, e, e < 14 ? triple(x, (int)e) : 0);
    }
    pair_tables(x, table, k - 3 * triples);
}

BN_INLINE int32_t row_sum(const uint8_t *w, const uint8_t *table, size_t k)
{
    int32_t sum = 0;

    for (; k >= BN_TL2_ELEMENTS; k -= BN_TL2_ELEMENTS, w += BN_TL2_GROUP) {
        for (int t = 0; t < 8; t++, table += BN_LUT_ENTRY) {
            int32_t value = entry(table, w[(t / 2 + 1) * BN_LUT_ROWS] >> t % 2 * 4 & 15);

            sum += w[0] >> (7 - t) & 1 ? -value : value;
        }
    }
    return sum + pair_sum(w, table, k);
}

void tl2_gemm_c(const uint8_t *w, const uint8_t *tables, int32_t *y, size_t ldy, size_t n_rows, size_t k,
                size_t n_cols)
{
    for (size_t r = 0; r < n_rows; r++) {
        const uint8_t *row =
            w + r / BN_LUT_ROWS * bn_tl2_tile_bytes(k) + BN_TL2_COUNTS + bn_lut_place(r % BN_LUT_ROWS);

        for (size_t c = 0; c < n_cols; c++)
            y[c * ldy + r] = row_sum(row, tables + c * bn_tl2_table_bytes(k), k);
    }
}

void tl2_gemv_c(const uint8_t *w, const uint8_t *table, int32_t *y, size_t n_rows, size_t k)
{
    tl2_gemm_c(w, table, y, n_rows, n_rows, k, 1);
}
