/* SPDX-License-Identifier: MIT
 * perf_event rings, one for each CPU, opened on a held child; or one ring with what CPU timers inside the
 * program deliver. */
#ifndef PROFILER_SAMPLER_H
#define PROFILER_SAMPLER_H

#include "core/base.h"
#include "profiler/ladder.h"
#include "profiler/ring.h"
#include "profiler/timer.h"

struct bn_perf_options {
    struct bn_ladder_options ladder;
    size_t ring_bytes; /* for each CPU, a power of two of pages; 0 = fit for the rate and the dump size */
};

struct bn_perf_ring {
    int fd;
    uint32_t cpu;
    void *map; /* one control page, then the data */
    size_t map_bytes;
    struct bn_ring ring;
};

struct bn_perf {
    struct bn_ladder ladder;
    uint32_t rate_hz;    /* asked, after the limit of the machine */
    size_t ring_bytes;   /* data for each CPU */
    struct bn_buf notes; /* lines about what was lowered, for the user */
    struct bn_perf_ring *rings;
    size_t n_rings;
    int *more_fds; /* events of other threads of a process that ran already; they write into the same rings */
    size_t n_more_fds, cap_more_fds;
    bool frame_pointers;    /* the kernel walks the stack; never with timers */
    struct bn_timer *timer; /* BN_EVENT_TIMER: one ring without a descriptor, fd -1; else NULL */
    bool anchored;
    int anchor_fd; /* an event that is not inherited */
};

/* Find the step of the ladder for `pid` (0: for a child of ours to come), and prepare what the program must
 * be started with. *err on failure. */
int bn_perf_choose(struct bn_perf *s, const struct bn_perf_options *o, pid_t pid, struct bn_err *err);

/* Open what was chosen for `pid`. The rings shrink until they fit the quota for locked memory. On failure
 * *err says why and what to set. */
int bn_perf_start(struct bn_perf *s, const struct bn_perf_options *o, pid_t pid, struct bn_err *err);

/* Both for a program that is held before its exec. On failure nothing stays open. */
int bn_perf_open(struct bn_perf *s, const struct bn_perf_options *o, pid_t pid, struct bn_err *err);

/* Look how far the kernel has written: what it has up to now can be read with bn_rings_next. */
void bn_perf_see(struct bn_perf *s);

/* Give what has been read back to the kernel. */
void bn_perf_release(struct bn_perf *s);

/* No more samples: the program, its threads and its children go on without. What the rings hold can be
 * drained. */
void bn_perf_stop(struct bn_perf *s);

/* CPU time that the events covered so far, to the nanosecond: of all threads and children while they were
 * followed, also of those that live on. 0 with timers. */
uint64_t bn_perf_covered_ns(const struct bn_perf *s);

/* Records that the kernel could not deliver so far, by its own count; 0 where it does not count (before 6.0).
 */
uint64_t bn_perf_lost(const struct bn_perf *s);

/* Accepts a zeroed and a closed one. */
void bn_perf_close(struct bn_perf *s);

#endif
