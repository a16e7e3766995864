/* SPDX-License-Identifier: MIT
 * The layout that weights have in memory: tiles of 32 rows whose bytes lie in the order in which kernels use
 * them, so that a product reads one sequential stream and a lane of a vector is a row.
 *
 * A tile is a sequence of pieces of 128 bytes. A piece holds four bytes of each of its 32 rows, row after
 * row; what these four bytes are is the format's affair:
 *
 * I2S, 16 elements of a row in a piece: byte j of a row holds elements j, j + 4, j + 8 and j + 12 of the 16
 * in bits 7:6, 5:4, 3:2 and 1:0. Rows that the last tile has too many are zero weights (code 1).
 *
 * I2S with block scales: before the pieces of every `block` elements stand 64 bytes, an F16 scale for each of
 * the 32 rows; rows too many have scale 0.
 *
 * Pure: pointers and sizes in, bytes out. Threads: any. Allocates: nothing. Cannot fail. */
#ifndef KERNELS_PACK_H
#define KERNELS_PACK_H

#include <stddef.h>
#include <stdint.h>

enum {
    BN_TILE_ROWS = 32,
    BN_PIECE_BYTES = 4 * BN_TILE_ROWS,
    BN_PIECE_I2S = 16,  /* elements of a row in a piece */
    BN_I2S_ZERO = 0x55, /* four weights of zero */
};

/* Bytes of n_rows rows of k ternary weights (k a multiple of 16): whole tiles. */
static inline size_t bn_pack_i2s_bytes(size_t n_rows, size_t k)
{
    return (n_rows + BN_TILE_ROWS - 1) / BN_TILE_ROWS * BN_TILE_ROWS * (k / 4);
}

/* The same with scales of `block` weights, a multiple of 32 and a divisor of k. */
static inline size_t bn_pack_block_bytes(size_t n_rows, size_t k, size_t block)
{
    return (n_rows + BN_TILE_ROWS - 1) / BN_TILE_ROWS * BN_TILE_ROWS * (k / 4 + k / block * 2);
}

/* k codes (a multiple of 128) in the order of files (docs/formats.md#i2_s), k / 4 bytes. */
void bn_pack_file_row(const uint8_t *codes, uint8_t *w, size_t k);

/* Put one row's codes (0 … 3, one a byte, k of them) into row `row` (0 … 31) of a tile. */
void bn_pack_i2s_row(const uint8_t *codes, uint8_t *tile, size_t row, size_t k);

/* The same with the row's scales, [k / block] F16. */
void bn_pack_block_row(const uint8_t *codes, const uint16_t *scales, uint8_t *tile, size_t row, size_t k,
                       size_t block);

#endif
