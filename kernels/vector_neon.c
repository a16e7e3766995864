/* SPDX-License-Identifier: MIT
 * Norm, addition, activations, exponentials and argmax over one vector, 4 values at a time. */
#include "kernels/attn.h"
#include "kernels/neon.h"

void f32_rmsnorm_neon(const float *x, const float *g, float *y, size_t n, float eps)
{
    const float32x4_t r = norm_factor(x, n, eps);

    for (size_t i = 0; i < n; i += 4)
        store4(y + i, n - i, vmulq_f32(vmulq_f32(load4(x + i, n - i), r), load4(g + i, n - i)));
}

void f32_add_neon(float *x, const float *y, size_t n)
{
    for (size_t i = 0; i < n; i += 4)
        store4(x + i, n - i, vaddq_f32(load4(x + i, n - i), load4(y + i, n - i)));
}

/* max(v, 0), +0 for -0 and for NaN. */
BN_INLINE float32x4_t positive(float32x4_t v)
{
    return vreinterpretq_f32_u32(vandq_u32(vcgtzq_f32(v), vreinterpretq_u32_f32(v)));
}

void f32_relu2_mul_neon(const float *g, const float *u, float *out, size_t n)
{
    for (size_t i = 0; i < n; i += 4) {
        const float32x4_t r = positive(load4(g + i, n - i));

        store4(out + i, n - i, vmulq_f32(vmulq_f32(r, r), load4(u + i, n - i)));
    }
}

/* As the C file: exp of the negative magnitude, in the numerator too for negative g. */
void f32_silu_mul_neon(const float *g, const float *u, float *out, size_t n)
{
    const float32x4_t one = vdupq_n_f32(1.0f);

    for (size_t i = 0; i < n; i += 4) {
        const float32x4_t v = load4(g + i, n - i), e = exp_negative(vnegq_f32(vabsq_f32(v)));
        const float32x4_t sigmoid = vdivq_f32(vbslq_f32(vcltzq_f32(v), e, one), vaddq_f32(one, e));

        store4(out + i, n - i, vmulq_f32(vmulq_f32(v, sigmoid), load4(u + i, n - i)));
    }
}

/* The larger of each pair; a NaN in v never wins. */
BN_INLINE float32x4_t larger(float32x4_t v, float32x4_t max)
{
    return vbslq_f32(vcgtq_f32(v, max), v, max);
}

/* The largest value, NaN aside; -infinity if there is none. */
BN_INLINE float largest(const float *x, size_t n)
{
    float32x4_t even = vdupq_n_f32(-INFINITY), odd = even;
    size_t i = 0;
    float m;

    for (; i + 8 <= n; i += 8) {
        even = larger(vld1q_f32(x + i), even);
        odd = larger(vld1q_f32(x + i + 4), odd);
    }
    m = vmaxvq_f32(larger(odd, even));
    for (; i < n; i++)
        m = x[i] > m ? x[i] : m;
    return m;
}

/* All ones in the first `left` of 4 lanes. */
BN_INLINE uint32x4_t lanes4(size_t left)
{
    static const uint32_t index[4] = {0, 1, 2, 3};

    return vcltq_u32(vld1q_u32(index), vdupq_n_u32(left < 4 ? (uint32_t)left : 4));
}

struct bn_exp_sum f32_exp_sum_neon(float *s, const float *scale, size_t n)
{
    const float most = largest(s, n);
    const float32x4_t max = vdupq_n_f32(most), least = vdupq_n_f32(BN_ATTN_LEAST_EXPONENT);
    float64x2_t low = vdupq_n_f64(0.0), high = low;
    float32x4_t most_of_all = vdupq_n_f32(0.0f);

    for (size_t i = 0; i < n; i += 4) {
        const float32x4_t x = vsubq_f32(load4(s + i, n - i), max);
        uint32x4_t taken = vcgeq_f32(x, least);
        float32x4_t e;

        if (n - i < 4)
            taken = vandq_u32(taken, lanes4(n - i));
        e = vreinterpretq_f32_u32(vandq_u32(vreinterpretq_u32_f32(exp_negative(x)), taken));
        low = vaddq_f64(low, low_double(e));
        high = vaddq_f64(high, vcvt_high_f64_f32(e));
        if (scale)
            e = vmulq_f32(e, load4(scale + i, n - i));
        most_of_all = vmaxq_f32(most_of_all, e);
        store4(s + i, n - i, e);
    }
    return (struct bn_exp_sum){most, (float)vaddvq_f64(vaddq_f64(low, high)), vmaxvq_f32(most_of_all)};
}

void f32_join_neon(float *x, float a, const float *y, float b, size_t n)
{
    for (size_t i = 0; i < n; i += 4) {
        float32x4_t v = vmulq_n_f32(load4(y + i, n - i), b);

        if (a != 0.0f)
            v = vaddq_f32(vmulq_n_f32(load4(x + i, n - i), a), v);
        store4(x + i, n - i, v);
    }
}

/* First what the largest value is, then where it first stands. */
size_t f32_argmax_neon(const float *x, size_t n)
{
    const float max = largest(x, n);
    size_t i = 0;

    while (i + 4 <= n && vmaxvq_u32(vceqq_f32(vld1q_f32(x + i), vdupq_n_f32(max))) == 0)
        i += 4;
    for (; i < n; i++) {
        if (x[i] == max)
            return i;
    }
    return 0;
}
