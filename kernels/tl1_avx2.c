/* SPDX-License-Identifier: MIT
 * Products by look-up in pairs with AVX2. */
#include "kernels/lut_avx2.h"

void tl1_table_avx2(const int8_t *x, uint8_t *table, size_t k)
{
    lut_pair_tables(x, table, k);
}

BN_INLINE void tile_product(const uint8_t *w, const uint8_t *table, int32_t *y, size_t n_rows, size_t k)
{
    lut_sums sum[LUT_HALVES][4] = {{{0}, {0}, {0}, {0}}, {{0}, {0}, {0}, {0}}};

    lut_pairs(w, table, k, sum);
    lut_store(y, n_rows, sum);
}

void tl1_gemv_avx2(const uint8_t *w, const uint8_t *table, int32_t *y, size_t n_rows, size_t k)
{
    for (size_t r = 0; r < n_rows; r += BN_LUT_ROWS, w += bn_tl1_tile_bytes(k))
        tile_product(w, table, y + r, n_rows - r, k);
}

/* All columns by a tile before the next one: the tile stays in the L2 cache. */
void tl1_gemm_avx2(const uint8_t *w, const uint8_t *tables, int32_t *y, size_t ldy, size_t n_rows, size_t k,
                   size_t n_cols)
{
    for (size_t r = 0; r < n_rows; r += BN_LUT_ROWS, w += bn_tl1_tile_bytes(k)) {
        for (size_t c = 0; c < n_cols; c++)
            tile_product(w, tables + c * bn_tl1_table_bytes(k), y + c * ldy + r, n_rows - r, k);
    }
}
