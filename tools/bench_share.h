/* SPDX-License-Identifier: MIT
 * What repetitions of a measurement say: their spread, and the share of the machine's limits that they reach.
 * Pure. */
#ifndef TOOLS_BENCH_SHARE_H
#define TOOLS_BENCH_SHARE_H

#include "core/limits.h"

struct bn_bench_spread {
    double median, min, max;
};

/* n >= 1 values, in any order. */
struct bn_bench_spread bn_bench_spread(const double *values, size_t n);

/* What some work took from the machine, as the stages counted it (bn_scope_demand). */
struct bn_bench_work {
    double memory_bytes, int8_macs;
    double pass_bytes; /* memory_bytes of one pass through the model: what is read before the same byte comes
                          again */
};

/* Which limit binds: the one at which the work would take longer. */
enum bn_bench_bound {
    BN_BENCH_NOT_COUNTED, /* the work counted neither bytes nor int8 products */
    BN_BENCH_NOT_MEASURED,
    BN_BENCH_IN_CACHE, /* memory would, but a pass is no more than four times the last cache: partly read from
                          there */
    BN_BENCH_MEMORY,
    BN_BENCH_INT8,
};

/* "memory" and "int8", or why there is no limit: "in cache", … */
const char *bn_bench_bound_name(enum bn_bench_bound bound);

struct bn_bench_share {
    enum bn_bench_bound bound;
    double gbytes_per_s, gmacs_per_s; /* of the work */
    double limit;                     /* GB/s or GMAC/s, whichever binds; NAN = none does */
    double share;                     /* of it; NAN = no limit. Above 1: the probe or the count is wrong */
};

/* Work that took so many seconds (> 0), against limits measured at the same number of threads. */
struct bn_bench_share bn_bench_share(const struct bn_bench_work *work, double seconds,
                                     const struct bn_limits *limits);

/* 0, or -1 if the share is above 1, with a message that begins with `what` ("tg128, 2 threads"). */
int bn_bench_share_check(const struct bn_bench_share *share, const char *what, struct bn_err *err);

#endif
