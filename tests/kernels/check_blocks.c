/* SPDX-License-Identifier: MIT
 * checkkernel: products of the block formats and their tiles, exact. */
#include "tests/kernels/blocks.h"

#include <stdlib.h>
#include <string.h>

/* ---- tiles, by their definition ---- */

static void put(uint8_t *at, int value, int shift)
{
    *at = (uint8_t)(*at | value << shift);
}

/* Value e of row `lane` into the tile's block. */
static void put_value(enum block_format f, uint8_t *tile, size_t lane, size_t e, int code)
{
    size_t quarter = e % 128 / 32, i = e % 32, sub = e / 32, group = e / 128 * 2 + i / 16;

    switch (f) {
    case Q8_0:
        put(tile + 64 + e / 4 * 128 + 4 * lane + e % 4, code + 128, 0);
        return;
    case Q4_0:
        put(tile + 64 + e % 16 / 4 * 128 + 4 * lane + e % 4, code, e < 16 ? 0 : 4);
        return;
    case Q4_K:
        put(tile + 512 + sub / 2 * 1024 + i / 4 * 128 + 4 * lane + i % 4, code, sub % 2 ? 4 : 0);
        return;
    default: {
        uint8_t *step = tile + 64 + group * 1664 + 128 + i % 16 / 4 * 384 + 4 * lane + i % 4;

        put(step + (quarter & 1) * 128, code % 16, quarter < 2 ? 0 : 4);
        put(step + 256, code / 16, 2 * (int)quarter);
    }
    }
}

static void put_scales(enum block_format f, uint8_t *tile, size_t lane, const uint8_t *w)
{
    memcpy(tile + 2 * lane, w + block_d[f], 2);
    if (f == Q4_K)
        memcpy(tile + 64 + 2 * lane, w + 2, 2);
    for (size_t j = 0; f == Q4_K && j < 8; j++) {
        int sc = block_scale(f, w, 32 * j), min = block_minimum(f, w, 32 * j);

        put(tile + 128 + 32 * j + lane, sc % 16 + min % 16 * 16, 0);
        put(tile + 384 + 32 * (j / 2) + lane, sc / 16 + min / 16 * 4, j % 2 ? 4 : 0);
    }
    for (size_t j = 0; f == Q6_K && j < 16; j++)
        tile[64 + (j / 8 * 2 + j % 2) * 1664 + 4 * lane + j % 8 / 2] = w[192 + j];
}

static void make_tiles(enum block_format f, const uint8_t *rows, uint8_t *tiles, size_t n_rows, size_t k)
{
    size_t n_blocks = k / block_values[f];

    memset(tiles, 0, (n_rows + 31) / 32 * 32 * n_blocks * block_bytes[f]);
    for (size_t r = 0; r < n_rows; r++) {
        for (size_t b = 0; b < n_blocks; b++) {
            const uint8_t *w = rows + (r * n_blocks + b) * block_bytes[f];
            uint8_t *tile = tiles + (r / 32 * n_blocks + b) * 32 * block_bytes[f];

            put_scales(f, tile, r % 32, w);
            for (size_t e = 0; e < block_values[f]; e++)
                put_value(f, tile, r % 32, e, block_code(f, w, e));
        }
    }
}

/* ---- products ---- */

/* Row times column, block after block. */
static float expected_product(enum block_format f, const uint8_t *w, const int8_t *q, const float *d,
                              size_t n_blocks)
{
    volatile float y = 0.0f, factor, term;

    for (size_t b = 0; b < n_blocks; b++, w += block_bytes[f], q += block_values[f]) {
        int32_t sum = 0, minima = 0;

        for (size_t e = 0; e < block_values[f]; e++) {
            sum += block_scale(f, w, e) * (block_code(f, w, e) - block_zero[f]) * q[e];
            minima += block_minimum(f, w, e) * q[e];
        }
        if (f == Q4_K) {
            factor = block_half(w + 2) * d[b];
            term = factor * (float)minima;
            y = y - term;
        }
        factor = block_half(w + block_d[f]) * d[b];
        term = factor * (float)sum;
        y = y + term;
    }
    return y;
}

static void multiply(const struct bn_kernels *k, enum block_format f, bool gemv, const uint8_t *w,
                     const struct bn_q8 *x, float *y, size_t ldy, size_t n_rows, size_t n, size_t cols)
{
#define CASE(FORMAT, format)                                                                                 \
    if (f == FORMAT && gemv)                                                                                 \
        k->format##_gemv(w, x, y, n_rows, n);                                                                \
    else if (f == FORMAT)                                                                                    \
    k->format##_gemm(w, x, y, ldy, n_rows, n, cols)
    CASE(Q8_0, q8_0);
    CASE(Q4_0, q4_0);
    CASE(Q6_K, q6_k);
    CASE(Q4_K, q4_k);
#undef CASE
}

/* Activations: any, all the lowest, all the highest, or in turns. */
static int8_t activation(struct check *c, int fill, size_t i)
{
    switch (fill) {
    case 0:
        return -127;
    case 1:
        return 127;
    case 2:
        return i % 2 ? 127 : -127;
    default:
        return (int8_t)((int)check_below(c, 255) - 127);
    }
}

static void fill_activations(struct check *c, struct bn_q8 *x, size_t cols, size_t k, size_t block)
{
    size_t per_sum = block == 32 ? 32 : 16;
    int fill = (int)check_below(c, 6);

    x->q = check_in(c, cols * k, 1);
    x->d = check_in(c, cols * k / block, sizeof *x->d);
    x->sum = check_in(c, cols * k / per_sum, sizeof *x->sum);
    for (size_t i = 0; i < cols * k / block; i++)
        x->d[i] = check_float(c, 0.1f);
    for (size_t i = 0; i < cols * k; i++) {
        x->q[i] = activation(c, fill, i);
        x->sum[i / per_sum] = (int16_t)((i % per_sum ? x->sum[i / per_sum] : 0) + x->q[i]);
    }
}

/* Codes of one kind: as they are, or all bits 0 or 1. */
static uint8_t *new_rows(struct check *c, enum block_format f, size_t n_blocks)
{
    uint8_t *rows = malloc(n_blocks * block_bytes[f]);
    size_t fill = check_below(c, 5), from[] = {2, 2, 0, 4}, to[] = {34, 18, 208, 144};

    for (size_t b = 0; b < n_blocks; b++) {
        uint8_t *w = rows + b * block_bytes[f];

        random_block(c, f, w);
        if (fill < 2)
            memset(w + from[f], fill ? 0xff : 0, to[f] - from[f]);
    }
    return rows;
}

static void product_case(struct check *c, enum block_format f, size_t n_rows, size_t k, size_t n_cols)
{
    const size_t cols = n_cols ? n_cols : 1, ldy = n_cols ? n_rows + check_below(c, 4) : n_rows;
    const size_t n_blocks = k / block_values[f], row_bytes = n_blocks * block_bytes[f];
    uint8_t *rows = new_rows(c, f, n_rows * n_blocks), *w;
    struct bn_q8 x;
    float *y;

    check_case(c, "%zu rows, k %zu, %zu columns, ldy %zu", n_rows, k, cols, ldy);
    w = check_in(c, (n_rows + 31) / 32 * 32 * row_bytes, 1);
    y = check_out(c, (cols - 1) * ldy + n_rows, sizeof *y);
    make_tiles(f, rows, w, n_rows, k);
    fill_activations(c, &x, cols, k, block_values[f]);
    check_call(c);
    multiply(c->kernels, f, n_cols == 0, w, &x, y, ldy, n_rows, k, cols);
    check_done(c);
    for (size_t j = 0; j < cols; j++) {
        for (size_t r = 0; r < n_rows; r++)
            check_exact(c, "y", j * ldy + r, y[j * ldy + r],
                        expected_product(f, rows + r * row_bytes, x.q + j * k, x.d + j * n_blocks, n_blocks));
        for (size_t i = j * ldy + n_rows; j + 1 < cols && i < (j + 1) * ldy; i++) {
            uint32_t bits;

            memcpy(&bits, &y[i], sizeof bits);
            check_int(c, "gap of y", i, bits, 0xa5a5a5a5);
        }
    }
    free(rows);
}

static size_t any_k(struct check *c, enum block_format f)
{
    return block_values[f] * check_between(c, 1, block_values[f] == 32 ? 24 : 5);
}

static void gemv_cases(struct check *c, enum block_format f)
{
    product_case(c, f, 33, 2560, 0);
    product_case(c, f, 2, 16384, 0);
    for (int i = 0; i < 80 && !check_failed(c); i++)
        product_case(c, f, check_between(c, 1, 70), any_k(c, f), 0);
}

static void gemm_cases(struct check *c, enum block_format f)
{
    static const size_t cols[] = {1, 2, 3, 4, 5, 6, 7, 8, 9, 11, 13, 17, 33};

    product_case(c, f, 3, 8192, 70); /* activations in more than one group */
    for (size_t i = 0; i < 80 && !check_failed(c); i++)
        product_case(c, f, check_between(c, 1, 70), any_k(c, f), cols[i % 13]);
}

static void pack_rows(const struct bn_kernels *k, enum block_format f, const uint8_t *w, uint8_t *packed,
                      size_t n_rows, size_t n)
{
    (f == Q8_0   ? k->q8_0_pack
     : f == Q4_0 ? k->q4_0_pack
     : f == Q6_K ? k->q6_k_pack
                 : k->q4_k_pack)(w, packed, n_rows, n);
}

static void pack_cases(struct check *c, enum block_format f)
{
    for (int i = 0; i < 60 && !check_failed(c); i++) {
        size_t n_rows = check_between(c, 1, 100), k = any_k(c, f), n_blocks = n_rows * (k / block_values[f]);
        size_t packed_bytes = (n_rows + 31) / 32 * 32 * (k / block_values[f]) * block_bytes[f];
        uint8_t *rows = new_rows(c, f, n_blocks), *expected = malloc(packed_bytes), *w, *packed;

        check_case(c, "%zu rows, k %zu", n_rows, k);
        w = check_in(c, n_blocks * block_bytes[f], 1);
        packed = check_out(c, packed_bytes, 1);
        memcpy(w, rows, n_blocks * block_bytes[f]);
        make_tiles(f, rows, expected, n_rows, k);
        check_call(c);
        pack_rows(c->kernels, f, w, packed, n_rows, k);
        check_done(c);
        for (size_t j = 0; j < packed_bytes; j++)
            check_int(c, "packed", j, packed[j], expected[j]);
        free(rows);
        free(expected);
    }
}

#define CHECKS(FORMAT, format)                                                                               \
    void check_##format##_gemv(struct check *c)                                                              \
    {                                                                                                        \
        gemv_cases(c, FORMAT);                                                                               \
    }                                                                                                        \
    void check_##format##_gemm(struct check *c)                                                              \
    {                                                                                                        \
        gemm_cases(c, FORMAT);                                                                               \
    }                                                                                                        \
    void check_##format##_pack(struct check *c)                                                              \
    {                                                                                                        \
        pack_cases(c, FORMAT);                                                                               \
    }
CHECKS(Q8_0, q8_0)
CHECKS(Q4_0, q4_0)
CHECKS(Q6_K, q6_k)
CHECKS(Q4_K, q4_k)
