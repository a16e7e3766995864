/* SPDX-License-Identifier: MIT
 * checkkernel: ternary products and activations, exact. */
#include "tests/kernels/checkkernel.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

/* ---- I2_S: codes first, packed by the format's definition ---- */

enum fill { RANDOM, ALL_MIN, ALL_MAX, ALTERNATING, VALID, N_FILLS };
static const char *const fill_names[] = {"random", "all-min", "all-max", "alternating", "valid"};

/* One code: any of 0…3 at random, the extreme ones of a damaged file too, or 0…2 as a valid file has them. */
static int new_code(struct check *c, enum fill fill, size_t i)
{
    switch (fill) {
    case ALL_MIN:
        return 0;
    case ALL_MAX:
        return 3;
    case ALTERNATING:
        return i % 2 ? 2 : 0;
    case VALID:
        return (int)check_below(c, 3);
    default:
        return (int)check_below(c, 4);
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
    default:
        return (int8_t)check_between(c, 0, 255);
    }
}

/* Files: code j of a block of 128 lies in byte j mod 32 from bit 6 - 2 * (j div 32) on. */
static void pack_rows(const uint8_t *codes, uint8_t *w, size_t n)
{
    memset(w, 0, n / 4);
    for (size_t e = 0; e < n; e++) {
        size_t j = e % 128;

        w[e / 128 * 32 + j % 32] |= (uint8_t)(codes[e] << (6 - 2 * (j / 32)));
    }
}

/* Tiles: code j of 16 lies in byte j mod 4 of the row's four in the piece, from bit 6 - 2 * (j div 4) on.
 * Rows that the last tile has too many are `rest` in all their codes. */
static void pack_tiles(const uint8_t *codes, uint8_t *w, size_t n_rows, size_t k, int rest)
{
    for (size_t r = 0; r < (n_rows + 31) / 32 * 32; r++) {
        for (size_t i = 0; i < k; i++) {
            size_t byte = r / 32 * 8 * k + i / 16 * 128 + r % 32 * 4 + i % 4, j = i % 16;
            int code = r < n_rows ? codes[r * k + i] : rest;

            w[byte] = (uint8_t)((j < 4 ? 0 : w[byte]) | code << (6 - 2 * (j / 4)));
        }
    }
}

enum order { ROWS, TILES };

static void multiply(struct check *c, enum order order, bool gemv, const uint8_t *w, const int8_t *x,
                     const int32_t *x_sum, int32_t *y, size_t ldy, size_t n_rows, size_t k, size_t cols)
{
    const struct bn_kernels *f = c->kernels;

    check_call(c);
    if (gemv)
        (order == TILES ? f->i2s_gemv : f->qk256_gemv)(w, x, x_sum[0], y, n_rows, k);
    else
        (order == TILES ? f->i2s_gemm : f->qk256_gemm)(w, x, x_sum, y, ldy, n_rows, k, cols);
    check_done(c);
}

/* One product, as GEMV (n_cols 0) or GEMM, in one order of the codes. */
static void product_case(struct check *c, enum order order, size_t n_rows, size_t k, size_t n_cols,
                         enum fill w_fill, enum fill x_fill)
{
    const bool gemv = n_cols == 0;
    const size_t cols = gemv ? 1 : n_cols, ldy = gemv ? n_rows : n_rows + check_below(c, 4);
    uint8_t *w, *codes = malloc(n_rows * k);
    int8_t *x;
    int32_t *x_sum, *y;

    check_case(c, "%zu rows, k %zu, %zu columns, ldy %zu, w %s, x %s", n_rows, k, cols, ldy,
               fill_names[w_fill], fill_names[x_fill]);
    w = check_in(c, (order == TILES ? (n_rows + 31) / 32 * 32 : n_rows) * k / 4, 1);
    x = check_in(c, cols * k, 1);
    x_sum = check_in(c, cols, sizeof *x_sum);
    y = check_out(c, (cols - 1) * ldy + n_rows, sizeof *y);
    for (size_t i = 0; i < n_rows * k; i++)
        codes[i] = (uint8_t)new_code(c, w_fill, i);
    if (order == TILES)
        pack_tiles(codes, w, n_rows, k, (int)check_below(c, 4));
    else
        pack_rows(codes, w, n_rows * k);
    for (size_t j = 0; j < cols; j++) {
        x_sum[j] = 0;
        for (size_t i = 0; i < k; i++)
            x_sum[j] += x[j * k + i] = new_activation(c, x_fill, i);
    }
    multiply(c, order, gemv, w, x, x_sum, y, ldy, n_rows, k, cols);
    for (size_t j = 0; j < cols; j++) {
        for (size_t r = 0; r < n_rows; r++) {
            int64_t sum = 0;

            for (size_t i = 0; i < k; i++)
                sum += (codes[r * k + i] - 1) * x[j * k + i];
            check_int(c, "y", j * ldy + r, y[j * ldy + r], sum);
        }
        for (size_t i = j * ldy + n_rows; j + 1 < cols && i < (j + 1) * ldy; i++)
            check_int(c, "gap of y", i, y[i], (int32_t)0xa5a5a5a5);
    }
    free(codes);
}

static size_t any_k(struct check *c, enum order order)
{
    static const size_t usual[] = {128, 256, 384, 2560, 6912};
    const size_t unit = order == TILES ? 16 : 128;

    return check_below(c, 4) == 0 ? usual[check_below(c, 5)] : unit * check_between(c, 1, 24 * 128 / unit);
}

static void gemv_cases(struct check *c, enum order order)
{
    for (int w = 0; w < N_FILLS && !check_failed(c); w++) {
        for (int x = 0; x < N_FILLS && !check_failed(c); x++)
            product_case(c, order, check_between(c, 9, 11), w == x ? 16384 : 6912, 0, (enum fill)w,
                         (enum fill)x);
    }
    for (int i = 0; i < 150 && !check_failed(c); i++)
        product_case(c, order, i % 3 ? check_between(c, 1, 70) : check_between(c, 97, 330), any_k(c, order),
                     0, (enum fill)check_below(c, N_FILLS), (enum fill)check_below(c, N_FILLS));
}

static void gemm_cases(struct check *c, enum order order)
{
    static const size_t cols[] = {1,  2,  3,  4,  5,  6,  7,  8,  9,  10, 11, 12, 13,
                                  16, 17, 21, 22, 25, 31, 33, 47, 48, 53, 64, 97};
    enum { N_COLS = sizeof cols / sizeof cols[0] };

    for (int w = 0; w < N_FILLS && !check_failed(c); w++) {
        for (int x = 0; x < N_FILLS && !check_failed(c); x++)
            product_case(c, order, check_between(c, 14, 35), w == x ? 4096 : 2560,
                         cols[check_below(c, N_COLS)], (enum fill)w, (enum fill)x);
    }
    for (int i = 0; i < 150 && !check_failed(c); i++)
        product_case(c, order, check_between(c, 1, 110), any_k(c, order), cols[i % N_COLS],
                     (enum fill)check_below(c, N_FILLS), (enum fill)check_below(c, N_FILLS));
}

void check_i2s_gemv(struct check *c)
{
    gemv_cases(c, TILES);
}

void check_i2s_gemm(struct check *c)
{
    gemm_cases(c, TILES);
}

void check_qk256_gemv(struct check *c)
{
    gemv_cases(c, ROWS);
}

void check_qk256_gemm(struct check *c)
{
    gemm_cases(c, ROWS);
}

/* ---- block scales ---- */

/* One product by its definition, every operation rounded to float; scales: [n_rows][k / block]. */
static float block_product(const uint8_t *codes, const uint16_t *scales, const int8_t *x, size_t k,
                           size_t block, float act_scale)
{
    volatile float total = 0.0f, part;

    for (size_t b = 0; b < k / block; b++) {
        int64_t sum = 0;

        for (size_t i = b * block; i < (b + 1) * block; i++)
            sum += (codes[i] - 1) * x[i];
        part = (float)sum;
        part = part * (float)half_value(scales[b]);
        total = total + part;
    }
    total = total / act_scale;
    return total;
}

/* Tiles: before the pieces of each block the 32 rows' scales. */
static void pack_block_tiles(const uint8_t *codes, const uint16_t *scales, uint8_t *w, size_t n_rows,
                             size_t k, size_t block, int rest)
{
    uint8_t *pieces = malloc((n_rows + 31) / 32 * 8 * k), *from = pieces;

    pack_tiles(codes, pieces, n_rows, k, rest);
    for (size_t tile = 0; tile < n_rows; tile += 32) {
        for (size_t b = 0; b < k / block; b++, w += 64 + 8 * block, from += 8 * block) {
            for (size_t r = 0; r < 32; r++) {
                uint16_t scale = tile + r < n_rows ? scales[(tile + r) * (k / block) + b] : 0;

                memcpy(w + 2 * r, &scale, sizeof scale);
            }
            memcpy(w + 64, from, 8 * block);
        }
    }
    free(pieces);
}

static void block_case(struct check *c, size_t n_rows, size_t n_blocks, size_t block, size_t n_cols,
                       enum fill w_fill, enum fill x_fill)
{
    const bool gemv = n_cols == 0;
    const size_t k = n_blocks * block, cols = gemv ? 1 : n_cols,
                 ldy = n_rows + (gemv ? 0 : check_below(c, 4));
    uint8_t *w, *codes = malloc(n_rows * k);
    uint16_t *scales = malloc(n_rows * n_blocks * sizeof *scales);
    int8_t *x;
    int32_t *x_sums;
    float *act_scale, *y;

    check_case(c, "%zu rows, %zu blocks of %zu, %zu columns, ldy %zu, w %s, x %s", n_rows, n_blocks, block,
               cols, ldy, fill_names[w_fill], fill_names[x_fill]);
    w = check_in(c, (n_rows + 31) / 32 * (8 * k + 64 * n_blocks), 1);
    x = check_in(c, cols * k, 1);
    x_sums = check_in(c, cols * k / 32, sizeof *x_sums);
    act_scale = check_in(c, cols, sizeof *act_scale);
    y = check_out(c, (cols - 1) * ldy + n_rows, sizeof *y);
    for (size_t i = 0; i < n_rows * k; i++)
        codes[i] = (uint8_t)new_code(c, w_fill, i);
    for (size_t i = 0; i < n_rows * n_blocks; i++)
        scales[i] = check_half(c);
    pack_block_tiles(codes, scales, w, n_rows, k, block, (int)check_below(c, 4));
    memset(x_sums, 0, cols * k / 32 * sizeof *x_sums);
    for (size_t i = 0; i < cols * k; i++)
        x_sums[i / 32] += x[i] = new_activation(c, x_fill, i);
    for (size_t j = 0; j < cols; j++)
        act_scale[j] = 0.01f + fabsf(check_float(c, 500.0f));
    check_call(c);
    if (gemv)
        c->kernels->i2s_block_gemv(w, x, x_sums, act_scale[0], y, n_rows, k, block);
    else
        c->kernels->i2s_block_gemm(w, x, x_sums, act_scale, y, ldy, n_rows, k, block, cols);
    check_done(c);
    for (size_t j = 0; j < cols; j++) {
        for (size_t r = 0; r < n_rows; r++)
            check_exact(
                c, "y", j * ldy + r, y[j * ldy + r],
                block_product(codes + r * k, scales + r * n_blocks, x + j * k, k, block, act_scale[j]));
    }
    free(codes);
    free(scales);
}

static void block_cases(struct check *c, bool gemv)
{
    static const size_t blocks[] = {32, 256, 64, 96, 32, 256, 4096};
    static const size_t cols[] = {1, 2, 3, 4, 5, 6, 7, 12, 13, 17};

    for (int w = 0; w < N_FILLS && !check_failed(c); w++) {
        for (int x = 0; x < N_FILLS && !check_failed(c); x++)
            block_case(c, check_between(c, 9, 35), 10, 256, gemv ? 0 : cols[check_below(c, 10)], (enum fill)w,
                       (enum fill)x);
    }
    for (int i = 0; i < 150 && !check_failed(c); i++) {
        size_t block = blocks[i % 7];

        block_case(c, check_between(c, 1, 70), check_between(c, 1, block > 1000 ? 1 : 2560 / block), block,
                   gemv ? 0 : cols[i % 10], (enum fill)check_below(c, N_FILLS),
                   (enum fill)check_below(c, N_FILLS));
    }
}

void check_i2s_block_gemv(struct check *c)
{
    block_cases(c, true);
}

void check_i2s_block_gemm(struct check *c)
{
    block_cases(c, false);
}

void check_i8_block_sums(struct check *c)
{
    for (int i = 0; i < 100 && !check_failed(c); i++) {
        size_t n = 32 * check_between(c, 0, 60);
        enum fill fill = (enum fill)check_below(c, N_FILLS);
        int32_t *sums;
        int8_t *x;

        check_case(c, "n %zu, x %s", n, fill_names[fill]);
        x = check_in(c, n, 1);
        sums = check_out(c, n / 32, sizeof *sums);
        for (size_t j = 0; j < n; j++)
            x[j] = new_activation(c, fill, j);
        check_call(c);
        c->kernels->i8_block_sums(x, sums, n);
        check_done(c);
        for (size_t b = 0; b < n / 32; b++) {
            int64_t expected = 0;

            for (size_t j = 0; j < 32; j++)
                expected += x[32 * b + j];
            check_int(c, "sums", b, sums[b], expected);
        }
    }
}

void check_i2s_pack(struct check *c)
{
    for (int i = 0; i < 100 && !check_failed(c); i++) {
        size_t n_rows = check_between(c, 1, 100), k = 128 * check_between(c, 1, i % 10 ? 8 : 54);
        size_t n_tiles = (n_rows + 31) / 32;
        uint8_t *codes = malloc(n_rows * k), *expected = malloc(n_tiles * 8 * k), *w, *packed;
        enum fill fill = (enum fill)check_below(c, N_FILLS);

        check_case(c, "%zu rows, k %zu, w %s", n_rows, k, fill_names[fill]);
        w = check_in(c, n_rows * k / 4, 1);
        packed = check_out(c, n_tiles * 8 * k, 1);
        for (size_t j = 0; j < n_rows * k; j++)
            codes[j] = (uint8_t)new_code(c, fill, j);
        pack_rows(codes, w, n_rows * k);
        pack_tiles(codes, expected, n_rows, k, 1);
        check_call(c);
        c->kernels->i2s_pack(w, packed, n_rows, k);
        check_done(c);
        for (size_t j = 0; j < n_tiles * 8 * k; j++)
            check_int(c, "packed", j, packed[j], expected[j]);
        free(codes);
        free(expected);
    }
}

/* ---- activations ---- */

/* Nearest whole number, the even one of two equally near ones; no rounding mode involved. */
static int nearest_even(float v)
{
    float below = floorf(v), rest = v - below; /* both exact */
    int whole = (int)below;

    if (rest > 0.5f || (rest == 0.5f && whole % 2 != 0))
        whole++;
    return whole < -128 ? -128 : whole > 127 ? 127 : whole;
}

static void quantize_compare(struct check *c, const float *x, size_t n)
{
    int8_t *q = check_out(c, n, 1);
    struct bn_act act;
    double max = 1e-5;
    volatile float scale, product;
    int64_t sum = 0;

    check_call(c);
    act = c->kernels->i8_quantize(x, q, n);
    check_done(c);
    for (size_t i = 0; i < n; i++)
        max = fmax(max, fabs((double)x[i]));
    scale = (float)(127.0 / max);
    for (size_t i = 0; i < n; i++) {
        product = x[i] * scale;
        check_int(c, "q", i, q[i], nearest_even(product));
        sum += q[i];
    }
    check_exact(c, "scale", 0, act.scale, scale);
    check_int(c, "sum", 0, act.sum, sum);
}

/* Kinds of rows: spread, ties of half units, zero, below the floor of 1e-5, huge, subnormal, one large value.
 */
static float row_value(struct check *c, int kind, size_t i)
{
    switch (kind) {
    case 0:
        return check_float(c, 3.0f);
    case 1:
        return i == 0 ? 127.0f : (float)check_between(c, 0, 508) * 0.5f - 127.0f;
    case 2:
        return 0.0f;
    case 3:
        return check_float(c, 1e-5f);
    case 4:
        return check_float(c, 3.4e38f);
    case 5:
        return check_float(c, 1e-39f);
    case 6:
        return i % 2 ? 7.25f : -7.25f;
    default:
        return i == 0 ? -1e4f : check_float(c, 100.0f);
    }
}

static void quantize_known(struct check *c)
{
    static const float given[] = {1.0f, -0.5f, 0.25f, 0.0f, 127.0f, 0.5f, 1.5f, 2.5f, -0.5f};
    static const int expected[] = {127, -64, 32, 0, 127, 0, 2, 2, 0};
    static const struct {
        size_t at, n;
        float scale;
    } rows[] = {{0, 4, 127.0f}, {3, 1, 1.27e7f}, {4, 5, 1.0f}};

    for (int r = 0; r < 3; r++) {
        int8_t q[8];
        struct bn_act act;

        check_case(c, "known row %d", r);
        act = c->kernels->i8_quantize(given + rows[r].at, q, rows[r].n);
        check_exact(c, "scale", 0, act.scale, rows[r].scale);
        for (size_t i = 0; i < rows[r].n; i++)
            check_int(c, "q", i, q[i], expected[rows[r].at + i]);
    }
}

void check_i8_quantize(struct check *c)
{
    quantize_known(c);
    for (int i = 0; i < 400 && !check_failed(c); i++) {
        int kind = i % 8;
        size_t n = i < 80 ? (size_t)i : check_below(c, 8) == 0 ? 6912 : check_between(c, 0, 300);
        float *x;

        check_case(c, "n %zu, kind %d", n, kind);
        x = check_in(c, n, sizeof *x);
        for (size_t j = 0; j < n; j++)
            x[j] = row_value(c, kind, j);
        quantize_compare(c, x, n);
    }
}

/* The norm and the quantisation have checks of their own: here only that together they are the same. */
void check_i8_rmsnorm(struct check *c)
{
    for (int i = 0; i < 300 && !check_failed(c); i++) {
        int kind = i % 8;
        size_t n = i < 80 ? (size_t)i + 1 : check_below(c, 8) == 0 ? 6912 : check_between(c, 1, 300);
        float *x, *g, *normed = malloc(n * sizeof *normed), eps = i % 3 ? 1e-5f : 0.01f;
        int8_t *q, *expected_q = malloc(n);
        struct bn_act act, expected;

        check_case(c, "n %zu, kind %d", n, kind);
        x = check_in(c, n, sizeof *x);
        g = check_in(c, n, sizeof *g);
        q = check_out(c, n, 1);
        for (size_t j = 0; j < n; j++) {
            x[j] = row_value(c, kind == 4 ? 0 : kind, j);
            g[j] = kind == 6 ? 0.0f : check_float(c, 2.0f);
        }
        c->kernels->f32_rmsnorm(x, g, normed, n, eps);
        expected = c->kernels->i8_quantize(normed, expected_q, n);
        check_call(c);
        act = c->kernels->i8_rmsnorm(x, g, q, n, eps);
        check_done(c);
        check_exact(c, "scale", 0, act.scale, expected.scale);
        check_int(c, "sum", 0, act.sum, expected.sum);
        for (size_t j = 0; j < n; j++)
            check_int(c, "q", j, q[j], expected_q[j]);
        free(normed);
        free(expected_q);
    }
}

/* Usual scales; mantissas of all ones and next to them; powers of two; very small and very large ones. */
static float divisor(struct check *c, size_t i)
{
    float any = 1.0f + (float)check_below(c, 1 << 23) * 0x1p-23f;

    switch (i % 8) {
    case 0:
        return nextafterf(ldexpf(2.0f, (int)check_below(c, 20)), 0.0f);
    case 1:
        return nextafterf(nextafterf(ldexpf(2.0f, (int)check_below(c, 20)), 0.0f), 0.0f);
    case 2:
        return ldexpf(1.0f + (float)check_below(c, 4) * 0x1p-23f, (int)check_below(c, 20));
    case 3:
        return ldexpf(any, -(int)check_between(c, 50, 120));
    case 4:
        return ldexpf(any, (int)check_between(c, 50, 120));
    default:
        return 0.01f + fabsf(check_float(c, 500.0f));
    }
}

void check_i32_scale(struct check *c)
{
    for (size_t i = 0; i < 200 && !check_failed(c); i++) {
        size_t n = i < 70 ? i : check_between(c, 0, 3000);
        float a = divisor(c, i), w = check_float(c, 3.0f), *out;
        int32_t *y, given[3000];
        bool in_place = i % 2;

        check_case(c, "n %zu", n);
        y = in_place ? check_inout(c, n, sizeof *y) : check_in(c, n, sizeof *y);
        out = in_place ? (float *)(void *)y : check_out(c, n, sizeof *out);
        for (size_t j = 0; j < n; j++)
            given[j] = y[j] = (int32_t)(uint32_t)check_random(c) >> check_below(c, 24);
        check_call(c);
        c->kernels->i32_scale(y, out, a, w, n);
        check_done(c);
        for (size_t j = 0; j < n; j++) {
            volatile float expected = (float)given[j];

            expected = expected / a;
            expected = expected * w;
            check_exact(c, "out", j, out[j], expected);
        }
    }
}
