/* SPDX-License-Identifier: MIT
 * How much of the machine went to others while something was measured. */
#ifndef TOOLS_BENCH_HOST_H
#define TOOLS_BENCH_HOST_H

struct bn_bench_host {
    double at_s, busy_s,
        own_s; /* clock; CPU time of all processors spent, stolen time included; of this process */
};

/* Now. Where the system does not tell, busy_s is NAN. */
struct bn_bench_host bn_bench_host_now(void);

/* The part of all processors' time between the two that neither this process nor idleness had: other programs
 * and, in a virtual machine, the host. 0 … 1; NAN = unknown. */
double bn_bench_host_others(const struct bn_bench_host *from, const struct bn_bench_host *to);

#endif
