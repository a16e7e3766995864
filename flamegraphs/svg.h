/* SPDX-License-Identifier: MIT
 * A tree as one self-contained SVG file: readable without scripts, and with them zoomable and searchable.
 *
 * A box is as wide as the number of its samples or, in a tree by time, as the CPU time that they stand for.
 *
 * What scripts of others may rely on: each box is a <g> in <g id="frames"> with data-x and data-n (start and
 * width in samples; in ns where that group has data-unit="ns"; the group's data-samples is the width of all),
 * a <title> that begins "NAME (12,345 samples, 1.23%)" (share of the width), a <rect> and, where it fits, a
 * <text> already cut to the box. Ids: title, subtitle, details, unzoom, search, ignorecase, matched, frames.
 * Names stand in elements only, never in the script. The address fragment #p=main/decode/…&s=REGEX restores
 * zoom and search. */
#ifndef FLAMEGRAPHS_SVG_H
#define FLAMEGRAPHS_SVG_H

#include "flamegraphs/tree.h"

#define BN_SVG_MIN_WIDTH_PX 0.1

struct bn_svg_options {
    const char *title;
    const char *subtitle[2]; /* two lines, NULL = none */
    bool icicle;             /* root on top */
    bool callers; /* the tree is one of callers: samples end in the boxes on the root, not in the outermost */
    double min_width_px; /* narrower boxes are left out (in a picture 1200 px wide); 0 = none */
};

struct bn_svg_result {
    uint64_t n_drawn;      /* boxes */
    uint64_t n_elided;     /* boxes left out, being too narrow */
    uint64_t elided;       /* width of the outermost of them: samples, or ns (bn_tree_width) */
    double elided_percent; /* of the whole */
};

/* Draw a finished tree; a tree without samples becomes a picture that says so. All text may be hostile.
 * Write errors stay in f for the caller (bn_out_commit). */
void bn_svg_write(const struct bn_tree *tree, const struct bn_svg_options *options, FILE *f,
                  struct bn_svg_result *result);

#endif
