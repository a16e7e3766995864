/* SPDX-License-Identifier: MIT
 * Scope counters to stages: time of a stage is its own plus its waiting; the frames around stages are
 * "other". */
#include "tools/bench_stages.h"

#include <stdlib.h>
#include <string.h>

struct bn_bench_counts {
    size_t n;
    struct bn_scope_total node[BN_SCOPE_MAX_NODES];
};

struct bn_bench_counts *bn_bench_counts(void)
{
    const struct bn_scope_shared *region = bn_scope_region();
    struct bn_bench_counts *c = bn_xcalloc(1, sizeof *c);

    c->n = bn_min_size(atomic_load(&region->n_nodes), BN_SCOPE_MAX_NODES);
    for (size_t i = 0; i < c->n; i++)
        c->node[i] = bn_scope_sum(region, (uint32_t)i);
    return c;
}

/* Stages that only hold others together. */
static bool is_frame(uint16_t stage)
{
    switch (stage) {
    case BN_STAGE_ROOT:
    case BN_STAGE_GENERATE:
    case BN_STAGE_PREFILL:
    case BN_STAGE_DECODE:
    case BN_STAGE_FORWARD_PASS:
    case BN_STAGE_TRANSFORMER_BLOCK:
    case BN_STAGE_ATTENTION:
    case BN_STAGE_FFN:
        return true;
    default:
        return false;
    }
}

/* "attention/rope_apply", "lm_head"; "other" for a frame. */
static void name_node(char *name, size_t size, uint32_t node)
{
    const struct bn_scope_node *nodes = bn_scope_region()->nodes;
    uint16_t stage = nodes[node].stage, around = nodes[nodes[node].parent].stage;

    if (is_frame(stage))
        snprintf(name, size, "other");
    else if (around == BN_STAGE_ATTENTION || around == BN_STAGE_FFN)
        snprintf(name, size, "%s/%s", bn_stage_name((enum bn_stage)around),
                 bn_stage_name((enum bn_stage)stage));
    else
        snprintf(name, size, "%s", bn_stage_name((enum bn_stage)stage));
}

static struct bn_bench_stage *find_stage(struct bn_bench_result *r, const char *name)
{
    for (size_t i = 0; i < r->n_stages; i++) {
        if (strcmp(r->stages[i].name, name) == 0)
            return &r->stages[i];
    }
    struct bn_bench_stage *s = &r->stages[r->n_stages++];
    snprintf(s->name, sizeof s->name, "%s", name);
    return s;
}

/* Waiting belongs to the stage that is waited in. Nodes come in the order in which they were first entered.
 */
void bn_bench_stages_add(struct bn_bench_result *r, const struct bn_bench_counts *before,
                         const struct bn_bench_counts *after)
{
    const struct bn_scope_node *nodes = bn_scope_region()->nodes;
    char name[64];

    for (size_t i = 0; i < after->n; i++) {
        const struct bn_scope_total *a = &before->node[i], *z = &after->node[i];
        bool wait = nodes[i].stage == BN_STAGE_WAIT;
        if (z->calls == a->calls)
            continue;
        name_node(name, sizeof name, wait ? nodes[i].parent : (uint32_t)i);
        struct bn_bench_stage *s = find_stage(r, name);
        s->seconds += (double)(z->self_ns - a->self_ns) / 1e9;
        if (wait)
            continue;
        s->fused_into |= z->fused_into;
        s->calls += z->calls - a->calls;
        s->work.memory_bytes += (double)(z->memory_bytes - a->memory_bytes);
        s->work.int8_macs += (double)(z->int8_macs - a->int8_macs);
    }
}
