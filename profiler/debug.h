/* SPDX-License-Identifier: MIT
 * Debug information (DWARF) of an image: inlined functions and source lines at an address. */
#ifndef PROFILER_DEBUG_H
#define PROFILER_DEBUG_H

#include "core/base.h"

struct bn_image;
struct bn_debug;

/* Strings belong to the image. */
struct bn_debug_frame {
    const char *function; /* linkage name if there is one, else the source name, in C++ with its scopes; NULL
                             = not told */
    const char *file;     /* NULL = unknown */
    uint32_t line;        /* 0 = unknown */
    bool inlined;         /* into the next frame */
};

/* The functions at vaddr, innermost first: the line of the first from the line table, that of every other the
 * line of the call that was inlined. Returns how many (at most max), 0 if no debug information covers the
 * address. The first call reads the table of units; not for several threads at once. */
size_t bn_debug_find(struct bn_image *image, uint64_t vaddr, struct bn_debug_frame *frames, size_t max);
/* The folder in which the code at vaddr was compiled: relative file names count from it. NULL = not told. The
 * image's. */
const char *bn_debug_folder(struct bn_image *image, uint64_t vaddr);
/* Is there any for this image, in the file or in a separate one? */
bool bn_debug_exists(struct bn_image *image);
void bn_debug_free(struct bn_debug *debug);

#endif
