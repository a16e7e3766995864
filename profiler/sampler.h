/* SPDX-License-Identifier: MIT
 * perf_event rings, one for each CPU: opened on a held child, drained into plain records. */
#ifndef PROFILER_SAMPLER_H
#define PROFILER_SAMPLER_H

#include "core/base.h"
#include "profiler/ladder.h"

struct bn_perf_options {
    struct bn_ladder_options ladder;
    size_t ring_bytes; /* for each CPU, a power of two of pages; 0 = fit for the rate and the dump size */
};

struct bn_perf_ring {
    int fd;
    uint32_t cpu;
    void *map; /* one control page, then the data */
    size_t map_bytes;
};

/* A sample in passing: who and when. */
struct bn_perf_mark {
    int32_t tid;
    uint64_t t_ns;
};

struct bn_perf {
    struct bn_ladder ladder;
    uint32_t rate_hz;    /* asked, after the limit of the machine */
    size_t ring_bytes;   /* data for each CPU */
    struct bn_buf notes; /* lines about what was lowered, for the user */
    struct bn_perf_ring *rings;
    size_t n_rings;
    uint64_t n_samples, n_lost_records, n_throttled, n_damaged;
    struct bn_perf_mark *marks; /* of the samples drained since the caller set n_marks to 0 */
    size_t n_marks, cap_marks;
    struct bn_stack_ends *stacks;
};

/* Open the event on every CPU for `pid` (held before its exec) with a ring each. The rings shrink until they
 * fit the quota for locked memory. On failure *err says why and what to set; nothing stays open. */
int bn_perf_open(struct bn_perf *s, const struct bn_perf_options *o, pid_t pid, struct bn_err *err);

/* Take all that ring `ring` holds: whole records appended to `out`, as the kernel wrote them, but stack dumps
 * clipped to what was copied and to the end of the stack's mapping. Returns the number of records. Never
 * waits. */
uint32_t bn_perf_drain(struct bn_perf *s, size_t ring, struct bn_buf *out);

/* Share of the fullest ring that is waiting to be drained, 0 … 1. */
double bn_perf_fill(const struct bn_perf *s);

/* No more samples: the program, its threads and its children go on without. What the rings hold can be
 * drained. */
void bn_perf_stop(struct bn_perf *s);

/* Records that the kernel could not deliver so far: by the kernel's own count where it has one. */
uint64_t bn_perf_lost(const struct bn_perf *s);

/* Accepts a zeroed and a closed one. */
void bn_perf_close(struct bn_perf *s);

#endif
