/* SPDX-License-Identifier: MIT
 * From profile.part to the record: unwind every sample, name its frames, and put it into the stage its thread
 * was in. */
#ifndef PROFILER_JOIN_H
#define PROFILER_JOIN_H

#include "profiler/profile.h"

/* For long work: told now and then how many of the records are done. */
struct bn_join_watch {
    void *ctx;
    void (*progress)(void *ctx, size_t done, size_t total);
};

/* Fill *p (initialised with bn_profile_init) from a finished or broken-off recording. The files that were
 * profiled are read for names; those that are gone or were replaced leave their code nameless. Returns 0, or
 * -1 if the file is no recording or cannot be read; then *p is to be freed. watch may be NULL. Not for
 * several threads at once with one *p.
 *
 * A sample's weight is the CPU time it stands for: with cpu-clock the timer's period as recorded; with cycles
 * the program's CPU time divided among the samples in proportion to their cycles. */
int bn_join(struct bn_profile *p, const char *part_path, const struct bn_join_watch *watch,
            struct bn_err *err);

#endif
