/* SPDX-License-Identifier: MIT
 * Products by look-up in pairs, the definition. */
#include "kernels/isa.h"
#include "kernels/lut_c.h"

void tl1_table_c(const int8_t *x, uint8_t *table, size_t k)
{
    pair_tables(x, table, k);
}

void tl1_gemm_c(const uint8_t *w, const uint8_t *tables, int32_t *y, size_t ldy, size_t n_rows, size_t k,
                size_t n_cols)
{
    for (size_t r = 0; r < n_rows; r++) {
        const uint8_t *row = w + r / BN_LUT_ROWS * bn_tl1_tile_bytes(k) + bn_lut_place(r % BN_LUT_ROWS);

        for (size_t c = 0; c < n_cols; c++)
            y[c * ldy + r] = pair_sum(row, tables + c * bn_tl1_table_bytes(k), k);
    }
}

void tl1_gemv_c(const uint8_t *w, const uint8_t *table, int32_t *y, size_t n_rows, size_t k)
{
    tl1_gemm_c(w, table, y, n_rows, n_rows, k, 1);
}
