/* SPDX-License-Identifier: MIT
 * TL1 and TL2: products by look-up. For each pair (TL1) or triple (TL2) of neighbouring activations a table
 * holds what the ternary weights can make of them; a weight is an index into it. Both add the same whole
 * numbers as I2S, so their results are the same.
 *
 * A table has 16 entries of 16 bits in 32 bytes: first the entries' low bytes, then their high bytes. Of a
 * pair (a, b) entry 3 u + v + 4 is u a + v b, for u, v in -1 … 1; of a triple (a, b, c) entry 9 u + 3 v + w,
 * where that is not negative, is u a + v b + w c: the other half of the triples are these with their signs
 * turned. Entries that stand for nothing are 0.
 *
 * A tile has 64 rows; in its vectors of 64 bytes row r has byte 4 (r mod 16) + r div 16, which makes the sums
 * come out in the order of rows.
 *
 * TL1: a vector for each four elements: the index of the first pair in the low half of the byte, that of the
 * second in the high half. 2 bits a weight.
 * TL2: 64 int32 counts, of row r's turned triples (negating is flipping the bits and adding one: the ones are
 * added together). Then for each 24 elements a vector of signs, the first triple's in the highest bit, 1 =
 * turned, and four vectors of two indices each, as above. What is left of the row are pairs as in TL1.
 * 1.67 bits a weight.
 *
 * Rows that the last tile has too many are zero weights.
 * Pure: pointers and sizes in, bytes out. Threads: any. Allocates: nothing. Cannot fail. */
#ifndef KERNELS_LUT_H
#define KERNELS_LUT_H

#include <stddef.h>
#include <stdint.h>

enum {
    BN_LUT_ROWS = 64,
    BN_LUT_ENTRY = 32,    /* bytes of a table's pair or triple */
    BN_TL1_ELEMENTS = 4,  /* of a row in a vector */
    BN_TL2_ELEMENTS = 24, /* of a row in a group of five vectors */
    BN_TL2_GROUP = 5 * BN_LUT_ROWS,
    BN_TL2_COUNTS = 4 * BN_LUT_ROWS,
};

/* Where a row's byte stands in a vector. */
static inline size_t bn_lut_place(size_t row)
{
    return 4 * (row % 16) + row / 16;
}

/* Bytes of a tile of rows of k weights (k a multiple of 4), and of the tables of k activations. */
static inline size_t bn_tl1_tile_bytes(size_t k)
{
    return k / BN_TL1_ELEMENTS * BN_LUT_ROWS;
}

static inline size_t bn_tl2_tile_bytes(size_t k)
{
    return BN_TL2_COUNTS + k / BN_TL2_ELEMENTS * BN_TL2_GROUP + bn_tl1_tile_bytes(k % BN_TL2_ELEMENTS);
}

static inline size_t bn_tl1_table_bytes(size_t k)
{
    return k / 2 * BN_LUT_ENTRY;
}

static inline size_t bn_tl2_table_bytes(size_t k)
{
    return (k / BN_TL2_ELEMENTS * 8 + k % BN_TL2_ELEMENTS / 2) * BN_LUT_ENTRY;
}

/* Put one row's codes (0 … 2, one a byte, k of them) into row `row` (0 … 63) of a tile. */
void bn_tl1_pack_row(const uint8_t *restrict codes, uint8_t *restrict tile, size_t row, size_t k);
void bn_tl2_pack_row(const uint8_t *restrict codes, uint8_t *restrict tile, size_t row, size_t k);

#endif
