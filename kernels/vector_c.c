/* SPDX-License-Identifier: MIT
 * Norm, addition, activations, exponentials and argmax over one vector, the definition. */
#include "kernels/attn.h"
#include "kernels/isa.h"

#include <math.h>

void f32_rmsnorm_c(const float *x, const float *g, float *y, size_t n, float eps)
{
    double sum = 0.0;
    float r;

    for (size_t i = 0; i < n; i++)
        sum += (double)x[i] * x[i];
    r = 1.0f / sqrtf((float)(sum / (double)n) + eps);
    for (size_t i = 0; i < n; i++)
        y[i] = x[i] * r * g[i];
}

void f32_add_c(float *x, const float *y, size_t n)
{
    for (size_t i = 0; i < n; i++)
        x[i] += y[i];
}

void f32_relu2_mul_c(const float *g, const float *u, float *out, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        float r = g[i] > 0.0f ? g[i] : 0.0f;

        out[i] = r * r * u[i];
    }
}

/* exp of the negative magnitude cannot overflow; 1 / (1 + exp(-g)) = exp(g) / (1 + exp(g)) serves negative g.
 */
void f32_silu_mul_c(const float *g, const float *u, float *out, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        float e = expf(-fabsf(g[i])), numerator = g[i] < 0.0f ? e : 1.0f;

        out[i] = g[i] * (numerator / (1.0f + e)) * u[i];
    }
}

struct bn_exp_sum f32_exp_sum_c(float *s, const float *scale, size_t n)
{
    float max = s[0], largest = 0.0f;
    double sum = 0.0;

    for (size_t i = 1; i < n; i++)
        max = s[i] > max ? s[i] : max;
    for (size_t i = 0; i < n; i++) {
        float e = s[i] - max < BN_ATTN_LEAST_EXPONENT ? 0.0f : expf(s[i] - max);

        sum += e;
        s[i] = scale ? e * scale[i] : e;
        largest = s[i] > largest ? s[i] : largest;
    }
    return (struct bn_exp_sum){max, (float)sum, largest};
}

void f32_join_c(float *x, float a, const float *y, float b, size_t n)
{
    for (size_t i = 0; i < n; i++)
        x[i] = a == 0.0f ? y[i] * b : x[i] * a + y[i] * b;
}

size_t f32_argmax_c(const float *x, size_t n)
{
    size_t best = 0;

    for (size_t i = 1; i < n; i++) {
        if (x[i] > x[best] || isnan(x[best]))
            best = isnan(x[i]) ? best : i;
    }
    return best;
}
