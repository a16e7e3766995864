/* SPDX-License-Identifier: MIT
 * Loading the run that the command line names: shared by every command that reads recordings. */
#ifndef TOOLS_RUNS_CLI_H
#define TOOLS_RUNS_CLI_H

#include "profiler/profile.h"

/* Load RUN (NULL = latest; "previous" = the run that bn_tool_load_previous finds for the latest). A recording
 * that was cut off is finished first, with a line on stderr. *run_dir (NULL = not wanted) is the caller's to
 * free. *p is initialised in any case. */
int bn_tool_load_run(const char *spec, struct bn_profile *p, char **run_dir, struct bn_err *err);

/* Load the newest run with the same configuration key among those beside run_dir, the folder of `current`,
 * that are older than it; left-overs are finished on the way. 1: loaded. 0: there is none; stderr then says
 * which runs exist and why none matches. -1: failed. *previous_dir (NULL = not wanted) is the caller's to
 * free. *p is initialised in any case. */
int bn_tool_load_previous(const struct bn_profile *current, const char *run_dir, struct bn_profile *p,
                          char **previous_dir, struct bn_err *err);

#endif
