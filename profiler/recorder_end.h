/* SPDX-License-Identifier: MIT
 * What is to be known when a recording ends: the CPU time of everything that was recorded, and what runs on
 * without being recorded. */
#ifndef PROFILER_RECORDER_END_H
#define PROFILER_RECORDER_END_H

#include "profiler/attach.h"
#include "profiler/cpu_time.h"

/* Processes that were recorded and have not ended. */
struct bn_left_behind {
    int32_t *pids;
    size_t n;
};

/* Those of the intake that are alive now, without the program's own process; the caller frees pids. After the
 * last record. */
struct bn_left_behind bn_left_behind_find(const struct bn_intake *in, pid_t program);

/* "2 processes ran on when …", for people; NULL = there are none. The caller frees. */
char *bn_left_behind_text(const struct bn_left_behind *left, const struct bn_intake *in);

/* CPU time of a launched program: by the events of `s`, stopped, and by *end, which counts children that were
 * waited for, and /proc, which counts those that were left behind. running: the program itself has not ended;
 * *end is then filled by /proc; 0 = it has. end_ns: when the events were stopped. */
struct bn_cpu_time bn_recorder_cpu_launched(const struct bn_perf *s, const struct bn_intake *in,
                                            const struct bn_left_behind *left, pid_t running, uint64_t end_ns,
                                            struct bn_launch_end *end);

/* The same for one that ran already. *end is filled. */
struct bn_cpu_time bn_recorder_cpu_attached(const struct bn_perf *s, const struct bn_attach *a,
                                            const struct bn_left_behind *left, struct bn_launch_end *end);

#endif
