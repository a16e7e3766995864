/* SPDX-License-Identifier: MIT
 * The hot path of the scopes, and what core/scope.c (the engine) shares with libbnprof-scope (everybody
 * else): both are built from core/scope_*.c. */
#ifndef CORE_SCOPE_PRIVATE_H
#define CORE_SCOPE_PRIVATE_H

#include <stdbool.h>
#include <time.h>

#include "core/scope.h"

#define BN_SCOPE_HIDDEN __attribute__((visibility("hidden")))

extern BN_SCOPE_HIDDEN struct bn_scope_shared *bn_scope_mapped; /* NULL = none */
extern BN_SCOPE_HIDDEN _Thread_local struct bn_scope_thread *bn_scope_self;
extern BN_SCOPE_HIDDEN _Thread_local struct bn_scope_event *bn_scope_self_ring; /* NULL = nobody listens */
extern BN_SCOPE_HIDDEN _Thread_local bool bn_scope_refused; /* this thread found no slot */

static inline uint64_t bn_scope_now_ns(void)
{
    struct timespec t;

    clock_gettime(CLOCK_MONOTONIC, &t);
    return (uint64_t)t.tv_sec * 1000000000u + (uint64_t)t.tv_nsec;
}

/* ---- region ---- */

/* Map the recorder's memory if the environment names one and it is what it should be; *fd is its descriptor,
 * still open. NULL = there is none. */
BN_SCOPE_HIDDEN struct bn_scope_shared *bn_scope_attach(int *fd);

/* Make `r` this process's region: false if another process was first. Measures the cost of an empty scope. */
BN_SCOPE_HIDDEN bool bn_scope_claim(struct bn_scope_shared *r);

/* In a child made by fork: the region is the parent's. */
BN_SCOPE_HIDDEN void bn_scope_forget(void);

/* The number of a stage of that name, added if it is new. The name is copied and made printable. */
BN_SCOPE_HIDDEN uint16_t bn_scope_stage_id(const char *name);

/* Slow path of bn_scope_child: add the node, unless another thread was quicker. A full table keeps the
 * parent: its time is then the parent's, nothing is lost or invented. */
BN_SCOPE_HIDDEN uint16_t bn_scope_add_node(uint16_t parent, uint16_t stage);

/* ---- hot path: one clock read each, no locks, no allocation ---- */

static inline uint16_t bn_scope_child(uint16_t parent, uint16_t stage)
{
    uint16_t node = atomic_load_explicit(&bn_scope_mapped->child[parent][stage], memory_order_acquire);

    return __builtin_expect(node != 0, 1) ? node : bn_scope_add_node(parent, stage);
}

static inline void bn_scope_emit(struct bn_scope_thread *t, uint64_t t_ns, uint16_t node)
{
    const struct bn_scope_shared *region = bn_scope_mapped;
    struct bn_scope_event *ring = bn_scope_self_ring;
    uint64_t head = atomic_load_explicit(&t->head, memory_order_relaxed);

    atomic_store_explicit(&t->events, atomic_load_explicit(&t->events, memory_order_relaxed) + 1,
                          memory_order_relaxed);
    if (!ring)
        return;
    if (head - atomic_load_explicit(&t->tail, memory_order_acquire) >= region->ring_events) {
        atomic_fetch_add_explicit(&t->dropped, 1, memory_order_relaxed);
        return;
    }
    ring[head & (region->ring_events - 1)] =
        (struct bn_scope_event){.t_ns = t_ns, .node = node, .layer = t->layer, .step = t->step};
    atomic_store_explicit(&t->head, head + 1, memory_order_release);
}

/* Scopes deeper than the stack are not timed: their time is that of the deepest one that is. */
static inline uint16_t bn_scope_current(const struct bn_scope_thread *t)
{
    uint32_t depth = t->depth < BN_SCOPE_MAX_DEPTH ? t->depth : BN_SCOPE_MAX_DEPTH;

    return depth ? t->stack[depth - 1].node : 0;
}

static inline void bn_scope_push(struct bn_scope_thread *t, uint16_t node, enum bn_scope_adopted adopted)
{
    uint64_t start_ns = bn_scope_now_ns();

    if (t->depth++ >= BN_SCOPE_MAX_DEPTH) {
        atomic_fetch_add_explicit(&bn_scope_mapped->too_deep, 1, memory_order_relaxed);
        return;
    }
    t->stack[t->depth - 1] =
        (struct bn_scope_frame){.start_ns = start_ns, .node = node, .layer = t->layer, .adopted = adopted};
    bn_scope_emit(t, start_ns, node);
}

static inline void bn_scope_account(struct bn_scope_stat *stat, uint64_t ns, uint64_t child_ns)
{
    stat->min_ns = stat->calls == 0 || ns < stat->min_ns ? ns : stat->min_ns;
    stat->max_ns = ns > stat->max_ns ? ns : stat->max_ns;
    stat->calls++;
    stat->total_ns += ns;
    stat->child_ns += child_ns;
    stat->hist[bn_scope_bucket(ns)]++;
}

/* Close the innermost scope. A worker's adopted frame counts as worker time, without the scopes inside it
 * (for the engine only `wait`), and does not add to the frame below, which is no part of the caller's stages.
 */
static inline void bn_scope_pop(struct bn_scope_thread *t)
{
    t->depth--;
    if (t->depth >= BN_SCOPE_MAX_DEPTH)
        return;
    const struct bn_scope_frame *frame = &t->stack[t->depth];
    uint64_t end_ns = bn_scope_now_ns();
    uint64_t ns = end_ns - frame->start_ns;
    struct bn_scope_stat *stat = &t->stats[frame->node];
    bool inside_adopted = t->depth && t->stack[t->depth - 1].adopted == BN_SCOPE_ADOPTED;
    if (frame->adopted || inside_adopted)
        stat->worker_ns += ns - (frame->child_ns < ns ? frame->child_ns : ns);
    else
        bn_scope_account(stat, ns, frame->child_ns);
    if (t->depth && !frame->adopted)
        t->stack[t->depth - 1].child_ns += ns;
    t->layer = frame->layer;
    if (t->depth < t->step_depth) {
        t->step = 0;
        t->step_depth = 0;
    }
    bn_scope_emit(t, end_ns, bn_scope_current(t));
}

static inline void bn_scope_push_place(struct bn_scope_thread *t, struct bn_scope_place place,
                                       enum bn_scope_adopted adopted)
{
    int16_t before = t->layer;

    t->layer = place.layer;
    t->step = place.step;
    t->step_depth = 0;
    bn_scope_push(t, place.node, adopted);
    if (t->depth <= BN_SCOPE_MAX_DEPTH)
        t->stack[t->depth - 1].layer = before; /* restored by pop */
}

#endif
