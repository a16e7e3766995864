/* SPDX-License-Identifier: MIT
 * Procedure linkage stubs: the few instructions through which a file calls other files' functions. */
#ifndef PROFILER_PLT_H
#define PROFILER_PLT_H

#include "core/base.h"

struct bn_image;

/* A stub found: code [start, end). It jumps to the function `name`, or, name NULL, to the one that the code
 * at `resolver` chooses (a file calling its own memcpy). name belongs to the image. */
typedef void bn_plt_found(void *ctx, uint64_t start, uint64_t end, const char *name, uint64_t resolver);

/* Find all stubs of an image. */
void bn_plt_read(const struct bn_image *image, bn_plt_found *found, void *ctx);

#endif
