/* SPDX-License-Identifier: MIT
 * The int8 probe with AVX-512 VNNI: multiply, add in fours and accumulate in one instruction. */
#include "kernels/limits_probe.h"

#include <immintrin.h>

enum { CHAINS = 12 }; /* five cycles of latency, two a cycle at most */

static uint64_t int8_avx512vnni(uint64_t rounds)
{
    __m512i sum[CHAINS], a = _mm512_set1_epi8(1), b = _mm512_set1_epi8(3);
    uint64_t total = 0, lanes[8];

    for (int j = 0; j < CHAINS; j++)
        sum[j] = _mm512_setzero_si512();
    for (uint64_t r = 0; r < rounds; r++) {
#pragma GCC unroll 12
        for (int j = 0; j < CHAINS; j++) /* to the compiler, equal chains would be one */
            __asm__ volatile("vpdpbusd %2, %1, %0" : "+v"(sum[j]) : "v"(a), "v"(b));
    }
    for (int j = 0; j < CHAINS; j++) {
        _mm512_storeu_si512(lanes, sum[j]);
        for (int lane = 0; lane < 8; lane++)
            total += lanes[lane];
    }
    return total;
}

void bn_probe_init_avx512vnni(struct bn_probe *probe)
{
    probe->int8 = int8_avx512vnni;
    probe->macs_per_round = CHAINS * 64;
}
