/* SPDX-License-Identifier: MIT
 * Grouping by sorting: what compares equal is a group. */
#include "hotspots/group.h"

#include <stdlib.h>
#include <string.h>

#include "hotspots/class.h"

static const struct bn_frame *sort_frames;
static bool sort_by_line;

int bn_group_compare_text(const char *a, const char *b)
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
    int order = bn_group_compare_text(x->function, y->function);

    if (order == 0)
        order = bn_group_compare_text(x->module, y->module);
    if (sort_by_line && order == 0)
        order = bn_group_compare_text(x->file, y->file);
    if (sort_by_line && order == 0)
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

void bn_groups_make(struct bn_groups *g, const struct bn_profile *p, bool by_line)
{
    uint32_t *order = bn_xcalloc(p->n_frames + 1, sizeof *order);

    *g = (struct bn_groups){.by_line = by_line,
                            .of_frame = bn_xcalloc(p->n_frames + 1, sizeof *g->of_frame),
                            .first_frame = bn_xcalloc(p->n_frames + 1, sizeof *g->first_frame)};
    for (uint32_t i = 0; i < p->n_frames; i++)
        order[i] = i;
    sort_frames = p->frames;
    sort_by_line = by_line;
    qsort(order, p->n_frames, sizeof *order, compare_frame_indices);
    for (size_t i = 0; i < p->n_frames; i++) {
        if (i == 0 || compare_frames(order[i - 1], order[i]) != 0)
            g->first_frame[g->n++] = order[i];
        g->of_frame[order[i]] = g->n - 1;
    }
    free(order);
}

void bn_groups_free(struct bn_groups *g)
{
    free(g->of_frame);
    free(g->first_frame);
    *g = (struct bn_groups){0};
}

uint32_t bn_groups_own(const struct bn_groups *g, const struct bn_profile *p, uint32_t stack)
{
    while (!g->by_line && stack && p->frames[p->stacks[stack].frame].inlined)
        stack = p->stacks[stack].parent;
    return stack;
}

static int compare_cells(const void *a, const void *b)
{
    const struct bn_group_cell *x = a, *y = b;

    if (x->group != y->group)
        return x->group < y->group ? -1 : 1;
    return (x->stage > y->stage) - (x->stage < y->stage);
}

struct bn_group_cell *bn_group_cells(const struct bn_groups *g, const struct bn_profile *p, bool waits,
                                     size_t *n)
{
    struct bn_group_cell *cells = bn_xcalloc(p->n_samples + 1, sizeof *cells);
    size_t n_single = 0;

    for (size_t i = 0; i < p->n_samples; i++) {
        const struct bn_sample *s = &p->samples[i];
        uint32_t own = bn_groups_own(g, p, s->stack);
        if (!own || (!waits && bn_class_of(p, s) == BN_CLASS_WAIT))
            continue;
        struct bn_group_cell *cell = &cells[n_single++];
        *cell = (struct bn_group_cell){.group = g->of_frame[p->stacks[own].frame], .stage = s->stage};
        bn_sampled_add(&cell->self, s->weight_ns);
    }
    qsort(cells, n_single, sizeof *cells, compare_cells);
    *n = 0;
    for (size_t i = 0; i < n_single; i++)
        if (*n > 0 && compare_cells(&cells[*n - 1], &cells[i]) == 0)
            bn_sampled_join(&cells[*n - 1].self, &cells[i].self);
        else
            cells[(*n)++] = cells[i];
    return cells;
}
