/* SPDX-License-Identifier: MIT
 * `bnprof bench`'s command line. */
#include "tools/bench_options.h"

#include <argp.h>
#include <stdlib.h>
#include <string.h>

#include "core/pool.h"
#include "tools/engine.h"

enum key {
    KEY_MODEL = 'm',
    KEY_PROMPTS = 'p',
    KEY_DECODES = 'n',
    KEY_DEPTHS = 'd',
    KEY_REPETITIONS = 'r',
    KEY_THREADS = 't',
    KEY_KERNELS = 256,
    KEY_LM_HEADS,
    KEY_CPU,
    KEY_KV,
    KEY_STAGES,
    KEY_JSON,
    KEY_MD,
};

static const struct argp_option table[] = {
    {0, 0, 0, 0, "What to measure; a LIST is one number or several with commas:", 1},
    {"model", KEY_MODEL, "FILE", 0, "GGUF model (default: $BNPROF_MODEL, else the built-in demo model)", 0},
    {"prompts", KEY_PROMPTS, "LIST", 0, "prompt tokens to process (default 512); 0 leaves it out", 0},
    {"tokens", KEY_DECODES, "LIST", 0, "tokens to decode (default 128); 0 leaves it out", 0},
    {"depth", KEY_DEPTHS, "LIST", 0, "positions that are in the cache already (default 0)", 0},
    {"repetitions", KEY_REPETITIONS, "N", 0, "of each test (default 5)", 0},
    {0, 0, 0, 0, "How to run; repetitions of all combinations take turns:", 2},
    {"threads", KEY_THREADS, "LIST", 0, "default: the physical cores that this process may use", 0},
    {"kernels", KEY_KERNELS, "NAMES", 0, "kernels with commas (default auto); list lists", 0},
    {"kv", KEY_KV, "TYPE", 0, "f16 (default) or int8: keys and values of the context; list lists", 0},
    {"lm-head", KEY_LM_HEADS, "NAMES", 0, "ways to the logits with commas (default auto); list lists", 0},
    {"cpu", KEY_CPU, "FLAGS", 0, "CPU flags to use (avx2), to drop (-avx512vnni), or c; list lists", 0},
    {0, 0, 0, 0, "What to print:", 3},
    {"stages", KEY_STAGES, 0, 0, "the stages of each test against the machine's limits", 0},
    {"json", KEY_JSON, 0, 0, "one object", 0},
    {"md", KEY_MD, 0, 0, "tables in Markdown", 0},
    {0},
};

/* ---- lists ---- */

static bool has_number(const struct bn_bench_numbers *list, uint32_t value)
{
    for (size_t i = 0; i < list->n; i++) {
        if (list->v[i] == value)
            return true;
    }
    return false;
}

/* Cut text at its commas, in place. A number that comes twice counts once. 0, or -1 with a message. */
static int parse_numbers(const char *option, char *text, uint64_t min, uint64_t max,
                         struct bn_bench_numbers *list, struct bn_err *err)
{
    list->n = 0;
    for (char *word = text, *rest; word; word = rest) {
        uint64_t value;
        rest = strchr(word, ',');
        if (rest)
            *rest++ = '\0';
        if (bn_parse_u64(word, min, max, &value) != 0)
            return bn_err_set(err, "%s: '%s' is not a whole number from %llu to %llu", option, word,
                              (unsigned long long)min, (unsigned long long)max);
        if (has_number(list, (uint32_t)value))
            continue;
        if (list->n == BN_BENCH_LIST)
            return bn_err_set(err, "%s: more than %d numbers", option, BN_BENCH_LIST);
        list->v[list->n++] = (uint32_t)value;
    }
    return 0;
}

static int parse_names(const char *option, char *text, const struct bn_choice *choices,
                       struct bn_bench_names *list, struct bn_err *err)
{
    char known[96];

    list->n = 0;
    for (char *word = text, *rest; word; word = rest) {
        rest = strchr(word, ',');
        if (rest)
            *rest++ = '\0';
        if (!bn_choice_has(choices, word))
            return bn_err_set(err, "%s: '%s' is none of %s", option, word,
                              bn_choice_names(choices, known, sizeof known));
        if (list->n == BN_BENCH_LIST)
            return bn_err_set(err, "%s: more than %d names", option, BN_BENCH_LIST);
        list->v[list->n++] = word;
    }
    return 0;
}

/* ---- argp ---- */

enum { MAX_TOKENS = 1 << 24 };

static int parse_list(int key, char *arg, struct bn_bench_options *o, struct bn_err *err)
{
    struct bn_bench_numbers one;

    switch (key) {
    case KEY_PROMPTS:
        return parse_numbers("-p", arg, 0, MAX_TOKENS, &o->prompts, err);
    case KEY_DECODES:
        return parse_numbers("-n", arg, 0, MAX_TOKENS, &o->decodes, err);
    case KEY_DEPTHS:
        return parse_numbers("-d", arg, 0, MAX_TOKENS, &o->depths, err);
    case KEY_THREADS:
        return parse_numbers("--threads", arg, 1, BN_POOL_MAX_THREADS, &o->threads, err);
    case KEY_KERNELS:
        o->list_kernels = strcmp(arg, "list") == 0;
        return o->list_kernels ? 0 : parse_names("--kernels", arg, bn_engine_kernels, &o->kernels, err);
    case KEY_LM_HEADS:
        o->list_lm_heads = strcmp(arg, "list") == 0;
        return o->list_lm_heads ? 0 : parse_names("--lm-head", arg, bn_engine_lm_heads, &o->lm_heads, err);
    case KEY_REPETITIONS:
        if (parse_numbers("-r", arg, 1, 10000, &one, err) != 0)
            return -1;
        o->repetitions = one.v[0];
        return one.n == 1 ? 0 : bn_err_set(err, "-r: one number is expected");
    default:
        return 0;
    }
}

static bool all_zero(const struct bn_bench_numbers *list)
{
    return list->n == 1 && list->v[0] == 0;
}

static void settle(struct argp_state *state, struct bn_bench_options *o)
{
    if (o->json && o->md)
        argp_error(state, "--json and --md: one of them");
    if (all_zero(&o->prompts) && all_zero(&o->decodes))
        argp_error(state, "-p 0 and -n 0: nothing is left to measure");
}

static error_t parse(int key, char *arg, struct argp_state *state)
{
    struct bn_bench_options *o = state->input;
    struct bn_err err;

    switch (key) {
    case KEY_MODEL:
        o->model = arg;
        return 0;
    case KEY_CPU:
        o->cpu = arg;
        return 0;
    case KEY_KV:
        o->kv = arg;
        o->list_kv = strcmp(arg, "list") == 0;
        return 0;
    case KEY_STAGES:
        return o->stages = true, 0;
    case KEY_JSON:
        return o->json = true, 0;
    case KEY_MD:
        return o->md = true, 0;
    case ARGP_KEY_ARG:
        argp_error(state, "unexpected argument '%s'", arg);
        return 0;
    case ARGP_KEY_END:
        settle(state, o);
        return 0;
    case KEY_PROMPTS:
    case KEY_DECODES:
    case KEY_DEPTHS:
    case KEY_THREADS:
    case KEY_KERNELS:
    case KEY_LM_HEADS:
    case KEY_REPETITIONS:
        if (parse_list(key, arg, o, &err) != 0)
            argp_error(state, "%s", err.msg);
        return 0;
    default:
        return ARGP_ERR_UNKNOWN;
    }
}

/* ---- environment ---- */

static int threads_variable(const char *name, struct bn_bench_numbers *list, struct bn_err *err)
{
    const char *value = getenv(name);
    uint64_t threads;

    if (!value || !*value)
        return 0;
    if (bn_parse_u64(value, 1, BN_POOL_MAX_THREADS, &threads) != 0)
        return bn_err_set(err, "environment variable %s: '%s' is not a whole number from 1 to %d", name,
                          value, BN_POOL_MAX_THREADS);
    *list = (struct bn_bench_numbers){.v = {(uint32_t)threads}, .n = 1};
    return 0;
}

int bn_bench_options_parse(struct bn_bench_options *o, int argc, char **argv, struct bn_err *err)
{
    static const struct argp argp = {
        .options = table,
        .parser = parse,
        .doc = "Measure a model's speed, and the machine's limits beside it: tokens per second, medians of "
               "repetitions, "
               "what was read and multiplied per second, and the share of what this machine can do.\v"
               "Tests: pp512 is the processing of a prompt of 512 tokens, tg128 the generation of 128 tokens "
               "one by one, "
               "tg128 @ d4000 the same with 4000 positions before them. A share above 100 % is an error and "
               "status 1.\n"
               "Environment: BNPROF_MODEL, BN_CPU, BN_THREADS (or RAYON_NUM_THREADS)."};
    const char *model = getenv("BNPROF_MODEL"), *cpu = getenv("BN_CPU");

    *o = (struct bn_bench_options){.model = model && *model ? model : NULL,
                                   .cpu = cpu && *cpu ? cpu : NULL,
                                   .depths = {.v = {0}, .n = 1},
                                   .threads = {.v = {bn_pool_cores()}, .n = 1},
                                   .kernels = {.v = {"auto"}, .n = 1},
                                   .lm_heads = {.v = {"auto"}, .n = 1},
                                   .repetitions = 5};
    if (threads_variable("RAYON_NUM_THREADS", &o->threads, err) != 0 ||
        threads_variable("BN_THREADS", &o->threads, err) != 0)
        return -1;
    argp_parse(&argp, argc, argv, 0, NULL, o);
    o->list_cpu = o->cpu && strcmp(o->cpu, "list") == 0;
    return 0;
}
