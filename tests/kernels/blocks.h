/* SPDX-License-Identifier: MIT
 * The block formats by their definition, value by value: what a file's bytes mean. */
#ifndef TESTS_KERNELS_BLOCKS_H
#define TESTS_KERNELS_BLOCKS_H

#include "tests/kernels/checkkernel.h"

enum block_format { Q8_0, Q4_0, Q6_K, Q4_K, N_BLOCK_FORMATS };

/* Values and bytes of a block. */
static const size_t block_values[] = {32, 32, 256, 256}, block_bytes[] = {34, 18, 210, 144};

/* Where a block's F16 scale lies in a file. */
static const size_t block_d[] = {0, 0, 208, 0};

/* The stored number of value e: Q8_0 -128 … 127, Q4_0 and Q4_K 0 … 15, Q6_K 0 … 63. */
static inline int block_code(enum block_format f, const uint8_t *w, size_t e)
{
    size_t half = e / 128, quarter = e % 128 / 32, i = e % 32;

    switch (f) {
    case Q8_0:
        return (int8_t)w[2 + e];
    case Q4_0:
        return e < 16 ? w[2 + e] % 16 : w[2 + e - 16] / 16;
    case Q4_K: /* 64 values in 32 bytes */
        return e / 32 % 2 == 0 ? w[16 + e / 64 * 32 + i] % 16 : w[16 + e / 64 * 32 + i] / 16;
    default: {
        int low = w[64 * half + 32 * (quarter & 1) + i];
        int high = w[128 + 32 * half + i];

        return (quarter < 2 ? low % 16 : low / 16) + high / (1 << 2 * quarter) % 4 * 16;
    }
    }
}

/* What is subtracted from it. */
static const int block_zero[] = {0, 8, 32, 0};

/* Scale and minimum of the sub-block of value e; 1 and 0 where a format has none. */
static inline int block_scale(enum block_format f, const uint8_t *w, size_t e)
{
    const uint8_t *b = w + 4;
    size_t j = e / 32;

    if (f == Q6_K)
        return (int8_t)w[192 + e / 16];
    if (f == Q4_K)
        return j < 4 ? b[j] % 64 : b[j + 4] % 16 + b[j - 4] / 64 * 16;
    return 1;
}

static inline int block_minimum(enum block_format f, const uint8_t *w, size_t e)
{
    const uint8_t *b = w + 4;
    size_t j = e / 32;

    if (f != Q4_K)
        return 0;
    return j < 4 ? b[j + 4] % 64 : b[j + 4] / 16 + b[j] / 64 * 16;
}

static inline float block_half(const uint8_t *w)
{
    return (float)half_value((uint16_t)(w[0] | w[1] << 8));
}

/* A block of random bytes with scales between 2^-24 and 2^5. */
static inline void random_block(struct check *c, enum block_format f, uint8_t *w)
{
    size_t places[2] = {block_d[f], 2};

    for (size_t i = 0; i < block_bytes[f]; i++)
        w[i] = (uint8_t)check_random(c);
    for (size_t i = 0; i < (f == Q4_K ? 2 : 1); i++) {
        unsigned h = (unsigned)(check_below(c, 2) << 15 | check_below(c, 20 << 10));
        w[places[i]] = (uint8_t)h;
        w[places[i] + 1] = (uint8_t)(h >> 8);
    }
}

#endif
