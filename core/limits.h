/* SPDX-License-Identifier: MIT
 * What this machine can do, measured now: read bandwidth and int8 dot-product peak. */
#ifndef CORE_LIMITS_H
#define CORE_LIMITS_H

#include "core/base.h"

struct bn_limits {
    uint32_t threads;
    double read_bytes_per_s; /* all threads together, plain loads over a buffer far beyond the last cache; 0 =
                                unknown */
    double int8_macs_per_s;  /* all threads together, from registers; 0 = unknown */
    uint64_t buffer_bytes;   /* what the read probe ran over, in all */
    uint64_t last_cache_bytes; /* 0 = unknown */
};

/* Takes about half a second and min(512 MiB, a quarter of the free memory); best of several passes.
 * cpu_flags: enum bn_cpu_flag bits that the loads and dot products may use. */
int bn_limits_measure(struct bn_limits *limits, uint32_t threads, unsigned cpu_flags, struct bn_err *err);

#endif
