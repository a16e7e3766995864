/* SPDX-License-Identifier: MIT
 * Switch records, paired. A record that was lost leaves a half, which is dropped, as soon as a sample or the
 * ring tells that there must have been one: no time is made up. */
#include "profiler/off_cpu.h"

#include <linux/perf_event.h>
#include <stdlib.h>

static bool is_unheard(const struct bn_off_cpu_thread *t)
{
    return t->in_ns == 0 && t->out_ns == 0 && !t->born;
}

static void switched_out(struct bn_off_cpu_thread *t, const struct bn_record *r, uint64_t start_ns)
{
    if (is_unheard(t)) /* it ran until now */
        t->in_ns = start_ns;
    if (t->in_ns && r->t_ns > t->in_ns)
        t->on_ns += r->t_ns - t->in_ns;
    t->in_ns = 0;
    t->counted = false;
    t->out_ns = r->t_ns;
    t->preempted = r->misc & PERF_RECORD_MISC_SWITCH_OUT_PREEMPT;
}

void bn_off_cpu_so_far(struct bn_off_cpu *o, struct bn_off_cpu_thread *t, int32_t tid, uint64_t until_ns)
{
    if (t->out_ns == 0 || until_ns <= t->out_ns)
        return;
    bn_grow(&o->gaps, &o->cap_gaps, o->n_gaps + 1, sizeof *o->gaps);
    o->gaps[o->n_gaps++] = (struct bn_off_cpu_gap){.tid = tid,
                                                   .preempted = t->preempted,
                                                   .more = t->counted,
                                                   .t_ns = t->out_ns,
                                                   .dt_ns = until_ns - t->out_ns,
                                                   .place.node = BN_RAW_NO_SCOPES};
    t->counted = true;
    t->out_ns = until_ns;
}

/* It was off its CPU when the recording began, and until now; why is known if /proc told. */
static void off_from_start(struct bn_off_cpu_thread *t, uint64_t start_ns)
{
    if (!is_unheard(t) || t->at_start == BN_OFF_CPU_UNKNOWN)
        return;
    t->out_ns = start_ns;
    t->preempted = t->at_start == BN_OFF_CPU_READY;
}

static void switched_in(struct bn_off_cpu *o, struct bn_off_cpu_thread *t, const struct bn_record *r,
                        uint64_t start_ns)
{
    off_from_start(t, start_ns);
    bn_off_cpu_so_far(o, t, r->tid, r->t_ns);
    t->out_ns = 0;
    t->in_ns = r->t_ns;
}

void bn_off_cpu_switch(struct bn_off_cpu *o, struct bn_off_cpu_thread *t, const struct bn_record *r,
                       uint64_t start_ns)
{
    if (r->misc & PERF_RECORD_MISC_SWITCH_OUT)
        switched_out(t, r, start_ns);
    else
        switched_in(o, t, r, start_ns);
}

void bn_off_cpu_sampled(struct bn_off_cpu_thread *t, uint64_t t_ns)
{
    if (t->out_ns && t_ns > t->out_ns)
        bn_off_cpu_runs(t, t_ns);
}

void bn_off_cpu_lost(struct bn_off_cpu_thread *t)
{
    t->out_ns = 0;
    if (t->in_ns == 0)
        t->born = true; /* what comes next did not begin with the recording */
}

void bn_off_cpu_runs(struct bn_off_cpu_thread *t, uint64_t t_ns)
{
    if (t->in_ns == 0)
        t->in_ns = t_ns;
    t->out_ns = 0;
}

void bn_off_cpu_ends(struct bn_off_cpu_thread *t, uint64_t t_ns)
{
    if (t->in_ns && t_ns > t->in_ns)
        t->on_ns += t_ns - t->in_ns;
    t->in_ns = t->out_ns = 0;
}

void bn_off_cpu_left(struct bn_off_cpu *o, struct bn_off_cpu_thread *t, int32_t tid, uint64_t start_ns,
                     uint64_t t_ns)
{
    if (t->at_start == BN_OFF_CPU_ASLEEP) /* one that was ready may have run all the time, or waited */
        off_from_start(t, start_ns);
    bn_off_cpu_so_far(o, t, tid, t_ns);
    bn_off_cpu_ends(t, t_ns);
}

void bn_off_cpu_settle(struct bn_off_cpu *o)
{
    for (size_t i = 0; i < o->n_gaps; i++) {
        const struct bn_off_cpu_gap *g = &o->gaps[i];
        uint32_t node = g->place.node < BN_SCOPE_MAX_NODES ? g->place.node : 0;
        struct bn_raw_off_cpu *n = &o->nodes[node];
        n->node = node;
        n->asleep_ns += g->preempted ? 0 : g->dt_ns;
        n->n_asleep += !g->preempted && !g->more;
        n->preempted_ns += g->preempted ? g->dt_ns : 0;
        n->n_preempted += g->preempted && !g->more;
    }
    o->n_gaps = 0;
}

void bn_off_cpu_write(const struct bn_off_cpu *o, struct bn_raw_writer *w)
{
    struct bn_raw_off_cpu some[BN_SCOPE_MAX_NODES];
    size_t n = 0;

    for (size_t i = 0; i < BN_COUNT(o->nodes); i++)
        if (o->nodes[i].asleep_ns || o->nodes[i].preempted_ns)
            some[n++] = o->nodes[i];
    bn_raw_append(w, BN_RAW_OFF_CPU, some, n * sizeof *some, NULL, 0);
}

void bn_off_cpu_free(struct bn_off_cpu *o)
{
    free(o->gaps);
    o->gaps = NULL;
    o->n_gaps = o->cap_gaps = 0;
}
