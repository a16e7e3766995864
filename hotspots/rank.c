/* SPDX-License-Identifier: MIT
 * Ranking: frames are grouped by what the ranking is by, then every sample votes once for its leaf's group
 * (self) and once for each group on its stack (inclusive). */
#include "hotspots/rank.h"

#include <stdlib.h>
#include <string.h>

static const char *const class_names[BN_CLASS_COUNT] = {
    [BN_CLASS_WAIT] = "Waiting",
    [BN_CLASS_KERNEL] = "Kernel",
    [BN_CLASS_MEMORY] = "Memory operations (copy, allocate)",
    [BN_CLASS_PROJECTION] = "Projections (matrix products of the blocks)",
    [BN_CLASS_LM_HEAD] = "lm_head",
    [BN_CLASS_ATTENTION] = "Attention (rope, cache, scores, softmax, values)",
    [BN_CLASS_FORWARD] = "Rest of the forward pass (norms, activation, quantisation, …)",
    [BN_CLASS_GENERATE] = "Sampling and text",
    [BN_CLASS_LOAD] = "Start-up, loading, shutdown",
    [BN_CLASS_STAGES] = "In the program's stages",
    [BN_CLASS_OTHER] = "Outside every stage",
    [BN_CLASS_PROGRAM] = "Program",
    [BN_CLASS_LIBRARY] = "Libraries",
    [BN_CLASS_UNNAMED] = "No symbol",
};

const char *bn_class_name(enum bn_class c)
{
    return class_names[c];
}

static bool one_of(const char *name, const char *const *names)
{
    for (; *names; names++)
        if (strcmp(name, *names) == 0)
            return true;
    return false;
}

/* One copy routine has many names: __memmove_avx512_unaligned_erms, memcpy, mempcpy, … */
bool bn_is_copy_function(const char *f)
{
    while (*f == '_')
        f++;
    return strncmp(f, "memcpy", 6) == 0 || strncmp(f, "memmove", 7) == 0 || strncmp(f, "memset", 6) == 0 ||
           strncmp(f, "mempcpy", 7) == 0;
}

bool bn_is_allocator_function(const char *f)
{
    static const char *const names[] = {"malloc",
                                        "calloc",
                                        "realloc",
                                        "free",
                                        "memalign",
                                        "aligned_alloc",
                                        "reallocarray",
                                        "posix_memalign",
                                        "mmap",
                                        "mmap64",
                                        "munmap",
                                        "mremap",
                                        "brk",
                                        "sbrk",
                                        "int_malloc",
                                        "int_free",
                                        "int_realloc",
                                        "libc_malloc",
                                        "libc_free",
                                        "libc_calloc",
                                        "libc_realloc",
                                        "malloc_consolidate",
                                        "sysmalloc",
                                        "unlink_chunk",
                                        NULL};
    char base[32];

    while (*f == '_')
        f++;
    snprintf(base, sizeof base, "%.*s", (int)strcspn(f, "@"), f); /* "malloc@plt" is malloc too */
    return one_of(base, names);
}

static enum bn_class class_of_stage(const struct bn_profile *p, uint32_t stage)
{
    static const char *const projections[] = {"qkv_projection", "output_projection", "gate_up_projection",
                                              "down_projection", NULL};
    static const char *const attention[] = {"rope_apply", "kv_store", "attention_matmul", "attention_softmax",
                                            NULL};
    enum bn_class found = p->run.known ? BN_CLASS_LOAD : BN_CLASS_STAGES;

    if (stage == 0)
        return BN_CLASS_OTHER;

    for (; stage != 0; stage = p->stages[stage].parent) {
        const char *name = p->stages[stage].name;
        if (one_of(name, projections))
            return BN_CLASS_PROJECTION;
        if (strcmp(name, "lm_head") == 0)
            return BN_CLASS_LM_HEAD;
        if (one_of(name, attention))
            return BN_CLASS_ATTENTION;
        if (strcmp(name, "forward_pass") == 0)
            return BN_CLASS_FORWARD;
        if (strcmp(name, "generate") == 0)
            found = BN_CLASS_GENERATE;
    }
    return found;
}

static bool has_stages(const struct bn_profile *p)
{
    return p->n_stages > 1;
}

bool bn_class_applies(const struct bn_profile *p, enum bn_class c)
{
    if (c == BN_CLASS_KERNEL || c == BN_CLASS_MEMORY)
        return true;
    return has_stages(p) == (c < BN_CLASS_PROGRAM);
}

static enum bn_class class_of_leaf(const struct bn_profile *p, uint32_t stack)
{
    const struct bn_frame *leaf = stack ? &p->frames[p->stacks[stack].frame] : NULL;

    if (!leaf || leaf->kind != BN_FRAME_USER)
        return BN_CLASS_UNNAMED;
    return bn_profile_is_library(leaf->module) ? BN_CLASS_LIBRARY : BN_CLASS_PROGRAM;
}

enum bn_class bn_class_of(const struct bn_profile *p, const struct bn_sample *s)
{
    if (s->stage && strcmp(p->stages[s->stage].name, "wait") == 0)
        return BN_CLASS_WAIT;
    if (s->flags & BN_SAMPLE_KERNEL)
        return BN_CLASS_KERNEL;
    const char *leaf = s->stack ? p->frames[p->stacks[s->stack].frame].function : "";
    if (bn_is_copy_function(leaf) || bn_is_allocator_function(leaf))
        return BN_CLASS_MEMORY;
    return has_stages(p) ? class_of_stage(p, s->stage) : class_of_leaf(p, s->stack);
}

/* ---- groups ---- */

struct grouping {
    uint32_t *of_frame; /* group of each frame */
    uint32_t n;
    uint32_t *first_frame; /* a frame of each group */
};

static const struct bn_frame *sort_frames;
static enum bn_rank_by sort_by;

static int compare_text(const char *a, const char *b)
{
    if (a == b)
        return 0;
    if (!a || !b)
        return a ? 1 : -1;
    return strcmp(a, b);
}

static int compare_frames(uint32_t a, uint32_t b)
{
    const struct bn_frame *x = &sort_frames[a], *y = &sort_frames[b];
    int order = compare_text(x->function, y->function);

    if (order == 0)
        order = compare_text(x->module, y->module);
    if (sort_by == BN_RANK_LINE && order == 0)
        order = compare_text(x->file, y->file);
    if (sort_by == BN_RANK_LINE && order == 0)
        order = (x->line > y->line) - (x->line < y->line);
    return order;
}

static int compare_frame_indices(const void *a, const void *b)
{
    uint32_t x, y;

    memcpy(&x, a, sizeof x);
    memcpy(&y, b, sizeof y);
    int order = compare_frames(x, y);
    return order ? order : (x > y) - (x < y);
}

static void group_frames(struct grouping *g, const struct bn_profile *p, enum bn_rank_by by)
{
    uint32_t *order = bn_xcalloc(p->n_frames + 1, sizeof *order);

    g->of_frame = bn_xcalloc(p->n_frames + 1, sizeof *g->of_frame);
    g->first_frame = bn_xcalloc(p->n_frames + 1, sizeof *g->first_frame);
    for (uint32_t i = 0; i < p->n_frames; i++)
        order[i] = i;
    sort_frames = p->frames;
    sort_by = by;
    qsort(order, p->n_frames, sizeof *order, compare_frame_indices);
    for (size_t i = 0; i < p->n_frames; i++) {
        if (i == 0 || compare_frames(order[i - 1], order[i]) != 0)
            g->first_frame[g->n++] = order[i];
        g->of_frame[order[i]] = g->n - 1;
    }
    free(order);
}

/* The entry of the innermost frame that is no inlined one; by line, the innermost frame itself. */
static uint32_t leaf_entry(const struct bn_profile *p, uint32_t stack, enum bn_rank_by by)
{
    while (by != BN_RANK_LINE && stack && p->frames[p->stacks[stack].frame].inlined)
        stack = p->stacks[stack].parent;
    return stack;
}

/* ---- votes ---- */

struct votes {
    struct bn_rank_item *items;
    uint32_t *stamp;       /* sample number + 1 that voted last: recursion counts once */
    uint64_t *stage_votes; /* [group][stage], to find the stage with most self time */
    uint64_t *stack_votes; /* [stack]: of the leaf entry */
    bool by_number;        /* all samples weigh the same: each has one vote, else its time */
};

static void vote_functions(struct votes *v, const struct grouping *g, const struct bn_profile *p,
                           const struct bn_sample *s, uint32_t number, enum bn_rank_by by, bool decode)
{
    uint32_t leaf = leaf_entry(p, s->stack, by);

    if (leaf) {
        uint32_t group = g->of_frame[p->stacks[leaf].frame];
        struct bn_rank_item *item = &v->items[group];
        uint64_t votes = v->by_number ? 1 : s->weight_ns;
        bn_sampled_add(&item->self, s->weight_ns);
        item->decode_self_ns += decode ? s->weight_ns : 0;
        v->stage_votes[(size_t)group * p->n_stages + s->stage] += votes;
        v->stack_votes[leaf] += votes;
    }
    for (uint32_t e = leaf; e; e = p->stacks[e].parent) {
        if (by != BN_RANK_LINE && p->frames[p->stacks[e].frame].inlined)
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

struct line_vote {
    uint32_t group, frame, stack;
};

static int compare_line_votes(const void *a, const void *b)
{
    const struct line_vote *x = a, *y = b;

    if (x->group != y->group)
        return x->group < y->group ? -1 : 1;
    int order = compare_text(sort_frames[x->frame].file, sort_frames[y->frame].file);
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

static void find_lines(struct bn_rank_item *items, const struct grouping *g, const struct bn_profile *p)
{
    struct line_vote *votes = bn_xcalloc(p->n_stacks + 1, sizeof *votes);
    struct bn_sampled *by_stack = weigh_stacks(p);
    size_t n = 0;

    for (uint32_t e = 1; e < p->n_stacks; e++) {
        uint32_t leaf = leaf_entry(p, e, BN_RANK_FUNCTION);
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
        order = compare_text(x->name, y->name);
    return order ? order : compare_text(x->module, y->module);
}

static void name_items(struct bn_ranking *r, const struct grouping *g, const struct bn_profile *p)
{
    for (size_t i = 0; i < r->n; i++) {
        struct bn_rank_item *item = &r->items[i];
        if (r->by == BN_RANK_STAGE) {
            char path[1024];
            item->name = bn_arena_strdup(&r->arena, bn_profile_stage_path(p, (uint32_t)i, path, sizeof path));
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

static void find_places(struct bn_ranking *r, const struct votes *v, const struct grouping *g,
                        const struct bn_profile *p)
{
    uint64_t *best_stack = bn_xcalloc(r->n + 1, sizeof *best_stack);

    for (size_t i = 0; i < r->n; i++) {
        const uint64_t *votes = v->stage_votes + i * p->n_stages;
        for (uint32_t s = 0; s < p->n_stages; s++)
            if (votes[s] > votes[r->items[i].stage])
                r->items[i].stage = s;
    }
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
    struct grouping g = {0};
    struct bn_sampled all = bn_profile_sampled(p, 0);
    struct votes v = {.by_number = bn_sampled_equal(&all)};

    *r = (struct bn_ranking){.by = by, .decode = decode_stage(p)};
    group_frames(&g, p, by);
    r->n = by == BN_RANK_STAGE ? p->n_stages : g.n;
    r->items = bn_xcalloc(r->n + 1, sizeof *r->items);
    r->decode_tokens = count_tokens(p, r->decode);
    v.items = r->items;
    v.stamp = bn_xcalloc(r->n + 1, sizeof *v.stamp);
    v.stage_votes = bn_xcalloc((r->n + 1) * p->n_stages, sizeof *v.stage_votes);
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
            vote_functions(&v, &g, p, s, (uint32_t)i + 1, by, in_decode);
        }
    }
    name_items(r, &g, p);
    if (by != BN_RANK_STAGE)
        find_places(r, &v, &g, p);
    if (by == BN_RANK_FUNCTION)
        find_lines(r->items, &g, p);
    drop_empty(r);
    free(g.of_frame);
    free(g.first_frame);
    free(v.stamp);
    free(v.stage_votes);
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
