/* SPDX-License-Identifier: MIT
 * A stack is a row of physical functions, each with the code inlined into it in front: a *group*. A group
 * belongs to the function if any of its frames is named so; its samples stop at the line of its innermost
 * frame, and pass through those of the frames around that. */
#include "hotspots/annotate.h"

#include <stdlib.h>
#include <string.h>

/* ---- which function is meant ---- */

enum match { NONE, PART, RAW, EXACT };

static enum match match_of(const struct bn_frame *f, const char *name)
{
    if (f->kind == BN_FRAME_MARK)
        return NONE;
    if (strcmp(f->function, name) == 0)
        return EXACT;
    if (f->kind == BN_FRAME_UNKNOWN)
        return NONE;
    if (f->raw && strcmp(f->raw, name) == 0)
        return RAW;
    return strstr(f->function, name) ? PART : NONE;
}

/* Samples with each frame on their stack: to choose among functions of one name. Once a sample and stack
 * entry is enough. */
static struct bn_sampled *weigh_frames(const struct bn_profile *p)
{
    struct bn_sampled *by_frame = bn_xcalloc(p->n_frames + 1, sizeof *by_frame);
    struct bn_sampled *by_stack = bn_xcalloc(p->n_stacks + 1, sizeof *by_stack);

    for (size_t i = 0; i < p->n_samples; i++)
        bn_sampled_add(&by_stack[p->samples[i].stack], p->samples[i].weight_ns);
    for (size_t e = p->n_stacks; e-- > 1;) { /* parents come first */
        bn_sampled_join(&by_frame[p->stacks[e].frame], &by_stack[e]);
        bn_sampled_join(&by_stack[p->stacks[e].parent], &by_stack[e]);
    }
    free(by_stack);
    return by_frame;
}

/* Equal names are equal pointers. */
struct candidate {
    const char *function, *module;
    struct bn_sampled weight;
};

struct candidates {
    struct candidate *items;
    size_t n, capacity;
};

static void add_candidate(struct candidates *c, const struct bn_frame *f, const struct bn_sampled *weight)
{
    for (size_t i = 0; i < c->n; i++)
        if (c->items[i].function == f->function && c->items[i].module == f->module) {
            bn_sampled_join(&c->items[i].weight, weight);
            return;
        }
    bn_grow(&c->items, &c->capacity, c->n + 1, sizeof *c->items);
    c->items[c->n++] = (struct candidate){f->function, f->module, *weight};
}

static int by_weight(const void *a, const void *b)
{
    const struct candidate *x = a, *y = b;
    int order = bn_sampled_compare(&y->weight, &x->weight);

    return order ? order : strcmp(x->function, y->function);
}

static void find_candidates(struct candidates *c, const struct bn_profile *p, const char *name,
                            const char *module)
{
    enum match best = NONE;
    struct bn_sampled *weights = weigh_frames(p);

    for (size_t i = 0; i < p->n_frames; i++) {
        const struct bn_frame *f = &p->frames[i];
        enum match match = weights[i].n ? match_of(f, name) : NONE;
        if (match < best || match == NONE || (module && (!f->module || strcmp(f->module, module) != 0)))
            continue;
        if (match > best)
            c->n = 0;
        best = match;
        add_candidate(c, f, &weights[i]);
    }
    if (c->n)
        qsort(c->items, c->n, sizeof *c->items, by_weight);
    free(weights);
}

static int refuse(const struct candidates *c, const char *name, struct bn_err *err)
{
    struct bn_buf list = {0};
    size_t n = 0;

    for (size_t i = 0; i < c->n && n < 5; i++) {
        bool seen = false;
        for (size_t k = 0; k < i && !seen; k++)
            seen = c->items[k].function == c->items[i].function;
        if (!seen)
            bn_buf_printf(&list, "%s%s", n++ ? ", " : "", c->items[i].function);
    }
    bn_err_set(err, "several functions have '%s' in their names: %s%s", name, list.p, c->n > 5 ? ", …" : "");
    bn_buf_free(&list);
    return -1;
}

static int choose(struct bn_annotation *a, const struct bn_profile *p, const char *name, const char *module,
                  struct bn_err *err)
{
    struct candidates c = {0};
    int status = 0;

    find_candidates(&c, p, name, module);
    for (size_t i = 1; i < c.n && status == 0; i++)
        if (c.items[i].function != c.items[0].function)
            status = refuse(&c, name, err);
    if (c.n == 0)
        status = bn_err_set(err, "no samples in a function '%s'%s%s", name, module ? " of " : "",
                            module ? module : "");
    if (status == 0) {
        a->function = c.items[0].function;
        a->module = c.items[0].module;
        a->other = c.n > 1 ? c.items[1].module ? c.items[1].module : "an unknown module" : NULL;
        for (size_t i = 1; i < c.n; i++)
            bn_sampled_join(&a->elsewhere, &c.items[i].weight);
    }
    free(c.items);
    return status;
}

/* ---- lines ---- */

struct lines {
    const struct bn_profile *p;
    struct bn_annotation *a;
    uint32_t *of_frame;  /* [n_frames] line of a frame, +1; 0 = none yet */
    uint64_t *last_seen; /* [lines] the sample that was counted last, +1 */
    size_t cap_lines, cap_seen;
};

static int compare_text(const char *a, const char *b)
{
    return a == b ? 0 : !a ? -1 : !b ? 1 : strcmp(a, b);
}

static size_t line_of(struct lines *l, uint32_t frame)
{
    struct bn_annotation *a = l->a;
    const struct bn_frame *f = &l->p->frames[frame];
    size_t i = 0;

    if (l->of_frame[frame])
        return l->of_frame[frame] - 1;
    while (i < a->n_lines && (a->lines[i].function != f->function || a->lines[i].file != f->file ||
                              a->lines[i].line != f->line))
        i++;
    if (i == a->n_lines) {
        bn_grow(&a->lines, &l->cap_lines, i + 1, sizeof *a->lines);
        bn_grow(&l->last_seen, &l->cap_seen, i + 1, sizeof *l->last_seen);
        a->lines[i] = (struct bn_annotated_line){.function = f->function, .file = f->file, .line = f->line};
        l->last_seen[i] = 0;
        a->n_lines++;
    }
    l->of_frame[frame] = (uint32_t)i + 1;
    return i;
}

static bool is_it(const struct bn_annotation *a, const struct bn_frame *f)
{
    return f->function == a->function && f->module == a->module;
}

/* A sample counts once for a line, however often the function is on the stack. */
static void count_line(struct lines *l, uint32_t frame, size_t number, bool leaf)
{
    size_t line = line_of(l, frame);
    uint64_t ns = l->p->samples[number].weight_ns;

    if (leaf)
        bn_sampled_add(&l->a->lines[line].self, ns);
    if (l->last_seen[line] != number + 1)
        bn_sampled_add(&l->a->lines[line].inclusive, ns);
    l->last_seen[line] = number + 1;
}

/* The frames of the group that begins at entry e, from the innermost to the function's own, if it is among
 * them. Returns the entry behind the group. */
static uint32_t count_group(struct lines *l, uint32_t e, size_t number, bool *found)
{
    const struct bn_profile *p = l->p;
    uint32_t end = e, ours = 0;

    for (bool more = true; more && end; end = p->stacks[end].parent) {
        const struct bn_frame *f = &p->frames[p->stacks[end].frame];
        if (is_it(l->a, f)) {
            ours = end;
            l->a->inlined = l->a->inlined && f->inlined;
        }
        more = f->inlined;
        if (!more && ours && ours != end)
            l->a->caller = f->function;
    }
    if (!ours)
        return end;
    if (e == p->samples[number].stack)
        bn_sampled_add(&l->a->self, p->samples[number].weight_ns);
    for (uint32_t at = e;; at = p->stacks[at].parent) {
        count_line(l, p->stacks[at].frame, number, at == p->samples[number].stack);
        if (at == ours)
            break;
    }
    *found = true;
    return end;
}

static void count_sample(struct lines *l, size_t number)
{
    bool found = false;

    for (uint32_t e = l->p->samples[number].stack; e;)
        e = count_group(l, e, number, &found);
    if (found)
        bn_sampled_add(&l->a->inclusive, l->p->samples[number].weight_ns);
}

static const char *own_function; /* for the order; one thread */

static int by_place(const void *a, const void *b)
{
    const struct bn_annotated_line *x = a, *y = b;

    if ((x->function == own_function) != (y->function == own_function))
        return x->function == own_function ? -1 : 1;
    int order = strcmp(x->function, y->function);
    order = order ? order : compare_text(x->file, y->file);
    return order ? order : (x->line > y->line) - (x->line < y->line);
}

static void find_lines(struct bn_annotation *a, const struct bn_profile *p)
{
    struct lines l = {.p = p, .a = a, .of_frame = bn_xcalloc(p->n_frames + 1, sizeof *l.of_frame)};

    a->inlined = true;
    for (size_t i = 0; i < p->n_samples; i++)
        count_sample(&l, i);
    own_function = a->function;
    if (a->n_lines)
        qsort(a->lines, a->n_lines, sizeof *a->lines, by_place);
    free(l.of_frame);
    free(l.last_seen);
}

/* ---- addresses ---- */

static int by_vaddr(const void *a, const void *b)
{
    const struct bn_profile_address *x = a, *y = b;

    if (x->module != y->module)
        return x->module < y->module ? -1 : 1;
    return (x->vaddr > y->vaddr) - (x->vaddr < y->vaddr);
}

static void find_addresses(struct bn_annotation *a, const struct bn_profile *p)
{
    bool timed = false;

    a->addresses = bn_xcalloc(p->n_addresses + 1, sizeof *a->addresses);
    for (size_t i = 0; i < p->n_addresses; i++) {
        if (p->addresses[i].samples && is_it(a, &p->frames[p->addresses[i].frame]))
            a->addresses[a->n_addresses++] = p->addresses[i];
        timed = timed || p->addresses[i].weight_ns > 0;
    }
    a->addressed = timed ? a->self : (struct bn_sampled){.n = a->self.n};
    qsort(a->addresses, a->n_addresses, sizeof *a->addresses, by_vaddr);
}

int bn_annotate(struct bn_annotation *a, const struct bn_profile *p, const char *name, const char *module,
                struct bn_err *err)
{
    *a = (struct bn_annotation){0};
    if (choose(a, p, name, module, err) != 0)
        return -1;
    find_lines(a, p);
    find_addresses(a, p);
    return 0;
}

void bn_annotation_free(struct bn_annotation *a)
{
    free(a->lines);
    free(a->addresses);
    *a = (struct bn_annotation){0};
}
