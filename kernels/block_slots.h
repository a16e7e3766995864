/* SPDX-License-Identifier: MIT
 * Block formats of ggml: weights of a few bits with a scale for each block of values, times activations that
 * are quantised block by block as well. Part of the table in kernels/kernels.h.
 *
 * Weights lie in tiles of 32 rows (kernels/pack.h), as many bytes as in the file. A tile is a sequence of
 * blocks, a block all 32 rows' values of that block; "scales" are one value of each row, row after row, and a
 * piece holds 4 bytes of each row:
 *
 * Q8_0   32 values: F16 scales d; 8 pieces. Piece p: values 4 p ... 4 p + 3, plus 128.
 * Q4_0   32 values: F16 scales d; 4 pieces. Piece p: values 4 p ... in the low, 16 + 4 p ... in the high
 *        halves of the bytes.
 * Q4_K  256 values: F16 scales d, then dmin; for each of 8 sub-blocks of 32 values a byte a row, the low four
 *        bits of its scale and, above them, of its minimum; for each two sub-blocks a byte a row with the two
 *        high bits of: the first one's scale, its minimum, the second one's scale, its minimum, from the
 *        lowest bits up. Then 4 times 8 pieces, for sub-blocks 2 c and 2 c + 1: piece p holds values 4 p ...
 *        of the first in the low, of the second in the high halves of the bytes.
 * Q6_K  256 values: F16 scales d. Then for each half of 128 values, for s = 0, 1: four bytes a row, the
 *        scales of its sub-blocks (of 16 values) s, s + 2, s + 4, s + 6; then 4 times three pieces. With
 *        i = 16 s + 4 p, p = 0 ... 3, these hold the low four bits of values i ... (low halves of the bytes)
 *        and 64 + i ... (high halves), those of 32 + i ... and 96 + i ..., and the two high bits of i ...,
 *        32 + i ..., 64 + i ..., 96 + i ..., from the lowest bits up.
 *
 * Products are sums block after block in f32, a multiplication, then an addition, never fused; sums inside a
 * block are integers. So every instruction set computes the same bits. */
#ifndef KERNELS_BLOCK_SLOTS_H
#define KERNELS_BLOCK_SLOTS_H

#include <stddef.h>
#include <stdint.h>

enum { BN_BLOCK = 32, BN_BLOCK_K = 256 };

/* Activations quantised in blocks, for n_cols columns of k values: x ~ q * d of its block.
 *              q                 d                       sum (of q)
 * "q8_0"  [n_cols][k]       [n_cols][k / 32], F16 values   [n_cols][k / 32]
 * "q8_k"  [n_cols][k]       [n_cols][k / 256]              [n_cols][k / 16]
 * q is -127 ... 127. */
struct bn_q8 {
    int8_t *q;
    float *d;
    int16_t *sum;
};

/* The five operations of a format:
 *
 * <format>_gemv     y[r] = the product of row r and x. w: n_rows rows of k weights in tiles, any alignment; k
 *                   a positive multiple of the format's block; x: "q8_0" for Q8_0 and Q4_0, else "q8_k".
 * <format>_gemm     the same for n_cols columns: y: [n_cols] rows, ldy elements apart (ldy >= n_rows). A
 *                   column's result is gemv's.
 * <format>_pack     rows of a file (one after the other) into tiles. Rows that the last tile has too many are
 *                   zero bytes.
 * <format>_to_f32   the n values (whole blocks) that blocks of a file stand for.
 * <format>_encode   n values (finite, whole blocks) to blocks of a file, scales by the largest value.
 *
 *         Q8_0: sum over blocks of (float)(sum of w * q) * (d * x.d)
 *         Q4_0: the same with w - 8
 *         Q4_K: over blocks: y = (y - (dmin * x.d) * (float)(sum over sub-blocks of min * x.sum)) +
 *                                (d * x.d) * (float)(sum over sub-blocks of scale * sum of w * q)
 *         Q6_K: over blocks: y = y + (d * x.d) * (float)(sum over sub-blocks of scale * sum of (w - 32) * q)
 * All exact on every ISA. */
#define BN_KERNEL_BLOCK_FORMAT(X, f)                                                                         \
    X(f##_gemv, void, (const uint8_t *w, const struct bn_q8 *x, float *y, size_t n_rows, size_t k))          \
    X(f##_gemm, void,                                                                                        \
      (const uint8_t *w, const struct bn_q8 *x, float *y, size_t ldy, size_t n_rows, size_t k,               \
       size_t n_cols))                                                                                       \
    X(f##_pack, void, (const uint8_t *w, uint8_t *packed, size_t n_rows, size_t k))                          \
    X(f##_to_f32, void, (const uint8_t *w, float *y, size_t n))                                              \
    X(f##_encode, void, (const float *x, uint8_t *w, size_t n))

#define BN_KERNEL_BLOCK_SLOTS(X)                                                                             \
    /* Quantise one row of n values (finite, whole blocks; below 8e6 in size, else d overflows).             \
     * q8_0: d = largest |x| / 127 rounded to F16, q = round(x * (127 / largest)), half to even; d 0: q 0.   \
     * q8_k: with m the first of the values largest in size, q = round(x * (-127 / m)), d = 1 / (-127 / m);  \
     * m below 2^-100 counts as 0: q and d are 0. Exact. */                                                  \
    X(q8_0_quantize, void, (const float *x, const struct bn_q8 *out, size_t n))                              \
    X(q8_k_quantize, void, (const float *x, const struct bn_q8 *out, size_t n))                              \
    BN_KERNEL_BLOCK_FORMAT(X, q8_0)                                                                          \
    BN_KERNEL_BLOCK_FORMAT(X, q4_0)                                                                          \
    BN_KERNEL_BLOCK_FORMAT(X, q6_k)                                                                          \
    BN_KERNEL_BLOCK_FORMAT(X, q4_k)

#endif
