/* SPDX-License-Identifier: MIT
 * From profile.part to profile.json: the last steps of `record`, and of any command that finds a left-over.
 */
#ifndef TOOLS_FINISH_H
#define TOOLS_FINISH_H

#include "profiler/profile.h"

/* Join, flag, save profile.json, point `latest` at it, remove profile.part. *p, initialised by the caller,
 * holds the record afterwards; the caller frees. If another process finishes the same one, waits and loads
 * its result. profile.part stays if this fails, and if a part of it fails its checksum, which stderr tells.
 */
int bn_finish_recording(const char *run_dir, struct bn_profile *p, struct bn_err *err);

/* The same for a left-over profile.part, with a line on stderr. *p is initialised here in any case. A record
 * that cannot be stored (a full disk, another user's folder) is no failure: stderr says so, and *p holds it.
 * -1 also while it is still being recorded. `latest` moves only if this run is newer than the one it names.
 */
int bn_tool_finish_partial(const char *run_dir, struct bn_profile *p, struct bn_err *err);

/* Has something been recorded in run_dir, so that a finishing command finds at least one sample? */
bool bn_tool_has_samples(const char *run_dir);

#endif
