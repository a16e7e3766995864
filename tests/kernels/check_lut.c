/* SPDX-License-Identifier: MIT
 * checkkernel: products by look-up, exact. */
#include "tests/kernels/checkkernel.h"

#include <stdlib.h>
#include <string.h>

enum { ROWS = 64 }; /* of a tile */

enum fill { RANDOM, ALL_MIN, ALL_MAX, ALTERNATING, ZERO, N_FILLS };
static const char *const fill_names[] = {"random", "all-min", "all-max", "alternating", "zero"};

/* -1 … 1, as whole triples and pairs of one sign or changing from weight to weight. */
static int new_weight(struct check *c, enum fill fill, size_t i)
{
    switch (fill) {
    case ALL_MIN:
        return -1;
    case ALL_MAX:
        return 1;
    case ALTERNATING:
        return i % 2 ? 1 : -1;
    case ZERO:
        return 0;
    default:
        return (int)check_below(c, 3) - 1;
    }
}

static int8_t new_activation(struct check *c, enum fill fill, size_t i)
{
    switch (fill) {
    case ALL_MIN:
        return -128;
    case ALL_MAX:
        return 127;
    case ALTERNATING:
        return i % 2 ? 127 : -128;
    case ZERO:
        return 0;
    default:
        return (int8_t)check_between(c, 0, 255);
    }
}

/* ---- the formats, by their description ---- */

static size_t groups_of(bool triples, size_t k)
{
    return triples ? k / 24 : 0;
}

static size_t tile_bytes(bool triples, size_t k)
{
    size_t groups = groups_of(triples, k);

    return (triples ? 256 : 0) + groups * 320 + (k - 24 * groups) / 4 * 64;
}

static size_t table_bytes(bool triples, size_t k)
{
    size_t groups = groups_of(triples, k);

    return (groups * 8 + (k - 24 * groups) / 2) * 32;
}

/* Row r of a tile; w: [k]. */
static void pack_row(bool triples, const int8_t *w, uint8_t *tile, size_t r, size_t k)
{
    size_t place = 4 * (r % 16) + r / 16, groups = groups_of(triples, k);
    int32_t turned = 0;
    uint8_t *pairs = tile + (triples ? 256 : 0) + groups * 320;

    for (size_t t = 0; t < groups * 8; t++) {
        int v = 9 * w[3 * t] + 3 * w[3 * t + 1] + w[3 * t + 2];
        uint8_t *group = tile + 256 + t / 8 * 320 + place, *index = group + (t % 8 / 2 + 1) * 64;

        *group = (uint8_t)((t % 8 ? *group : 0) | (v < 0) << (7 - t % 8));
        *index = (uint8_t)((t % 2 ? *index : 0) | abs(v) << t % 2 * 4);
        turned += v < 0;
    }
    if (triples)
        memcpy(tile + 4 * r, &turned, sizeof turned);
    w += 24 * groups;
    for (size_t p = 0; p < (k - 24 * groups) / 2; p++) {
        uint8_t *index = pairs + p / 2 * 64 + place;

        *index = (uint8_t)((p % 2 ? *index : 0) | (3 * w[2 * p] + w[2 * p + 1] + 4) << p % 2 * 4);
    }
}

static void put(uint8_t *table, int index, int value)
{
    table[index] = (uint8_t)value;
    table[16 + index] = (uint8_t)(value >> 8);
}

static void make_table(bool triples, const int8_t *x, uint8_t *table, size_t k)
{
    size_t groups = groups_of(triples, k);

    memset(table, 0, table_bytes(triples, k));
    for (size_t t = 0; t < groups * 8; t++, x += 3, table += 32) {
        for (int u = -1; u <= 1; u++) {
            for (int v = -1; v <= 1; v++) {
                for (int w = -1; w <= 1; w++) {
                    if (9 * u + 3 * v + w >= 0)
                        put(table, 9 * u + 3 * v + w, u * x[0] + v * x[1] + w * x[2]);
                }
            }
        }
    }
    for (size_t i = 24 * groups; i < k; i += 2, x += 2, table += 32) {
        for (int u = -1; u <= 1; u++) {
            for (int v = -1; v <= 1; v++)
                put(table, 3 * u + v + 4, u * x[0] + v * x[1]);
        }
    }
}

/* ---- cases ---- */

static size_t any_k(struct check *c)
{
    static const size_t usual[] = {128, 256, 2560, 6912, 24, 20, 4};

    return check_below(c, 3) == 0 ? usual[check_below(c, 7)] : 4 * check_between(c, 1, 300);
}

static void table_cases(struct check *c, bool triples)
{
    for (int i = 0; i < 200 && !check_failed(c); i++) {
        size_t k = any_k(c);
        enum fill fill = (enum fill)check_below(c, N_FILLS);
        uint8_t *table, *expected = malloc(table_bytes(triples, k) + 1);
        int8_t *x;

        check_case(c, "k %zu, x %s", k, fill_names[fill]);
        x = check_in(c, k, 1);
        table = check_out(c, table_bytes(triples, k), 1);
        for (size_t j = 0; j < k; j++)
            x[j] = new_activation(c, fill, j);
        make_table(triples, x, expected, k);
        check_call(c);
        (triples ? c->kernels->tl2_table : c->kernels->tl1_table)(x, table, k);
        check_done(c);
        for (size_t j = 0; j < table_bytes(triples, k); j++)
            check_int(c, "table", j, table[j], expected[j]);
        free(expected);
    }
}

static void product_case(struct check *c, bool triples, size_t n_rows, size_t k, size_t n_cols,
                         enum fill w_fill, enum fill x_fill)
{
    const bool gemv = n_cols == 0;
    const size_t cols = gemv ? 1 : n_cols, ldy = n_rows + (gemv ? 0 : check_below(c, 4));
    const size_t tiles = (n_rows + ROWS - 1) / ROWS;
    const struct bn_kernels *f = c->kernels;
    int8_t *weights = calloc(tiles * ROWS, k), *x = malloc(cols * k);
    uint8_t *w, *tables;
    int32_t *y;

    check_case(c, "%zu rows, k %zu, %zu columns, ldy %zu, w %s, x %s", n_rows, k, cols, ldy,
               fill_names[w_fill], fill_names[x_fill]);
    w = check_in(c, tiles * tile_bytes(triples, k), 1);
    tables = check_in(c, cols * table_bytes(triples, k), 1);
    y = check_out(c, (cols - 1) * ldy + n_rows, sizeof *y);
    for (size_t i = 0; i < n_rows * k; i++)
        weights[i] = (int8_t)new_weight(c, w_fill, i);
    for (size_t r = 0; r < tiles * ROWS; r++)
        pack_row(triples, weights + r * k, w + r / ROWS * tile_bytes(triples, k), r % ROWS, k);
    for (size_t j = 0; j < cols; j++) {
        for (size_t i = 0; i < k; i++)
            x[j * k + i] = new_activation(c, x_fill, i);
        make_table(triples, x + j * k, tables + j * table_bytes(triples, k), k);
    }
    check_call(c);
    if (gemv)
        (triples ? f->tl2_gemv : f->tl1_gemv)(w, tables, y, n_rows, k);
    else
        (triples ? f->tl2_gemm : f->tl1_gemm)(w, tables, y, ldy, n_rows, k, cols);
    check_done(c);
    for (size_t j = 0; j < cols; j++) {
        for (size_t r = 0; r < n_rows; r++) {
            int64_t sum = 0;

            for (size_t i = 0; i < k; i++)
                sum += weights[r * k + i] * x[j * k + i];
            check_int(c, "y", j * ldy + r, y[j * ldy + r], sum);
        }
        for (size_t i = j * ldy + n_rows; j + 1 < cols && i < (j + 1) * ldy; i++)
            check_int(c, "gap of y", i, y[i], (int32_t)0xa5a5a5a5);
    }
    free(weights);
    free(x);
}

static void product_cases(struct check *c, bool triples, bool gemv)
{
    for (int w = 0; w < N_FILLS && !check_failed(c); w++) {
        for (int x = 0; x < N_FILLS && !check_failed(c); x++)
            product_case(c, triples, check_between(c, 60, 70), 6912, gemv ? 0 : 2, (enum fill)w,
                         (enum fill)x);
    }
    for (int i = 0; i < 100 && !check_failed(c); i++)
        product_case(c, triples, check_between(c, 1, 140), any_k(c), gemv ? 0 : check_between(c, 1, 5),
                     (enum fill)check_below(c, N_FILLS), (enum fill)check_below(c, N_FILLS));
}

void check_tl1_table(struct check *c)
{
    table_cases(c, false);
}

void check_tl2_table(struct check *c)
{
    table_cases(c, true);
}

void check_tl1_gemv(struct check *c)
{
    product_cases(c, false, true);
}

void check_tl1_gemm(struct check *c)
{
    product_cases(c, false, false);
}

void check_tl2_gemv(struct check *c)
{
    product_cases(c, true, true);
}

void check_tl2_gemm(struct check *c)
{
    product_cases(c, true, false);
}
