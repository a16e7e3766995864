/* SPDX-License-Identifier: MIT
 * A sweep over the begins and ends of all intervals, in step with the main thread's changes of stage. */
#include "profiler/scope_follow.h"

#include <stdlib.h>

#include "profiler/sort.h"

struct bn_follow_point {
    uint64_t t_ns;
    enum bn_follow_kind kind;
    bool begins;
};

void bn_scope_follow_begin(struct bn_scope_follow *f, uint64_t to_ns)
{
    f->from_ns = f->to_ns;
    f->to_ns = to_ns > f->from_ns ? to_ns : f->from_ns;
    f->at_ns = f->from_ns;
    f->n = f->next = 0;
    for (int kind = 0; kind < BN_FOLLOW_KINDS; kind++)
        f->active[kind] = 0;
}

void bn_scope_follow_add(struct bn_scope_follow *f, enum bn_follow_kind kind, uint64_t begin_ns,
                         uint64_t end_ns)
{
    begin_ns = begin_ns > f->from_ns ? begin_ns : f->from_ns;
    end_ns = end_ns < f->to_ns ? end_ns : f->to_ns;
    if (begin_ns >= end_ns)
        return;
    bn_grow(&f->points, &f->cap, f->n + 2, sizeof *f->points);
    f->points[f->n++] = (struct bn_follow_point){begin_ns, kind, true};
    f->points[f->n++] = (struct bn_follow_point){end_ns, kind, false};
}

static int by_time(const void *a, const void *b)
{
    const struct bn_follow_point *x = a, *y = b;

    if (x->t_ns != y->t_ns)
        return x->t_ns < y->t_ns ? -1 : 1;
    return (int)y->begins - (int)x->begins; /* begins first: never fewer than none */
}

static void look_ahead(struct bn_scope_follow *f)
{
    uint64_t waiting = 0;

    for (int kind = 0; kind < BN_FOLLOW_KINDS; kind++)
        waiting |= f->active[kind];
    f->change_ns = f->next < f->n ? f->points[f->next].t_ns : UINT64_MAX;
    f->quiet_ns = waiting ? 0 : f->change_ns < f->to_ns ? f->change_ns : f->to_ns;
}

/* One worker's come nearly in order: a sleep is told before the wait that it is in. */
void bn_scope_follow_sort(struct bn_scope_follow *f)
{
    bn_sort_nearly_sorted(f->points, f->n, sizeof *f->points, by_time);
    look_ahead(f);
}

/* The time up to t_ns is the node's. */
static void pass(struct bn_scope_follow *f, uint64_t t_ns, uint32_t node)
{
    if (t_ns <= f->at_ns)
        return;
    if (f->main_ns[node] == 0)
        f->touched[f->n_touched++] = node;
    f->main_ns[node] += t_ns - f->at_ns;
    f->at_ns = t_ns;
}

/* For as long the same workers have waited. */
static void divide(struct bn_scope_follow *f)
{
    for (uint32_t i = 0; i < f->n_touched; i++) {
        uint32_t node = f->touched[i];
        for (int kind = 0; kind < BN_FOLLOW_KINDS; kind++)
            f->ns[node][kind] += f->active[kind] * f->main_ns[node];
        f->main_ns[node] = 0;
    }
    f->n_touched = 0;
}

void bn_scope_follow_changes(struct bn_scope_follow *f, uint64_t until_ns, uint32_t node)
{
    while (f->next < f->n && f->points[f->next].t_ns < until_ns) {
        const struct bn_follow_point *p = &f->points[f->next++];
        pass(f, p->t_ns, node);
        divide(f);
        f->active[p->kind] += p->begins ? 1 : (uint64_t)-1;
    }
    pass(f, until_ns, node);
    divide(f);
    look_ahead(f);
}

void bn_scope_follow_free(struct bn_scope_follow *f)
{
    free(f->points);
    f->points = NULL;
    f->n = f->cap = 0;
}
