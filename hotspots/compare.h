/* SPDX-License-Identifier: MIT
 * Two recordings side by side, in ns per token with confidence intervals; shares come second, because a share
 * changes whenever anything else does. */
#ifndef HOTSPOTS_COMPARE_H
#define HOTSPOTS_COMPARE_H

#include "hotspots/rank.h"

enum bn_verdict { BN_VERDICT_CANNOT_TELL, BN_VERDICT_EQUAL, BN_VERDICT_FASTER, BN_VERDICT_SLOWER };
const char *bn_verdict_name(enum bn_verdict verdict); /* "cannot_tell", … */

/* Two runs of the same binary differ by more than sampling explains (host load, placement), and one run each
 * cannot show by how much: changes within this share of the previous value are called equal or undecided,
 * never a change. */
#define BN_COMPARE_FLOOR 0.05

struct bn_compare_row {
    const char *name;
    bool total;               /* the whole step (wall time, by the scopes), not one item's CPU time */
    double previous, current; /* ns per decoded token; ns per run where either has none */
    double previous_share, current_share; /* of all sampled CPU time; BN_UNKNOWN for the total */
    double low, high; /* 95 % interval of current - previous, same unit; BN_UNKNOWN = too few data */
    enum bn_verdict verdict;
    double more; /* for cannot_tell: times as many tokens (or as long a run) would decide; else BN_UNKNOWN */
};

struct bn_comparison {
    bool per_token; /* else per run */
    struct bn_compare_row *rows;
    size_t n;
    struct bn_buf notes; /* what makes the two hard to compare: lines, each ending in '\n'; empty = nothing */
    struct bn_arena arena;
};

/* Rows: the whole step first, then the `top` items of either run by self time. */
void bn_compare(struct bn_comparison *c, const struct bn_profile *previous, const struct bn_profile *current,
                enum bn_rank_by by, size_t top);
void bn_comparison_free(struct bn_comparison *c);

#endif
