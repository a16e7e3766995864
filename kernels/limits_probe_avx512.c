/* SPDX-License-Identifier: MIT
 * Probes with AVX-512 F and BW. */
#include "kernels/limits_probe.h"

#include <immintrin.h>

/* Not _mm512_reduce_add_epi64, whose sum is signed and may not overflow. */
static uint64_t sum_lanes(__m512i v)
{
    uint64_t lanes[8];

    _mm512_storeu_si512(lanes, v);
    return lanes[0] + lanes[1] + lanes[2] + lanes[3] + lanes[4] + lanes[5] + lanes[6] + lanes[7];
}

static uint64_t read_avx512(const uint8_t *p, size_t n_steps, size_t step, size_t stride, size_t ahead)
{
    __m512i s0 = _mm512_setzero_si512(), s1 = s0, s2 = s0, s3 = s0;

    for (size_t i = 0; i < n_steps; i++, p += step) {
        if (ahead)
            bn_probe_prefetch(p + ahead, stride);
        s0 = _mm512_add_epi64(s0, _mm512_load_si512(p));
        s1 = _mm512_add_epi64(s1, _mm512_load_si512(p + stride));
        s2 = _mm512_add_epi64(s2, _mm512_load_si512(p + 2 * stride));
        s3 = _mm512_add_epi64(s3, _mm512_load_si512(p + 3 * stride));
    }
    s0 = _mm512_add_epi64(_mm512_add_epi64(s0, s1), _mm512_add_epi64(s2, s3));
    return sum_lanes(s0);
}

#define CHAINS(X) X(0) X(1) X(2) X(3) X(4) X(5) X(6) X(7)
#define N_CHAINS  8

/* See the AVX2 one. */
static uint64_t int8_avx512(uint64_t rounds)
{
    __m512i a = _mm512_set1_epi8(1), b = _mm512_set1_epi8(3);
    uint64_t total = 0;

#define START(i) __m512i s##i = _mm512_setzero_si512(), product##i;
    CHAINS(START)
    for (uint64_t r = 0; r < rounds; r++) {
#define MULTIPLY(i)                                                                                          \
    __asm__ volatile("vpmaddubsw %3, %2, %1\n\tvpaddw %1, %0, %0"                                            \
                     : "+v"(s##i), "=&v"(product##i)                                                         \
                     : "v"(a), "v"(b));
        CHAINS(MULTIPLY)
    }
#define ADD(i) total += sum_lanes(s##i);
    CHAINS(ADD)
    return total;
}

void bn_probe_init_avx512(struct bn_probe *probe)
{
    probe->read = read_avx512;
    probe->int8 = int8_avx512;
    probe->macs_per_round = N_CHAINS * 64;
}
