/* SPDX-License-Identifier: MIT
 * Which source of samples works here: the permission ladder, and the reason when no step holds.
 *
 * Steps: cycles, where a hardware counter exists and counts plausibly; cpu-clock; each with kernel code, or
 * without where that is not allowed; CPU timers inside the program. --event auto goes down as far as it must,
 * and says each step in a sentence; the others stay with one event, with or without kernel code. */
#ifndef PROFILER_LADDER_H
#define PROFILER_LADDER_H

#include <linux/perf_event.h>
#include <sys/types.h>

#include "core/base.h"

enum bn_ladder_event { BN_EVENT_AUTO, BN_EVENT_CYCLES, BN_EVENT_CPU_CLOCK, BN_EVENT_TIMER };

enum {
    BN_STACK_DUMP_DEFAULT = 16384,
    BN_STACK_DUMP_ENGINE = 4096, /* its stacks are known to fit */
    BN_STACK_DUMP_MAX = 65528,   /* what the kernel accepts: a record's size is 16 bits */
};

struct bn_ladder_options {
    enum bn_ladder_event event;
    uint32_t rate_hz;
    bool attach;               /* the process runs already: the event counts at once, not from its exec on */
    bool frame_pointers;       /* the kernel walks the stack; else registers and a stack dump */
    uint32_t stack_dump_bytes; /* multiple of 8 */
    bool copy_only; /* stacks fit the copy: the kernel need not walk their frame pointers too, which costs
                       time */
};

struct bn_ladder {
    enum bn_ladder_event event;  /* never AUTO */
    struct perf_event_attr attr; /* accepted by this kernel; TIMER: what its records hold */
    bool kernel_sampled;
    char steps[1536];    /* why it is not a better one: a line for each step down, for the user */
    char sentence[2048]; /* what was opened, as whom, what that excludes, and the steps */
};

/* "auto", "cycles", "cpu-clock", "timer". */
const char *bn_ladder_event_name(enum bn_ladder_event event);
/* The other way round; false and *event unchanged if none is called so. */
bool bn_ladder_event_find(const char *name, enum bn_ladder_event *event);

/* The attributes of one step with all that bnprof asks for; disabled until exec (unless attached), inherited
 * by threads and children. */
void bn_ladder_attr(struct perf_event_attr *attr, const struct bn_ladder_options *o, bool cycles,
                    bool kernel);

/* Find the step on process `pid` (held before its exec; 0 = this one, whose child will have the same
 * rights). TIMER is chosen, not opened. On failure *err says why and what to set. */
int bn_ladder_choose(struct bn_ladder *l, const struct bn_ladder_options *o, pid_t pid, struct bn_err *err);

/* What the host says about perf events. -1 = unknown. */
struct bn_ladder_host {
    int paranoid;         /* kernel.perf_event_paranoid */
    int seccomp;          /* mode of this process: 0 none, 2 filter */
    bool capable;         /* CAP_PERFMON or CAP_SYS_ADMIN in force */
    bool root;            /* effective user id 0 */
    uint32_t max_rate_hz; /* kernel.perf_event_max_sample_rate, 0 = unknown */
};
void bn_ladder_read_host(struct bn_ladder_host *host);

/* One line for perf_event_open's errno on this host: what it means and what to set. Always returns -1. */
int bn_ladder_refuse(struct bn_err *err, int why, bool cycles, const struct bn_ladder_host *host);

/* perf_event_open; the descriptor is close-on-exec, -1 with errno set on failure. A weak symbol: a test puts
 * its own in its place to be a machine that this one is not. */
int bn_ladder_open(struct perf_event_attr *attr, pid_t pid, int cpu);

#endif
