/* SPDX-License-Identifier: MIT
 * The bound, by Cauchy and Schwarz. For a row w with codes, e the error of the planes read so far, x the
 * vector, d what 15 bits leave of it and h what its upper 8 bits leave:
 *
 *   w.x - y = (w - w').x                    <= |e| |x|
 *           + w'_high.d                     <= (|w| + |e| + |steps|) |d|
 *           + (mid's step + low's step).h   <= |steps| |h|      mid: 2 scale each, low: at most 1.5 scale
 *
 * where w' = w'_high + the steps of mid and low, which are multiplied with the upper bits only. To this come
 * the rounding of the float kernel, which kernels.h states, (n/8 + 16) 2^-24 |w||x|, and that of our own
 * sums. A row of zeros has no error on either side; for any other |w||x| is so large that what the kernel
 * loses by underflow vanishes beside the reserve of 2^-19 |w||x|. */
#include "core/screen.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

enum { TOP = 32512 /* 127 * 256: the largest whole number that x is made into */ };

/* Sums over the elements, in double. */
struct sums {
    double x, d, h;              /* squares */
    double whole, upper, lower;  /* magnitudes of 256 a + b, of a, of b */
    double whole_sum, upper_sum; /* with their signs */
};

/* The smallest power of two that x fits in TOP times. */
static float choose_unit(float max)
{
    int exponent;

    frexp((double)max / TOP, &exponent);
    return ldexpf(1.0f, exponent);
}

static void quantize(struct bn_screen_query *q, const float *x, size_t n, size_t k, struct sums *s)
{
    double unit = (double)q->unit, per_unit = 1.0 / unit;

    for (size_t i = 0; i < n; i++) {
        double v = (double)x[i];
        int whole = (int)lrint(v * per_unit), upper = (whole + 128) >> 8, lower = whole - 256 * upper;
        double d = v - unit * whole, h = v - unit * 256 * upper;
        q->x[i] = (int8_t)upper;
        q->x[k + i] = (int8_t)lower;
        s->x += v * v;
        s->d += d * d;
        s->h += h * h;
        s->whole += abs(whole);
        s->upper += abs(upper);
        s->lower += abs(lower);
        s->whole_sum += whole;
        s->upper_sum += upper;
    }
    memset(q->x + n, 0, k - n);
    memset(q->x + k + n, 0, k - n);
}

static float up(double v)
{
    return nextafterf((float)(v * (1.0 + 0x1p-18)), INFINITY);
}

/* per_scale adds up: rounding of the plane high's sums, then steps and rounding of mid and of low. */
static void make_bounds(struct bn_screen_query *q, const struct sums *s, size_t n)
{
    double x = sqrt(s->x), d = sqrt(s->d), steps = sqrt((double)n) * (d + sqrt(s->h)), unit = (double)q->unit;
    double kernel = ((double)n / 8 + 16) * 0x1p-24;
    double per_scale[BN_SCREEN_PLANES];

    per_scale[BN_SCREEN_HIGH] = unit * (15 * (256 * s->upper + s->lower) + 7.5 * s->whole) * 0x1p-18;
    per_scale[BN_SCREEN_MID] = per_scale[BN_SCREEN_HIGH] + 2.0 * steps + 512 * unit * s->upper * 0x1p-22;
    per_scale[BN_SCREEN_LOW] = per_scale[BN_SCREEN_MID] + 1.5 * steps + 128 * unit * 3 * s->upper * 0x1p-22;
    for (int p = 0; p < BN_SCREEN_PLANES; p++)
        q->bound[p] = (struct bn_screen_bound){up(x + d), up(d + (kernel + 0x1p-19) * x), up(per_scale[p])};
}

bool bn_screen_query_make(struct bn_screen_query *q, const float *x, size_t n, size_t k)
{
    struct sums s = {0};
    float max = 0.0f;

    for (size_t i = 0; i < n; i++) {
        if (!(fabsf(x[i]) <= 1e15f))
            return false;
        max = fabsf(x[i]) > max ? fabsf(x[i]) : max;
    }
    if (max < 1e-15f)
        return false;
    q->unit = choose_unit(max);
    quantize(q, x, n, k, &s);
    q->x_sum = (int32_t)s.upper_sum;
    q->center = (float)(7.5 * s.whole_sum);
    make_bounds(q, &s, n);
    return true;
}
