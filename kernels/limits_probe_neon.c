/* SPDX-License-Identifier: MIT
 * Probes with NEON. */
#include "kernels/limits_probe.h"

#include <arm_neon.h>

static inline uint64x2_t load64(const uint8_t *p)
{
    const uint64x2_t a = vaddq_u64(vreinterpretq_u64_u8(vld1q_u8(p)), vreinterpretq_u64_u8(vld1q_u8(p + 16)));
    const uint64x2_t b =
        vaddq_u64(vreinterpretq_u64_u8(vld1q_u8(p + 32)), vreinterpretq_u64_u8(vld1q_u8(p + 48)));

    return vaddq_u64(a, b);
}

static uint64_t read_neon(const uint8_t *p, size_t n_steps, size_t step, size_t stride, size_t ahead)
{
    uint64x2_t s0 = vdupq_n_u64(0), s1 = s0, s2 = s0, s3 = s0;

    for (size_t i = 0; i < n_steps; i++, p += step) {
        if (ahead)
            bn_probe_prefetch(p + ahead, stride);
        s0 = vaddq_u64(s0, load64(p));
        s1 = vaddq_u64(s1, load64(p + stride));
        s2 = vaddq_u64(s2, load64(p + 2 * stride));
        s3 = vaddq_u64(s3, load64(p + 3 * stride));
    }
    return vaddvq_u64(vaddq_u64(vaddq_u64(s0, s1), vaddq_u64(s2, s3)));
}

#define CHAINS(X) X(0) X(1) X(2) X(3) X(4) X(5) X(6) X(7) X(8) X(9) X(10) X(11) X(12) X(13) X(14) X(15)
#define N_CHAINS  16

/* Products summed in int16 lanes; a kernel also has to widen them now and then, so this is its upper bound.
 * To the compiler, equal chains would be one: hence assembly, and variables, because an array would lie in
 * memory. */
static uint64_t int8_neon(uint64_t rounds)
{
    const int8x16_t a = vdupq_n_s8(1), b = vdupq_n_s8(3);
    uint64_t total = 0;

#define START(i) int16x8_t s##i = vdupq_n_s16(0);
    CHAINS(START)
    for (uint64_t r = 0; r < rounds; r++) {
#define MULTIPLY(i) __asm__ volatile("smlal %0.8h, %1.8b, %2.8b" : "+w"(s##i) : "w"(a), "w"(b));
        CHAINS(MULTIPLY)
    }
#define ADD(i) total += vaddvq_u64(vreinterpretq_u64_s16(s##i));
    CHAINS(ADD)
    return total;
}

void bn_probe_init_neon(struct bn_probe *probe)
{
    probe->read = read_neon;
    probe->int8 = int8_neon;
    probe->macs_per_round = N_CHAINS * 8;
}
