/* SPDX-License-Identifier: MIT
 * Ranking: frames are grouped by what the ranking is by, then every sample votes once for its leaf's group
 * (self) and once for each group on its stack (inclusive). */
#include "hotspots/rank.h"

#include <stdlib.h>
#include <string.h>

#include "hotspots/group.h"

/* ---- votes ---- */

struct votes {
    struct bn_rank_item *items;
    uint32_t *stamp;       /* sample number + 1 that voted last: recursion counts once */
    uint64_t *stack_votes; /* [stack]: of the leaf entry */
    bool by_number;        /* all samples weigh the same: each has one vote, else its time */
};

static void vote_functions(struct votes *v, const struct bn_groups *g, const struct bn_profile *p,
                           const struct bn_sample *s, uint32_t number, bool decode)
{
    uint32_t leaf = bn_groups_own(g, p, s->stack);

    if (leaf) {
        uint32_t group = g->of_frame[p->stacks[leaf].frame];
        struct bn_rank_item *item = &v->items[group];
        uint64_t votes = v->by_number ? 1 : s->weight_ns;
        bn_sampled_add(&item->self, s->weight_ns);
        item->decode_self_ns += decode ? s->weight_ns : 0;
        v->stack_votes[leaf] += votes;
    }
    for (uint32_t e = leaf; e; e = p->stacks[e].parent) {
        if (!g->by_line && p->frames[p->stacks[e].frame].inlined)
            continue;
        uint32_t group = g->of_frame[p->stacks[e].frame];
        if (v->stamp[group] == number)
            continue;
        v->stamp[group] = number;
        bn_sampled_add(&v->items[group].inclusive, s->weight_ns);
    }
}

static void vote_stages(struct votes *v, const struct bn_profile *p, const struct bn_sample *s, bool decode)
{
    struct bn_rank_item *item = &v->items[s->stage];

    bn_sampled_add(&item->self, s->weight_ns);
    item->decode_self_ns += decode ? s->weight_ns : 0;
    for (uint32_t stage = s->stage;; stage = p->stages[stage].parent) {
        bn_sampled_add(&v->items[stage].inclusive, s->weight_ns);
        if (stage == 0)
            break;
    }
}

/* The three lines of each function with most self time, by one pass over the samples' leaf frames. */
static void add_line(struct bn_rank_item *item, const struct bn_frame *frame, const struct bn_sampled *self)
{
    for (int i = 0; i < BN_RANK_LINES; i++) {
        if (bn_sampled_compare(self, &item->lines[i].self) <= 0)
            continue;
        memmove(&item->lines[i + 1], &item->lines[i],
                (size_t)(BN_RANK_LINES - 1 - i) * sizeof item->lines[0]);
        item->lines[i] = (struct bn_rank_line){frame->file, frame->line, *self};
        return;
    }
}

static const struct bn_frame *sort_frames;

struct line_vote {
    uint32_t group, frame, stack;
};

static int compare_line_votes(const void *a, const void *b)
{
    const struct line_vote *x = a, *y = b;

    if (x->group != y->group)
        return x->group < y->group ? -1 : 1;
    int order = bn_group_compare_text(sort_frames[x->frame].file, sort_frames[y->frame].file);
    if (order)
        return order;
    uint32_t i = sort_frames[x->frame].line, j = sort_frames[y->frame].line;
    return (i > j) - (i < j);
}

/* The samples whose stack ends in each entry; the caller frees. */
static struct bn_sampled *weigh_stacks(const struct bn_profile *p)
{
    struct bn_sampled *by_stack = bn_xcalloc(p->n_stacks + 1, sizeof *by_stack);

    for (size_t i = 0; i < p->n_samples; i++)
        bn_sampled_add(&by_stack[p->samples[i].stack], p->samples[i].weight_ns);
    return by_stack;
}

static void find_lines(struct bn_rank_item *items, const struct bn_groups *g, const struct bn_profile *p)
{
    struct line_vote *votes = bn_xcalloc(p->n_stacks + 1, sizeof *votes);
    struct bn_sampled *by_stack = weigh_stacks(p);
    size_t n = 0;

    for (uint32_t e = 1; e < p->n_stacks; e++) {
        uint32_t leaf = bn_groups_own(g, p, e);
        if (by_stack[e].n && leaf && p->frames[p->stacks[e].frame].file)
            votes[n++] = (struct line_vote){g->of_frame[p->stacks[leaf].frame], p->stacks[e].frame, e};
    }
    sort_frames = p->frames;
    qsort(votes, n, sizeof *votes, compare_line_votes);
    for (size_t i = 0, k; i < n; i = k) {
        struct bn_sampled sum = {0};
        for (k = i; k < n && compare_line_votes(&votes[i], &votes[k]) == 0; k++)
            bn_sampled_join(&sum, &by_stack[votes[k].stack]);
        add_line(&items[votes[i].group], &p->frames[votes[i].frame], &sum);
    }
    free(votes);
    free(by_stack);
}

/* ---- putting it together ---- */

static int compare_items(const void *a, const void *b)
{
    const struct bn_rank_item *x = a, *y = b;
    int order = bn_sampled_compare(&y->self, &x->self);

    if (order == 0)
        order = bn_sampled_compare(&y->inclusive, &x->inclusive);
    if (order == 0)
        order = bn_group_compare_text(x->name, y->name);
    return order ? order : bn_group_compare_text(x->module, y->module);
}

static void name_items(struct bn_ranking *r, const struct bn_groups *g, const struct bn_profile *p)
{
    for (size_t i = 0; i < r->n; i++) {
        struct bn_rank_item *item = &r->items[i];
        if (r->by == BN_RANK_STAGE) {
            char path[1024];
            item->name =
                i == 0 ? "(outside every stage)"
                       : bn_arena_strdup(&r->arena, bn_profile_stage_path(p, (uint32_t)i, path, sizeof path));
            item->stage = (uint32_t)i;
            continue;
        }
        const struct bn_frame *f = &p->frames[g->first_frame[i]];
        item->module = f->module;
        item->name = f->function;
        if (r->by == BN_RANK_LINE) {
            char *name = f->file ? bn_xasprintf("%s:%u", f->file, f->line)
                                 : bn_xasprintf("%s (no line known)", f->function);
            item->name = bn_arena_strdup(&r->arena, name);
            free(name);
        }
    }
}

static void find_places(struct bn_ranking *r, const struct votes *v, const struct bn_groups *g,
                        const struct bn_profile *p)
{
    uint64_t *best_stack = bn_xcalloc(r->n + 1, sizeof *best_stack);
    size_t n;
    struct bn_group_cell *cells = bn_group_cells(g, p, false, &n);
    struct bn_sampled most = {0};

    for (size_t i = 0; i < n; i++) {
        if (i == 0 || cells[i].group != cells[i - 1].group)
            most = (struct bn_sampled){0};
        if (bn_sampled_compare(&cells[i].self, &most) > 0) {
            most = cells[i].self;
            r->items[cells[i].group].stage = cells[i].stage;
        }
    }
    free(cells);
    for (uint32_t e = 1; e < p->n_stacks; e++) {
        uint32_t group = g->of_frame[p->stacks[e].frame];
        if (v->stack_votes[e] > best_stack[group]) {
            best_stack[group] = v->stack_votes[e];
            r->items[group].stack = e;
        }
    }
    free(best_stack);
}

static void drop_empty(struct bn_ranking *r)
{
    size_t n = 0;

    for (size_t i = 0; i < r->n; i++)
        if (r->items[i].inclusive.n)
            r->items[n++] = r->items[i];
    r->n = n;
    qsort(r->items, r->n, sizeof *r->items, compare_items);
}

static uint32_t decode_stage(const struct bn_profile *p)
{
    uint32_t generate = bn_profile_find_stage(p, 0, "generate");

    return generate == BN_NONE ? BN_NONE : bn_profile_find_stage(p, generate, "decode");
}

static uint64_t count_tokens(const struct bn_profile *p, uint32_t decode)
{
    if (decode != BN_NONE)
        return p->stages[decode].calls;
    return p->n_tokens && !p->tokens[0].prefill ? p->n_tokens_total : 0;
}

bool bn_ranking_in_token(const struct bn_ranking *r, const struct bn_profile *p, const struct bn_sample *s)
{
    if (r->decode != BN_NONE)
        return bn_profile_stage_within(p, s->stage, r->decode);
    return r->decode_tokens > 0 && s->step > 0;
}

void bn_ranking_make(struct bn_ranking *r, const struct bn_profile *p, enum bn_rank_by by)
{
    struct bn_groups g;
    struct bn_sampled all = bn_profile_sampled(p, 0);
    struct votes v = {.by_number = bn_sampled_equal(&all)};

    *r = (struct bn_ranking){.by = by, .decode = decode_stage(p)};
    bn_groups_make(&g, p, by == BN_RANK_LINE);
    r->n = by == BN_RANK_STAGE ? p->n_stages : g.n;
    r->items = bn_xcalloc(r->n + 1, sizeof *r->items);
    r->decode_tokens = count_tokens(p, r->decode);
    v.items = r->items;
    v.stamp = bn_xcalloc(r->n + 1, sizeof *v.stamp);
    v.stack_votes = bn_xcalloc(p->n_stacks + 1, sizeof *v.stack_votes);
    for (size_t i = 0; i < p->n_samples; i++) {
        const struct bn_sample *s = &p->samples[i];
        enum bn_class class = bn_class_of(p, s);
        bool in_decode = bn_ranking_in_token(r, p, s);
        bn_sampled_add(&r->total, s->weight_ns);
        r->class_ns[class] += s->weight_ns;
        if (class == BN_CLASS_WAIT) {
            bn_sampled_add(&r->wait, s->weight_ns);
        } else if (by == BN_RANK_STAGE) {
            vote_stages(&v, p, s, in_decode);
        } else {
            vote_functions(&v, &g, p, s, (uint32_t)i + 1, in_decode);
        }
    }
    name_items(r, &g, p);
    if (by != BN_RANK_STAGE)
        find_places(r, &v, &g, p);
    if (by == BN_RANK_FUNCTION)
        find_lines(r->items, &g, p);
    drop_empty(r);
    bn_groups_free(&g);
    free(v.stamp);
    free(v.stack_votes);
}

void bn_ranking_free(struct bn_ranking *r)
{
    free(r->items);
    bn_arena_free(&r->arena);
    *r = (struct bn_ranking){0};
}

const struct bn_rank_item *bn_ranking_find(const struct bn_ranking *r, const char *name, const char *module)
{
    for (size_t i = 0; i < r->n; i++)
        if (strcmp(r->items[i].name, name) == 0 &&
            (!module || (r->items[i].module && strcmp(r->items[i].module, module) == 0)))
            return &r->items[i];
    return NULL;
}

double bn_ns_per_token(const struct bn_ranking *r, uint64_t decode_ns)
{
    return r->decode_tokens ? (double)decode_ns / (double)r->decode_tokens : BN_UNKNOWN;
}
