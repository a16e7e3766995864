/* SPDX-License-Identifier: MIT
 * The recorder's side of the scope region (core/scope.h): shared memory made for the engine, its event rings
 * drained while it runs, its statistics read at any time, also after a crash.
 *
 * Events place the samples while both are fresh: a fast model changes stage millions of times a second. Only
 * those are kept that begin a generation step or belong to the coarse stages (startup … decode). To know the
 * samples in time, events stay in the rings for one more round of reading. */
#ifndef PROFILER_SCOPE_READER_H
#define PROFILER_SCOPE_READER_H

#include "core/base.h"
#include "core/scope.h"
#include "profiler/off_cpu.h"
#include "profiler/scope_follow.h"

struct bn_scope_reader {
    struct bn_scope_shared *region;
    size_t region_bytes;
    int fd;                      /* memfd, close-on-exec here; the program inherits it as BNPROF_SCOPE_FD */
    struct bn_scope_held *held;  /* one for each thread slot */
    struct bn_scope_event *kept; /* scratch */
    size_t n_kept, cap_kept;
    bool coarse[BN_SCOPE_MAX_STAGES]; /* of the first n_stages names */
    uint32_t n_stages;
    bool engine;      /* set by the owner: its pool's workers wait for work in `wait` below no stage, and that
                         is divided among the stages of the main thread */
    uint64_t end_ns;  /* set by the owner before the last bn_scope_reader_emit: when the program ended */
    uint64_t gone_ns; /* its process was seen to be gone; 0 = it was not */
    uint32_t idle_node; /* of that wait; 0 = there is none yet */
    struct bn_scope_follow *follow;
    uint64_t n_late; /* samples that were marked after their time had been emitted: must be 0 */
};

/* A fresh region whose rings hold `ring_events` (a power of two) for each thread. */
int bn_scope_reader_create(struct bn_scope_reader *r, uint32_t ring_events, struct bn_err *err);

/* A sample of thread `tid` fell at t_ns; told before the events of that moment are emitted. The next
 * bn_scope_reader_emit fills node, layer, step and BN_RAW_SAMPLE_EDGE of *sample. Unknown threads are
 * ignored. */
void bn_scope_reader_mark(struct bn_scope_reader *r, int32_t tid, uint64_t t_ns,
                          struct bn_raw_sample *sample);

/* The same for an interval that the thread was off the CPUs, which began in that place and lies before the
 * horizon. What is a worker's wait for work has the place of that wait, and is divided in r->follow. */
void bn_scope_reader_mark_gap(struct bn_scope_reader *r, int32_t tid, const struct bn_off_cpu_gap *gap,
                              struct bn_raw_sample *place);

/* Share of the fullest ring that has not been released to the engine, 0 … 1. */
double bn_scope_reader_fill(const struct bn_scope_reader *r);

/* Place the marked samples, and append the events up to `horizon_ns` that matter as scopes blocks; later ones
 * stay in the rings. All samples up to the horizon, and no others, must have been marked. UINT64_MAX:
 * everything. */
void bn_scope_reader_emit(struct bn_scope_reader *r, uint64_t horizon_ns, struct bn_raw_writer *w);

/* The engine has attached and timed at least one scope. */
bool bn_scope_reader_active(const struct bn_scope_reader *r);

/* The snapshot block's JSON (docs/formats.md) as of now_ns: nodes, statistics, threads, run info. The scopes
 * that the thread in slot i has not left end at until_ns[i] ([BN_SCOPE_MAX_THREADS]; 0: they are not
 * counted). The caller frees. */
char *bn_scope_reader_snapshot(const struct bn_scope_reader *r, uint64_t t0_ns, uint64_t now_ns,
                               const uint64_t *until_ns);

/* The thread that has a slot, 0 = nobody (yet, or there is no such slot). */
int32_t bn_scope_reader_tid(const struct bn_scope_reader *r, uint32_t slot);

/* The engine's run info as it stands, NULL if there is none or it is being written. The caller frees. */
char *bn_scope_reader_info(const struct bn_scope_reader *r);

/* Accepts a zeroed and a closed one. */
void bn_scope_reader_close(struct bn_scope_reader *r);

#endif
