/* SPDX-License-Identifier: MIT
 * The CPU time of a recorded program: how much, how much of it the source reached, how it divides into user
 * code and kernel. What the source counted itself and what the kernel accounts are brought together here, so
 * that samples and the time that they are measured by are of the same processes and the same interval. */
#ifndef PROFILER_CPU_TIME_H
#define PROFILER_CPU_TIME_H

#include "core/base.h"

struct bn_cpu_time {
    uint64_t cpu_ns;             /* of the program and its children while they were recorded */
    uint64_t unreached_ns;       /* part of it, at least: the source was not there (setuid programs) */
    uint64_t user_ns, system_ns; /* parts of it; less than all together: the rest cannot be told apart */
};

struct bn_cpu_counts {
    uint64_t covered_ns;         /* by the source's own count */
    uint64_t user_ns, system_ns; /* by the kernel's accounting, of all processes that could be asked */
    uint64_t slack_ns;           /* by which both can differ without a reason */
    bool all_covered; /* accounted time beyond the covered is no news: it was of another interval */
};

/* Exact: cpu_ns >= covered_ns, and user_ns + system_ns and unreached_ns are at most cpu_ns. */
struct bn_cpu_time bn_cpu_time_settle(const struct bn_cpu_counts *counts);

/* The same when samples of user code alone stand for sampled_ns: so much was user time, whatever ticks say.
 */
void bn_cpu_time_correct(struct bn_cpu_time *t, uint64_t sampled_ns);

/* Is the division known for practically all of the time? */
bool bn_cpu_time_divided(uint64_t cpu_ns, uint64_t user_ns, uint64_t system_ns);

#endif
