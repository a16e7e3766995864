/* SPDX-License-Identifier: MIT
 * Writing perf_event records into a thread's ring, from the thread itself or its signal handler. Nothing here
 * allocates, locks or formats. A record that finds no room is counted as lost. */
#ifndef PROFILER_TIMER_RING_H
#define PROFILER_TIMER_RING_H

#include <stdbool.h>

#include "profiler/timer_region.h"

struct bn_timer_ring {
    struct bn_timer_slot *slot;
    char *bytes;
    uint32_t size;
    uint64_t head; /* where the reserved bytes begin */
};

/* Room for a record of up to n bytes, a multiple of 8 below 64 Ki, in one piece; NULL if the ring is too
 * full. */
char *bn_timer_ring_reserve(struct bn_timer_ring *ring, size_t n);

/* The record at that place is whole and has n bytes, a multiple of 8. */
void bn_timer_ring_commit(struct bn_timer_ring *ring, size_t n);

/* PERF_RECORD_FORK or EXIT of a thread: the slot's, or the one that had it. */
void bn_timer_ring_task(struct bn_timer_ring *ring, uint32_t type, int32_t pid, int32_t tid,
                        int32_t parent_pid, int32_t parent, uint64_t t_ns);

/* PERF_RECORD_READ: the CPU time of the slot's thread up to now. */
void bn_timer_ring_used(struct bn_timer_ring *ring, int32_t pid, uint64_t t_ns, uint64_t cpu_ns);

/* PERF_RECORD_COMM with the slot's name; misc: PERF_RECORD_MISC_COMM_EXEC or 0. */
void bn_timer_ring_comm(struct bn_timer_ring *ring, int32_t pid, uint64_t t_ns, uint32_t misc);

/* The same if the calling thread has a new name, or always. */
void bn_timer_ring_name(struct bn_timer_ring *ring, int32_t pid, uint64_t t_ns, bool always);

/* PERF_RECORD_MMAP2 of an executable mapping; path has n bytes and no NUL. */
void bn_timer_ring_mmap(struct bn_timer_ring *ring, int32_t pid, uint64_t t_ns, const uint64_t range[3],
                        const char *path, size_t n);

#endif
