/* SPDX-License-Identifier: MIT
 * Time that threads did not run, from the kernel's records of switches: how long, why, and in which stage.
 * Time without samples is explained by it. */
#ifndef PROFILER_OFF_CPU_H
#define PROFILER_OFF_CPU_H

#include "core/scope.h"
#include "profiler/raw.h"
#include "profiler/records.h"

/* What a thread did when the recording began, if it is older. */
enum bn_off_cpu_start { BN_OFF_CPU_UNKNOWN, BN_OFF_CPU_ASLEEP, BN_OFF_CPU_READY /* or running */ };

/* Where a thread is with it. */
struct bn_off_cpu_thread {
    uint64_t in_ns;  /* on a CPU since; 0 = it is not, or nothing was heard */
    uint64_t out_ns; /* off since; 0 = it is not, or nothing was heard */
    uint64_t on_ns;  /* total */
    bool counted;    /* its time off has been told in part */
    bool preempted;
    bool born; /* during the recording: it did not run before its first switch */
    enum bn_off_cpu_start at_start;
};

/* One interval that has ended, or a part of one. */
struct bn_off_cpu_gap {
    int32_t tid;
    bool preempted;
    bool more; /* of an interval that has been counted */
    uint64_t t_ns, dt_ns;
    struct bn_raw_sample place; /* to be marked with the scope reader: where it began */
};

struct bn_off_cpu {
    struct bn_off_cpu_gap *gaps; /* since bn_off_cpu_settle */
    size_t n_gaps, cap_gaps;
    struct bn_raw_off_cpu nodes[BN_SCOPE_MAX_NODES];
};

/* A SWITCH record. start_ns: the beginning of the recording, since which a thread ran of which nothing was
 * heard, unless it was born later. */
void bn_off_cpu_switch(struct bn_off_cpu *o, struct bn_off_cpu_thread *t, const struct bn_record *r,
                       uint64_t start_ns);
/* The thread may be off the CPUs for long: tell what there is of it up to until_ns. */
void bn_off_cpu_so_far(struct bn_off_cpu *o, struct bn_off_cpu_thread *t, int32_t tid, uint64_t until_ns);
/* A sample of the thread was taken: it runs, even if nothing said so. */
void bn_off_cpu_sampled(struct bn_off_cpu_thread *t, uint64_t t_ns);
/* Records are missing: what the thread did until its next switch is not known. */
void bn_off_cpu_lost(struct bn_off_cpu_thread *t);
/* The thread runs as of t_ns without a switch that says so (exec), or never again (exit). */
void bn_off_cpu_runs(struct bn_off_cpu_thread *t, uint64_t t_ns);
void bn_off_cpu_ends(struct bn_off_cpu_thread *t, uint64_t t_ns);
/* The recording ends at t_ns, the thread does not: what it does now, it did until then. */
void bn_off_cpu_left(struct bn_off_cpu *o, struct bn_off_cpu_thread *t, int32_t tid, uint64_t start_ns,
                     uint64_t t_ns);

/* Add the gaps to the nodes in which they were placed, and forget them. */
void bn_off_cpu_settle(struct bn_off_cpu *o);

/* Append a BN_RAW_OFF_CPU block. */
void bn_off_cpu_write(const struct bn_off_cpu *o, struct bn_raw_writer *w);

void bn_off_cpu_free(struct bn_off_cpu *o);

#endif
