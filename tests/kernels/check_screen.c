/* SPDX-License-Identifier: MIT
 * checkkernel: screening codes, their planes, products and the selection of rows. */
#include "tests/kernels/checkkernel.h"

#include "kernels/screen.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

static size_t any_k(struct check *c)
{
    static const size_t usual[] = {128, 256, 384, 512, 640, 1024, 2560};

    return check_below(c, 3) ? usual[check_below(c, 7)] : 128 * check_between(c, 1, 14);
}

/* ---- one row to codes ---- */

enum row {
    NORMAL,
    EVEN,
    SPIKE,
    ZERO,
    WIDE,
    TINY,
    HUGE_ROW,
    EQUAL,
    SPARSE,
    TOO_SMALL,
    TOO_LARGE,
    NOT_FINITE,
    N_ROWS
};
static const char *const row_names[] = {"normal", "even",  "spike",  "zero",      "wide",      "tiny",
                                        "huge",   "equal", "sparse", "too small", "too large", "not finite"};

static float normal(struct check *c)
{
    float sum = 0;

    for (int i = 0; i < 12; i++)
        sum += check_float(c, 0.5f);
    return sum;
}

static float row_value(struct check *c, enum row kind)
{
    switch (kind) {
    case NORMAL:
    case SPIKE:
        return normal(c) * 0.02f;
    case WIDE:
        return ldexpf(normal(c), -(int)check_below(c, 40));
    case TINY:
        return ldexpf((float)check_between(c, 0, 6) - 3.0f, -24);
    case HUGE_ROW:
        return check_float(c, 9e14f);
    case EQUAL:
        return 0.5f;
    case SPARSE:
        return 0.0f;
    case ZERO:
        return check_below(c, 2) ? 0.0f : -0.0f;
    case TOO_SMALL:
        return check_float(c, 1e-12f);
    case TOO_LARGE:
        return check_float(c, 1e30f);
    default:
        return check_float(c, 1.0f);
    }
}

static void fill_row(struct check *c, float *w, size_t k, enum row kind)
{
    static const float bad[] = {INFINITY, -INFINITY, NAN};

    for (size_t i = 0; i < k; i++)
        w[i] = row_value(c, kind);
    if (kind == SPIKE)
        w[check_below(c, k)] *= 3000.0f;
    if (kind == NOT_FINITE)
        w[check_below(c, k)] = bad[check_below(c, 3)];
    if (kind == TINY)
        w[0] = 0x1p-24f;
    if (kind == SPARSE)
        w[check_below(c, k)] = check_float(c, 1.0f);
}

/* What the codes promise: an interval that holds the weight, but for a 512th of it, unless the weight is cut
 * off, and the errors. */
static void check_codes(struct check *c, const float *w, const uint8_t *u, size_t k,
                        const struct bn_screen_row *row)
{
    static const int shifts[] = {3, 2, 0};
    long double squares = 0, errors[3] = {0};

    for (size_t i = 0; i < k; i++) {
        int q = u[i] - 64;
        long double low = w[i] - (long double)row->scale * (q + 0.5L);

        squares += (long double)w[i] * w[i];
        if (u[i] > 127 || (q > -64 && low < -0.501L * row->scale) || (q < 63 && low > 0.501L * row->scale))
            check_fail(c, "u[%zu] is %d: weight %g, scale %g", i, u[i], (double)w[i], (double)row->scale);
        for (int e = 0; e < 3; e++) {
            long double step = ldexpl(row->scale, shifts[e]), d = w[i] - step * ((q >> shifts[e]) + 0.5L);
            errors[e] += d * d;
        }
    }
    if (!(row->norm >= sqrtl(squares) && row->norm <= 1.01L * sqrtl(squares)))
        check_fail(c, "norm is %g, expected %Lg", (double)row->norm, sqrtl(squares));
    for (int e = 0; e < 3; e++) {
        long double true_error = sqrtl(errors[e]);

        if (!(row->error[e] >= true_error &&
              row->error[e] <= 1.01L * true_error + 0.001L * row->scale * sqrtl(k)))
            check_fail(c, "error %d is %g, expected %Lg", e, (double)row->error[e], true_error);
    }
}

/* Of a normal distribution, whose best ranges leave 0.1285, 0.0678 and 0.0272 of a long row. */
static void check_normal(struct check *c, const struct bn_screen_row *row)
{
    static const float most[] = {0.135f, 0.071f, 0.032f};

    for (int e = 0; e < 3; e++) {
        if (row->error[e] > most[e] * row->norm)
            check_fail(c, "error %d is %g of the norm, at most %g expected", e,
                       (double)(row->error[e] / row->norm), (double)most[e]);
    }
}

static void encode_case(struct check *c, size_t k, enum row kind)
{
    struct bn_screen_row row, by_c;
    struct bn_kernels definition = {0};
    uint8_t *u, *expected = malloc(k);
    float *w;

    check_case(c, "k %zu, %s", k, row_names[kind]);
    w = check_in(c, k, sizeof *w);
    u = check_out(c, k, 1);
    fill_row(c, w, k, kind);
    check_call(c);
    row = c->kernels->screen_encode(w, w, u, k);
    check_done(c);
    bn_kernels_init_c(&definition);
    by_c = definition.screen_encode(w, NULL, expected, k);
    for (size_t i = 0; i < k; i++)
        check_int(c, "u", i, u[i], expected[i]);
    if (memcmp(&row, &by_c, sizeof row) != 0)
        check_fail(c, "scale, norm or errors differ from C's: %a %a, expected %a %a", (double)row.scale,
                   (double)row.norm, (double)by_c.scale, (double)by_c.norm);
    if (kind == ZERO)
        check_exact(c, "norm of zeros", 0, row.norm, 0.0f);
    else if (kind >= TOO_SMALL)
        check_exact(c, "norm without codes", 0, row.norm, INFINITY);
    else
        check_codes(c, w, u, k, &row);
    if (kind == NORMAL && k >= 2560)
        check_normal(c, &row);
    for (size_t i = 0; i < k && row.scale == 0.0f; i++)
        check_int(c, "u without codes", i, u[i], 64);
    free(expected);
}

/* The long rows, of which zeros have the largest rests, have sums of squares that no 32 bits hold. */
void check_screen_encode(struct check *c)
{
    for (size_t i = 0; i < 180 && !check_failed(c); i++)
        encode_case(c, i < 2 * N_ROWS ? 8320 : any_k(c), (enum row)(i % N_ROWS));
}

/* ---- codes to planes ---- */

void check_screen_pack(struct check *c)
{
    for (size_t i = 0; i < 30 && !check_failed(c); i++) {
        size_t k = any_k(c), mid_bytes = (k + 511) / 512 * 64;
        uint8_t *u, *high, *mid, *low;

        check_case(c, "k %zu", k);
        u = check_in(c, 32 * k, 1);
        high = check_out(c, 16 * k, 1);
        mid = check_out(c, 32 * mid_bytes, 1);
        low = check_out(c, 8 * k, 1);
        for (size_t j = 0; j < 32 * k; j++)
            u[j] = (uint8_t)(i == 0 ? 127 : check_below(c, 128));
        check_call(c);
        c->kernels->screen_pack(u, high, mid, low, k);
        check_done(c);
        for (size_t r = 0; r < 32; r++) {
            for (size_t e = 0; e < (k + 511) / 512 * 512; e++) {
                int code = e < k ? u[r * k + e] : 0;
                int bit = mid[r * mid_bytes + e / 512 * 64 + e % 64] >> (e % 512 / 64) & 1;

                check_int(c, "bit of mid", r * k + e, bit, code >> 2 & 1);
                if (e >= k)
                    continue;
                check_int(c, "code of high", r * k + e,
                          high[e / 8 * 128 + r * 4 + e % 4] >> (e % 8 < 4 ? 4 : 0) & 15, code >> 3);
                check_int(c, "code of low", r * k + e,
                          low[r * (k / 4) + e / 128 * 32 + e % 32] >> (6 - 2 * (e % 128 / 32)) & 3, code & 3);
            }
        }
    }
}

/* ---- products ---- */

/* Random, or all at the end of the range where sums are the largest. */
static int8_t activation(struct check *c, size_t kind, size_t i)
{
    switch (kind) {
    case 0:
        return -128;
    case 1:
        return 127;
    case 2:
        return i % 2 ? 127 : -128;
    default:
        return (int8_t)check_between(c, 0, 255);
    }
}

static uint8_t plane_byte(struct check *c, size_t kind)
{
    return (uint8_t)(kind < 2 ? 255 : check_below(c, 256));
}

void check_screen_high_gemv(struct check *c)
{
    for (size_t i = 0; i < 40 && !check_failed(c); i++) {
        size_t k = any_k(c), n_tiles = check_between(c, 1, 11), n = 32 * n_tiles;
        float center = check_float(c, 1e6f), unit = ldexpf(1.0f, -(int)check_below(c, 20)), *scale, *y;
        uint8_t *w;
        int8_t *x;

        check_case(c, "%zu tiles, k %zu, kind %zu", n_tiles, k, i % 5);
        w = check_in(c, n * k / 2, 1);
        x = check_in(c, 2 * k, 1);
        scale = check_in(c, n, sizeof *scale);
        y = check_out(c, n, sizeof *y);
        for (size_t j = 0; j < n * k / 2; j++)
            w[j] = plane_byte(c, i % 5);
        for (size_t j = 0; j < 2 * k; j++)
            x[j] = activation(c, i % 5, j);
        for (size_t j = 0; j < n; j++)
            scale[j] = check_float(c, 0.01f);
        check_call(c);
        c->kernels->screen_high_gemv(w, x, scale, center, unit, y, n_tiles, k);
        check_done(c);
        for (size_t r = 0; r < n; r++) {
            volatile float coarse, fine, factor, sum;
            int64_t sums[2] = {0, 0};

            for (size_t e = 0; e < 2 * k; e++) {
                size_t at = r / 32 * 16 * k + e % k / 8 * 128 + r % 32 * 4 + e % 4;
                sums[e / k] += (w[at] >> (e % 8 < 4 ? 4 : 0) & 15) * x[e];
            }
            coarse = (float)sums[0];
            coarse = coarse * 256.0f;
            fine = (float)sums[1];
            sum = coarse + fine;
            sum = sum - center;
            factor = scale[r] * unit;
            check_exact(c, "y", r, y[r], sum * factor);
        }
    }
}

/* Code of element e in a row of a plane. */
typedef int code_of(const uint8_t *row, size_t e);

static int mid_code(const uint8_t *row, size_t e)
{
    return row[e / 512 * 64 + e % 64] >> (e % 512 / 64) & 1;
}

static int low_code(const uint8_t *row, size_t e)
{
    return row[e / 128 * 32 + e % 32] >> (6 - 2 * (e % 128 / 32)) & 3;
}

/* minus: how often x_sum is taken from twice the sum. */
static void check_scattered(struct check *c, enum bn_kernel_slot slot, code_of *code, int minus)
{
    for (size_t i = 0; i < 60 && !check_failed(c); i++) {
        size_t k = any_k(c), n = check_between(c, 1, 30), padded = (k + 511) / 512 * 512, n_ids = 0;
        size_t row_bytes = slot == BN_KERNEL_screen_mid_gemv ? padded / 8 : k / 4;
        int32_t x_sum = (int32_t)check_below(c, 100000) - 50000;
        float unit = ldexpf(1.0f, -(int)check_below(c, 20)), *scale, *y, given[30];
        uint32_t *ids, in_play[30];
        bool added[30] = {false};
        uint8_t *w;
        int8_t *x;

        check_case(c, "%zu rows, k %zu, kind %zu", n, k, i % 5);
        w = check_in(c, n * row_bytes, 1);
        x = check_in(c, padded, 1);
        scale = check_in(c, n, sizeof *scale);
        y = check_inout(c, n, sizeof *y);
        for (size_t j = 0; j < n * row_bytes; j++)
            w[j] = plane_byte(c, i % 5);
        for (size_t j = 0; j < padded; j++)
            x[j] = j < k ? activation(c, i % 5, j) : 0;
        for (size_t j = 0; j < n; j++) {
            scale[j] = check_float(c, 0.01f);
            given[j] = y[j] = check_float(c, 10.0f);
            added[j] = i % 3 == 0 || check_below(c, 2) == 0;
            if (added[j])
                in_play[n_ids++] = (uint32_t)j;
        }
        ids = check_in(c, n_ids, sizeof *ids);
        memcpy(ids, in_play, n_ids * sizeof *ids);
        check_call(c);
        (slot == BN_KERNEL_screen_mid_gemv ? c->kernels->screen_mid_gemv : c->kernels->screen_low_gemv)(
            w, x, x_sum, scale, unit, y, ids, n_ids, k);
        check_done(c);
        for (size_t r = 0; r < n; r++) {
            volatile float sum, product;
            int64_t total = 0;

            for (size_t e = 0; e < k; e++)
                total += code(w + r * row_bytes, e) * x[e];
            sum = (float)(2 * total - minus * x_sum);
            product = scale[r] * unit;
            product = sum * product;
            check_exact(c, "y", r, y[r], added[r] ? given[r] + product : given[r]);
        }
    }
}

void check_screen_mid_gemv(struct check *c)
{
    check_scattered(c, BN_KERNEL_screen_mid_gemv, mid_code, 1);
}

void check_screen_low_gemv(struct check *c)
{
    check_scattered(c, BN_KERNEL_screen_low_gemv, low_code, 3);
}

/* ---- selection ---- */

static float select_value(struct check *c, size_t kind)
{
    if (kind == 0)
        return check_below(c, 20) ? check_float(c, 4.0f) : NAN;
    if (kind == 1) /* many that equal the threshold */
        return (float)check_below(c, 5) - 1.0f;
    return check_float(c, 4.0f);
}

void check_screen_select(struct check *c)
{
    for (size_t i = 0; i < 200 && !check_failed(c); i++) {
        size_t n = i < 70 ? i : check_between(c, 70, 600), n_ids, expected = 0;
        struct bn_screen_bound bound = {check_float(c, 1.0f), check_float(c, 1.0f), check_float(c, 1.0f)};
        float least = i % 5 == 4 ? -INFINITY : 2.0f, *in[4], y[600];
        uint32_t first = (uint32_t)check_below(c, 1000000), *ids;

        if (i % 3 == 1)
            bound = (struct bn_screen_bound){0.0f, 1.0f, 0.0f};
        check_case(c, "n %zu, kind %zu, least %g", n, i % 3, (double)least);
        for (int j = 0; j < 4; j++) {
            in[j] = j ? check_in(c, n, sizeof(float)) : check_inout(c, n, sizeof(float));
            for (size_t r = 0; r < n; r++)
                in[j][r] = select_value(c, i % 3);
        }
        for (size_t r = 0; r < n; r++)
            y[r] = in[0][r];
        for (size_t r = 0; r < n && i % 7 == 0; r += 5)
            in[2][r] = INFINITY;
        ids = check_out(c, n, sizeof *ids);
        check_call(c);
        n_ids = c->kernels->screen_select(in[0], in[1], in[2], in[3], &bound, least, first, ids, n);
        check_done(c);
        for (size_t r = 0; r < n; r++) {
            volatile float a = in[1][r] * bound.per_error, b = in[2][r] * bound.per_norm;
            volatile float sum = in[3][r] * bound.per_scale;

            a = a + b;
            sum = a + sum;
            sum = y[r] + sum;
            check_exact(c, "y", r, in[0][r], sum < least ? -INFINITY : y[r]);
            if (sum < least)
                continue;
            if (expected < n_ids)
                check_int(c, "ids", expected, ids[expected], (int64_t)(first + r));
            expected++;
        }
        check_int(c, "count", 0, (int64_t)n_ids, (int64_t)expected);
    }
}
