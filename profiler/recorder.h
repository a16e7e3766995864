/* SPDX-License-Identifier: MIT
 * Record one run of a program: launch it, drain its samples and scope events into profile.part while it runs,
 * close the file with what is known at the end. Nothing is unwound, named or joined here. */
#ifndef PROFILER_RECORDER_H
#define PROFILER_RECORDER_H

#include "core/base.h"
#include "profiler/cpu_time.h"
#include "profiler/launch.h"
#include "profiler/sampler.h"

/* What the caller measures or looks up once the program has ended. Unknown: 0 and "". */
struct bn_recorder_closing {
    char model_sha256[65];
    uint32_t limit_threads;
    double read_bytes_per_s, int8_macs_per_s;
    uint64_t last_cache_bytes;
};

struct bn_recorder_options {
    struct bn_perf_options sampler;
    const char *file; /* to execute; looked up in PATH unless it holds a '/' */
    char *const *argv;
    pid_t attach_pid;      /* follow this running process instead; 0 = launch */
    double seconds;        /* attached: end after so long; 0 = when the process ends, or at ^C */
    bool engine;           /* bnprof's own run: gets a scope region and reports about itself */
    const char *part_path; /* created; must not exist */
    const char *run_id;
    const char *started; /* local time */
    uint64_t started_ns; /* UTC since 1970 */
    const char *command; /* as shown to people: shell-quoted */

    void *ctx;
    /* One line for the user. */
    void (*note)(void *ctx, const char *line);
    /* The engine told about itself for the first time; `info` is its JSON. Returns the new path of
     * profile.part if the folder was renamed (heap, the recorder frees), else NULL. May be NULL. */
    char *(*told)(void *ctx, const char *info);
    /* The program has ended: fill what `closing` asks for. info is the engine's last word, NULL = none. May
     * be NULL. */
    void (*close)(void *ctx, const char *info, struct bn_recorder_closing *closing);
};

struct bn_recorder_result {
    bool ran;        /* the program was released and has ended: exit_status holds */
    int exit_status; /* 128+n for signal n */
    bool left;       /* it runs on */
    bool generated;  /* the engine got as far as generating */
    uint64_t n_samples, n_lost;
    bool kernel_sampled, timer;
    uint32_t rate_hz; /* asked, after the limits of the source */
    bool ran_on;      /* processes that it started have not ended */
    uint64_t duration_ns;
    struct bn_cpu_time cpu;   /* of the program */
    uint64_t recorder_cpu_ns; /* ours, meanwhile */
    double empty_scope_ns;
};

/* Record until the program has ended. A first ^C is the program's; at a second one, or when a process that
 * was attached to is recorded, ^C ends the recording, and the program goes on (result->left). 0: profile.part
 * is complete. -1: *err says why; result->ran tells whether the program ran all the same (a full disk ends
 * the recording, not the program). Not reentrant: signals are taken meanwhile. */
int bn_record(const struct bn_recorder_options *o, struct bn_recorder_result *result, struct bn_err *err);

#endif
