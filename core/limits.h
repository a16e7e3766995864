/* SPDX-License-Identifier: MIT
 * What this machine can do, measured now: read bandwidth and int8 dot-product peak.
 *
 * Nothing that the engine does may be faster, so a look tries several ways of reading (one stream or four,
 * with and without prefetching, every thread in a place of its own or all of them in one) and the best one
 * counts. Each try is short: a shared host gives a machine its full speed for moments only, and many short
 * looks find them. */
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

/* The memory that looks read. */
struct bn_limits_probe;

/* Takes min(512 MiB, a quarter of the free memory) and the time to fill it. max_threads: of all looks.
 * cpu_flags: enum bn_cpu_flag bits that the loads and dot products may use. 0, or -1 with a message. */
int bn_limits_open(struct bn_limits_probe **out, uint32_t max_threads, unsigned cpu_flags,
                   struct bn_err *err);
/* Accepts NULL. */
void bn_limits_close(struct bn_limits_probe *probe);

/* Measure with so many threads, but no more than the caller has CPUs, for about a tenth of a second; *limits
 * (zeroed before the first look at this number of threads) keeps the best of all looks. 0, or -1 with a
 * message: a thread cannot be started. */
int bn_limits_look(struct bn_limits_probe *probe, uint32_t threads, struct bn_limits *limits,
                   struct bn_err *err);

/* Open, some looks, close: about half a second. */
int bn_limits_measure(struct bn_limits *limits, uint32_t threads, unsigned cpu_flags, struct bn_err *err);

#endif
