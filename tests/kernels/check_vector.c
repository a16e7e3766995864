/* SPDX-License-Identifier: MIT
 * checkkernel: norm, addition, activations, exponentials, argmax and RoPE. */
#include "kernels/attn.h"
#include "tests/kernels/checkkernel.h"

#include <math.h>
#include <string.h>

/* Every length up to 70, then anything. */
static size_t any_n(struct check *c, size_t i)
{
    return i < 70 ? i + 1 : check_below(c, 6) == 0 ? 6912 : check_between(c, 1, 2600);
}

static void fill(struct check *c, float *x, size_t n, float magnitude)
{
    for (size_t i = 0; i < n; i++)
        x[i] = check_float(c, magnitude);
}

static float *copy(struct check *c, const float *x, size_t n)
{
    float *p = check_in(c, n, sizeof *p);

    memcpy(p, x, n * sizeof *p);
    return p;
}

static float ulp(float v)
{
    float a = fabsf(v);

    return nextafterf(a, INFINITY) - a;
}

void check_f32_rmsnorm(struct check *c)
{
    static const float magnitudes[] = {1.0f, 1e-6f, 1e15f, 0.0f, 300.0f};

    for (size_t i = 0; i < 150 && !check_failed(c); i++) {
        size_t n = any_n(c, i);
        bool in_place = check_below(c, 2);
        float *x, *given, *g, *y, r, eps = i % 3 ? 1e-5f : 1e-6f;
        long double sum = 0;

        check_case(c, "n %zu, magnitude %g, eps %g, %s", n, (double)magnitudes[i % 5], (double)eps,
                   in_place ? "in place" : "y apart");
        x = check_inout(c, n, sizeof *x);
        g = check_in(c, n, sizeof *g);
        y = in_place ? x : check_out(c, n, sizeof *y);
        fill(c, x, n, magnitudes[i % 5]);
        fill(c, g, n, 2.0f);
        given = copy(c, x, n);
        for (size_t j = 0; j < n; j++)
            sum += (long double)given[j] * given[j];
        check_call(c);
        c->kernels->f32_rmsnorm(x, g, y, n, eps);
        check_done(c);
        r = 1.0f / sqrtf((float)(sum / (long double)n) + eps);
        for (size_t j = 0; j < n; j++) {
            volatile float expected = given[j] * r;

            expected = expected * g[j];
            check_near(c, "y", j, y[j], expected, 2.0L * ulp(expected));
        }
    }
}

void check_f32_add(struct check *c)
{
    for (size_t i = 0; i < 120 && !check_failed(c); i++) {
        size_t n = any_n(c, i);
        float *x, *y, *given;

        check_case(c, "n %zu", n);
        x = check_inout(c, n, sizeof *x);
        y = check_in(c, n, sizeof *y);
        fill(c, x, n, 5.0f);
        fill(c, y, n, i % 2 ? 1e-3f : 3e38f);
        given = copy(c, x, n);
        check_call(c);
        c->kernels->f32_add(x, y, n);
        check_done(c);
        for (size_t j = 0; j < n; j++)
            check_exact(c, "x", j, x[j], given[j] + y[j]);
    }
}

void check_f32_relu2_mul(struct check *c)
{
    for (size_t i = 0; i < 120 && !check_failed(c); i++) {
        size_t n = any_n(c, i);
        bool in_place = check_below(c, 2);
        float *g, *u, *out, *given;

        check_case(c, "n %zu, %s", n, in_place ? "in place" : "out apart");
        g = check_inout(c, n, sizeof *g);
        u = check_in(c, n, sizeof *u);
        out = in_place ? g : check_out(c, n, sizeof *out);
        fill(c, g, n, i % 3 ? 20.0f : 1e25f); /* the square of 1e25 is infinity */
        fill(c, u, n, 20.0f);
        g[check_below(c, n)] = -0.0f;
        given = copy(c, g, n);
        check_call(c);
        c->kernels->f32_relu2_mul(g, u, out, n);
        check_done(c);
        for (size_t j = 0; j < n; j++) {
            volatile float expected = given[j] > 0.0f ? given[j] : 0.0f;

            expected = expected * expected;
            expected = expected * u[j];
            check_exact(c, "out", j, out[j], expected);
        }
    }
}

/* Results near the end of the float's range are subnormal: there the bound is absolute. */
void check_f32_silu_mul(struct check *c)
{
    static const float magnitudes[] = {1.0f, 10.0f, 120.0f, 1e4f, 1e-30f};

    for (size_t i = 0; i < 200 && !check_failed(c); i++) {
        size_t n = any_n(c, i);
        bool in_place = check_below(c, 2);
        float *g, *u, *out, *given;

        check_case(c, "n %zu, magnitude %g, %s", n, (double)magnitudes[i % 5],
                   in_place ? "in place" : "out apart");
        g = check_inout(c, n, sizeof *g);
        u = check_in(c, n, sizeof *u);
        out = in_place ? g : check_out(c, n, sizeof *out);
        fill(c, g, n, magnitudes[i % 5]);
        fill(c, u, n, 20.0f);
        given = copy(c, g, n);
        check_call(c);
        c->kernels->f32_silu_mul(g, u, out, n);
        check_done(c);
        for (size_t j = 0; j < n; j++) {
            long double v = given[j], expected = v / (1 + expl(-v)) * u[j];

            check_near(c, "out", j, out[j], expected,
                       0x1p-20L * fabsl(expected) + 0x1p-142L * (1 + fabsl(u[j])));
        }
    }
}

static void check_exp(struct check *c, size_t j, float is, float x, float max, float scale)
{
    volatile float difference = x - max;
    long double expected = expl(difference), relative = (16 - (long double)difference) * 0x1p-24L;

    check_near(c, "s", j, is, expected * scale,
               (expected == 0 ? 0x1p-90L : relative * expected + 0x1p-90L) * scale);
    if (is != 0.0f && scale >= 0x1p-30f && fpclassify(is) == FP_SUBNORMAL)
        check_fail(c, "s[%zu] is subnormal", j);
}

static void exp_sum_case(struct check *c, size_t n, float magnitude, bool scaled)
{
    float *s, *given, *scale = NULL, max, largest = 0.0f;
    long double sum = 0;

    check_case(c, "n %zu, magnitude %g, %s", n, (double)magnitude, scaled ? "scaled" : "not scaled");
    s = check_inout(c, n, sizeof *s);
    fill(c, s, n, magnitude);
    given = copy(c, s, n);
    if (scaled) {
        scale = check_in(c, n, sizeof *scale);
        for (size_t j = 0; j < n; j++)
            scale[j] = check_below(c, 8) ? fabsf(check_float(c, 0.1f)) : 0.0f;
    }
    check_call(c);
    struct bn_exp_sum is = c->kernels->f32_exp_sum(s, scale, n);
    check_done(c);
    max = given[0];
    for (size_t j = 1; j < n; j++)
        max = fmaxf(max, given[j]);
    for (size_t j = 0; j < n; j++) {
        sum += expl((long double)(given[j] - max));
        check_exp(c, j, s[j], given[j], max, scale ? scale[j] : 1.0f);
        largest = fmaxf(largest, s[j]);
    }
    check_near(c, "max", 0, is.max, max, 0.0L); /* of zeros, either one */
    check_exact(c, "largest", 0, is.largest, largest);
    check_near(c, "sum", 0, is.sum, sum, 0x1p-18L * sum);
}

void check_f32_exp_sum(struct check *c)
{
    static const float magnitudes[] = {5.0f, 0.01f, 60.0f, 300.0f, 1e30f, 0.0f};

    for (size_t i = 0; i < 200 && !check_failed(c); i++)
        exp_sum_case(c, any_n(c, i), magnitudes[i % 6], check_below(c, 2));
}

void check_f32_join(struct check *c)
{
    for (size_t i = 0; i < 150 && !check_failed(c); i++) {
        size_t n = any_n(c, i);
        float *x, *y, *given, a = i % 3 ? check_float(c, 2.0f) : 0.0f, b = check_float(c, 2.0f);

        check_case(c, "n %zu, %g and %g", n, (double)a, (double)b);
        x = check_inout(c, n, sizeof *x);
        y = check_in(c, n, sizeof *y);
        fill(c, x, n, 5.0f);
        fill(c, y, n, 5.0f);
        if (a == 0.0f)
            x[check_below(c, n)] = NAN;
        given = copy(c, x, n);
        check_call(c);
        c->kernels->f32_join(x, a, y, b, n);
        check_done(c);
        for (size_t j = 0; j < n; j++) {
            volatile float joined = y[j] * b, before = given[j] * a;

            if (a != 0.0f)
                joined = before + joined;
            check_exact(c, "x", j, x[j], joined);
        }
    }
}

/* Kinds: spread; few different values (ties); NaN among them; nothing but -infinity and NaN; only NaN. */
static float argmax_value(struct check *c, size_t kind)
{
    switch (kind) {
    case 0:
        return check_float(c, 10.0f);
    case 1:
        return (float)check_below(c, 3) - 1.0f;
    case 2:
        return check_below(c, 3) == 0 ? NAN : check_float(c, 10.0f);
    case 3:
        return check_below(c, 2) ? NAN : -INFINITY;
    case 4:
        return NAN;
    default:
        return check_below(c, 2) ? 0.0f : -0.0f;
    }
}

void check_f32_argmax(struct check *c)
{
    for (size_t i = 0; i < 420 && !check_failed(c); i++) {
        size_t n = any_n(c, i / 6), expected = 0, is;
        float *x;

        check_case(c, "n %zu, kind %zu", n, i % 6);
        x = check_in(c, n, sizeof *x);
        for (size_t j = 0; j < n; j++)
            x[j] = argmax_value(c, i % 6);
        for (size_t j = n; j-- > 0;) /* from the end, so that the lowest of equals stays */
            expected = !isnan(x[j]) && (isnan(x[expected]) || x[j] >= x[expected]) ? j : expected;
        check_call(c);
        is = c->kernels->f32_argmax(x, n);
        check_done(c);
        check_int(c, "index", 0, (int64_t)is, (int64_t)expected);
    }
}

/* ---- RoPE ---- */

static void rope_case(struct check *c, size_t h, bool neox)
{
    float *v, *given, *cos_t, *sin_t;

    check_case(c, "h %zu", h);
    v = check_inout(c, 2 * h, sizeof *v);
    cos_t = check_in(c, h, sizeof *cos_t);
    sin_t = check_in(c, h, sizeof *sin_t);
    fill(c, v, 2 * h, 8.0f);
    given = copy(c, v, 2 * h);
    for (size_t j = 0; j < h; j++) {
        double angle = (double)check_float(c, 4000.0f) * (double)check_below(c, 8);

        cos_t[j] = (float)cos(angle);
        sin_t[j] = (float)sin(angle);
    }
    check_call(c);
    (neox ? c->kernels->f32_rope_neox : c->kernels->f32_rope_norm)(v, cos_t, sin_t, h);
    check_done(c);
    for (size_t j = 0; j < h; j++) {
        size_t first = neox ? j : 2 * j, second = neox ? j + h : 2 * j + 1;
        long double a = given[first], b = given[second], cosine = cos_t[j], sine = sin_t[j];

        check_near(c, "v", first, v[first], a * cosine - b * sine,
                   0x1p-23L * (fabsl(a * cosine) + fabsl(b * sine)));
        check_near(c, "v", second, v[second], a * sine + b * cosine,
                   0x1p-23L * (fabsl(a * sine) + fabsl(b * cosine)));
    }
}

void check_f32_rope_neox(struct check *c)
{
    for (size_t i = 0; i < 140 && !check_failed(c); i++)
        rope_case(c, i % 70, true);
}

void check_f32_rope_norm(struct check *c)
{
    for (size_t i = 0; i < 140 && !check_failed(c); i++)
        rope_case(c, i % 70, false);
}
