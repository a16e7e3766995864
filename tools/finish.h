/* SPDX-License-Identifier: MIT
 * From profile.part to profile.json: the last steps of `record`, and of any command that finds a left-over.
 */
#ifndef TOOLS_FINISH_H
#define TOOLS_FINISH_H

#include "profiler/profile.h"

/* Join, flag, save profile.json, point `latest` at it, remove profile.part. *p, initialised by the caller,
 * holds the record afterwards; the caller frees. If another process finishes the same one, waits and loads
 * its result. On failure profile.part stays. */
int bn_finish_recording(const char *run_dir, struct bn_profile *p, struct bn_err *err);

/* Finish a left-over profile.part in run_dir, with a line on stderr. -1 also while it is still being
 * recorded. `latest` moves only if this run is newer than the one it names. */
int bn_tool_finish_partial(const char *run_dir, struct bn_err *err);

#endif
