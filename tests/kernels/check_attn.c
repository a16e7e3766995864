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
