/* SPDX-License-Identifier: MIT
 * The int8 probe with the dot product instruction: multiply, add in fours and accumulate in one. */
#include "kernels/limits_probe.h"

#include <arm_neon.h>

#define CHAINS(X) X(0) X(1) X(2) X(3) X(4) X(5) X(6) X(7) X(8) X(9) X(10) X(11) X(12) X(13) X(14) X(15)
#define N_CHAINS  16

/* See the NEON one. */
static uint64_t int8_dotprod(uint64_t rounds)
{
    const int8x16_t a = vdupq_n_s8(1), b = vdupq_n_s8(3);
    uint64_t total = 0;

#define START(i) int32x4_t s##i = vdupq_n_s32(0);
    CHAINS(START)
    for (uint64_t r = 0; r < rounds; r++) {
#define MULTIPLY(i) __asm__ volatile("sdot %0.4s, %1.16b, %2.16b" : "+w"(s##i) : "w"(a), "w"(b));
        CHAINS(MULTIPLY)
    }
#define ADD(i) total += vaddvq_u64(vreinterpretq_u64_s32(s##i));
    CHAINS(ADD)
    return total;
}

void bn_probe_init_dotprod(struct bn_probe *probe)
{
    probe->int8 = int8_dotprod;
    probe->macs_per_round = N_CHAINS * 16;
}
