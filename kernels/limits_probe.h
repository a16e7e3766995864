/* SPDX-License-Identifier: MIT
 * Inner loops that find out what a core can do: read memory, multiply int8. Used by core/limits.
 *
 * Pure: any thread, no allocation, cannot fail. The results mean nothing; they keep the work from being
 * dropped. */
#ifndef KERNELS_LIMITS_PROBE_H
#define KERNELS_LIMITS_PROBE_H

#include <stddef.h>
#include <stdint.h>

/* How memory is read: front to back, or from four places at once as a kernel does that works on several rows.
 * Which is faster depends on the machine. */
enum bn_probe_order { BN_PROBE_ONE_STREAM, BN_PROBE_FOUR_STREAMS };

struct bn_probe {
    /* Read n bytes once: n / 256 steps, each of the 64 bytes at p + i * step + 0, 1, 2 and 3 * stride. What
     * lies `ahead` bytes behind each is prefetched; 0 = leave that to the CPU. p: 64-byte aligned.
     * bn_probe_read finds step and stride. */
    uint64_t (*read)(const uint8_t *p, size_t n_steps, size_t step, size_t stride, size_t ahead);
    /* int8 products added up, as the ternary kernels of this instruction set do it, without touching memory.
     */
    uint64_t (*int8)(uint64_t rounds);
    uint64_t macs_per_round; /* of int8 */
};

/* The probes of the best of cpu_flags (enum bn_cpu_flag bits). */
void bn_probe_init(struct bn_probe *probe, unsigned cpu_flags);

/* Read n bytes (a multiple of 256) in the given order. */
static inline uint64_t bn_probe_read(const struct bn_probe *probe, const uint8_t *p, size_t n,
                                     enum bn_probe_order order, size_t ahead)
{
    return order == BN_PROBE_FOUR_STREAMS ? probe->read(p, n / 256, 64, n / 4, ahead)
                                          : probe->read(p, n / 256, 256, 64, ahead);
}

/* Four cache lines into the first cache. The address may lie behind the end of the memory: a prefetch never
 * faults. */
static inline void bn_probe_prefetch(const uint8_t *p, size_t stride)
{
    __builtin_prefetch(p, 0, 3);
    __builtin_prefetch(p + stride, 0, 3);
    __builtin_prefetch(p + 2 * stride, 0, 3);
    __builtin_prefetch(p + 3 * stride, 0, 3);
}

/* One instruction set's; overwrite what they have. */
void bn_probe_init_avx2(struct bn_probe *probe);
void bn_probe_init_avx512(struct bn_probe *probe);
void bn_probe_init_avx512vnni(struct bn_probe *probe);
void bn_probe_init_neon(struct bn_probe *probe);
void bn_probe_init_dotprod(struct bn_probe *probe);

#endif
