/* SPDX-License-Identifier: MIT
 * Probes in plain C, and the ladder that picks the best. */
#include "kernels/cpu.h"
#include "kernels/limits_probe.h"

#include <string.h>

/* Four independent sums: enough loads in flight to wait for memory alone. */
static uint64_t read_c(const uint8_t *p, size_t n_steps, size_t step, size_t stride, size_t ahead)
{
    uint64_t sum[4] = {0}, words[8];

    for (size_t i = 0; i < n_steps; i++, p += step) {
        if (ahead)
            bn_probe_prefetch(p + ahead, stride);
        for (int j = 0; j < 4; j++) {
            memcpy(words, p + j * stride, sizeof words);
            sum[j] += words[0] + words[1] + words[2] + words[3] + words[4] + words[5] + words[6] + words[7];
        }
    }
    return sum[0] + sum[1] + sum[2] + sum[3];
}

enum { DOT = 1024 }; /* stays in the first cache */

static uint64_t int8_c(uint64_t rounds)
{
    int8_t a[DOT], b[DOT];
    uint64_t total = 0;

    for (int i = 0; i < DOT; i++) {
        a[i] = (int8_t)(i * 7);
        b[i] = (int8_t)(i % 3);
    }
    for (uint64_t r = 0; r < rounds; r++) {
        int32_t sum = 0;
        __asm__ volatile("" : : "r"(a), "r"(b) : "memory"); /* the arrays may have changed: multiply again */
        for (int i = 0; i < DOT; i++)
            sum += a[i] * b[i];
        total += (uint64_t)sum;
    }
    return total;
}

void bn_probe_init(struct bn_probe *probe, unsigned cpu_flags)
{
    *probe = (struct bn_probe){.read = read_c, .int8 = int8_c, .macs_per_round = DOT};
#if defined(__x86_64__)
    if (cpu_flags & BN_CPU_AVX2)
        bn_probe_init_avx2(probe);
    if (cpu_flags & BN_CPU_AVX512)
        bn_probe_init_avx512(probe);
    if (cpu_flags & BN_CPU_AVX512VNNI)
        bn_probe_init_avx512vnni(probe);
#elif defined __aarch64__
    if (cpu_flags & BN_CPU_NEON)
        bn_probe_init_neon(probe);
    if (cpu_flags & BN_CPU_DOTPROD)
        bn_probe_init_dotprod(probe);
#else
    (void)cpu_flags;
#endif
}
