/* SPDX-License-Identifier: MIT
 * A sweep over the begins and ends of all intervals, in step with the main thread's changes of stage. */
#include "profiler/scope_follow.h"

#include <stdlib.h>

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
    f->change_ns = f->next < f->n ? f->points[f->next].t_ns : UINT64_MAX;
}

void bn_scope_follow_sort(struct bn_scope_follow *f)
{
    size_t i = 1;

    while (i < f->n && by_time(&f->points[i - 1], &f->points[i]) <= 0)
        i++;
    if (i < f->n) /* one worker's come in order */
        qsort(f->points, f->n, sizeof *f->points, by_time);
    look_ahead(f);
}

void bn_scope_follow_changes(struct bn_scope_follow *f, uint64_t until_ns, uint32_t node)
{
    while (f->next < f->n && f->points[f->next].t_ns < until_ns) {
        const struct bn_follow_point *p = &f->points[f->next++];
        bn_scope_follow_main(f, p->t_ns, node);
        f->active[p->kind] += p->begins ? 1 : (uint64_t)-1;
        look_ahead(f);
    }
    bn_scope_follow_main(f, until_ns, node);
}

void bn_scope_follow_free(struct bn_scope_follow *f)
{
    free(f->points);
    f->points = NULL;
    f->n = f->cap = 0;
}
