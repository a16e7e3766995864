/* SPDX-License-Identifier: MIT
 * What a run says about itself: the speed line, the JSON object, the run info for a recorder. */
#ifndef TOOLS_RUN_REPORT_H
#define TOOLS_RUN_REPORT_H

#include "core/generate.h"
#include "core/tokenizer.h"

struct bn_run_report {
    const struct bn_model *model;
    const char *path; /* of the model, as given; NULL = built in */
    const struct bn_kernels *kernels;
    const char *kernel; /* in force: "i2s", "mock", or the weight format of a model without ternary weights */
    const char *lm_head; /* in force: "f16", "screened", … */
    const char *cpu_used, *cpu_detected;
    unsigned threads;
    uint32_t rounds, max_tokens;
    bool deterministic;
    double load_ms, tokenizer_ms;
    /* from here on only when the generation is over */
    struct bn_generator *generator;
    const struct bn_session *session;
    const struct bn_ids *tokens; /* generated in round 1 */
    struct bn_str text;          /* of them; any bytes */
};

/* Two lines. */
void bn_run_report_print(FILE *f, const struct bn_run_report *r);

/* The object of `run --json` and a newline; `stages`: with the scope tree. */
void bn_run_report_json(FILE *f, const struct bn_run_report *r, bool stages);

/* Tell a recorder, if one listens (docs/formats.md#run-info); `final`: with result and kernels. */
void bn_run_report_publish(const struct bn_run_report *r, bool final);

#endif
