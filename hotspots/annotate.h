/* SPDX-License-Identifier: MIT
 * One function line by line: which samples stopped at each of its source lines and addresses. */
#ifndef HOTSPOTS_ANNOTATE_H
#define HOTSPOTS_ANNOTATE_H

#include "profiler/profile.h"

/* A source line of the function, or of code inlined into it. */
struct bn_annotated_line {
    const char *function; /* that the line belongs to: the annotated one, or one inlined into it */
    const char *file;     /* NULL = unknown, and line 0 */
    uint32_t line;
    struct bn_sampled self; /* samples with their leaf here */
    struct bn_sampled
        inclusive; /* and those in what is inlined or called here; a sample counts once a line */
};

struct bn_annotation {
    const char *function;            /* as in frames */
    const char *module;              /* NULL = unknown */
    bool inlined;                    /* everywhere: it has no code of its own */
    struct bn_sampled self;          /* samples with their leaf in it, inlined code included */
    struct bn_sampled inclusive;     /* with it anywhere on the stack */
    struct bn_sampled elsewhere;     /* inclusive samples of functions of that name in other modules */
    const char *other;               /* one of these modules, NULL = there is none */
    const char *caller;              /* inlined: a function that it was inlined into */
    struct bn_annotated_line *lines; /* the function's own first, then by function, file and line */
    size_t n_lines;
    struct bn_profile_address *addresses; /* with samples, by module and vaddr; not of inlined ones */
    size_t n_addresses;
    struct bn_sampled addressed; /* what their shares are of: self, or only its number if the record does not
                                   tell their time (an older bnprof made it) */
};

/* Annotate the function of that display name, or of that raw symbol name, or the only one whose name
 * contains `name`; module NULL: the one with most CPU time. -1: there is none, or several; the message names
 * some. Strings are the record's. Free with bn_annotation_free in any case. */
int bn_annotate(struct bn_annotation *a, const struct bn_profile *p, const char *name, const char *module,
                struct bn_err *err);
void bn_annotation_free(struct bn_annotation *a);

#endif
