/* SPDX-License-Identifier: MIT
 * A recording seen by stage, by stack or by thread: which samples are drawn, and in what order their boxes
 * stand.
 *
 * By stage, the path of stages is the root and the functions of all threads stand below the innermost stage.
 * The stacks that belong there begin far outside (main, the command, the generator; for a worker its thread's
 * start and its loop), and those frames repeat what the stages already say. They are left out by this rule:
 *
 *   Take the samples of one stage whose stacks begin with the same outermost function (its *role*: the
 * threads that called, the workers, cut-off stacks). Follow their calls from the outside for as long as one
 * callee holds at least nine tenths of their time. That is the road to the work. Leave out the road up to its
 * compute kernel or, if none stands on it, up to the last function of the program's own that is not inlined
 * into another: that one and everything below it is drawn. A sample that leaves the road earlier keeps what
 * lies beyond the road, and one that ends on the road keeps its leaf. Marks ("[truncated]") are never left
 * out.
 *
 * So the caller's share of a matrix product and the workers' shares meet in one box, `gate_up_projection` ▸
 * `i2s_gemv_avx512vnni`, although their threads came there on different roads. No sample is moved to another
 * stage or another leaf; only boxes between them are not drawn. Seen by stack or by thread, every frame is
 * drawn. */
#ifndef FLAMEGRAPHS_VIEW_H
#define FLAMEGRAPHS_VIEW_H

#include "flamegraphs/tree.h"
#include "profiler/profile.h"

enum bn_view_order { BN_VIEW_BY_STAGE, BN_VIEW_BY_STACK, BN_VIEW_BY_THREAD };

struct bn_view {
    enum bn_view_order order;
    bool callers;      /* from the leaf outwards */
    const char *phase; /* only samples in or below a stage of this name; NULL = all */
    int32_t layer;     /* only samples of this layer; -1 = all */
};

/* Does the recording know stages? Then BN_VIEW_BY_STAGE is the default, else BN_VIEW_BY_STACK. */
bool bn_view_has_stages(const struct bn_profile *p);

/* Build the finished tree of a view; *tree is initialised in any case. Samples whose stage is not known stand
 * below
 * "[stage unknown]", those in no stage below "[no stage]". -1: by stage without stages, no stage or no layer
 * of that name or number, samples of more than BN_TREE_MAX ns. A view that merely has no samples is an empty
 * tree. */
int bn_view_tree(struct bn_tree *tree, const struct bn_profile *p, const struct bn_view *view,
                 struct bn_err *err);

/* The kind of box that a frame of the recording becomes. (In a stack, the program's own code that a compute
 * kernel calls or contains is part of the kernel.) */
enum bn_tree_kind bn_view_kind(const struct bn_profile *p, const struct bn_frame *frame);

#endif
