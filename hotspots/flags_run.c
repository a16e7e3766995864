/* SPDX-License-Identifier: MIT
 * Flags on the run: mock or missing kernels, copying, allocating, scaffolding, impossible speed, slow paths.
 */
#include "hotspots/flags_private.h"

#include <ctype.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "hotspots/rank.h"
#include "hotspots/report_text.h"
#include "hotspots/roofline.h"
#include "profiler/stats.h"

enum { ENOUGH_SAMPLES = 100 }; /* below this a share says nothing */

static uint32_t stage_of(const struct bn_profile *p, const char *first, const char *second)
{
    uint32_t stage = bn_profile_find_stage(p, 0, first);

    return stage == BN_NONE || !second ? stage : bn_profile_find_stage(p, stage, second);
}

static bool is_wait(const struct bn_profile *p, const struct bn_sample *s)
{
    return s->stage && strcmp(p->stages[s->stage].name, "wait") == 0;
}

static double percent(const struct bn_sampled *part, const struct bn_sampled *whole)
{
    return bn_sampled_equal(whole) && whole->n ? 100.0 * (double)part->n / (double)whole->n
                                               : 100 * bn_sampled_share(part, whole);
}

static bool contains_mock(const char *name)
{
    return name && strcasestr(name, "mock") != NULL;
}

/* A frame of the engine itself, not of a library that it uses. */
static bool is_engine_frame(const struct bn_frame *f)
{
    return f->kind == BN_FRAME_USER && f->module && !strstr(f->module, ".so") && f->module[0] != '[';
}

void bn_flag_mock_kernel(struct bn_profile *p, struct bn_flag *flag)
{
    uint64_t samples = 0, dispatches = 0;
    const char *where = "no symbol with 'mock' was sampled or dispatched";

    if (!p->run.known) {
        bn_flag_unknown(p, flag, "not a run of the engine");
        return;
    }
    for (size_t i = 0; i < p->n_kernels; i++)
        if (contains_mock(p->kernels[i].symbol)) {
            dispatches += p->kernels[i].calls;
            where = p->kernels[i].symbol;
        }
    for (size_t i = 0; i < p->n_samples; i++)
        for (uint32_t e = p->samples[i].stack; e; e = p->stacks[e].parent) {
            const struct bn_frame *f = &p->frames[p->stacks[e].frame];
            if (!is_engine_frame(f) || !contains_mock(f->function))
                continue;
            samples++;
            where = f->function;
            break;
        }
    double value = (double)(samples + dispatches);
    bn_flag_decide(
        p, flag, value > flag->threshold, value,
        "this run computed nothing of use: run with real kernels (--kernel auto; --strict refuses mock ones)",
        "%s (%" PRIu64 " samples, %" PRIu64 " dispatches)", where, samples, dispatches);
}

static bool is_quantised(const struct bn_profile *p)
{
    static const char *const formats[] = {"i2s",  "qk256", "bitnet32", "tq1_0", "tq2_0",
                                          "q8_0", "q6_k",  "q4_k",     "q4_0"};

    for (size_t i = 0; p->model.format && i < BN_COUNT(formats); i++)
        if (strcmp(p->model.format, formats[i]) == 0)
            return true;
    return false;
}

static bool is_quantised_kernel(const char *name)
{
    static const char *const families[] = {"i2s_gem",  "i2s_block_gem", "tl1_",     "tl2_",    "qk256_",
                                           "q8_0_gem", "q6_k_gem",      "q4_k_gem", "q4_0_gem"};

    for (size_t i = 0; i < BN_COUNT(families); i++) {
        if (strncmp(name, families[i], strlen(families[i])) == 0)
            return !contains_mock(name);
    }
    return false;
}

/* The innermost function that is no inlined one. */
static const struct bn_frame *leaf(const struct bn_profile *p, const struct bn_sample *s)
{
    uint32_t e = s->stack;

    while (e && p->frames[p->stacks[e].frame].inlined)
        e = p->stacks[e].parent;
    return e ? &p->frames[p->stacks[e].frame] : NULL;
}

void bn_flag_kernel_share_low(struct bn_profile *p, struct bn_flag *flag)
{
    uint32_t decode = stage_of(p, "generate", "decode");
    struct bn_sampled all = {0}, hits = {0};

    if (!p->run.known || !is_quantised(p)) {
        bn_flag_unknown(p, flag,
                        p->run.known ? "the model has no quantised weights" : "not a run of the engine");
        return;
    }
    for (size_t i = 0; decode != BN_NONE && i < p->n_samples; i++) {
        const struct bn_sample *s = &p->samples[i];
        if (!bn_profile_stage_within(p, s->stage, decode) || is_wait(p, s))
            continue;
        const struct bn_frame *f = leaf(p, s);
        bn_sampled_add(&all, s->weight_ns);
        if (f && is_quantised_kernel(f->function))
            bn_sampled_add(&hits, s->weight_ns);
    }
    if (all.n < ENOUGH_SAMPLES) {
        bn_flag_unknown(p, flag, "fewer than 100 samples in decode");
        return;
    }
    double high = bn_sampled_interval(&hits, &all, BN_Z95).high;
    bn_flag_decide(p, flag, 100 * high < flag->threshold, percent(&hits, &all),
                   "find out what computed the projections: real kernels take a good part of decode",
                   "%s are in kernels for quantised weights", bn_text_part(&hits, &all, "decode samples"));
}

/* Which samples the memory flags look at: what a run does again and again, not its loading. */
static bool is_steady(const struct bn_profile *p, const struct bn_sample *s)
{
    uint32_t generate = stage_of(p, "generate", NULL);

    return !p->run.known || (generate != BN_NONE && bn_profile_stage_within(p, s->stage, generate));
}

static void decide_share(struct bn_profile *p, struct bn_flag *flag, const struct bn_sampled *hits,
                         const struct bn_sampled *all, const char *where, const char *advice)
{
    if (all->n < ENOUGH_SAMPLES) {
        bn_flag_unknown(p, flag, "fewer than 100 samples to judge by");
        return;
    }
    double low = bn_sampled_interval(hits, all, BN_Z95).low;
    bn_flag_decide(p, flag, 100 * low > flag->threshold, percent(hits, all), advice, "%s%s%s",
                   bn_text_part(hits, all, "samples"), hits->n ? ", most under " : "", hits->n ? where : "");
}

/* The caller that most of the marked samples' time shares: the frame below the library's. */
struct callers {
    struct bn_sampled *votes; /* [n_frames] */
    uint32_t best;
};

/* A sample whose stack goes through `entry`. */
static void vote_caller(struct callers *c, const struct bn_profile *p, const struct bn_sample *s,
                        uint32_t entry, bool (*belongs)(const char *))
{
    while (entry &&
           (p->frames[p->stacks[entry].frame].inlined || belongs(p->frames[p->stacks[entry].frame].function)))
        entry = p->stacks[entry].parent;
    if (!entry)
        return;
    uint32_t frame = p->stacks[entry].frame;
    bn_sampled_add(&c->votes[frame], s->weight_ns);
    if (bn_sampled_compare(&c->votes[frame], &c->votes[c->best]) > 0)
        c->best = frame;
}

static const char *callers_close(struct callers *c, const struct bn_profile *p)
{
    const char *name = c->votes[c->best].n ? p->frames[c->best].function : "an unknown caller";

    free(c->votes);
    return name;
}

void bn_flag_memcpy_share(struct bn_profile *p, struct bn_flag *flag)
{
    struct callers c = {bn_xcalloc(p->n_frames + 1, sizeof *c.votes), 0};
    struct bn_sampled all = {0}, hits = {0};

    for (size_t i = 0; i < p->n_samples; i++) {
        const struct bn_sample *s = &p->samples[i];
        const struct bn_frame *f = leaf(p, s);
        if (!is_steady(p, s))
            continue;
        bn_sampled_add(&all, s->weight_ns);
        if (f && bn_is_copy_function(f->function)) {
            bn_sampled_add(&hits, s->weight_ns);
            vote_caller(&c, p, s, s->stack, bn_is_copy_function);
        }
    }
    decide_share(p, flag, &hits, &all, callers_close(&c, p),
                 "pass pointers instead of copies, or reuse the buffer");
}

void bn_flag_allocator_share(struct bn_profile *p, struct bn_flag *flag)
{
    struct callers c = {bn_xcalloc(p->n_frames + 1, sizeof *c.votes), 0};
    struct bn_sampled all = {0}, hits = {0};
    uint64_t counted = p->run.known ? p->run.decode_allocations : UINT64_MAX;
    const char *advice = "allocate once before the loop and reuse";

    for (size_t i = 0; i < p->n_samples; i++) {
        const struct bn_sample *s = &p->samples[i];
        uint32_t outermost = 0;
        if (!is_steady(p, s))
            continue;
        bn_sampled_add(&all, s->weight_ns);
        for (uint32_t e = s->stack; e; e = p->stacks[e].parent)
            if (bn_is_allocator_function(p->frames[p->stacks[e].frame].function))
                outermost = e;
        if (outermost) {
            bn_sampled_add(&hits, s->weight_ns);
            vote_caller(&c, p, s, outermost, bn_is_allocator_function);
        }
    }
    const char *where = callers_close(&c, p);
    if (counted != UINT64_MAX && counted > 0) {
        bn_flag_decide(p, flag, true, percent(&hits, &all), advice,
                       "%" PRIu64
                       " heap allocations between the first and the last decoded token: there must be none",
                       counted);
        return;
    }
    decide_share(p, flag, &hits, &all, where, advice);
}

void bn_flag_forward_share_low(struct bn_profile *p, struct bn_flag *flag)
{
    struct bn_sampled all = {0}, hits = {0};
    uint32_t generate = stage_of(p, "generate", NULL);

    if (!p->run.known) {
        bn_flag_unknown(p, flag, "not a run of the engine");
        return;
    }
    for (size_t i = 0; generate != BN_NONE && i < p->n_samples; i++) {
        const struct bn_sample *s = &p->samples[i];
        uint32_t stage = s->stage;
        if (!bn_profile_stage_within(p, stage, generate))
            continue;
        bn_sampled_add(&all, s->weight_ns);
        while (stage && strcmp(p->stages[stage].name, "forward_pass") != 0)
            stage = p->stages[stage].parent;
        if (stage != 0)
            bn_sampled_add(&hits, s->weight_ns);
    }
    if (all.n < ENOUGH_SAMPLES) {
        bn_flag_unknown(p, flag, "fewer than 100 samples in generation");
        return;
    }
    double high = bn_sampled_interval(&hits, &all, BN_Z95).high;
    bn_flag_decide(p, flag, 100 * high < flag->threshold, percent(&hits, &all),
                   "look at what runs around the forward pass: sampling, text, scaffolding",
                   "%s are in the forward pass", bn_text_part(&hits, &all, "generation samples"));
}

void bn_flag_impossible_speed(struct bn_profile *p, struct bn_flag *flag)
{
    double speed = p->run.decode_tokens_per_second, bandwidth = p->limits.read_bytes_per_s;
    bool class_2b = p->model.weight_bytes > 400000000 && p->model.weight_bytes < 6000000000;

    if (!p->run.known || isnan(speed) || !p->model.bytes_per_token) {
        bn_flag_unknown(p, flag,
                        p->run.known ? "decode speed or bytes per token unknown" : "not a run of the engine");
        return;
    }
    if (!(bandwidth > 0) || bn_roofline_memory_bound(p) != 1) {
        bn_flag_unknown(p, flag,
                        bandwidth > 0 ? "the weights fit the last cache: memory bandwidth is no limit"
                                      : "memory bandwidth was not measured");
        return;
    }
    double value = 100 * (double)p->model.bytes_per_token * speed / bandwidth;
    if (value <= flag->threshold && class_2b && speed > 150)
        flag->severity = BN_FLAG_INFO;
    bn_flag_decide(p, flag, value > flag->threshold || (class_2b && speed > 150), value,
                   "something was not computed or not counted: check the kernels and the token count",
                   "%.1f tok/s x %.1f MB a token = %.1f GB/s, measured bandwidth %.1f GB/s", speed,
                   (double)p->model.bytes_per_token / 1e6, speed * (double)p->model.bytes_per_token / 1e9,
                   bandwidth / 1e9);
}

static bool is_scalar_product(const char *symbol)
{
    size_t n = strlen(symbol);

    return n > 2 && strcmp(symbol + n - 2, "_c") == 0 &&
           (strstr(symbol, "_gemv_") || strstr(symbol, "_gemm_"));
}

void bn_flag_scalar_fallback(struct bn_profile *p, struct bn_flag *flag)
{
    uint64_t calls = 0;
    const char *which = "every product used a vector kernel";

    if (!p->run.known || !p->run.cpu_detected) {
        bn_flag_unknown(p, flag, "not a run of the engine");
        return;
    }
    bool could = strcmp(p->run.cpu_detected, "c") != 0;
    for (size_t i = 0; could && i < p->n_kernels; i++)
        if (is_scalar_product(p->kernels[i].symbol)) {
            calls += p->kernels[i].calls;
            which = p->kernels[i].symbol;
        }
    bn_flag_decide(p, flag, (double)calls > flag->threshold, (double)calls,
                   "let the engine use what the CPU has: drop --cpu and BN_CPU", "%s; the CPU has %s",
                   could ? which : "no vector path", p->run.cpu_detected);
}

static int compare_doubles(const void *a, const void *b)
{
    double x, y;

    memcpy(&x, a, sizeof x);
    memcpy(&y, b, sizeof y);
    return (x > y) - (x < y);
}

void bn_flag_lazy_loading(struct bn_profile *p, struct bn_flag *flag)
{
    double *ns = bn_xcalloc(p->n_tokens + 1, sizeof *ns), first = 0;
    size_t n = 0;

    for (size_t i = 0; i < p->n_tokens; i++)
        if (!p->tokens[i].prefill) {
            ns[n] = (double)(p->tokens[i].end_ns - p->tokens[i].start_ns);
            first = n == 0 ? ns[0] : first;
            n++;
        }
    if (!p->run.known && stage_of(p, "generate", "decode") == BN_NONE) {
        bn_flag_unknown(p, flag, "the program's steps are not decoded tokens");
    } else if (n < 8) {
        bn_flag_unknown(p, flag, "fewer than 8 decoded tokens");
    } else {
        qsort(ns, n, sizeof *ns, compare_doubles);
        double value = first / ns[n / 2];
        enum { MANY = 10 }; /* a page of some library that is touched late is no lazy loading */
        bool known = p->run.decode_major_faults != UINT64_MAX;
        bool late = known && p->run.decode_major_faults > MANY;
        bn_flag_decide(p, flag, late || (value > flag->threshold && p->quality.major_faults > 0), value,
                       "read the model in before the first token",
                       "first decoded token %.2f ms, median %.2f ms; major faults: %" PRIu64
                       " in the whole run, %s in decode",
                       first / 1e6, ns[n / 2] / 1e6, p->quality.major_faults,
                       known ? bn_text_count(p->run.decode_major_faults) : "unknown");
    }
    free(ns);
}

void bn_flag_slow_load(struct bn_profile *p, struct bn_flag *flag)
{
    double tokenizer_limit = flag->threshold / 10; /* 100 ms beside 1 s */

    if (!p->run.known || isnan(p->run.load_ms) || isnan(p->run.tokenizer_ms)) {
        bn_flag_unknown(p, flag, p->run.known ? "load times unknown" : "not a run of the engine");
        return;
    }
    bool raised = p->run.load_ms > flag->threshold || p->run.tokenizer_ms > tokenizer_limit;
    if (raised && p->quality.major_faults > 500) {
        bn_flag_unknown(p, flag, "the file was not in memory yet (major faults): load times are the disk's");
        return;
    }
    bn_flag_decide(p, flag, raised, p->run.load_ms,
                   "map the weights instead of copying them; keep the vocabulary's index cheap",
                   "model %.0f ms, tokenizer %.0f ms (limit %.0f ms)", p->run.load_ms, p->run.tokenizer_ms,
                   tokenizer_limit);
}

/* More threads than CPUs take turns, and who waits at a barrier may be waiting for one that does not run. */
static bool has_too_many_threads(const struct bn_profile *p, uint64_t *cpus)
{
    const char *fact = bn_profile_fact(p, "cpus");

    return p->run.known && fact && bn_parse_u64(fact, 1, 1 << 20, cpus) == 0 && p->run.threads > *cpus;
}

/* The waits that threads entered themselves, and all of their scopes. (Workers that no job has come for are
 * not among them: they cost nothing.) */
static double wait_of_threads(const struct bn_profile *p, uint64_t *wait_ns, uint64_t *all_ns)
{
    *wait_ns = *all_ns = 0;
    for (uint32_t i = 1; i < p->n_stages; i++) {
        *all_ns += p->stages[i].self_ns;
        *wait_ns += strcmp(p->stages[i].name, "wait") == 0 ? p->stages[i].self_ns : 0;
    }
    return *all_ns ? 100.0 * (double)*wait_ns / (double)*all_ns : 0;
}

void bn_flag_wait_share(struct bn_profile *p, struct bn_flag *flag)
{
    const char *advice = "use fewer threads than free cores, or larger pieces of work";
    struct bn_sampled all = bn_profile_sampled(p, 0), hits = {0};
    uint64_t cpus, wait_ns, all_ns;
    double by_timers = wait_of_threads(p, &wait_ns, &all_ns);

    if (p->n_stages <= 1) {
        bn_flag_unknown(p, flag, "the program has no scopes: its waiting cannot be told from work");
        return;
    }
    for (size_t i = 0; i < p->n_samples; i++)
        if (is_wait(p, &p->samples[i]))
            bn_sampled_add(&hits, p->samples[i].weight_ns);
    if (has_too_many_threads(p, &cpus))
        bn_flag_decide(p, flag, true, percent(&hits, &all), advice,
                       "%u threads on %" PRIu64 " CPUs; %s wait at the pool's barrier", p->run.threads, cpus,
                       bn_text_part(&hits, &all, "samples"));
    else if (by_timers > flag->threshold)
        bn_flag_decide(p, flag, true, by_timers, advice,
                       "threads waited for %s of the %s in their scopes; %s", bn_text_time((double)wait_ns),
                       bn_text_time((double)all_ns), bn_text_part(&hits, &all, "samples"));
    else
        decide_share(p, flag, &hits, &all, "the pool's barrier", advice);
}
