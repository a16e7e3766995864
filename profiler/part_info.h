/* SPDX-License-Identifier: MIT
 * The JSON blocks of profile.part (docs/formats.md): what was known before the start, told by the engine, and
 * known at the end. */
#ifndef PROFILER_PART_INFO_H
#define PROFILER_PART_INFO_H

#include "core/scope.h"
#include "profiler/profile.h"

/* What the join needs besides the record. */
struct bn_part_info {
    uint64_t t0_ns;     /* absolute */
    uint64_t period_ns; /* 0 = by frequency */
    int32_t pid;
    bool engine, frame_pointers, cycles;
    bool has_footer;

    struct bn_part_idle {
        uint64_t waited_ns, asleep_ns, preempted_ns;
    } idle[BN_SCOPE_MAX_NODES]; /* workers without work while the main thread was in that node */
    uint64_t timers_until_ns;   /* since t0: as of when the snapshot's statistics are; 0 = not told */
    uint32_t n_nodes;           /* scope nodes; 0 = no snapshot */
    uint32_t stage_of_node[BN_SCOPE_MAX_NODES];
};

/* Each takes a block's text (n bytes, not terminated) and fills the record and *info. -1: the JSON is damaged
 * or lacks what cannot be done without. */
int bn_part_header(struct bn_profile *p, struct bn_part_info *info, const char *json, size_t n,
                   struct bn_err *err);
/* Once, with the last snapshot. */
int bn_part_snapshot(struct bn_profile *p, struct bn_part_info *info, const char *json, size_t n,
                     struct bn_err *err);
int bn_part_footer(struct bn_profile *p, struct bn_part_info *info, const char *json, size_t n,
                   struct bn_err *err);

/* A fact on a recording that was cut off: its samples go on to end_ns (since t0), its timers may not. */
void bn_part_timers_end(struct bn_profile *p, const struct bn_part_info *info, uint64_t end_ns);

/* The key by which recordings are found comparable; the record's other parts must be filled. */
void bn_part_config_key(struct bn_profile *p, const struct bn_part_info *info);

/* Thread as the engine named it in the snapshot: name, or NULL = not in it. */
struct bn_part_thread {
    int32_t tid;
    const char *name; /* the record's */
    uint64_t events, dropped;
};

/* The snapshot's threads; *threads is heap memory for the caller to free. Returns how many. */
size_t bn_part_threads(struct bn_profile *p, const char *json, size_t n, struct bn_part_thread **threads);

#endif
