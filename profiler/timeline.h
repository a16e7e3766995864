/* SPDX-License-Identifier: MIT
 * In which stage a thread was at an instant, from the recorded scope events. */
#ifndef PROFILER_TIMELINE_H
#define PROFILER_TIMELINE_H

#include "core/base.h"
#include "core/scope.h"
#include "profiler/idmap.h"
#include "profiler/raw.h"

/* From t_ns until the thread's next event. */
struct bn_timeline_event {
    uint64_t t_ns;
    uint32_t step;
    uint16_t node;
    int16_t layer;
    bool unknown;    /* events were lost around here: where the thread was cannot be told */
    bool lost_after; /* a damaged part of the recording follows */
};

struct bn_timeline_thread {
    struct bn_timeline_event *events; /* in time order */
    size_t n, capacity;
    uint64_t dropped;
};

struct bn_timeline {
    struct bn_timeline_thread *threads;
    size_t n_threads, cap_threads;
    struct bn_idmap by_tid; /* index into threads */
    struct bn_timeline_slot *slots;
    size_t n_slots, cap_slots;
    struct bn_idmap by_slot;
};

void bn_timeline_free(struct bn_timeline *timeline);

/* One scopes block: its head and n events. Blocks of a slot in the order of the file. */
void bn_timeline_add(struct bn_timeline *timeline, const struct bn_raw_scopes *head,
                     const struct bn_scope_event *events, size_t n);

/* A part of the recording is damaged here: events of any thread may be missing. */
void bn_timeline_lose(struct bn_timeline *timeline);

/* After the last block, before the first question. */
void bn_timeline_settle(struct bn_timeline *timeline);

/* The thread's events, NULL = it never reported. */
const struct bn_timeline_thread *bn_timeline_thread(const struct bn_timeline *timeline, int32_t tid);

/* The event in force at t_ns, NULL = before the first. */
const struct bn_timeline_event *bn_timeline_at(const struct bn_timeline_thread *thread, uint64_t t_ns);

#endif
