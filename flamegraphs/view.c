/* SPDX-License-Identifier: MIT
 * From a recording to the tree of one view. The rule by which outer frames are left out is in the header. */
#include "flamegraphs/view.h"

#include <stdlib.h>
#include <string.h>

/* ---- what kind of box a frame is ---- */

/* Dispatched by the engine, or a clone that the compiler made of it ("i2s_gemv_c.constprop.0"). */
static bool was_dispatched(const struct bn_profile *p, const char *function)
{
    for (size_t i = 0; i < p->n_kernels; i++) {
        size_t n = strlen(p->kernels[i].symbol);
        if (strncmp(p->kernels[i].symbol, function, n) == 0 && (function[n] == '\0' || function[n] == '.'))
            return true;
    }
    return false;
}

enum bn_tree_kind bn_view_kind(const struct bn_profile *p, const struct bn_frame *frame)
{
    switch (frame->kind) {
    case BN_FRAME_KERNEL:
        return BN_TREE_KERNEL;
    case BN_FRAME_UNKNOWN:
        return BN_TREE_UNKNOWN;
    case BN_FRAME_MARK:
        return BN_TREE_MARK;
    case BN_FRAME_USER:
        break;
    }
    if (bn_profile_is_library(frame->module))
        return BN_TREE_LIBRARY;
    if (was_dispatched(p, frame->function) ||
        bn_tree_is_compute_name(frame->function, strlen(frame->function)))
        return BN_TREE_COMPUTE;
    return BN_TREE_PROGRAM;
}

/* ---- which samples ---- */

bool bn_view_has_stages(const struct bn_profile *p)
{
    return p->n_stages > 1;
}

static bool stage_has_name(const struct bn_profile *p, uint32_t stage, const char *name)
{
    for (; stage != 0; stage = p->stages[stage].parent)
        if (strcmp(p->stages[stage].name, name) == 0)
            return true;
    return false;
}

static bool is_wanted(const struct bn_profile *p, const struct bn_sample *s, const struct bn_view *view)
{
    if (view->layer >= 0 && s->layer != view->layer)
        return false;
    return !view->phase || ((s->flags & BN_SAMPLE_JOINED) && stage_has_name(p, s->stage, view->phase));
}

static int no_such_phase(const struct bn_profile *p, const char *phase, struct bn_err *err)
{
    struct bn_buf names = {0};

    for (size_t i = 1; i < p->n_stages; i++) {
        bool seen = false;
        for (size_t k = 1; k < i && !seen; k++)
            seen = strcmp(p->stages[k].name, p->stages[i].name) == 0;
        if (!seen)
            bn_buf_printf(&names, "%s%s", names.n ? ", " : "", p->stages[i].name);
    }
    bn_err_set(err, "no stage '%s' in this recording; it has %s", phase, names.n ? names.p : "no stages");
    bn_buf_free(&names);
    return -1;
}

static int check_view(const struct bn_profile *p, const struct bn_view *view, struct bn_err *err)
{
    int32_t last = -1;

    if (view->order == BN_VIEW_BY_STAGE && !bn_view_has_stages(p))
        return bn_err_set(err,
                          "this recording has no stages: the program has no scoped timers; draw it by stack");
    if (view->phase) {
        bool found = false;
        for (size_t i = 1; i < p->n_stages && !found; i++)
            found = strcmp(p->stages[i].name, view->phase) == 0;
        if (!found)
            return no_such_phase(p, view->phase, err);
    }
    for (size_t i = 0; i < p->n_samples; i++)
        last = p->samples[i].layer > last ? p->samples[i].layer : last;
    if (view->layer >= 0 && last < 0)
        return bn_err_set(err, "no layers in this recording");
    if (view->layer > last)
        return bn_err_set(err, "no layer %d in this recording; the last one is %d", view->layer, last);
    return 0;
}

/* ---- the whole tree of a view, nothing left out ---- */

/* What is needed again and again while the samples are added. */
struct builder {
    const struct bn_profile *p;
    const struct bn_view *view;
    struct bn_tree *tree;
    uint32_t *stage_nodes;    /* [n_stages] node of the stage path, 0 = not made yet */
    enum bn_tree_kind *kinds; /* [n_frames] */
    uint32_t *path;           /* [n_stacks] scratch: the stack's entries, leaf first */
};

static bool is_wait(const struct bn_stage_node *stage)
{
    return strcmp(stage->name, "wait") == 0;
}

/* The timers' figures hold for the whole recording: they are not given to a part of it. */
static uint32_t stage_node(struct builder *b, uint32_t stage)
{
    if (stage == 0 || b->stage_nodes[stage] != 0)
        return b->stage_nodes[stage];
    const struct bn_stage_node *s = &b->p->stages[stage];
    bool whole = b->view->layer < 0 && !b->view->callers &&
                 (!b->view->phase || stage_has_name(b->p, stage, b->view->phase));
    struct bn_tree_frame frame = {
        .name = bn_str_from(s->name),
        .kind = is_wait(s) ? BN_TREE_WAIT : BN_TREE_STAGE,
        .calls = whole ? s->calls : 0,
        .timer_ns = s->total_ns,
    };
    uint32_t parent = stage_node(b, s->parent);
    b->stage_nodes[stage] = bn_tree_child(b->tree, parent, &frame);
    return b->stage_nodes[stage];
}

/* Threads of one name are told apart by their number only if there are several. */
static uint32_t thread_node(struct builder *b, uint32_t thread)
{
    const struct bn_profile_thread *t = &b->p->threads[thread];
    const char *name = t->name ? t->name : "[unnamed thread]";
    char *numbered = NULL;

    for (size_t i = 0; i < b->p->n_threads && !numbered; i++)
        if (i != thread && t->name && b->p->threads[i].name && strcmp(b->p->threads[i].name, t->name) == 0)
            numbered = bn_xasprintf("%s/%d", name, t->tid);
    struct bn_tree_frame frame = {.name = bn_str_from(numbered ? numbered : name), .kind = BN_TREE_THREAD};
    uint32_t node = bn_tree_child(b->tree, 0, &frame);
    free(numbered);
    return node;
}

static uint32_t first_node(struct builder *b, const struct bn_sample *s)
{
    static const struct bn_tree_frame none = {.name = BN_STR("[no stage]"), .kind = BN_TREE_MARK};
    static const struct bn_tree_frame unknown = {.name = BN_STR("[stage unknown]"), .kind = BN_TREE_MARK};

    switch (b->view->order) {
    case BN_VIEW_BY_STAGE:
        if (!(s->flags & BN_SAMPLE_JOINED))
            return bn_tree_child(b->tree, 0, &unknown);
        return s->stage ? stage_node(b, s->stage) : bn_tree_child(b->tree, 0, &none);
    case BN_VIEW_BY_THREAD:
        return thread_node(b, s->thread);
    case BN_VIEW_BY_STACK:
        break;
    }
    return 0;
}

static int add_sample(struct builder *b, const struct bn_sample *s)
{
    const struct bn_profile *p = b->p;
    uint32_t node = first_node(b, s);
    bool waits = b->view->order != BN_VIEW_BY_STAGE && is_wait(&p->stages[s->stage]);
    size_t depth = 0;

    for (uint32_t i = s->stack; i != 0; i = p->stacks[i].parent)
        b->path[depth++] = p->stacks[i].frame;
    enum bn_tree_kind caller = BN_TREE_ROOT;
    while (depth-- > 0) {
        const struct bn_frame *f = &p->frames[b->path[depth]];
        enum bn_tree_kind kind = b->kinds[b->path[depth]];
        if (caller == BN_TREE_COMPUTE && kind == BN_TREE_PROGRAM)
            kind = BN_TREE_COMPUTE; /* the pieces that a kernel is made of */
        caller = kind;
        struct bn_tree_frame frame = {
            .name = bn_str_from(f->function),
            .kind = waits && depth == 0 ? BN_TREE_WAIT : kind,
            .module = f->module,
            .file = f->file,
            .line_min = f->line,
            .line_max = f->line,
            .inlined = f->inlined,
        };
        node = bn_tree_child(b->tree, node, &frame);
    }
    return bn_tree_add(b->tree, node, 1, s->weight_ns);
}

static int add_samples(struct bn_tree *tree, const struct bn_profile *p, const struct bn_view *view)
{
    struct bn_sampled all = bn_profile_sampled(p, 0);
    struct builder b = {
        .p = p,
        .view = view,
        .tree = tree,
        .stage_nodes = bn_xcalloc(p->n_stages, sizeof *b.stage_nodes),
        .kinds = bn_xcalloc(p->n_frames + 1, sizeof *b.kinds),
        .path = bn_xcalloc(p->n_stacks, sizeof *b.path),
    };

    int status = 0;

    tree->by_time = !bn_sampled_equal(&all);
    for (size_t i = 0; i < p->n_frames; i++)
        b.kinds[i] = bn_view_kind(p, &p->frames[i]);
    for (size_t i = 0; i < p->n_samples && status == 0; i++)
        if (is_wanted(p, &p->samples[i], view))
            status = add_sample(&b, &p->samples[i]);
    bn_tree_finish(tree);
    free(b.stage_nodes);
    free(b.kinds);
    free(b.path);
    return status;
}

/* ---- by stage: the road to the work is left out ---- */

/* Stage boxes stand only at the top, below each other. */
static bool is_stage_box(const struct bn_tree *tree, const bool *staged, uint32_t node)
{
    const struct bn_tree_node *n = &tree->nodes[node];
    return (n->kind == BN_TREE_STAGE || n->kind == BN_TREE_WAIT) && (n->parent == 0 || staged[n->parent]);
}

/* The callee that holds nine tenths of the role, or 0. */
static uint32_t heavy_child(const struct bn_tree *tree, uint32_t node, uint64_t role_width)
{
    for (uint32_t i = tree->nodes[node].first_child; i != (uint32_t)BN_TREE_NO_NODE;
         i = tree->nodes[i].next_sibling)
        if ((double)bn_tree_width(tree, i) >= 0.9 * (double)role_width)
            return i;
    return 0;
}

/* role: the outermost function's node below a stage. */
static void drop_road(const struct bn_tree *tree, uint32_t role, bool *drop)
{
    uint32_t first_kept = 0;

    for (uint32_t i = role; i != 0; i = heavy_child(tree, i, bn_tree_width(tree, role))) {
        const struct bn_tree_node *n = &tree->nodes[i];
        if (n->kind == BN_TREE_COMPUTE || (n->kind == BN_TREE_PROGRAM && !n->inlined))
            first_kept = i;
        if (n->kind == BN_TREE_COMPUTE)
            break;
    }
    if (first_kept == 0)
        return;
    for (uint32_t i = tree->nodes[first_kept].parent; i != tree->nodes[role].parent;
         i = tree->nodes[i].parent)
        drop[i] = tree->nodes[i].kind != BN_TREE_MARK;
}

/* In the copy, the code that waits takes the colour of waiting. */
static void drop_roads(struct bn_tree *to, const struct bn_tree *from)
{
    bool *drop = bn_xcalloc(from->n_nodes, sizeof *drop);
    bool *staged = bn_xcalloc(from->n_nodes, sizeof *staged);

    for (uint32_t i = 1; i < from->n_nodes; i++) {
        staged[i] = is_stage_box(from, staged, i);
        if (!staged[i] && staged[from->nodes[i].parent])
            drop_road(from, i, drop);
    }
    bn_tree_copy(to, from, drop);
    bn_tree_finish(to);
    for (uint32_t i = 1; i < to->n_nodes; i++)
        if (to->nodes[to->nodes[i].parent].kind == BN_TREE_WAIT)
            to->nodes[i].kind = BN_TREE_WAIT;
    free(drop);
    free(staged);
}

int bn_view_tree(struct bn_tree *tree, const struct bn_profile *p, const struct bn_view *view,
                 struct bn_err *err)
{
    struct bn_tree other;

    bn_tree_init(tree);
    if (check_view(p, view, err) != 0)
        return -1;
    if (add_samples(tree, p, view) != 0)
        return bn_err_set(err, "the samples stand for more than %.0f days of CPU time: too much to draw",
                          (double)BN_TREE_MAX / 86400e9);
    if (view->order == BN_VIEW_BY_STAGE) {
        drop_roads(&other, tree);
        bn_tree_free(tree);
        *tree = other;
    }
    if (view->callers) {
        bn_tree_callers(&other, tree);
        bn_tree_finish(&other);
        bn_tree_free(tree);
        *tree = other;
    }
    return 0;
}
