/* SPDX-License-Identifier: MIT
 * Where recordings live: bnprof.data/<YYYYMMDD-HHMMSS>-<format>[-N]/, and how RUN names one. */
#ifndef PROFILER_RUNS_H
#define PROFILER_RUNS_H

#include <time.h>

#include "core/base.h"

/* The folder of recordings: `option` if given, else $BNPROF_DIR, else "bnprof.data". */
const char *bn_runs_base(const char *option);

/* Make a new run folder (and base, if need be). A taken name gets -2, -3, …; nothing is ever overwritten.
 * Characters of `format` that do not belong in a file name become '_'. *run_dir and *run_id are the caller's
 * to free. */
int bn_runs_create_dir(const char *base, const char *format, time_t when, char **run_dir, char **run_id,
                       struct bn_err *err);

/* Point base/latest, a relative link, at the run; replaced in one step. */
int bn_runs_set_latest(const char *base, const char *run_id, struct bn_err *err);
/* The run that base/latest names, NULL = none: the link is missing, or names no finished run there. The
 * caller frees. */
char *bn_runs_latest(const char *base);

struct bn_run_entry {
    char *id;
    uint64_t started_ns; /* UTC since 1970, see run_start.h; 0 = unknown */
    int64_t changed_ns;  /* of its record, by the file system; 0 = unknown */
    bool partial;        /* has profile.part, but no profile.json */
    bool recording;      /* partial, and its recorder is still at work */
};

struct bn_run_list {
    struct bn_run_entry *entries; /* newest first; of the finished ones, base/latest names the newest */
    size_t n, capacity;
};

/* A missing base is an empty list. */
int bn_runs_list(struct bn_run_list *list, const char *base, struct bn_err *err);
void bn_run_list_free(struct bn_run_list *list);

/* Is it made like a run id, <YYYYMMDD-HHMMSS>-…? */
bool bn_runs_is_id(const char *name);
/* Order of two runs by their start; where that is known to the second only, then by number ("-10" after
 * "-9"), by change and by name: below 0 when a is the older. */
int bn_runs_compare(const struct bn_run_entry *a, const struct bn_run_entry *b);

/* The folder of the run that `spec` names: a folder, a profile file, latest (NULL), latest~N, or a run id;
 * latest is the first of bn_runs_list that is not still being recorded. *dir is the caller's to free. When
 * spec is a profile file that is no "profile.json" in a folder of its own, *file is that file, else NULL. -1:
 * what was asked for, and what there is. */
int bn_runs_resolve(const char *base, const char *spec, char **dir, char **file, struct bn_err *err);

#endif
