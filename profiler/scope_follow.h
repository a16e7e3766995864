/* SPDX-License-Identifier: MIT
 * The time that idle workers wait for work, divided among the stages that the main thread is in meanwhile. A
 * worker that sleeps through a whole phase waited in none of the stages in which its last job was. */
#ifndef PROFILER_SCOPE_FOLLOW_H
#define PROFILER_SCOPE_FOLLOW_H

#include "core/base.h"
#include "core/scope.h"

enum bn_follow_kind { BN_FOLLOW_WAITED, BN_FOLLOW_ASLEEP, BN_FOLLOW_PREEMPTED, BN_FOLLOW_KINDS };

struct bn_scope_follow {
    struct bn_follow_point *points; /* begins and ends of intervals, since the last bn_scope_follow_begin */
    size_t n, cap, next;
    uint64_t from_ns, to_ns, at_ns;
    uint64_t change_ns; /* of the next point; UINT64_MAX = there is none */
    uint64_t quiet_ns;  /* up to then no worker waits: nothing is to be divided */
    uint64_t active[BN_FOLLOW_KINDS];
    uint64_t main_ns[BN_SCOPE_MAX_NODES];            /* the main thread's time since the last change */
    uint32_t touched[BN_SCOPE_MAX_NODES], n_touched; /* nodes with such time */
    /* Result: time of all workers together while the main thread was in the node. */
    uint64_t ns[BN_SCOPE_MAX_NODES][BN_FOLLOW_KINDS];
};

/* A round from the last one's end to to_ns begins (the first one: from the beginning of time). */
void bn_scope_follow_begin(struct bn_scope_follow *f, uint64_t to_ns);

/* A worker's interval, as far as it lies within the round. */
void bn_scope_follow_add(struct bn_scope_follow *f, enum bn_follow_kind kind, uint64_t begin_ns,
                         uint64_t end_ns);

/* All intervals of the round are there. */
void bn_scope_follow_sort(struct bn_scope_follow *f);

/* The part of bn_scope_follow_main in which workers begin or end to wait. */
void bn_scope_follow_changes(struct bn_scope_follow *f, uint64_t until_ns, uint32_t node);

/* The main thread was in `node` (below BN_SCOPE_MAX_NODES) from the last such time to until_ns; times that do
 * not lie within the round are cut. Called a million times a second. */
static inline void bn_scope_follow_main(struct bn_scope_follow *f, uint64_t until_ns, uint32_t node)
{
    if (until_ns <= f->quiet_ns)
        return;
    if (until_ns > f->change_ns || until_ns > f->to_ns) {
        bn_scope_follow_changes(f, until_ns < f->to_ns ? until_ns : f->to_ns, node);
        return;
    }
    if (until_ns <= f->at_ns)
        return;
    if (f->main_ns[node] == 0)
        f->touched[f->n_touched++] = node;
    f->main_ns[node] += until_ns - f->at_ns;
    f->at_ns = until_ns;
}

void bn_scope_follow_free(struct bn_scope_follow *f);

#endif
