/* SPDX-License-Identifier: MIT
 * checkkernel: attention of a few queries over the cache, against sums in long double. */
#include "kernels/attn.h"
#include "tests/kernels/checkkernel.h"

#include <math.h>

static size_t some_width(struct check *c)
{
    static const size_t widths[] = {128, 64, 32, 16, 80, 8};

    return check_below(c, 3) == 0 ? check_between(c, 1, 150) : widths[check_below(c, 6)];
}

static void fill(struct check *c, float *x, size_t n, float magnitude)
{
    for (size_t i = 0; i < n; i++)
        x[i] = check_float(c, magnitude);
}

/* n halves of 2^-7 … 8. */
static uint16_t *new_halves(struct check *c, size_t n)
{
    uint16_t *cache = check_in(c, n, sizeof *cache);

    for (size_t i = 0; i < n; i++)
        cache[i] = (uint16_t)((check_below(c, 2) << 15) + (8 << 10) + check_below(c, 10 << 10));
    return cache;
}

/* ---- F16 ---- */

static void f16_score(struct check *c, const float *q, const uint16_t *k, float is, size_t j, size_t p,
                      size_t d)
{
    const uint16_t *tile = k + p / BN_ATTN_TILE * BN_ATTN_TILE * d;
    long double sum = 0, magnitudes = 0;

    for (size_t i = 0; i < d; i++) {
        long double product =
            half_value(tile[i * BN_ATTN_TILE + p % BN_ATTN_TILE]) * q[i * BN_ATTN_QUERIES + j];

        sum += product;
        magnitudes += fabsl(product);
    }
    check_near(c, "s", p, is, sum, (long double)(d + 1) * 0x1p-24L * magnitudes);
}

static void f16_scores_case(struct check *c, size_t n_q, size_t n_tiles, size_t d)
{
    size_t n_pos = n_tiles * BN_ATTN_TILE, lds = n_pos + check_below(c, 2) * 16;
    float *q, *s, *alone, *one;
    uint16_t *k;

    check_case(c, "%zu queries, %zu tiles, d %zu, lds %zu", n_q, n_tiles, d, lds);
    q = check_in(c, d * BN_ATTN_QUERIES, sizeof *q);
    k = new_halves(c, n_pos * d);
    s = check_out(c, (n_q - 1) * lds + n_pos, sizeof *s);
    fill(c, q, d * BN_ATTN_QUERIES, 4.0f);
    check_call(c);
    c->kernels->f16_attn_scores(q, n_q, k, s, lds, n_tiles, d);
    check_done(c);
    one = check_in(c, d * BN_ATTN_QUERIES, sizeof *one);
    alone = check_out(c, n_pos, sizeof *alone);
    for (size_t j = 0; j < n_q; j++) {
        for (size_t i = 0; i < d; i++)
            one[i * BN_ATTN_QUERIES] = q[i * BN_ATTN_QUERIES + j];
        check_call(c);
        c->kernels->f16_attn_scores(one, 1, k, alone, n_pos, n_tiles, d);
        check_done(c);
        for (size_t p = 0; p < n_pos; p++) {
            f16_score(c, q, k, s[j * lds + p], j, p, d);
            check_exact(c, "s alone", p, alone[p], s[j * lds + p]);
        }
    }
}

void check_f16_attn_scores(struct check *c)
{
    for (size_t i = 0; i < 60 && !check_failed(c); i++)
        f16_scores_case(c, i % BN_ATTN_QUERIES + 1, check_between(c, 1, 3), some_width(c));
}

/* Rows of weights for n_q queries; what lies between the rows is not a number and must not be used. */
static float *new_weights(struct check *c, size_t n_q, size_t n_pos, size_t lda)
{
    float *a = check_in(c, (n_q - 1) * lda + n_pos, sizeof *a);

    for (size_t i = 0; i < (n_q - 1) * lda + n_pos; i++)
        a[i] = i % lda < n_pos ? fabsf(check_float(c, 1.0f)) : NAN;
    return a;
}

static void f16_values_case(struct check *c, size_t n_q, size_t n_pos, size_t d)
{
    size_t lda = n_pos + check_below(c, 40);
    float *a, *out, *alone;
    uint16_t *v;

    check_case(c, "%zu queries, %zu positions, d %zu, lda %zu", n_q, n_pos, d, lda);
    a = new_weights(c, n_q, n_pos, lda);
    v = new_halves(c, n_pos * d);
    out = check_out(c, n_q * d, sizeof *out);
    check_call(c);
    c->kernels->f16_attn_values(a, lda, n_q, v, out, n_pos, d);
    check_done(c);
    alone = check_out(c, d, sizeof *alone);
    for (size_t j = 0; j < n_q; j++) {
        check_call(c);
        c->kernels->f16_attn_values(a + j * lda, lda, 1, v, alone, n_pos, d);
        check_done(c);
        for (size_t i = 0; i < d; i++) {
            long double sum = 0, magnitudes = 0;

            for (size_t p = 0; p < n_pos; p++) {
                long double product = half_value(v[p * d + i]) * a[j * lda + p];

                sum += product;
                magnitudes += fabsl(product);
            }
            check_near(c, "out", j * d + i, out[j * d + i], sum,
                       (32 + n_pos / 32.0L) * 0x1p-24L * magnitudes);
            check_exact(c, "out alone", j * d + i, alone[i], out[j * d + i]);
        }
    }
}

void check_f16_attn_values(struct check *c)
{
    for (size_t i = 0; i < 80 && !check_failed(c); i++)
        f16_values_case(c, i % BN_ATTN_QUERIES + 1, i < 40 ? i + 1 : check_between(c, 1, i < 70 ? 70 : 300),
                        some_width(c));
}

/* ---- int8 ---- */

/* Random, or the extremes that sums could overflow with. */
static int8_t some_byte(struct check *c, size_t kind)
{
    return kind == 0 ? -128 : kind == 1 ? 127 : (int8_t)check_random(c);
}

/* (float)sum * a * b, rounded after every step. */
static float scaled(int64_t sum, float a, float b)
{
    volatile float value = (float)sum;

    value = value * a;
    value = value * b;
    return value;
}

struct i8_queries {
    int8_t *codes; /* [ceil(d / 4)][BN_ATTN_QUERIES][4] */
    float *scales;
    int32_t *sums;
};

static struct i8_queries new_i8_queries(struct check *c, size_t n_q, size_t d, size_t kind)
{
    size_t n = (d + 3) / 4 * 4 * BN_ATTN_QUERIES;
    struct i8_queries q = {check_in(c, n, 1), check_in(c, n_q, sizeof(float)),
                           check_in(c, n_q, sizeof(int32_t))};

    for (size_t i = 0; i < n; i++)
        q.codes[i] = i / (4 * BN_ATTN_QUERIES) * 4 + i % 4 < d ? some_byte(c, kind) : 0;
    for (size_t j = 0; j < n_q; j++) {
        q.scales[j] = check_float(c, 0.01f);
        q.sums[j] = 0;
        for (size_t i = 0; i < d; i++)
            q.sums[j] += q.codes[(i / 4 * BN_ATTN_QUERIES + j) * 4 + i % 4];
    }
    return q;
}

static void i8_scores_case(struct check *c, size_t n_q, size_t n_tiles, size_t d, size_t kind)
{
    size_t n_pos = n_tiles * BN_ATTN_TILE, lds = n_pos + check_below(c, 2) * 16, fours = (d + 3) / 4;
    struct i8_queries q;
    float *k_scale, *s;
    uint8_t *k;

    check_case(c, "%zu queries, %zu tiles, d %zu, lds %zu, kind %zu", n_q, n_tiles, d, lds, kind);
    q = new_i8_queries(c, n_q, d, kind);
    k = check_in(c, n_pos * fours * 4, 1);
    k_scale = check_in(c, n_pos, sizeof *k_scale);
    s = check_out(c, (n_q - 1) * lds + n_pos, sizeof *s);
    for (size_t i = 0; i < n_pos * fours * 4; i++)
        k[i] = kind == 0 ? 0 : kind == 1 ? 255 : (uint8_t)check_random(c);
    fill(c, k_scale, n_pos, 0.1f);
    check_call(c);
    c->kernels->i8_attn_scores(q.codes, q.scales, q.sums, n_q, k, k_scale, s, lds, n_tiles, d);
    check_done(c);
    for (size_t j = 0; j < n_q; j++) {
        for (size_t p = 0; p < n_pos; p++) {
            int64_t sum = 0;

            for (size_t i = 0; i < d; i++)
                sum +=
                    q.codes[(i / 4 * BN_ATTN_QUERIES + j) * 4 + i % 4] *
                    (k[((p / BN_ATTN_TILE * fours + i / 4) * BN_ATTN_TILE + p % BN_ATTN_TILE) * 4 + i % 4] -
                     128);
            check_exact(c, "s", j * lds + p, s[j * lds + p], scaled(sum, q.scales[j], k_scale[p]));
        }
    }
}

void check_i8_attn_scores(struct check *c)
{
    for (size_t i = 0; i < 60 && !check_failed(c); i++)
        i8_scores_case(c, i % BN_ATTN_QUERIES + 1, check_between(c, 1, 3), some_width(c), i % 5);
}

/* kind 0: the given maximum is larger than all weights. */
static void i8_weights_case(struct check *c, size_t n, float magnitude, size_t kind)
{
    float *a, max = 0.0f;
    int16_t *w;
    volatile float code, to_code = 0.0f;

    check_case(c, "n %zu, magnitude %g, kind %zu", n, (double)magnitude, kind);
    a = check_in(c, n, sizeof *a);
    w = check_out(c, n, sizeof *w);
    for (size_t p = 0; p < n; p++) {
        a[p] = check_below(c, 4) == 0 ? 0.0f : fabsf(check_float(c, magnitude));
        max = fmaxf(max, a[p]);
    }
    max *= kind ? 1.0f : 3.0f;
    check_call(c);
    c->kernels->i8_attn_weights(a, max, w, n);
    check_done(c);
    if (max > BN_ATTN_LEAST_WEIGHT)
        to_code = 32767.0f / max;
    for (size_t p = 0; p < n; p++) {
        code = a[p] * to_code;
        check_int(c, "w", p, w[p], lrint((double)code));
    }
}

void check_i8_attn_weights(struct check *c)
{
    static const float magnitudes[] = {1.0f, 1e-3f, 1e-20f, 1e-28f, 1e-35f, 0.0f};

    for (size_t i = 0; i < 150 && !check_failed(c); i++)
        i8_weights_case(c, i < 70 ? i + 1 : check_between(c, 1, 600), magnitudes[i % 6], i % 4);
}

static void i8_values_case(struct check *c, size_t n_q, size_t n_pairs, size_t d, size_t kind)
{
    size_t ldw = 2 * n_pairs + check_below(c, 20) * 2;
    float *w_scale, *out;
    int16_t *w;
    int8_t *v;

    check_case(c, "%zu queries, %zu pairs, d %zu, ldw %zu, kind %zu", n_q, n_pairs, d, ldw, kind);
    w = check_in(c, (n_q - 1) * ldw + 2 * n_pairs, sizeof *w);
    w_scale = check_in(c, n_q, sizeof *w_scale);
    v = check_in(c, n_pairs * d * 2, 1);
    out = check_out(c, n_q * d, sizeof *out);
    for (size_t i = 0; i < (n_q - 1) * ldw + 2 * n_pairs; i++)
        w[i] = (int16_t)(kind < 2 ? 32767 : check_below(c, 32768));
    fill(c, w_scale, n_q, 1e-5f);
    for (size_t i = 0; i < n_pairs * d * 2; i++)
        v[i] = some_byte(c, kind);
    check_call(c);
    c->kernels->i8_attn_values(w, ldw, w_scale, n_q, v, out, n_pairs, d);
    check_done(c);
    for (size_t j = 0; j < n_q; j++) {
        for (size_t i = 0; i < d; i++) {
            volatile float total = 0.0f;

            for (size_t from = 0; from < 2 * n_pairs; from += 2 * BN_ATTN_PAIRS) {
                int64_t sum = 0;

                for (size_t p = from; p < 2 * n_pairs && p < from + 2 * BN_ATTN_PAIRS; p++)
                    sum += w[j * ldw + p] * v[(p / 2 * d + i) * 2 + p % 2];
                total = total + (float)sum;
            }
            total = total * w_scale[j];
            check_exact(c, "out", j * d + i, out[j * d + i], total);
        }
    }
}

void check_i8_attn_values(struct check *c)
{
    for (size_t i = 0; i < 60 && !check_failed(c); i++)
        i8_values_case(c, i % BN_ATTN_QUERIES + 1, i < 40 ? i + 1 : check_between(c, 1, 130), some_width(c),
                       i % 5);
}
