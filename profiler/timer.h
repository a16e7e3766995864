/* SPDX-License-Identifier: MIT
 * Samples without perf_event_open: the recorder's side of the CPU timers that run inside the program
 * (profiler/timer_inside.h). What is drained looks as if the kernel had written it. */
#ifndef PROFILER_TIMER_H
#define PROFILER_TIMER_H

#include "core/base.h"
#include "profiler/maps.h"
#include "profiler/records.h"
#include "profiler/ring.h"
#include "profiler/timer_region.h"

struct bn_timer_options {
    uint32_t rate_hz;
    uint32_t stack_dump_bytes; /* multiple of 8 */
    size_t ring_bytes;         /* for each thread, a power of two; 0 = fit for the rate and the dump size */
};

/* What the recorder knows of a process in the region. */
struct bn_timer_view {
    int32_t pid;
    uint32_t loads_seen;
    uint64_t start_ns; /* as the process tells it */
    uint64_t read_ns;  /* when its mappings were last read; what came later is news */
    bool missed;       /* a sample lay in no mapping known */
};

struct bn_timer {
    struct bn_timer_region *region;
    int fd;
    uint32_t rate_hz; /* asked, after the limit of the kernel's tick */
    uint32_t interval_ns, ring_bytes;
    struct bn_buf notes; /* lines about what was lowered, for the user */
    struct bn_ring ring; /* all that was seen, in the order of time */
    uint64_t n_samples, n_damaged;
    uint64_t n_ended_lost; /* lost in slots that were emptied and given back */
    struct bn_record_format format;
    struct bn_maps maps; /* as the records so far tell them */
    struct bn_timer_view views[BN_TIMER_MAX_PROCESSES];
    uint64_t tails[BN_TIMER_MAX_SLOTS];
    uint64_t looked_ns; /* for threads that are gone */
    uint64_t now_ns;    /* of the round */
    bool region_made;
    struct bn_buf text; /* of a /proc/PID/maps */
    struct bn_buf fresh, sorted;
};

/* Make the region. The rate is lowered to one sample a tick: CPU timers expire no more often. */
int bn_timer_open(struct bn_timer *t, const struct bn_timer_options *o, struct bn_err *err);

/* "BNPROF_TIMER=…", what the program needs in its environment. The caller frees. */
char *bn_timer_environment(const struct bn_timer *t);

/* Take all that the programs have written up to now, checked, and the mappings that its samples may lie in,
 * stamped with a time at which they can have come: it can be read from t->ring by bn_rings_next, until the
 * next call. What was not read stays for then. Never waits; reads /proc. */
void bn_timer_see(struct bn_timer *t);

/* No more samples: every timer stops when it expires next. */
void bn_timer_stop(struct bn_timer *t);

/* CPU time of the processes that have the timers, by their own clocks: of those that said so when they ended,
 * and of those that live. Processes that were killed are missing. */
uint64_t bn_timer_used_ns(const struct bn_timer *t);

/* Records that found their ring full, or were damaged, so far. */
uint64_t bn_timer_lost(const struct bn_timer *t);

/* One line for each thing that could not be sampled so far (threads without a place, refused timers, a signal
 * taken away), appended to `notes`. */
void bn_timer_shortcomings(const struct bn_timer *t, struct bn_buf *notes);

/* Accepts a zeroed and a closed one. */
void bn_timer_close(struct bn_timer *t);

#endif
