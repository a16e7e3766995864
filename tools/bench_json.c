/* SPDX-License-Identifier: MIT
 * The object of `bench --json`. What was not measured is null. */
#include <cjson/cJSON.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "core/builtin.h"
#include "profiler/stats.h"
#include "tools/bench_report.h"

/* Not known: NaN, or not above 0. */
static void add_number(cJSON *o, const char *key, double value)
{
    if (value > 0)
        cJSON_AddNumberToObject(o, key, value);
    else
        cJSON_AddNullToObject(o, key);
}

static void add_part(cJSON *o, const char *key, double value)
{
    if (isnan(value))
        cJSON_AddNullToObject(o, key);
    else
        cJSON_AddNumberToObject(o, key, value);
}

/* limit, its size, the share; of a wrong share no number but `error` is given. */
static void add_share(cJSON *o, const struct bn_bench_share *s)
{
    bool memory = s->bound == BN_BENCH_MEMORY, int8 = s->bound == BN_BENCH_INT8;

    add_number(o, "gbytes_per_second", s->gbytes_per_s);
    add_number(o, "gmacs_per_second", s->gmacs_per_s);
    if (memory || int8)
        cJSON_AddStringToObject(o, "limit", bn_bench_bound_name(s->bound));
    else
        cJSON_AddNullToObject(o, "limit");
    if (!memory && !int8)
        cJSON_AddStringToObject(o, "no_limit", bn_bench_bound_name(s->bound));
    if (memory || int8)
        cJSON_AddNumberToObject(o, memory ? "limit_gbytes_per_second" : "limit_gmacs_per_second", s->limit);
    add_part(o, "share_of_limit", s->share > 1.0 ? NAN : s->share);
}

static void add_stages(cJSON *o, const struct bn_bench_result *r)
{
    cJSON *stages = cJSON_AddArrayToObject(o, "stages");
    double runs = (double)r->runs * (double)r->n_repetitions;
    char names[128];

    for (size_t i = 0; i < r->n_stages; i++) {
        const struct bn_bench_stage *s = &r->stages[i];
        cJSON *stage = cJSON_CreateObject();
        cJSON_AddItemToArray(stages, stage);
        cJSON_AddStringToObject(stage, "name", s->name);
        cJSON_AddNumberToObject(stage, "calls", (double)s->calls / runs);
        cJSON_AddNumberToObject(stage, "ns_per_token", s->seconds * 1e9 / runs / r->n);
        cJSON_AddNumberToObject(stage, "share_of_test", s->seconds / r->seconds);
        if (s->fused_into)
            cJSON_AddStringToObject(stage, "fused_into", bn_stage_names(s->fused_into, names, sizeof names));
        add_share(stage, &s->share);
    }
}

static void add_result(cJSON *results, const struct bn_bench *b, const struct bn_bench_result *r)
{
    cJSON *o = cJSON_CreateObject();
    struct bn_err err;

    cJSON_AddItemToArray(results, o);
    cJSON_AddStringToObject(o, "test", r->test);
    cJSON_AddNumberToObject(o, "tokens", r->n);
    cJSON_AddNumberToObject(o, "depth", r->depth);
    cJSON_AddNumberToObject(o, "threads", r->threads);
    cJSON_AddStringToObject(o, "kernel", r->kernel);
    cJSON_AddStringToObject(o, "lm_head", r->lm_head);
    cJSON_AddNumberToObject(o, "repetitions", (double)r->n_repetitions);
    cJSON *speed = cJSON_AddObjectToObject(o, "tokens_per_second");
    cJSON_AddNumberToObject(speed, "median", r->speed.median);
    cJSON_AddNumberToObject(speed, "min", r->speed.min);
    cJSON_AddNumberToObject(speed, "max", r->speed.max);
    add_share(o, &r->share);
    add_part(o, "share_nearby", r->nearby);
    if (bn_bench_check(r, &err) != 0)
        cJSON_AddStringToObject(o, "error", err.msg);
    if (b->options->stages)
        add_stages(o, r);
}

/* ---- once for all ---- */

static size_t most_threads(const struct bn_bench *b)
{
    size_t most = 0;

    for (size_t i = 1; i < b->options->threads.n; i++)
        most = b->options->threads.v[i] > b->options->threads.v[most] ? i : most;
    return most;
}

static void add_limits(cJSON *o, const struct bn_bench *b)
{
    const struct bn_limits *l = &b->limits[most_threads(b)];
    cJSON *limits = cJSON_AddObjectToObject(o, "limits");

    cJSON_AddNumberToObject(limits, "threads", l->threads);
    add_number(limits, "read_gbytes_per_second", l->read_bytes_per_s * 1e-9);
    add_number(limits, "int8_gmacs_per_second", l->int8_macs_per_s * 1e-9);
}

/* The first result of its kind with the most threads; NULL = none was measured. */
static const struct bn_bench_result *first(const struct bn_bench *b, bool decode)
{
    uint32_t threads = b->options->threads.v[most_threads(b)];

    for (size_t i = 0; i < b->n_results; i++) {
        const struct bn_bench_result *r = &b->results[i];
        if (r->decode == decode && r->threads == threads && r->n_repetitions)
            return r;
    }
    return NULL;
}

static double percentile(const double *sorted, size_t n, double q)
{
    return n ? bn_stats_percentile(sorted, n, q) : NAN;
}

/* The names of the reference's baselines; decoding is its throughput. */
static void add_metrics(cJSON *o, const struct bn_bench *b)
{
    const struct bn_bench_result *tg = first(b, true), *pp = first(b, false);
    cJSON *m = cJSON_AddObjectToObject(o, "metrics");
    size_t n = tg ? tg->n_token_ms : 0;
    double *ms = bn_xcalloc(n + 1, sizeof *ms);

    for (size_t i = 0; i < n; i++)
        ms[i] = tg->token_ms[i];
    bn_stats_sort(ms, n);
    add_number(m, "throughput_tokens_per_second", tg ? tg->speed.median : NAN);
    add_number(m, "latency_p50_ms", percentile(ms, n, 0.50));
    add_number(m, "latency_p95_ms", percentile(ms, n, 0.95));
    add_number(m, "latency_p99_ms", percentile(ms, n, 0.99));
    add_number(m, "memory_usage_mb", (double)b->peak_rss_bytes / 1e6);
    add_number(m, "cpu_usage_percent", tg ? tg->cpu_seconds / tg->seconds * 100.0 : NAN);
    add_number(m, "first_token_latency_ms", pp ? pp->n / pp->speed.median * 1e3 : NAN);
    add_number(m, "model_load_time_ms", b->engines[0].load_ms);
    cJSON_AddNullToObject(m, "accuracy_score");
    free(ms);
}

void bn_bench_print_json(FILE *f, const struct bn_bench *b)
{
    cJSON *o = cJSON_CreateObject();
    const struct bn_model *model = &b->engines[0].model;

    cJSON *m = cJSON_AddObjectToObject(o, "model");
    cJSON_AddStringToObject(m, "path", b->options->model ? b->options->model : BN_BUILTIN_LABEL);
    cJSON_AddStringToObject(m, "name", model->name);
    cJSON_AddStringToObject(m, "format", model->format);
    cJSON_AddNumberToObject(m, "weight_bytes", (double)model->weight_bytes);
    cJSON_AddStringToObject(o, "kv", bn_kv_type_name(b->engines[0].kv));
    cJSON_AddStringToObject(o, "cpu", b->engines[0].cpu_used);
    cJSON *results = cJSON_AddArrayToObject(o, "results");
    for (size_t i = 0; i < b->n_results; i++) {
        if (b->results[i].n_repetitions)
            add_result(results, b, &b->results[i]);
    }
    add_limits(o, b);
    add_metrics(o, b);
    add_part(o, "others_cpu_share", b->others);
    cJSON_AddBoolToObject(o, "interrupted", b->was_interrupted);
    char *text = cJSON_PrintUnformatted(o);
    fprintf(f, "%s\n", text);
    cJSON_free(text);
    cJSON_Delete(o);
}
