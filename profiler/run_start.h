/* SPDX-License-Identifier: MIT
 * When a recording began, by which recordings are ordered: the names of their folders are local time, which
 * can go backwards. */
#ifndef PROFILER_RUN_START_H
#define PROFILER_RUN_START_H

#include "profiler/profile.h"

/* UTC in ns since 1970: as recorded; for a record of an older bnprof its local time with the distance from
 * UTC, to the second; else the name of its folder, `id`, as local time. 0 = unknown. */
uint64_t bn_run_start_of(const struct bn_profile *p, const char *id);

/* The same for the recording in a folder, finished or not, whether or not something in it can be read. */
uint64_t bn_run_start_read(const char *dir, const char *id);

#endif
