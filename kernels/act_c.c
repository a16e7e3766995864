/* SPDX-License-Identifier: MIT
 * Activations to int8 and the way back, the definition. */
#include "kernels/act.h"
#include "kernels/isa.h"

#include <math.h>
#include <string.h>

/* v, rounded half to even, as a code. */
BN_INLINE int8_t quantize1(float v)
{
    const float to_integer = 12582912.0f; /* 1.5 * 2^23: adding it leaves no bits below the unit */
    int32_t bits;

    v = v < -128.0f ? -128.0f : v;
    v = (v > 127.0f ? 127.0f : v) + to_integer; /* the low bits now hold v */
    memcpy(&bits, &v, sizeof bits);
    return (int8_t)((bits & 0x7fffff) - 0x400000);
}

struct bn_act i8_quantize_c(const float *x, int8_t *q, size_t n)
{
    struct bn_act act = {0};
    float max = 0.0f;

    for (size_t i = 0; i < n; i++)
        max = fabsf(x[i]) > max ? fabsf(x[i]) : max;
    act.scale = act_scale(max);
    for (size_t i = 0; i < n; i++)
        act.sum += q[i] = quantize1(x[i] * act.scale);
    return act;
}

struct bn_act i8_rmsnorm_c(const float *x, const float *g, int8_t *q, size_t n, float eps)
{
    struct bn_act act = {0};
    double sum = 0.0;
    float r, max = 0.0f;

    for (size_t i = 0; i < n; i++)
        sum += (double)x[i] * x[i];
    r = 1.0f / sqrtf((float)(sum / (double)n) + eps);
    for (size_t i = 0; i < n; i++)
        max = fabsf(x[i] * r * g[i]) > max ? fabsf(x[i] * r * g[i]) : max;
    act.scale = act_scale(max);
    for (size_t i = 0; i < n; i++)
        act.sum += q[i] = quantize1(x[i] * r * g[i] * act.scale);
    return act;
}

void i32_scale_c(const int32_t *y, float *out, float a_scale, float w_scale, size_t n)
{
    for (size_t i = 0; i < n; i++)
        out[i] = (float)y[i] / a_scale * w_scale;
}
