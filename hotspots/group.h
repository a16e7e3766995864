/* SPDX-License-Identifier: MIT
 * Frames of one function, or of one line of it, taken together; and how the samples divide among these groups
 * and the stages. */
#ifndef HOTSPOTS_GROUP_H
#define HOTSPOTS_GROUP_H

#include "profiler/profile.h"

struct bn_groups {
    uint32_t *of_frame; /* group of each frame */
    uint32_t n;
    uint32_t *first_frame; /* a frame of each group */
    bool by_line;
};

/* By function and module, and by_line also by file and line. Free with bn_groups_free. */
void bn_groups_make(struct bn_groups *g, const struct bn_profile *p, bool by_line);
void bn_groups_free(struct bn_groups *g);

/* The entry whose self time it is when a sample has that stack: of the innermost frame that is no inlined
 * one; by line, the innermost frame itself. 0 = there is none. */
uint32_t bn_groups_own(const struct bn_groups *g, const struct bn_profile *p, uint32_t stack);

/* Self time of a group in a stage, without the stages below it. */
struct bn_group_cell {
    uint32_t group, stage;
    struct bn_sampled self;
};

/* All that are not empty, by group and then by stage; *n of them. Samples in waits count only with waits. The
 * caller frees. */
struct bn_group_cell *bn_group_cells(const struct bn_groups *g, const struct bn_profile *p, bool waits,
                                     size_t *n);

/* strcmp for texts that may be NULL, which comes first. */
int bn_group_compare_text(const char *a, const char *b);

#endif
