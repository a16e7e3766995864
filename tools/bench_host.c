/* SPDX-License-Identifier: MIT
 * /proc/stat against the process's own CPU time. */
#include "tools/bench_host.h"

#include <math.h>
#include <stdio.h>
#include <sys/resource.h>
#include <unistd.h>

#include "core/base.h"

/* "cpu user nice system idle iowait irq softirq steal …" in clock ticks; guests' time is part of user's. */
static double busy_seconds(void)
{
    unsigned long long user, nice, system, idle, iowait, irq, softirq, steal;
    FILE *f = fopen("/proc/stat", "re");
    int n = f ? fscanf(f, "cpu %llu %llu %llu %llu %llu %llu %llu %llu", &user, &nice, &system, &idle,
                       &iowait, &irq, &softirq, &steal)
              : 0;

    if (f)
        fclose(f);
    return n == 8 ? (double)(user + nice + system + irq + softirq + steal) / (double)sysconf(_SC_CLK_TCK)
                  : NAN;
}

static double own_seconds(void)
{
    struct rusage u;

    if (getrusage(RUSAGE_SELF, &u) != 0)
        return NAN;
    return (double)(u.ru_utime.tv_sec + u.ru_stime.tv_sec) +
           (double)(u.ru_utime.tv_usec + u.ru_stime.tv_usec) / 1e6;
}

struct bn_bench_host bn_bench_host_now(void)
{
    return (struct bn_bench_host){(double)bn_now_ns() / 1e9, busy_seconds(), own_seconds()};
}

double bn_bench_host_others(const struct bn_bench_host *from, const struct bn_bench_host *to)
{
    double all = (to->at_s - from->at_s) * (double)sysconf(_SC_NPROCESSORS_ONLN);
    double others = (to->busy_s - from->busy_s - (to->own_s - from->own_s)) / all;

    return isnan(others) || all <= 0 ? NAN : others < 0 ? 0 : others > 1 ? 1 : others;
}
