/* SPDX-License-Identifier: MIT
 * Follow a process that is running already: events on every thread it has, and its mappings and names as
 * records of the moment. Threads and children that it makes from then on are followed by the kernel;
 * children that it has already are not. */
#ifndef PROFILER_ATTACH_H
#define PROFILER_ATTACH_H

#include "profiler/intake.h"
#include "profiler/launch.h"
#include "profiler/sampler.h"

struct bn_attach {
    pid_t pid;
    int pidfd; /* readable when the process has ended; -1 on kernels before 5.3 */
    int *fds;  /* events of the threads other than the first; they write into the sampler's rings */
    size_t n_fds, cap_fds;
    int32_t *tids; /* of all threads that have events, or inherited them */
    size_t n_tids, cap_tids;
    struct bn_launch_end begin, now; /* CPU times and faults of the process: at the start, and last seen */
};

/* Is `pid` a process that can be followed? Its command line (shell-quoted words are the caller's business),
 * NUL-separated and NUL-terminated, is appended to *words if that is not NULL. */
int bn_attach_begin(struct bn_attach *a, pid_t pid, struct bn_buf *words, struct bn_err *err);

/* Open events for the threads beside the first, which `s` (opened with ladder.attach) follows already, until
 * no thread is without. */
int bn_attach_threads(struct bn_attach *a, const struct bn_perf *s, struct bn_err *err);

/* Tell the intake what the process looks like: thread names and executable mappings. After the events were
 * opened, before their records are read. */
void bn_attach_tell(const struct bn_attach *a, struct bn_intake *in);

/* Has the process ended? Notes its CPU time and faults as long as it has not. */
bool bn_attach_ended(struct bn_attach *a);

/* CPU times and faults of a process up to now; false = it is gone. */
bool bn_attach_usage(pid_t pid, struct bn_launch_end *usage);

/* What it used since bn_attach_begin, as far as it was seen; exit status 0. */
struct bn_launch_end bn_attach_end(const struct bn_attach *a);

/* Accepts a zeroed and a closed one. */
void bn_attach_close(struct bn_attach *a);

#endif
