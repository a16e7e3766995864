/* SPDX-License-Identifier: MIT
 * The checks of the self-test that are about stacks and names. */
#include <string.h>

#include "profiler/truth_private.h"

static uint32_t caller_of(const struct bn_profile *p, uint32_t stack)
{
    return stack ? p->stacks[stack].parent : 0;
}

/* ---- recursion ---- */

struct chain {
    uint32_t near, far, callers; /* entries of truth_descend, of truth_descend_far; of all but the first */
    bool reaches_main;
};

static struct chain chain_of(const struct bn_profile *p, uint32_t stack)
{
    struct chain c = {0};

    for (uint32_t at = stack; at; at = p->stacks[at].parent) {
        const struct bn_frame *f = &p->frames[p->stacks[at].frame];
        c.callers += at != stack && f->kind != BN_FRAME_MARK && !f->inlined;
        c.near += bn_truth_is(p, at, "truth_descend");
        c.far += bn_truth_is(p, at, "truth_descend_far");
        c.reaches_main = c.reaches_main || bn_truth_is(p, at, "main");
    }
    return c;
}

/* Samples in the function at the bottom, by the recursion that led there, and those with the right chain. */
struct recursion {
    struct bn_sampled near, far;
    size_t whole, marked;
};

static struct recursion see_recursion(const struct bn_profile *p, const struct bn_truth_expected *e)
{
    struct recursion r = {0};

    for (size_t i = 0; i < p->n_samples; i++) {
        const struct bn_sample *s = &p->samples[i];
        uint32_t own = bn_truth_own(p, s->stack);
        if (!bn_truth_is(p, own, "truth_bottom"))
            continue;
        struct chain c = chain_of(p, own);
        bool cut = s->flags & BN_SAMPLE_TRUNCATED;
        if (bn_truth_is(p, caller_of(p, own), "truth_descend_far")) {
            bn_sampled_add(&r.far, s->weight_ns);
            r.marked += cut && c.near == 0 && c.callers <= e->most_callers && !c.reaches_main;
        } else {
            bn_sampled_add(&r.near, s->weight_ns);
            r.whole += !cut && c.near == e->levels && c.far == 0 && c.reaches_main;
        }
    }
    return r;
}

void bn_truth_check_recursion(struct bn_truth_report *report, const char *name, const struct bn_profile *p,
                              const struct bn_truth_expected *e)
{
    struct bn_truth_row *near = bn_truth_named(report, name, "recursion");
    struct bn_truth_row *far = bn_truth_add(report, "recursion, cut");
    struct recursion r = see_recursion(p, e);

    bn_truth_expect(near, "%u levels, up to main", e->levels);
    bn_truth_judge(near, r.near.n, r.whole, "chains");
    bn_truth_too_few(near, p, e, &r.near, 0.2);
    bn_truth_expect(far, "marked as cut, at most %u callers", e->most_callers);
    bn_truth_judge(far, r.far.n, r.marked, "chains");
    bn_truth_too_few(far, p, e, &r.far, 0.2);
}

/* ---- inlines ---- */

static bool at_line(const struct bn_profile *p, uint32_t stack, const struct bn_truth_expected *e,
                    bool inlined, uint32_t first, uint32_t last)
{
    const struct bn_frame *f = &p->frames[p->stacks[stack].frame];
    const char *slash = f->file ? strrchr(f->file, '/') : NULL;

    return f->file && strcmp(slash ? slash + 1 : f->file, e->file) == 0 && f->line >= first &&
           f->line <= last && f->inlined == inlined;
}

static bool right_inlines(const struct bn_profile *p, uint32_t inner, const struct bn_truth_expected *e)
{
    const struct bn_truth_lines *l = &e->lines;
    uint32_t middle = caller_of(p, inner), outer = caller_of(p, middle);

    return bn_truth_is(p, inner, "truth_inner") && bn_truth_is(p, middle, "truth_middle") &&
           bn_truth_is(p, outer, "truth_outer") && at_line(p, inner, e, true, l->first, l->last) &&
           at_line(p, middle, e, true, l->inner_call, l->inner_call) &&
           at_line(p, outer, e, false, l->middle_call, l->middle_call);
}

/* Whatever the functions above it are called, a sample in truth_outer is one of the innermost loop. */
void bn_truth_check_inlines(struct bn_truth_report *report, const char *name, const struct bn_profile *p,
                            const struct bn_truth_expected *e)
{
    struct bn_truth_row *row = bn_truth_named(report, name, "inlines");
    struct bn_sampled all = {0};
    size_t right = 0;

    for (size_t i = 0; i < p->n_samples; i++) {
        uint32_t inner = bn_truth_own(p, p->samples[i].stack), at = inner;
        while (at && p->frames[p->stacks[at].frame].inlined)
            at = p->stacks[at].parent;
        if (!bn_truth_is(p, at, "truth_outer"))
            continue;
        bn_sampled_add(&all, p->samples[i].weight_ns);
        right += right_inlines(p, inner, e);
    }
    bn_truth_expect(row, "inner in middle:%u in outer:%u", e->lines.inner_call, e->lines.middle_call);
    bn_truth_judge(row, all.n, right, "chains");
    bn_truth_too_few(row, p, e, &all, 0.6);
}

/* ---- the library that was swapped ---- */

static bool in_library(const struct bn_profile *p, uint32_t stack, const char *function, const char *module)
{
    const char *own = stack ? p->frames[p->stacks[stack].frame].module : NULL;

    return bn_truth_is(p, stack, function) && own && strcmp(own, module) == 0;
}

/* A lost record of a mapping leaves the other library's names until the next one comes. */
static const uint64_t wrong_of_lost = 10;

/* The caller tells which library was open: the other's names on top of it are wrong, and so is none. */
void bn_truth_check_swap(struct bn_truth_report *report, const char *name, const struct bn_profile *p,
                         const struct bn_truth_expected *e)
{
    struct bn_truth_row *row = bn_truth_named(report, name, "dlopen swap");
    struct bn_sampled in_first = {0}, in_other = {0};
    size_t right = 0;

    for (size_t i = 0; i < p->n_samples; i++) {
        uint32_t own = bn_truth_own(p, p->samples[i].stack), caller = caller_of(p, own);
        bool first = bn_truth_is(p, caller, "truth_through_first");
        if (!first && !bn_truth_is(p, caller, "truth_through_other"))
            continue;
        bn_sampled_add(first ? &in_first : &in_other, p->samples[i].weight_ns);
        right += first ? in_library(p, own, "truth_in_first", BN_TRUTH_FIRST)
                       : in_library(p, own, "truth_in_other", BN_TRUTH_OTHER);
    }
    size_t n = in_first.n + in_other.n;
    uint64_t n_lost = p->quality.n_lost;
    bn_truth_expect(row, "each sample in the open library");
    bn_truth_measure(row, "%zu of %zu + %zu", right, in_first.n, in_other.n);
    if (right != n)
        bn_truth_fail_unless(row, n - right <= wrong_of_lost * n_lost ? n_lost : 0,
                             "%zu of %zu samples are named after code that was not there", n - right, n);
    if (!bn_truth_too_few(row, p, e, &in_first, 0.25))
        bn_truth_too_few(row, p, e, &in_other, 0.25);
}

/* ---- signal ---- */

/* From the handler's work over the handler and the system's return code, whatever its name, to the loop. */
static bool passes_frame(const struct bn_profile *p, uint32_t work)
{
    uint32_t handler = caller_of(p, work), trampoline = caller_of(p, handler);
    uint32_t interrupted = bn_truth_own(p, caller_of(p, trampoline));

    return bn_truth_is(p, handler, "truth_on_signal") && bn_truth_is(p, interrupted, "truth_interrupted") &&
           chain_of(p, interrupted).reaches_main;
}

void bn_truth_check_signal(struct bn_truth_report *report, const char *name, const struct bn_profile *p,
                           const struct bn_truth_expected *e)
{
    struct bn_truth_row *row = bn_truth_named(report, name, "signal frame");
    struct bn_sampled all = {0};
    size_t right = 0;

    for (size_t i = 0; i < p->n_samples; i++) {
        uint32_t own = bn_truth_own(p, p->samples[i].stack);
        if (!bn_truth_is(p, own, "truth_in_handler"))
            continue;
        bn_sampled_add(&all, p->samples[i].weight_ns);
        right += !(p->samples[i].flags & BN_SAMPLE_TRUNCATED) && passes_frame(p, own);
    }
    bn_truth_expect(row, "from the handler on to the loop");
    bn_truth_judge(row, all.n, right, "chains");
    bn_truth_too_few(row, p, e, &all, 0.2);
}
