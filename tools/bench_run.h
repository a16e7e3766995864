/* SPDX-License-Identifier: MIT
 * The measurements of `bnprof bench`: tests times configurations, their repetitions taking turns, with looks
 * at the machine's limits between them, so that a host whose speed changes hits all alike. */
#ifndef TOOLS_BENCH_RUN_H
#define TOOLS_BENCH_RUN_H

#include <signal.h>

#include "core/scope.h"
#include "tools/bench_options.h"
#include "tools/bench_share.h"
#include "tools/engine.h"

/* A stage with all its calls in the repetitions of a test; stages that only hold others together are one,
 * "other". */
struct bn_bench_stage {
    char name[64]; /* "attention/qkv_projection", "lm_head" */
    uint64_t calls;
    uint64_t fused_into; /* bits 1 << enum bn_stage: where the time of fused calls stands; 0 = all have their
                            own */
    double seconds;      /* on the calling thread, its waiting included, its child stages not */
    struct bn_bench_work work;
    struct bn_bench_share share;
};

/* What the last look before a repetition and the first one after it saw, at its number of threads. */
struct bn_bench_around {
    struct bn_limits before, after; /* after.threads = 0: not yet */
};

struct bn_bench_result {
    char test[32]; /* "pp512", "tg128", "tg128 @ d4000" */
    bool decode;
    uint32_t n, depth; /* tokens; positions before them */
    uint32_t threads;
    const char *kernel, *lm_head; /* in force */
    uint32_t lm_head_index;       /* of options->lm_heads */
    uint32_t runs;     /* of the test in one repetition: short tests are repeated until they can be timed */
    uint32_t n_passes; /* through the model, in a run */
    size_t n_repetitions;
    struct bn_bench_around *around; /* [n_repetitions] */
    double *tokens_per_second;      /* [n_repetitions] */
    double *token_ms;               /* of a decode test: each token's time */
    size_t n_token_ms, max_token_ms;
    double seconds, cpu_seconds; /* all repetitions, and the CPU time of all threads in them */
    struct bn_bench_stage *stages;
    size_t n_stages;
    /* when all is measured */
    struct bn_bench_spread speed; /* tokens per second */
    struct bn_bench_share share;  /* of the best limit of all looks, at the median speed */
    double nearby; /* share of the limit around it, median over the repetitions; NAN = unknown */
};

/* The parts point at each other: it stays where it was opened. A zeroed one is closed. */
struct bn_bench {
    const struct bn_bench_options *options;
    const volatile sig_atomic_t *interrupt; /* may be NULL */
    bool progress;                          /* a line on stderr that is written over */
    bool was_interrupted;
    struct bn_engine *engines; /* [n_engines]: kernels */
    size_t n_engines;
    struct bn_lm_head *lm_heads; /* [n_engines][options->lm_heads.n - 1]: those behind the engine\'s own */
    struct bn_pool **pools;      /* [options->threads.n], of engines[0]'s process: all engines share them */
    struct bn_limits *limits;    /* [options->threads.n] */
    struct bn_limits *last;      /* [options->threads.n] of the last look alone */
    uint64_t *looked_ns;         /* [options->threads.n] end of the last look, 0 = none yet */
    struct bn_limits_probe *probe;
    struct bn_bench_result *results; /* in the order in which they are printed: kernels, threads, tests */
    size_t n_results;
    double others;           /* part of the machine that others had meanwhile; NAN = unknown */
    uint64_t peak_rss_bytes; /* of the first engine, its tests tried once, before the limits took memory of
                                their own */
};

/* The whole measurement. 0, or -1 with a message; bad names in the options are status 2 for the caller:
 * *usage is set. An interrupt ends it early with what was measured so far: 0, and was_interrupted. */
int bn_bench_run(struct bn_bench *bench, const struct bn_bench_options *options, bool *usage,
                 struct bn_err *err);
void bn_bench_close(struct bn_bench *bench);

/* ---- bench_verdict.c: pure, but for scratch memory ---- */

/* Speed and shares of a result from its repetitions and stages, against limits at its number of threads. */
void bn_bench_settle(struct bn_bench_result *result, const struct bn_limits *limits);

/* The first share above 1, of the test or of a stage that takes at least 0.2 % of it: -1 with a message. 0 =
 * none. */
int bn_bench_check(const struct bn_bench_result *result, struct bn_err *err);

#endif
