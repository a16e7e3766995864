/* SPDX-License-Identifier: MIT
 * checkkernel: plain products and conversions, against sums in long double. */
#include "tests/kernels/checkkernel.h"

#include <math.h>
#include <string.h>

/* ---- products ---- */

enum weight_type { F16, BF16, F32 };

static size_t weight_bytes(enum weight_type type)
{
    return type == F32 ? 4 : 2;
}

static long double weight_value(const void *w, size_t i, enum weight_type type)
{
    switch (type) {
    case F16:
        return half_value(((const uint16_t *)w)[i]);
    case BF16:
        return bfloat_value(((const uint16_t *)w)[i]);
    default:
        return ((const float *)w)[i];
    }
}

/* Weights as a model has them, or with exponents spread widely, or all equal to the largest, or alternating.
 */
static float some_weight(struct check *c, int kind, size_t i)
{
    switch (kind) {
    case 0:
        return check_float(c, 0.05f);
    case 1:
        return ldexpf(check_float(c, 1.0f), (int)check_between(c, 0, 40) - 20);
    case 2:
        return 60000.0f;
    default:
        return i % 2 ? 1.5f : -1.5f;
    }
}

static void fill_weights(struct check *c, void *w, size_t n, enum weight_type type, int kind)
{
    for (size_t i = 0; i < n; i++) {
        float v = some_weight(c, kind, i);
        uint32_t bits;

        memcpy(&bits, &v, sizeof bits);
        if (type == F32)
            ((float *)w)[i] = v;
        else
            ((uint16_t *)w)[i] = type == BF16 ? (uint16_t)(bits >> 16) : check_half(c);
    }
}

static void call_gemv(struct check *c, const void *w, const float *x, float *y, size_t n_rows, size_t k,
                      enum weight_type type)
{
    check_call(c);
    if (type == F16)
        c->kernels->f16_gemv(w, x, y, n_rows, k);
    else if (type == BF16)
        c->kernels->bf16_gemv(w, x, y, n_rows, k);
    else
        c->kernels->f32_gemv(w, x, y, n_rows, k);
    check_done(c);
}

static void gemv_case(struct check *c, size_t n_rows, size_t k, enum weight_type type, int kind)
{
    uint8_t *w;
    float *x, *y, *alone;

    check_case(c, "%zu rows, k %zu, kind %d", n_rows, k, kind);
    w = check_in(c, n_rows * k, weight_bytes(type));
    x = check_in(c, k, sizeof *x);
    y = check_out(c, n_rows, sizeof *y);
    fill_weights(c, w, n_rows * k, type, kind);
    for (size_t i = 0; i < k; i++)
        x[i] = check_float(c, 4.0f);
    call_gemv(c, w, x, y, n_rows, k, type);
    for (size_t r = 0; r < n_rows; r++) {
        long double sum = 0, magnitudes = 0;

        for (size_t i = 0; i < k; i++) {
            long double product = weight_value(w, r * k + i, type) * x[i];

            sum += product;
            magnitudes += fabsl(product);
        }
        check_near(c, "y", r, y[r], sum, (k / 8.0L + 16) * 0x1p-24L * magnitudes + (k + 1) * 0x1p-149L);
    }
    /* a row's result must not depend on the rows done together with it */
    alone = check_out(c, 1, sizeof *alone);
    for (size_t r = 0; r < n_rows; r++) {
        call_gemv(c, w + r * k * weight_bytes(type), x, alone, 1, k, type);
        check_exact(c, "y alone", r, *alone, y[r]);
    }
}

static void gemv_cases(struct check *c, enum weight_type type)
{
    for (size_t i = 0; i < 120 && !check_failed(c); i++) {
        size_t k = i < 70 ? i : check_below(c, 4) == 0 ? 2560 : check_between(c, 1, 700);

        gemv_case(c, check_between(c, 1, 11), k, type, (int)i % 4);
    }
}

void check_f16_gemv(struct check *c)
{
    gemv_cases(c, F16);
}

void check_bf16_gemv(struct check *c)
{
    gemv_cases(c, BF16);
}

void check_f32_gemv(struct check *c)
{
    gemv_cases(c, F32);
}

/* ---- conversions ---- */

static float from_bits(uint32_t bits)
{
    float f;

    memcpy(&f, &bits, sizeof f);
    return f;
}

/* The float of a half; a NaN keeps sign and payload and becomes quiet. */
static float half_to_float(uint16_t h)
{
    if ((h & 0x7fff) > 0x7c00)
        return from_bits((uint32_t)(h & 0x8000) << 16 | 0x7fc00000 | (uint32_t)(h & 0x3ff) << 13);
    return (float)half_value(h);
}

/* The nearest half by counting units of the last place: 2^-24 for subnormals, else 2^(exponent - 10). */
static uint16_t float_to_half(float f)
{
    uint16_t sign = signbit(f) ? 0x8000 : 0;
    double v = fabs((double)f), units, whole;
    int exponent;
    uint32_t bits;

    memcpy(&bits, &f, sizeof bits);
    if (isnan(f))
        return (uint16_t)(sign | 0x7e00 | (bits >> 13 & 0x3ff));
    if (v >= 65520)
        return (uint16_t)(sign | 0x7c00);
    exponent = v < 0x1p-14 ? -14 : ilogb(v);
    units = ldexp(v, 10 - exponent);
    whole = floor(units);
    if (units - whole > 0.5 || (units - whole == 0.5 && fmod(whole, 2) != 0))
        whole++;
    /* 1024 units are the next exponent's beginning, so that a carry needs no case of its own */
    return (uint16_t)(sign | (uint32_t)((exponent + 14) * 1024 + (int)whole));
}

/* All halves at once, then short stretches with every remainder. */
void check_f16_to_f32(struct check *c)
{
    for (size_t i = 0; i < 70 && !check_failed(c); i++) {
        size_t n = i == 0 ? 65536 : i;
        uint16_t *x;
        float *y;

        check_case(c, "n %zu", n);
        x = check_in(c, n, sizeof *x);
        y = check_out(c, n, sizeof *y);
        for (size_t j = 0; j < n; j++)
            x[j] = i == 0 ? (uint16_t)j : (uint16_t)check_random(c);
        check_call(c);
        c->kernels->f16_to_f32(x, y, n);
        check_done(c);
        for (size_t j = 0; j < n; j++)
            check_exact(c, "y", j, y[j], half_to_float(x[j]));
    }
}

/* Around every half: itself, half way to the next one, and the floats beside these; then any bits. */
static float float_near_half(struct check *c, size_t i)
{
    uint16_t h = (uint16_t)(i >> 3 & 0x7fff);
    float low = (float)half_value(h), high = (float)half_value((uint16_t)(h + 1));
    float middle = h < 0x7bff ? (low + high) / 2 : h == 0x7bff ? 65520.0f : low;

    switch (i & 7) {
    case 0:
        return low;
    case 1:
        return -middle;
    case 2:
        return middle;
    case 3:
        return nextafterf(middle, 0.0f);
    case 4:
        return nextafterf(middle, INFINITY);
    case 5:
        return nextafterf(low, INFINITY);
    default:
        return from_bits((uint32_t)check_random(c));
    }
}

void check_f32_to_f16(struct check *c)
{
    for (size_t i = 0; i < 70 && !check_failed(c); i++) {
        size_t n = i == 0 ? (size_t)8 << 15 : i;
        float *x;
        uint16_t *y;

        check_case(c, "n %zu", n);
        x = check_in(c, n, sizeof *x);
        y = check_out(c, n, sizeof *y);
        for (size_t j = 0; j < n; j++)
            x[j] = float_near_half(c, i == 0 ? j : check_random(c));
        check_call(c);
        c->kernels->f32_to_f16(x, y, n);
        check_done(c);
        for (size_t j = 0; j < n; j++)
            check_int(c, "y", j, y[j], float_to_half(x[j]));
    }
}

void check_bf16_to_f32(struct check *c)
{
    for (size_t i = 0; i < 70 && !check_failed(c); i++) {
        size_t n = i == 0 ? 65536 : i;
        uint16_t *x;
        float *y;

        check_case(c, "n %zu", n);
        x = check_in(c, n, sizeof *x);
        y = check_out(c, n, sizeof *y);
        for (size_t j = 0; j < n; j++)
            x[j] = i == 0 ? (uint16_t)j : (uint16_t)check_random(c);
        check_call(c);
        c->kernels->bf16_to_f32(x, y, n);
        check_done(c);
        for (size_t j = 0; j < n; j++)
            check_exact(c, "y", j, y[j], from_bits((uint32_t)x[j] << 16));
    }
}
