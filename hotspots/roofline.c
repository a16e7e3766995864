/* SPDX-License-Identifier: MIT
 * Stages against the machine's limits. */
#include "hotspots/roofline.h"

#include <stdlib.h>
#include <string.h>

int bn_roofline_memory_bound(const struct bn_profile *p)
{
    if (!p->model.weight_bytes || !p->limits.last_cache_bytes)
        return -1;
    return p->model.weight_bytes > p->limits.last_cache_bytes;
}

uint64_t bn_roofline_time_ns(const struct bn_profile *p, uint32_t stage)
{
    uint64_t ns = p->stages[stage].self_ns;

    for (uint32_t i = stage + 1; i < p->n_stages; i++)
        if (p->stages[i].parent == stage && strcmp(p->stages[i].name, "wait") == 0)
            ns += p->stages[i].total_ns;
    return ns;
}

struct work {
    uint64_t bytes, ops, time_ns;
    double limit_ns; /* 0 = none */
    const char *bound;
};

static void add_stage(struct work *w, const struct bn_profile *p, uint32_t stage)
{
    const struct bn_stage_node *s = &p->stages[stage];
    int memory_bound = bn_roofline_memory_bound(p);
    double memory_ns = 0, compute_ns = 0;

    w->bytes += s->bytes;
    w->ops += s->ops;
    w->time_ns += bn_roofline_time_ns(p, stage);
    if (memory_bound == 1 && p->limits.read_bytes_per_s > 0)
        memory_ns = (double)s->memory_bytes / p->limits.read_bytes_per_s * 1e9;
    if (p->limits.int8_macs_per_s > 0)
        compute_ns = (double)s->int8_macs / p->limits.int8_macs_per_s * 1e9;
    w->limit_ns += memory_ns > compute_ns ? memory_ns : compute_ns;
    if (memory_ns > 0 || compute_ns > 0)
        w->bound = memory_ns >= compute_ns ? "memory" : "int8";
    else if (!w->bound)
        w->bound = isnan(p->limits.read_bytes_per_s)          ? "limit not measured"
                   : memory_bound == 0 && s->memory_bytes > 0 ? "data fit the last cache"
                                                              : "works in the caches";
}

static struct bn_roofline finish(const struct work *w)
{
    struct bn_roofline r = {BN_UNKNOWN, BN_UNKNOWN, BN_UNKNOWN, BN_UNKNOWN, BN_UNKNOWN, "not counted"};

    if (w->time_ns == 0 || (w->bytes == 0 && w->ops == 0))
        return r;
    double time_ns = (double)w->time_ns;
    if (w->bytes)
        r.gbytes_per_s = (double)w->bytes / time_ns;
    if (w->ops)
        r.gops_per_s = (double)w->ops / time_ns;
    r.bound = w->bound;
    if (w->limit_ns <= 0)
        return r;
    r.limit_ns = w->limit_ns;
    r.share = w->limit_ns / time_ns;
    r.recoverable_ns = w->limit_ns < time_ns ? time_ns - w->limit_ns : 0;
    return r;
}

struct bn_roofline bn_roofline_stage(const struct bn_profile *p, uint32_t stage)
{
    struct work w = {0};

    add_stage(&w, p, stage);
    return finish(&w);
}

/* The function that self time goes to: inlined code counts as its caller's. */
static const struct bn_frame *leaf_function(const struct bn_profile *p, uint32_t stack)
{
    while (stack && p->frames[p->stacks[stack].frame].inlined)
        stack = p->stacks[stack].parent;
    return stack ? &p->frames[p->stacks[stack].frame] : NULL;
}

struct bn_roofline bn_roofline_function(const struct bn_profile *p, const struct bn_rank_item *item,
                                        uint64_t *calls, uint32_t *n_stages)
{
    struct bn_sampled *all = bn_xcalloc(p->n_stages, sizeof *all),
                      *own = bn_xcalloc(p->n_stages, sizeof *own);
    struct work w = {0};

    *calls = 0;
    *n_stages = 0;
    for (size_t i = 0; i < p->n_samples; i++) {
        const struct bn_sample *s = &p->samples[i];
        const struct bn_frame *f = leaf_function(p, s->stack);
        bn_sampled_add(&all[s->stage], s->weight_ns);
        if (f && strcmp(f->function, item->name) == 0 &&
            (f->module == item->module ||
             (f->module && item->module && strcmp(f->module, item->module) == 0)))
            bn_sampled_add(&own[s->stage], s->weight_ns);
    }
    for (uint32_t i = 1; i < p->n_stages; i++) {
        if (own[i].n == 0 || bn_sampled_share(&own[i], &all[i]) < 0.5)
            continue;
        add_stage(&w, p, i);
        *calls += p->stages[i].calls;
        ++*n_stages;
    }
    free(all);
    free(own);
    return finish(&w);
}

static int compare_opportunities(const void *a, const void *b)
{
    const struct bn_opportunity *x = a, *y = b;

    if (x->roofline.recoverable_ns != y->roofline.recoverable_ns)
        return x->roofline.recoverable_ns > y->roofline.recoverable_ns ? -1 : 1;
    return (x->stage > y->stage) - (x->stage < y->stage);
}

struct bn_opportunity *bn_roofline_opportunities(const struct bn_profile *p, size_t *n)
{
    struct bn_opportunity *all = bn_xcalloc(p->n_stages, sizeof *all);

    *n = 0;
    for (uint32_t i = 1; i < p->n_stages; i++) {
        struct bn_roofline r = bn_roofline_stage(p, i);
        if (!isnan(r.recoverable_ns))
            all[(*n)++] = (struct bn_opportunity){i, r};
    }
    qsort(all, *n, sizeof *all, compare_opportunities);
    return all;
}
