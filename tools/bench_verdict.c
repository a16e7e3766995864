/* SPDX-License-Identifier: MIT
 * Results against the limits: what was measured, as speeds and shares, and whether that can be true. */
#include <math.h>
#include <stdlib.h>

#include "tools/bench_run.h"

enum { LEAST_STAGE = 500 }; /* a stage of less than this part of its test is not held against the limits */

/* The larger one of what two looks saw. */
static struct bn_limits larger(const struct bn_limits *a, const struct bn_limits *b)
{
    struct bn_limits l = *a;

    l.read_bytes_per_s = b->read_bytes_per_s > l.read_bytes_per_s ? b->read_bytes_per_s : l.read_bytes_per_s;
    l.int8_macs_per_s = b->int8_macs_per_s > l.int8_macs_per_s ? b->int8_macs_per_s : l.int8_macs_per_s;
    return l;
}

/* The median of each repetition's share of what the looks around it saw. */
static double nearby(const struct bn_bench_result *r, const struct bn_bench_work *run)
{
    double *shares = bn_xcalloc(r->n_repetitions, sizeof *shares), share = NAN;
    size_t n = 0;

    for (size_t i = 0; i < r->n_repetitions; i++) {
        struct bn_limits l = larger(&r->around[i].before, &r->around[i].after);
        struct bn_bench_share s = bn_bench_share(run, r->n / r->tokens_per_second[i], &l);
        if (!isnan(s.share))
            shares[n++] = s.share;
    }
    if (n == r->n_repetitions)
        share = bn_bench_spread(shares, n).median;
    free(shares);
    return share <= 1.0 ? share : NAN; /* above: the looks have missed a better moment */
}

void bn_bench_settle(struct bn_bench_result *r, const struct bn_limits *limits)
{
    double n_runs = (double)r->runs * (double)r->n_repetitions;
    struct bn_bench_work run = {0};

    if (r->n_repetitions == 0)
        return;
    for (size_t i = 0; i < r->n_stages; i++) {
        run.memory_bytes += r->stages[i].work.memory_bytes / n_runs;
        run.int8_macs += r->stages[i].work.int8_macs / n_runs;
    }
    run.pass_bytes = run.memory_bytes / r->n_passes;
    r->speed = bn_bench_spread(r->tokens_per_second, r->n_repetitions);
    r->share = bn_bench_share(&run, r->n / r->speed.median, limits);
    r->nearby = nearby(r, &run);
    for (size_t i = 0; i < r->n_stages; i++) {
        struct bn_bench_stage *s = &r->stages[i];
        s->work.pass_bytes = run.pass_bytes;
        s->share = bn_bench_share(&s->work, s->seconds > 0 ? s->seconds : 1e-9, limits);
    }
}

int bn_bench_check(const struct bn_bench_result *r, struct bn_err *err)
{
    char what[192];
    const char *s = r->threads == 1 ? "" : "s";

    if (r->n_repetitions == 0)
        return 0;
    snprintf(what, sizeof what, "%s, %u thread%s, %s, lm_head %s", r->test, r->threads, s, r->kernel,
             r->lm_head);
    if (bn_bench_share_check(&r->share, what, err) != 0)
        return -1;
    for (size_t i = 0; i < r->n_stages; i++) {
        const struct bn_bench_stage *stage = &r->stages[i];
        snprintf(what, sizeof what, "%s, %u thread%s, %s, lm_head %s: %s", r->test, r->threads, s, r->kernel,
                 r->lm_head, stage->name);
        if (stage->seconds * LEAST_STAGE >= r->seconds && bn_bench_share_check(&stage->share, what, err) != 0)
            return -1;
    }
    return 0;
}
