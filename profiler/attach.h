/* SPDX-License-Identifier: MIT
 * Follow a process that is running already: events on every thread it has, and its mappings and names as
 * records of the moment. Threads and children that it makes from then on are followed by the kernel;
 * children that it has already are not. */
#ifndef PROFILER_ATTACH_H
#define PROFILER_ATTACH_H

#include "profiler/intake.h"
#include "profiler/launch.h"
#include "profiler/sampler.h"

/* What a process used, by its own account in /proc: CPU times in the kernel's clock ticks. */
struct bn_attach_usage {
    uint64_t user_ns, system_ns;
    uint64_t waited_user_ns, waited_system_ns; /* its children that have ended, once it has waited for them */
    uint64_t major_faults, minor_faults;
    bool ended; /* and only waits for its parent */
};

struct bn_attach {
    pid_t pid;
    int pidfd;     /* readable when the process has ended; -1 on kernels before 5.3 */
    int32_t *tids; /* of all threads that have events, or inherited them */
    size_t n_tids, cap_tids;
    struct bn_attach_usage begin, now; /* at the start, and last seen */
};

/* Is `pid` a process that can be followed? Its command line (shell-quoted words are the caller's business),
 * NUL-separated and NUL-terminated, is appended to *words if that is not NULL. */
int bn_attach_begin(struct bn_attach *a, pid_t pid, struct bn_buf *words, struct bn_err *err);

/* Open events for the threads beside the first, which `s` (opened with ladder.attach) follows already, until
 * no thread is without. */
int bn_attach_threads(struct bn_attach *a, struct bn_perf *s, struct bn_err *err);

/* Tell the intake what the process looks like: thread names and executable mappings. After the events were
 * opened, before their records are read. */
void bn_attach_tell(const struct bn_attach *a, struct bn_intake *in);

/* Has the process ended? Notes its CPU time and faults as long as it has not. */
bool bn_attach_ended(struct bn_attach *a);

/* Any process's, up to now; false = it is gone. */
bool bn_attach_usage(pid_t pid, struct bn_attach_usage *usage);

/* What it used since bn_attach_begin, as far as it was seen. */
struct bn_attach_usage bn_attach_used(const struct bn_attach *a);

/* Accepts a zeroed and a closed one. */
void bn_attach_close(struct bn_attach *a);

#endif
