/* SPDX-License-Identifier: MIT
 * Measuring: open, warm up, repeat in turns, hold against the limits. */
#include "tools/bench_run.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>

#include "core/forward.h"
#include "core/sample.h"
#include "tools/bench_host.h"
#include "tools/bench_stages.h"

enum {
    DEFAULT_PROMPT = 512,
    DEFAULT_DECODE = 128,
    WARM_UP_TOKENS = 8,
    MAX_RUNS = 1000,
    MAX_TOKEN_TIMES = 1 << 20,
    FIRST_LOOKS = 3,
    EXTRA_LOOKS = 20,
};

static const double least_seconds = 0.05;                /* of a repetition */
static const uint64_t look_every_ns = 300 * 1000 * 1000; /* a look takes a third of that */

static bool interrupted(struct bn_bench *b)
{
    if (b->interrupt && *b->interrupt)
        b->was_interrupted = true;
    return b->was_interrupted;
}

static void say(const struct bn_bench *b, const char *format, ...) BN_PRINTF(2, 3);

static void say(const struct bn_bench *b, const char *format, ...)
{
    va_list args;

    if (!b->progress)
        return;
    fputs("\r\033[K", stderr);
    va_start(args, format);
    vfprintf(stderr, format, args);
    va_end(args);
}

/* ---- tests ---- */

/* Any text will do; the same at every place of every sequence. */
static uint32_t token_at(const struct bn_session *s, uint32_t position)
{
    uint64_t x = (position + 1) * 0x9e3779b97f4a7c15u;

    x = (x ^ (x >> 32)) * 0xd6e8feb86659fd93u;
    return (uint32_t)((x >> 32) % s->model->n_vocab);
}

/* Tokens from the session's place on, in batches. False = interrupted. */
static bool prefill(struct bn_bench *b, struct bn_session *s, uint32_t n, bool want_logits)
{
    uint32_t tokens[BN_SESSION_BATCH];

    bn_scope_step();
    BN_SCOPE(PREFILL);
    for (uint32_t done = 0, batch; done < n; done += batch) {
        batch = (uint32_t)bn_min_size(bn_min_size(s->n_batch, BN_COUNT(tokens)), n - done);
        for (uint32_t i = 0; i < batch; i++)
            tokens[i] = token_at(s, s->n_past + i);
        bn_forward(s, tokens, batch, want_logits && done + batch == n);
        if (interrupted(b))
            return false;
    }
    return true;
}

/* Greedy, as a generation goes; r may be NULL (a warm-up). */
static bool decode(struct bn_bench *b, struct bn_session *s, uint32_t n, struct bn_bench_result *r)
{
    struct bn_sampler sampler;
    uint32_t id = token_at(s, s->n_past);
    uint64_t before_ns = bn_now_ns();

    bn_sampler_open(&sampler, &(struct bn_sample_options){.greedy = true}, s->kernels, s->model->n_vocab);
    for (uint32_t i = 0; i < n && !interrupted(b); i++) {
        bn_scope_step();
        BN_SCOPE(DECODE);
        const float *logits = bn_forward(s, &id, 1, true);
        bn_scope_enter(BN_STAGE_SAMPLE_TOKEN);
        id = bn_sample(&sampler, logits);
        bn_scope_leave();
        uint64_t now_ns = bn_now_ns();
        if (r && r->n_token_ms < r->max_token_ms)
            r->token_ms[r->n_token_ms++] = (double)(now_ns - before_ns) / 1e6;
        before_ns = now_ns;
    }
    bn_sampler_close(&sampler);
    return !b->was_interrupted;
}

/* Results of an engine stand together. */
static size_t engine_index(const struct bn_bench *b, const struct bn_bench_result *r)
{
    return (size_t)(r - b->results) / (b->n_results / b->n_engines);
}

static struct bn_session *session_of(struct bn_bench *b, const struct bn_bench_result *r)
{
    return &b->engines[engine_index(b, r)].session;
}

static struct bn_lm_head *lm_head_of(struct bn_bench *b, size_t engine, size_t lm_head)
{
    return lm_head ? &b->lm_heads[engine * (b->options->lm_heads.n - 1) + lm_head - 1]
                   : &b->engines[engine].lm_head;
}

static size_t threads_index(const struct bn_bench *b, const struct bn_bench_result *r)
{
    size_t i = 0;

    while (b->options->threads.v[i] != r->threads)
        i++;
    return i;
}

static bool run_test(struct bn_bench *b, struct bn_bench_result *r, uint32_t n, bool keep_times)
{
    struct bn_session *s = session_of(b, r);

    s->lm_head = lm_head_of(b, engine_index(b, r), r->lm_head_index);
    bn_session_set_pool(s, b->pools[threads_index(b, r)]);
    bn_session_rewind(s, r->depth);
    return r->decode ? decode(b, s, n, keep_times ? r : NULL) : prefill(b, s, n, true);
}

/* ---- what there is to measure ---- */

static void add_result(struct bn_bench *b, struct bn_bench_result r)
{
    size_t at = (size_t)snprintf(r.test, sizeof r.test, "%s%u", r.decode ? "tg" : "pp", r.n);

    if (r.depth)
        snprintf(r.test + at, sizeof r.test - at, " @ d%u", r.depth);
    b->results = bn_xrealloc(b->results, (b->n_results + 1) * sizeof *b->results);
    b->results[b->n_results++] = r;
}

static void add_tests(struct bn_bench *b, struct bn_bench_result config,
                      const struct bn_bench_numbers *lengths, uint32_t standard, uint32_t n_ctx)
{
    for (size_t d = 0; d < b->options->depths.n; d++) {
        config.depth = b->options->depths.v[d];
        for (size_t i = 0; i < lengths->n; i++) {
            config.n = lengths->v[i];
            if (config.n)
                add_result(b, config);
        }
        config.n = config.depth < n_ctx ? (uint32_t)bn_min_size(standard, n_ctx - config.depth) : standard;
        if (lengths->n == 0)
            add_result(b, config);
    }
}

/* Every configuration gets the same tests; what was not asked for by number is cut to the context. */
static void list_results(struct bn_bench *b)
{
    const struct bn_bench_options *o = b->options;
    uint32_t n_ctx = b->engines[0].model.n_ctx;

    for (size_t i = 0; i < o->kernels.n * o->lm_heads.n; i++) {
        for (size_t t = 0; t < o->threads.n; t++) {
            struct bn_bench_result config = {.threads = o->threads.v[t],
                                             .kernel = o->kernels.v[i / o->lm_heads.n],
                                             .lm_head_index = (uint32_t)(i % o->lm_heads.n)};
            add_tests(b, config, &o->prompts, DEFAULT_PROMPT, n_ctx);
            config.decode = true;
            add_tests(b, config, &o->decodes, DEFAULT_DECODE, n_ctx);
        }
    }
}

/* The context that the longest test needs. */
static int context(struct bn_bench *b, uint32_t *n_ctx, struct bn_err *err)
{
    const struct bn_model *m = &b->engines[0].model;

    *n_ctx = 1;
    for (size_t i = 0; i < b->n_results; i++) {
        const struct bn_bench_result *r = &b->results[i];
        if (r->depth + r->n > m->n_ctx)
            return bn_err_set(err, "%s: %s needs a context of %u tokens, the model's is %u", m->gguf.path,
                              r->test, r->depth + r->n, m->n_ctx);
        *n_ctx = r->depth + r->n > *n_ctx ? r->depth + r->n : *n_ctx;
    }
    return 0;
}

/* ---- open ---- */

static uint32_t most_threads(const struct bn_bench_options *o)
{
    uint32_t most = 1;

    for (size_t i = 0; i < o->threads.n; i++)
        most = o->threads.v[i] > most ? o->threads.v[i] : most;
    return most;
}

static int open_pools(struct bn_bench *b, struct bn_err *err)
{
    size_t n = b->options->threads.n;

    b->pools = bn_xcalloc(n, sizeof *b->pools);
    b->limits = bn_xcalloc(n, sizeof *b->limits);
    b->last = bn_xcalloc(n, sizeof *b->last);
    b->looked_ns = bn_xcalloc(n, sizeof *b->looked_ns);
    for (size_t i = 0; i < n; i++) {
        if (bn_pool_open(&b->pools[i], b->options->threads.v[i], err) != 0)
            return -1;
    }
    return 0;
}

/* Kernels of all engines, so that a wrong name is noticed before anything is loaded. */
static int choose(struct bn_bench *b, struct bn_err *err)
{
    const struct bn_bench_options *o = b->options;

    b->n_engines = o->kernels.n;
    b->engines = bn_xcalloc(b->n_engines, sizeof *b->engines);
    b->lm_heads = bn_xcalloc(b->n_engines * o->lm_heads.n, sizeof *b->lm_heads);
    for (size_t i = 0; i < b->n_engines; i++) {
        struct bn_engine_options names = {.model = o->model,
                                          .kernel = o->kernels.v[i],
                                          .lm_head = o->lm_heads.v[0],
                                          .n_top = 1, /* all tests are greedy */
                                          .kv = o->kv,
                                          .cpu = o->cpu,
                                          .threads = most_threads(o)};
        if (bn_engine_choose(&b->engines[i], &names, err) != 0)
            return -1;
        if (strcmp(o->kernels.v[i], "mock") == 0)
            fputs("bnprof: warning: mock kernels compute nothing of use\n", stderr);
    }
    return 0;
}

/* The lm_heads that the engine has not opened itself, and the names of all in the results. */
static int open_lm_heads(struct bn_bench *b, size_t index, struct bn_err *err)
{
    const struct bn_bench_names *names = &b->options->lm_heads;
    struct bn_engine *e = &b->engines[index];

    for (size_t i = 0; i < names->n; i++) {
        const char *used = e->lm_head_name;
        if (i && bn_engine_lm_head(e, names->v[i], lm_head_of(b, index, i), &used, err) != 0)
            return -1;
        for (size_t k = 0; k < b->n_results; k++) {
            struct bn_bench_result *r = &b->results[k];
            if (engine_index(b, r) == index && r->lm_head_index == i)
                r->lm_head = used;
        }
    }
    return 0;
}

/* Load, open the session, fill the cache as deep as any test wants it. Tests at lower depths overwrite the
 * rows that they use with ones of the same kind. */
static int open_engine(struct bn_bench *b, size_t index, struct bn_err *err)
{
    struct bn_engine *e = &b->engines[index];
    uint32_t n_ctx = 0, depth = 0;

    say(b, "loading");
    if (bn_engine_threads(e, err) != 0 || bn_engine_load(e, err) != 0)
        return -1;
    if (index == 0)
        list_results(b);
    if (context(b, &n_ctx, err) != 0)
        return -1;
    e->options.n_ctx = n_ctx;
    if (open_lm_heads(b, index, err) != 0 || bn_engine_session(e, err) != 0)
        return -1;
    e->session.n_top = 1;
    for (size_t i = 0; i < b->n_results; i++)
        depth = b->results[i].depth > depth ? b->results[i].depth : depth;
    if (depth) {
        say(b, "filling the cache with %u positions", depth);
        BN_SCOPE(GENERATE);
        prefill(b, &e->session, depth, false);
    }
    return 0;
}

/* Try a test once: pages, caches and clocks wake up, and its time says how often it fits a repetition. */
static void warm_up(struct bn_bench *b, struct bn_bench_result *r)
{
    uint32_t n = r->decode ? (uint32_t)bn_min_size(r->n, WARM_UP_TOKENS) : r->n;
    uint64_t start_ns = bn_now_ns();

    say(b, "warming up: %s, %u threads, %s, lm_head %s", r->test, r->threads, r->kernel, r->lm_head);
    bn_scope_enter(BN_STAGE_GENERATE);
    run_test(b, r, n, false);
    bn_scope_leave();
    double seconds = (double)(bn_now_ns() - start_ns) / 1e9 * r->n / n;
    double runs = least_seconds / seconds + 1.0;
    r->runs = runs < MAX_RUNS ? (uint32_t)runs : MAX_RUNS;
    r->n_passes = r->decode ? r->n : (r->n - 1) / session_of(b, r)->n_batch + 1;
    r->around = bn_xcalloc(b->options->repetitions, sizeof *r->around);
    r->tokens_per_second = bn_xcalloc(b->options->repetitions, sizeof *r->tokens_per_second);
    r->stages = bn_xcalloc(BN_SCOPE_MAX_NODES, sizeof *r->stages);
    if (r->decode)
        r->max_token_ms = bn_min_size((size_t)r->n * r->runs * b->options->repetitions, MAX_TOKEN_TIMES);
    r->token_ms = bn_xcalloc(r->max_token_ms + 1, sizeof *r->token_ms);
}

static int open_all(struct bn_bench *b, struct bn_err *err)
{
    struct rusage usage;

    if (open_pools(b, err) != 0)
        return -1;
    for (size_t i = 0; i < b->n_engines && !interrupted(b); i++) {
        if (open_engine(b, i, err) != 0)
            return -1;
        size_t n = b->n_results / b->n_engines;
        for (size_t k = 0; k < n && !interrupted(b); k++) {
            b->results[i * n + k].kernel = b->engines[i].kernel;
            warm_up(b, &b->results[i * n + k]);
        }
        if (i == 0 && getrusage(RUSAGE_SELF, &usage) == 0)
            b->peak_rss_bytes = (uint64_t)usage.ru_maxrss * 1024;
    }
    return b->was_interrupted
               ? 0
               : bn_limits_open(&b->probe, most_threads(b->options), b->engines[0].cpu_flags, err);
}

/* ---- repeat ---- */

static void keep_best(struct bn_limits *best, const struct bn_limits *now)
{
    double read = best->read_bytes_per_s, int8 = best->int8_macs_per_s;

    *best = *now;
    best->read_bytes_per_s = read > now->read_bytes_per_s ? read : now->read_bytes_per_s;
    best->int8_macs_per_s = int8 > now->int8_macs_per_s ? int8 : now->int8_macs_per_s;
}

/* Look, and tell the repetitions that wait for it. */
static int look(struct bn_bench *b, size_t threads, struct bn_err *err)
{
    struct bn_limits now = {0};

    for (int i = b->looked_ns[threads] == 0 ? FIRST_LOOKS : 1; i > 0; i--) {
        if (bn_limits_look(b->probe, b->options->threads.v[threads], &now, err) != 0)
            return -1;
    }
    keep_best(&b->limits[threads], &now);
    b->last[threads] = now;
    b->looked_ns[threads] = bn_now_ns();
    for (size_t i = 0; i < b->n_results; i++) {
        struct bn_bench_result *r = &b->results[i];
        for (size_t k = r->n_repetitions;
             r->threads == now.threads && k > 0 && !r->around[k - 1].after.threads; k--)
            r->around[k - 1].after = now;
    }
    return 0;
}

/* Interrupted, it leaves no trace but a few token times. */
static void repeat(struct bn_bench *b, struct bn_bench_result *r)
{
    struct bn_bench_counts *before = bn_bench_counts(), *after;
    struct bn_bench_host host = bn_bench_host_now(), now;
    uint64_t start_ns = bn_now_ns();
    bool whole = true;

    bn_scope_enter(BN_STAGE_GENERATE);
    for (uint32_t i = 0; i < r->runs && whole; i++)
        whole = run_test(b, r, r->n, true);
    bn_scope_leave();
    double seconds = (double)(bn_now_ns() - start_ns) / 1e9;
    now = bn_bench_host_now();
    after = bn_bench_counts();
    if (whole) {
        r->around[r->n_repetitions].before = b->last[threads_index(b, r)];
        r->tokens_per_second[r->n_repetitions++] = (double)r->n * r->runs / seconds;
        r->seconds += seconds;
        r->cpu_seconds += now.own_s - host.own_s;
        bn_bench_stages_add(r, before, after);
    }
    free(before);
    free(after);
}

static int repeat_all(struct bn_bench *b, struct bn_err *err)
{
    for (uint32_t i = 0; i < b->options->repetitions; i++) {
        for (size_t k = 0; k < b->n_results && !interrupted(b); k++) {
            struct bn_bench_result *r = &b->results[k];
            size_t t = threads_index(b, r);
            say(b, "repetition %u of %u: %s, %u threads, %s, lm_head %s", i + 1, b->options->repetitions,
                r->test, r->threads, r->kernel, r->lm_head);
            if (b->looked_ns[t] == 0 || bn_now_ns() - b->looked_ns[t] > look_every_ns) {
                if (look(b, t, err) != 0)
                    return -1;
                run_test(b, r, 1, false); /* the look has emptied the caches and sent the workers to sleep */
            }
            repeat(b, r);
        }
    }
    for (size_t t = 0; t < b->options->threads.n && !interrupted(b); t++) {
        if (look(b, t, err) != 0)
            return -1;
    }
    return 0;
}

/* ---- hold against the limits ---- */

static bool plausible(const struct bn_bench *b)
{
    for (size_t i = 0; i < b->n_results; i++) {
        if (bn_bench_check(&b->results[i], NULL) != 0)
            return false;
    }
    return true;
}

/* A host that was slow at every look gets some more before a share above 1 is called an error. */
static int settle_all(struct bn_bench *b, struct bn_err *err)
{
    for (int extra = 0; b->probe; extra++) {
        for (size_t i = 0; i < b->n_results; i++)
            bn_bench_settle(&b->results[i], &b->limits[threads_index(b, &b->results[i])]);
        if (extra == EXTRA_LOOKS || plausible(b))
            break;
        for (size_t t = 0; t < b->options->threads.n; t++) {
            if (look(b, t, err) != 0)
                return -1;
        }
    }
    return 0;
}

int bn_bench_run(struct bn_bench *b, const struct bn_bench_options *options, bool *usage, struct bn_err *err)
{
    b->options = options;
    *usage = true;
    if (choose(b, err) != 0)
        return -1;
    *usage = false;
    int status = open_all(b, err);
    struct bn_bench_host from = bn_bench_host_now(), to;
    if (status == 0 && !b->was_interrupted)
        status = repeat_all(b, err);
    to = bn_bench_host_now();
    b->others = bn_bench_host_others(&from, &to);
    if (status == 0)
        status = settle_all(b, err);
    say(b, "%s", "");
    return status;
}

void bn_bench_close(struct bn_bench *b)
{
    for (size_t i = 0; i < b->n_results; i++) {
        free(b->results[i].around);
        free(b->results[i].tokens_per_second);
        free(b->results[i].token_ms);
        free(b->results[i].stages);
    }
    free(b->results);
    bn_limits_close(b->probe);
    for (size_t i = 0; b->lm_heads && i < b->n_engines * (b->options->lm_heads.n - 1); i++)
        bn_lm_head_close(&b->lm_heads[i]);
    free(b->lm_heads);
    for (size_t i = 0; i < b->n_engines; i++)
        bn_engine_close(&b->engines[i]);
    for (size_t i = 0; b->pools && i < b->options->threads.n; i++)
        bn_pool_close(b->pools[i]);
    free(b->engines);
    free(b->pools);
    free(b->limits);
    free(b->last);
    free(b->looked_ns);
    memset(b, 0, sizeof *b);
}
