/* SPDX-License-Identifier: MIT
 * Tokens from scope events. Workers have their caller's stage and step, so a token is the one's who was there
 * first. */
#include "profiler/tokens.h"

#include <stdlib.h>

struct finder {
    const struct bn_profile *p;
    const struct bn_part_info *info;
    uint32_t prefill, decode; /* stages, or BN_NONE */
};

static uint64_t since_start(const struct finder *f, uint64_t t_ns)
{
    return t_ns > f->info->t0_ns ? t_ns - f->info->t0_ns : 0;
}

/* The token stage that an event's stage is or lies in, 0 = none. */
static uint32_t token_stage(const struct finder *f, const struct bn_timeline_event *e)
{
    uint32_t stage = e->node < f->info->n_nodes ? f->info->stage_of_node[e->node] : 0;

    for (; stage != 0; stage = f->p->stages[stage].parent)
        if (stage == f->prefill || stage == f->decode)
            return stage;
    return 0;
}

/* The thread that generates, NULL = none does. */
static const struct bn_timeline_thread *generating_thread(const struct finder *f, const struct bn_timeline *t)
{
    const struct bn_timeline_thread *found = NULL;
    uint64_t first_ns = UINT64_MAX;

    for (size_t i = 0; i < t->n_threads; i++) {
        const struct bn_timeline_thread *thread = &t->threads[i];
        for (size_t k = 0; k < thread->n && thread->events[k].t_ns < first_ns; k++) {
            if (token_stage(f, &thread->events[k]) == 0)
                continue;
            first_ns = thread->events[k].t_ns;
            found = thread;
        }
    }
    return found;
}

static size_t find_generated(const struct finder *f, const struct bn_timeline_thread *thread,
                             struct bn_token **tokens)
{
    size_t n = 0, capacity = 0;
    uint32_t inside = 0;
    bool blind = false; /* in a token whose beginning was lost */

    for (size_t i = 0; thread && i < thread->n; i++) {
        const struct bn_timeline_event *e = &thread->events[i];
        uint32_t now = token_stage(f, e);
        if (i > 0 && thread->events[i - 1].lost_after) {
            blind = true;
            inside = 0; /* nor is its end known */
        }
        blind = blind && now;
        if (blind)
            continue;
        if (now == inside) {
            if (now)
                (*tokens)[n].step = e->step;
            continue;
        }
        if (inside)
            (*tokens)[n++].end_ns = since_start(f, e->t_ns);
        inside = now;
        if (!now)
            continue;
        bn_grow(tokens, &capacity, n + 1, sizeof **tokens);
        (*tokens)[n] = (struct bn_token){
            .start_ns = since_start(f, e->t_ns), .step = e->step, .prefill = now == f->prefill};
    }
    return n;
}

static int by_step(const void *a, const void *b)
{
    const struct bn_token *x = a, *y = b;

    if (x->step != y->step)
        return x->step < y->step ? -1 : 1;
    return (x->start_ns > y->start_ns) - (x->start_ns < y->start_ns);
}

static int by_start(const void *a, const void *b)
{
    const struct bn_token *x = a, *y = b;

    if (x->start_ns != y->start_ns)
        return x->start_ns < y->start_ns ? -1 : 1;
    return (x->step > y->step) - (x->step < y->step);
}

/* Every stretch of a thread in one step; of those of a step the first is the one that began it. The end of an
 * open one, and of one whose begin or end was lost, is UINT64_MAX. */
static size_t find_steps(const struct finder *f, const struct bn_timeline *t, struct bn_token **tokens)
{
    size_t n = 0, capacity = 0, kept = 0;

    for (size_t i = 0; i < t->n_threads; i++) {
        const struct bn_timeline_thread *thread = &t->threads[i];
        for (size_t k = 0, end; k < thread->n; k = end) {
            uint32_t step = thread->events[k].step;
            for (end = k + 1; end < thread->n && thread->events[end].step == step;)
                end++;
            if (step == 0)
                continue;
            bn_grow(tokens, &capacity, n + 1, sizeof **tokens);
            bool whole = end < thread->n && !thread->events[end - 1].lost_after &&
                         !(k > 0 && thread->events[k - 1].lost_after);
            (*tokens)[n++] =
                (struct bn_token){.start_ns = since_start(f, thread->events[k].t_ns),
                                  .end_ns = whole ? since_start(f, thread->events[end].t_ns) : UINT64_MAX,
                                  .step = step};
        }
    }
    if (n)
        qsort(*tokens, n, sizeof **tokens, by_step);
    for (size_t i = 0, next; i < n; i = next) {
        for (next = i + 1; next < n && (*tokens)[next].step == (*tokens)[i].step;)
            next++;
        if ((*tokens)[i].end_ns != UINT64_MAX)
            (*tokens)[kept++] = (*tokens)[i];
    }
    if (kept)
        qsort(*tokens, kept, sizeof **tokens, by_start);
    return kept;
}

size_t bn_tokens_find(const struct bn_profile *p, const struct bn_part_info *info,
                      const struct bn_timeline *timeline, struct bn_token **tokens)
{
    struct finder f = {.p = p, .info = info, .prefill = BN_NONE, .decode = BN_NONE};
    uint32_t generate = bn_profile_find_stage(p, 0, "generate");

    *tokens = NULL;
    if (generate != BN_NONE) {
        f.prefill = bn_profile_find_stage(p, generate, "prefill");
        f.decode = bn_profile_find_stage(p, generate, "decode");
    }
    if (f.prefill != BN_NONE || f.decode != BN_NONE)
        return find_generated(&f, generating_thread(&f, timeline), tokens);
    return info->engine ? 0 : find_steps(&f, timeline, tokens);
}
