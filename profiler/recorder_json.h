/* SPDX-License-Identifier: MIT
 * Header and footer of profile.part (docs/formats.md), and the machine's stolen time. */
#ifndef PROFILER_RECORDER_JSON_H
#define PROFILER_RECORDER_JSON_H

#include <cJSON.h>

#include "profiler/cpu_time.h"
#include "profiler/recorder.h"

struct bn_recorder_head {
    const char *run_id, *started, *command;
    uint64_t t0_ns, started_ns;
    bool engine, frame_pointers;
    int32_t pid;
    const struct bn_perf *sampler;
};

struct bn_recorder_foot {
    struct bn_launch_end end;
    struct bn_cpu_time cpu;
    char *ran_on; /* processes that have not ended, in words; NULL = none */
    uint64_t duration_ns, recorder_cpu_ns, lost, throttled;
    double steal_share; /* negative = unknown */
    struct bn_recorder_closing closing;
    const char *not_sampled; /* what the source could not reach, in words; NULL = nothing */
};

/* The fingerprint as [[key, value], …]; the caller owns it. */
cJSON *bn_recorder_facts(void);

/* JSON text, the caller frees. `facts` is taken over. */
char *bn_recorder_header(const struct bn_recorder_head *head, cJSON *facts);
char *bn_recorder_footer(const struct bn_recorder_foot *foot);

/* The machine's CPU time so far, in clock ticks, from /proc/stat; false = unknown. */
struct bn_recorder_ticks {
    uint64_t total, steal;
};
bool bn_recorder_ticks(struct bn_recorder_ticks *ticks);
double bn_recorder_steal(const struct bn_recorder_ticks *before, const struct bn_recorder_ticks *after);

#endif
