/* SPDX-License-Identifier: MIT
 * The lines of a source file, if it can be the one that the program was built from. */
#ifndef TOOLS_SOURCE_TEXT_H
#define TOOLS_SOURCE_TEXT_H

#include "core/base.h"

struct bn_source_text {
    char *path;      /* where it was found; NULL = nowhere */
    const char *why; /* there are no lines: in a few words; NULL = there are */
    char **lines;    /* [n]; printable, tabs widened */
    size_t n;
};

/* Read `file` as debug information names it: a relative name counts from `folder` (NULL = not known), else
 * from the working folder. A file changed after built_s (Unix time; 0 = unknown) is refused. Free with
 * bn_source_text_free in any case. */
void bn_source_text_read(struct bn_source_text *s, const char *file, const char *folder, int64_t built_s);
void bn_source_text_free(struct bn_source_text *s);

/* Line `number` (from 1), "" if there is none. */
const char *bn_source_text_line(const struct bn_source_text *s, uint32_t number);

/* What a terminal can show of n bytes: other control characters become '?', tabs reach the next multiple
 * of 4. Heap memory. */
char *bn_printable(const char *s, size_t n);

#endif
