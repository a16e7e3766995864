/* SPDX-License-Identifier: MIT
 * Ternary rows of every file format as codes, one a byte: a weight is (code - 1) * scale.
 *
 * codes: [k], 0 … 3. Where a format has a scale for each block of values, scales: one F16 a block.
 * Pure: pointers and sizes in, bytes out. Threads: any. Allocates: nothing. Cannot fail.
 * Source: docs/formats.md#i2_s, #tq1_0-and-tq2_0. */
#ifndef KERNELS_UNPACK_H
#define KERNELS_UNPACK_H

#include <stddef.h>
#include <stdint.h>

enum {
    BN_I2S_BLOCK = 128, /* values */
    BN_BITNET32_BLOCK = 32,
    BN_BITNET32_BYTES = 10,
    BN_TQ_BLOCK = 256,
    BN_TQ1_0_BYTES = 54,
    BN_TQ2_0_BYTES = 66,
};

/* I2_S and QK256; k a multiple of 128. */
void bn_unpack_i2s(const uint8_t *restrict w, uint8_t *restrict codes, size_t k);
/* BITNET32; k a multiple of 32. Its weights are (code - 2) * scale: what comes out is the same with both
 * signs turned. */
void bn_unpack_bitnet32(const uint8_t *w, uint8_t *codes, uint16_t *scales, size_t k);
/* k a multiple of 256. */
void bn_unpack_tq1_0(const uint8_t *w, uint8_t *codes, uint16_t *scales, size_t k);
void bn_unpack_tq2_0(const uint8_t *w, uint8_t *codes, uint16_t *scales, size_t k);

#endif
