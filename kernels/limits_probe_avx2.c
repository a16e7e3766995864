/* SPDX-License-Identifier: MIT
 * Probes with AVX2. */
#include "kernels/limits_probe.h"

#include <immintrin.h>

static inline __m256i load64(const uint8_t *p)
{
    const __m256i *v = (const __m256i *)(const void *)p;
    return _mm256_add_epi64(_mm256_load_si256(v), _mm256_load_si256(v + 1));
}

static uint64_t sum_lanes(__m256i v)
{
    uint64_t lanes[4];

    _mm256_storeu_si256((__m256i *)(void *)lanes, v);
    return lanes[0] + lanes[1] + lanes[2] + lanes[3];
}

static uint64_t read_avx2(const uint8_t *p, size_t n_steps, size_t step, size_t stride, size_t ahead)
{
    __m256i s0 = _mm256_setzero_si256(), s1 = s0, s2 = s0, s3 = s0;

    for (size_t i = 0; i < n_steps; i++, p += step) {
        if (ahead)
            bn_probe_prefetch(p + ahead, stride);
        s0 = _mm256_add_epi64(s0, load64(p));
        s1 = _mm256_add_epi64(s1, load64(p + stride));
        s2 = _mm256_add_epi64(s2, load64(p + 2 * stride));
        s3 = _mm256_add_epi64(s3, load64(p + 3 * stride));
    }
    return sum_lanes(_mm256_add_epi64(_mm256_add_epi64(s0, s1), _mm256_add_epi64(s2, s3)));
}

#define CHAINS(X) X(0) X(1) X(2) X(3) X(4) X(5) X(6) X(7)
#define N_CHAINS  8

/* Products summed in int16 lanes; a kernel also has to widen them now and then, so this is its upper bound.
 * To the compiler, equal chains would be one: hence assembly, and variables, because an array would lie in
 * memory. */
static uint64_t int8_avx2(uint64_t rounds)
{
    __m256i a = _mm256_set1_epi8(1), b = _mm256_set1_epi8(3);
    uint64_t total = 0;

#define START(i) __m256i s##i = _mm256_setzero_si256(), product##i;
    CHAINS(START)
    for (uint64_t r = 0; r < rounds; r++) {
#define MULTIPLY(i)                                                                                          \
    __asm__ volatile("vpmaddubsw %3, %2, %1\n\tvpaddw %1, %0, %0"                                            \
                     : "+x"(s##i), "=&x"(product##i)                                                         \
                     : "x"(a), "x"(b));
        CHAINS(MULTIPLY)
    }
#define ADD(i) total += sum_lanes(s##i);
    CHAINS(ADD)
    return total;
}

void bn_probe_init_avx2(struct bn_probe *probe)
{
    probe->read = read_avx2;
    probe->int8 = int8_avx2;
    probe->macs_per_round = N_CHAINS * 32;
}
