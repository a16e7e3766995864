/* SPDX-License-Identifier: MIT
 * checkkernel: values to blocks and back, for activations and weights, exact. */
#include "tests/kernels/blocks.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

/* Nearest whole number, the even one of two equally near ones; no rounding mode involved. */
static int nearest_even(float v)
{
    float below = floorf(v), rest = v - below; /* both exact */
    int whole = (int)below;

    return rest > 0.5f || (rest == 0.5f && whole % 2 != 0) ? whole + 1 : whole;
}

/* The nearest F16 value, half to even, of a finite |v| < 65520. */
static float nearest_half(float v)
{
    int exponent;
    double unit;

    if (v == 0.0f)
        return v;
    frexp((double)v, &exponent); /* |v| in [2^(exponent-1), 2^exponent) */
    unit = ldexp(1.0, (exponent - 1 < -14 ? -14 : exponent - 1) - 10);
    return (float)(nearbyint((double)v / unit) * unit);
}

/* Kinds of rows: spread, ties of half units, zero, all of one size, far too small, subnormal, huge, one large
 * value among small ones, of one sign. */
enum { N_KINDS = 9 };
static float row_value(struct check *c, size_t kind, size_t i)
{
    switch (kind) {
    case 0:
        return check_float(c, 3.0f);
    case 1:
        return i % 32 == 5 ? 127.0f : (float)check_between(c, 0, 508) * 0.5f - 127.0f;
    case 2:
        return i % 3 ? 0.0f : -0.0f;
    case 3:
        return check_below(c, 2) ? 7.25f : -7.25f;
    case 4:
        return check_float(c, i / 256 % 2 ? 4e-6f : 1e-9f);
    case 5:
        return check_float(c, 1e-39f);
    case 6:
        return check_float(c, 8e6f);
    case 7:
        return i % 64 == 3 ? -1e4f : check_float(c, 100.0f);
    default:
        return -fabsf(check_float(c, 1.0f));
    }
}

/* The first of n values that are largest in size. */
static float first_largest(const float *x, size_t n)
{
    size_t at = 0;

    for (size_t i = 1; i < n; i++)
        at = fabsf(x[i]) > fabsf(x[at]) ? i : at;
    return x[at];
}

/* ---- activations ---- */

/* A block's factor and scale, by the definition. */
static void expected_scale(const float *x, size_t block, float *factor, float *d)
{
    volatile float max = first_largest(x, block), v;

    *factor = *d = 0.0f;
    if (block == 32) {
        v = fabsf(max) / 127.0f;
        *d = nearest_half(v);
        if (*d > 0.0f)
            *factor = 127.0f / fabsf(max);
    } else if (fabsf(max) >= 0x1p-100f) {
        v = -127.0f / max;
        *factor = v;
        *d = 1.0f / v;
    }
}

static void quantize_case(struct check *c, size_t block, size_t n, size_t kind)
{
    size_t per_sum = block == 32 ? 32 : 16;
    struct bn_q8 out;
    float *x;

    check_case(c, "n %zu, kind %zu", n, kind);
    x = check_in(c, n, sizeof *x);
    out = (struct bn_q8){check_out(c, n, 1), check_out(c, n / block, sizeof(float)),
                         check_out(c, n / per_sum, sizeof(int16_t))};
    for (size_t i = 0; i < n; i++)
        x[i] = row_value(c, kind, i);
    check_call(c);
    (block == 32 ? c->kernels->q8_0_quantize : c->kernels->q8_k_quantize)(x, &out, n);
    check_done(c);
    for (size_t i = 0; i < n; i += per_sum) {
        float factor, d;
        int sum = 0;

        expected_scale(x + i / block * block, block, &factor, &d);
        check_exact(c, "d", i / block, out.d[i / block], d);
        for (size_t j = i; j < i + per_sum; j++) {
            volatile float product = x[j] * factor;

            check_int(c, "q", j, out.q[j], nearest_even(product));
            sum += out.q[j];
        }
        check_int(c, "sum", i / per_sum, out.sum[i / per_sum], sum);
    }
}

static void quantize_cases(struct check *c, size_t block)
{
    for (size_t i = 0; i < 200 && !check_failed(c); i++)
        quantize_case(c, block, block * (i % 20 ? check_between(c, 1, 9) : 6912 / block), i % N_KINDS);
}

void check_q8_0_quantize(struct check *c)
{
    quantize_cases(c, 32);
}

void check_q8_k_quantize(struct check *c)
{
    quantize_cases(c, 256);
}

/* ---- weights ---- */

/* What value e of a block stands for. */
static float expected_value(enum block_format f, const uint8_t *w, size_t e)
{
    volatile float scale = block_half(w + block_d[f]) * (float)block_scale(f, w, e), y;

    y = scale * (float)(block_code(f, w, e) - block_zero[f]);
    if (f == Q4_K) {
        scale = block_half(w + 2) * (float)block_minimum(f, w, e);
        y = y - scale;
    }
    return y;
}

static void to_f32(const struct bn_kernels *k, enum block_format f, const uint8_t *w, float *y, size_t n)
{
    (f == Q8_0   ? k->q8_0_to_f32
     : f == Q4_0 ? k->q4_0_to_f32
     : f == Q6_K ? k->q6_k_to_f32
                 : k->q4_k_to_f32)(w, y, n);
}

static void to_f32_cases(struct check *c, enum block_format f)
{
    for (int i = 0; i < 60 && !check_failed(c); i++) {
        size_t n_blocks = check_between(c, 1, 12), n = n_blocks * block_values[f];
        uint8_t *w;
        float *y;

        check_case(c, "n %zu", n);
        w = check_in(c, n_blocks * block_bytes[f], 1);
        y = check_out(c, n, sizeof *y);
        for (size_t b = 0; b < n_blocks; b++)
            random_block(c, f, w + b * block_bytes[f]);
        check_call(c);
        to_f32(c->kernels, f, w, y, n);
        check_done(c);
        for (size_t e = 0; e < n; e++)
            check_exact(c, "y", e, y[e],
                        expected_value(f, w + e / block_values[f] * block_bytes[f], e % block_values[f]));
    }
}

static void encode(const struct bn_kernels *k, enum block_format f, const float *x, uint8_t *w, size_t n)
{
    (f == Q8_0   ? k->q8_0_encode
     : f == Q4_0 ? k->q4_0_encode
     : f == Q6_K ? k->q6_k_encode
                 : k->q4_k_encode)(x, w, n);
}

/* How far value e may be from what it was made of: half a step, plus what the rounding of scales (F16: 2^-11
 * of them, or 2^-25) moves the block's largest value, plus the step by which the range of codes has one end
 * more than the other. */
static double encode_bound(enum block_format f, const uint8_t *w, size_t e, double max)
{
    double d = fabs((double)block_half(w + block_d[f])), step = d * abs(block_scale(f, w, e));
    double f16 = max * 0x1p-10 + 128 * 0x1p-24;

    switch (f) {
    case Q8_0:
        return 0.5 * step + f16;
    case Q4_0:
        return step + f16;
    case Q6_K: /* a scale may be half a d too small or, clamped to 127, one d: times 32 codes */
        return 1.5 * step + 32 * d + 64 * f16;
    default: /* 15 codes, and half a step of the minimum */
        return 0.5 * step + 7.5 * d + 0.5 * (double)block_half(w + 2) + 64 * f16;
    }
}

/* Equal to the definition bit for bit, and near to the values. */
static void encode_cases(struct check *c, enum block_format f)
{
    struct bn_kernels definition = {0};

    bn_kernels_init_c(&definition);
    for (size_t i = 0; i < 120 && !check_failed(c); i++) {
        size_t n_blocks = check_between(c, 1, 8), n = n_blocks * block_values[f], kind = i % N_KINDS;
        size_t n_bytes = n_blocks * block_bytes[f];
        uint8_t *w, expected[8 * 210];
        float *x;

        check_case(c, "n %zu, kind %zu", n, kind);
        x = check_in(c, n, sizeof *x);
        w = check_out(c, n_bytes, 1);
        for (size_t e = 0; e < n; e++)
            x[e] = row_value(c, kind == 6 ? 0 : kind, e); /* huge weights overflow F16 scales */
        check_call(c);
        encode(c->kernels, f, x, w, n);
        check_done(c);
        encode(&definition, f, x, expected, n);
        for (size_t b = 0; b < n_bytes; b++)
            check_int(c, "w", b, w[b], expected[b]);
        for (size_t e = 0; e < n; e++) {
            size_t b = e / block_values[f];
            double max = fabs((double)first_largest(x + b * block_values[f], block_values[f]));

            check_near(c, "value", e, expected_value(f, w + b * block_bytes[f], e % block_values[f]), x[e],
                       encode_bound(f, w + b * block_bytes[f], e % block_values[f], max));
        }
    }
}

#define CHECKS(FORMAT, format)                                                                               \
    void check_##format##_to_f32(struct check *c)                                                            \
    {                                                                                                        \
        to_f32_cases(c, FORMAT);                                                                             \
    }                                                                                                        \
    void check_##format##_encode(struct check *c)                                                            \
    {                                                                                                        \
        encode_cases(c, FORMAT);                                                                             \
    }
CHECKS(Q8_0, q8_0)
CHECKS(Q4_0, q4_0)
CHECKS(Q6_K, q6_k)
CHECKS(Q4_K, q4_k)
