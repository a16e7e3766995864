/* SPDX-License-Identifier: MIT
 * The int8 probe with AVX-512 VNNI: multiply, add in fours and accumulate in one instruction. */
#include "kernels/limits_probe.h"

#include <immintrin.h>

/* One instruction of a round: five cycles of latency and two a cycle at most, so twelve chains. To the
 * compiler, equal chains would be one: hence assembly, and variables, because an array would lie in memory.
 */
#define CHAINS(X) X(0) X(1) X(2) X(3) X(4) X(5) X(6) X(7) X(8) X(9) X(10) X(11)
#define N_CHAINS  12

static uint64_t sum_lanes(__m512i v)
{
    uint64_t lanes[8], total = 0;

    _mm512_storeu_si512(lanes, v);
    for (int i = 0; i < 8; i++)
        total += lanes[i];
    return total;
}

static uint64_t int8_avx512vnni(uint64_t rounds)
{
    __m512i a = _mm512_set1_epi8(1), b = _mm512_set1_epi8(3);
    uint64_t total = 0;

#define START(i) __m512i s##i = _mm512_setzero_si512();
    CHAINS(START)
    for (uint64_t r = 0; r < rounds; r++) {
#define MULTIPLY(i) __asm__ volatile("vpdpbusd %2, %1, %0" : "+v"(s##i) : "v"(a), "v"(b));
        CHAINS(MULTIPLY)
    }
#define ADD(i) total += sum_lanes(s##i);
    CHAINS(ADD)
    return total;
}

void bn_probe_init_avx512vnni(struct bn_probe *probe)
{
    probe->int8 = int8_avx512vnni;
    probe->macs_per_round = N_CHAINS * 64;
}
