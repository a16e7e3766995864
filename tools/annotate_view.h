/* SPDX-License-Identifier: MIT
 * An annotated function with what this machine still has of it: source text and instructions. */
#ifndef TOOLS_ANNOTATE_VIEW_H
#define TOOLS_ANNOTATE_VIEW_H

#include "hotspots/annotate.h"
#include "tools/source_text.h"

/* Lines of one function in one file. */
struct bn_annotate_source {
    const char *function, *file;       /* file NULL = unknown */
    size_t first, n;                   /* in annotation.lines */
    struct bn_sampled self, inclusive; /* inclusive: of its lines, which may share samples */
    struct bn_source_text text;
};

struct bn_annotate_instruction {
    uint64_t vaddr;
    struct bn_sampled samples; /* of annotation.addressed */
    char *text;
    const char *file; /* line of the innermost code there; NULL = unknown */
    uint32_t line;
};

struct bn_annotate_view {
    const struct bn_profile *p;
    struct bn_sampled all; /* the record's samples */
    struct bn_annotation a;
    struct bn_annotate_source *sources; /* the function's own first, then by self */
    size_t n_sources;
    struct bn_annotate_instruction *instructions; /* by vaddr */
    size_t n_instructions;
    struct bn_err no_assembly; /* why there are no instructions; empty = there are */
    struct bn_image *image;    /* of the module, holds strings; NULL = none */
};

/* Annotate (see bn_annotate), read sources, and, unless assembly is false, disassemble. */
int bn_annotate_view_make(struct bn_annotate_view *v, const struct bn_profile *p, const char *name,
                          const char *module, bool assembly, struct bn_err *err);
void bn_annotate_view_free(struct bn_annotate_view *v);

/* Text: lines and instructions without samples are shown up to `context` away from one with samples. */
void bn_annotate_print(FILE *f, const struct bn_annotate_view *v, uint32_t context);
void bn_annotate_json(FILE *f, const struct bn_annotate_view *v);

#endif
