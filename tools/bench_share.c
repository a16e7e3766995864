/* SPDX-License-Identifier: MIT
 * Spread and share. */
#include "tools/bench_share.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "profiler/stats.h"

enum {
    CACHE_MARGIN = 4, /* a pass so many times the last cache finds next to nothing of the one before */
    ASSUMED_CACHE_BYTES = 64 << 20, /* where the system does not tell */
};

struct bn_bench_spread bn_bench_spread(const double *values, size_t n)
{
    double *sorted = bn_xcalloc(n, sizeof *sorted);

    memcpy(sorted, values, n * sizeof *sorted);
    double median = bn_stats_median(sorted, n);
    struct bn_bench_spread spread = {median, sorted[0], sorted[n - 1]};
    free(sorted);
    return spread;
}

const char *bn_bench_bound_name(enum bn_bench_bound bound)
{
    static const char *const names[] = {[BN_BENCH_NOT_COUNTED] = "not counted",
                                        [BN_BENCH_NOT_MEASURED] = "not measured",
                                        [BN_BENCH_IN_CACHE] = "in cache",
                                        [BN_BENCH_MEMORY] = "memory",
                                        [BN_BENCH_INT8] = "int8"};

    return names[bound];
}

static enum bn_bench_bound bound_of(const struct bn_bench_work *work, const struct bn_limits *limits)
{
    bool reads = work->memory_bytes > 0, multiplies = work->int8_macs > 0;
    double cache = (double)(limits->last_cache_bytes ? limits->last_cache_bytes : ASSUMED_CACHE_BYTES);

    if (!reads && !multiplies)
        return BN_BENCH_NOT_COUNTED;
    if ((reads && limits->read_bytes_per_s <= 0) || (multiplies && limits->int8_macs_per_s <= 0))
        return BN_BENCH_NOT_MEASURED;
    if (multiplies && work->int8_macs / limits->int8_macs_per_s >
                          (reads ? work->memory_bytes / limits->read_bytes_per_s : 0.0))
        return BN_BENCH_INT8;
    return work->pass_bytes < CACHE_MARGIN * cache ? BN_BENCH_IN_CACHE : BN_BENCH_MEMORY;
}

struct bn_bench_share bn_bench_share(const struct bn_bench_work *work, double seconds,
                                     const struct bn_limits *limits)
{
    struct bn_bench_share s = {.bound = bound_of(work, limits),
                               .gbytes_per_s = work->memory_bytes / seconds * 1e-9,
                               .gmacs_per_s = work->int8_macs / seconds * 1e-9,
                               .limit = NAN,
                               .share = NAN};

    if (s.bound == BN_BENCH_MEMORY) {
        s.limit = limits->read_bytes_per_s * 1e-9;
        s.share = s.gbytes_per_s / s.limit;
    } else if (s.bound == BN_BENCH_INT8) {
        s.limit = limits->int8_macs_per_s * 1e-9;
        s.share = s.gmacs_per_s / s.limit;
    }
    return s;
}

int bn_bench_share_check(const struct bn_bench_share *s, const char *what, struct bn_err *err)
{
    bool memory = s->bound == BN_BENCH_MEMORY;

    if (!(s->share > 1.0))
        return 0;
    return bn_err_set(
        err,
        "%s: %.1f %s is more than the %.1f that this machine was measured to reach (%.0f %%): the probe or "
        "the count is wrong",
        what, memory ? s->gbytes_per_s : s->gmacs_per_s, memory ? "GB/s" : "int8 GMAC/s", s->limit,
        s->share * 100.0);
}
