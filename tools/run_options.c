/* SPDX-License-Identifier: MIT
 * `bnprof run`'s command line: argp, then what options forbid each other. */
#include "tools/run_options.h"

#include <argp.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "core/pool.h"
#include "tools/engine.h"

enum key {
    KEY_MODEL = 'm',
    KEY_PROMPT = 'p',
    KEY_MAX_TOKENS = 'n',
    KEY_THREADS = 't',
    KEY_QUIET = 'q',
    KEY_TOKENIZER = 256,
    KEY_PROMPT_FILE,
    KEY_CHAT,
    KEY_SYSTEM,
    KEY_ROUNDS,
    KEY_GREEDY,
    KEY_TEMPERATURE,
    KEY_TOP_K,
    KEY_TOP_P,
    KEY_SEED,
    KEY_CTX,
    KEY_KERNEL,
    KEY_LM_HEAD,
    KEY_CPU,
    KEY_KV,
    KEY_SPECIAL,
    KEY_STRICT,
    KEY_DETERMINISTIC,
    KEY_STAGES,
    KEY_JSON,
};

static const struct argp_option table[] = {
    {0, 0, 0, 0, "What to run:", 1},
    {"model", KEY_MODEL, "FILE", 0, "GGUF model (default: $BNPROF_MODEL, else the built-in demo model)", 0},
    {"tokenizer", KEY_TOKENIZER, "FILE", 0, "vocabulary from a GGUF or a Hugging Face tokenizer.json", 0},
    {"prompt", KEY_PROMPT, "TEXT", 0, "text to continue (default: a built-in list of prompts)", 0},
    {"prompt-file", KEY_PROMPT_FILE, "FILE", 0, "the same from a file; - is standard input", 0},
    {"chat", KEY_CHAT, 0, 0, "the prompt is a user's turn, the answer an assistant's", 0},
    {"system", KEY_SYSTEM, "TEXT", 0, "with --chat: the system's turn before it", 0},
    {"special", KEY_SPECIAL, 0, 0,
     "special tokens can be spelled in the prompt and are spelled in the output", 0},
    {"max-tokens", KEY_MAX_TOKENS, "N", 0, "tokens to generate at most (default 128)", 0},
    {"rounds", KEY_ROUNDS, "N", 0, "answer N times; only the first answer is printed, speeds cover all", 0},
    {0, 0, 0, 0, "Choosing tokens (greedy unless one of the next three is given):", 2},
    {"greedy", KEY_GREEDY, 0, 0, "always the most likely token", 0},
    {"temperature", KEY_TEMPERATURE, "T", 0, "divide the logits by T (default 1); 0 is greedy", 0},
    {"top-k", KEY_TOP_K, "K", 0, "only the K most likely tokens (default 0: all)", 0},
    {"top-p", KEY_TOP_P, "P", 0, "only the most likely tokens that reach probability P (default 1: all)", 0},
    {"seed", KEY_SEED, "N", 0, "of the random numbers (default: a new one each time; 42 if deterministic)",
     0},
    {0, 0, 0, 0, "How to run:", 3},
    {"threads", KEY_THREADS, "N", 0, "default: the physical cores that this process may use", 0},
    {"ctx", KEY_CTX, "N", 0, "positions in the context (default: the model's, at most 4096)", 0},
    {"kernel", KEY_KERNEL, "NAME", 0, "auto, i2s, tl1, tl2, qk256 or mock; list lists", 0},
    {"lm-head", KEY_LM_HEAD, "NAME", 0,
     "auto, f16, screened (the same tokens), q8_0, q6_k or q4_0 (others); list lists", 0},
    {"cpu", KEY_CPU, "FLAGS", 0, "CPU flags to use (avx2), to drop (-avx512vnni), or c; list lists", 0},
    {"kv", KEY_KV, "TYPE", 0, "f16 or int8: keys and values of the context; list lists", 0},
    {"strict", KEY_STRICT, 0, 0, "refuse what is not the real thing, with status 3", 0},
    {"deterministic", KEY_DETERMINISTIC, 0, 0, "the same tokens for any number of threads, and a fixed seed",
     0},
    {0, 0, 0, 0, "What to print:", 4},
    {"stages", KEY_STAGES, 0, 0, "the tree of scoped timers, on stderr (with --json: in the object)", 0},
    {"json", KEY_JSON, 0, 0, "one object instead of the text", 0},
    {"quiet", KEY_QUIET, 0, 0, "no speed line", 0},
    {0},
};

static uint64_t whole_number(struct argp_state *state, const char *option, const char *text, uint64_t min,
                             uint64_t max)
{
    uint64_t value = min;

    if (bn_parse_u64(text, min, max, &value) != 0)
        argp_error(state, "--%s: '%s' is not a whole number from %llu to %llu", option, text,
                   (unsigned long long)min, (unsigned long long)max);
    return value;
}

static double number(struct argp_state *state, const char *option, const char *text, double min, double max)
{
    double value = min;

    if (bn_parse_double(text, min, max, &value) != 0)
        argp_error(state, "--%s: '%s' is not a number from %g to %g", option, text, min, max);
    return value;
}

/* The options that name things. */
static error_t parse_name(int key, char *arg, struct bn_run_options *o)
{
    switch (key) {
    case KEY_MODEL:
        o->model = arg;
        return 0;
    case KEY_TOKENIZER:
        o->tokenizer = arg;
        return 0;
    case KEY_PROMPT:
        o->prompt = arg;
        return 0;
    case KEY_PROMPT_FILE:
        o->prompt_file = arg;
        return 0;
    case KEY_SYSTEM:
        o->system = arg;
        return 0;
    case KEY_KERNEL:
        o->kernel = arg;
        return 0;
    case KEY_KV:
        o->kv = arg;
        return 0;
    case KEY_LM_HEAD:
        o->lm_head = arg;
        return 0;
    case KEY_CPU:
        o->cpu = arg;
        return 0;
    default:
        return ARGP_ERR_UNKNOWN;
    }
}

static error_t parse_switch(int key, struct bn_run_options *o)
{
    switch (key) {
    case KEY_CHAT:
        return o->chat = true, 0;
    case KEY_SPECIAL:
        return o->special = true, 0;
    case KEY_STRICT:
        return o->strict = true, 0;
    case KEY_DETERMINISTIC:
        return o->deterministic = true, 0;
    case KEY_STAGES:
        return o->stages = true, 0;
    case KEY_JSON:
        return o->json = true, 0;
    case KEY_QUIET:
        return o->quiet = true, 0;
    case KEY_GREEDY:
        return o->greedy = true, 0;
    default:
        return ARGP_ERR_UNKNOWN;
    }
}

static error_t parse_number(int key, char *arg, struct argp_state *state)
{
    struct bn_run_options *o = state->input;

    switch (key) {
    case KEY_MAX_TOKENS:
        o->max_tokens = whole_number(state, "max-tokens", arg, 1, 1u << 24);
        return 0;
    case KEY_ROUNDS:
        o->rounds = whole_number(state, "rounds", arg, 1, 1000000);
        return 0;
    case KEY_TEMPERATURE:
        o->temperature = number(state, "temperature", arg, 0.0, 1000.0);
        return 0;
    case KEY_TOP_K:
        o->top_k = whole_number(state, "top-k", arg, 0, UINT32_MAX);
        return 0;
    case KEY_TOP_P:
        o->top_p = number(state, "top-p", arg, 0.0, 1.0);
        return 0;
    case KEY_SEED:
        o->seed = whole_number(state, "seed", arg, 0, UINT64_MAX);
        o->has_seed = true;
        return 0;
    case KEY_THREADS:
        o->threads = whole_number(state, "threads", arg, 1, BN_POOL_MAX_THREADS);
        return 0;
    case KEY_CTX:
        o->ctx = whole_number(state, "ctx", arg, 1, UINT32_MAX);
        return 0;
    default:
        return ARGP_ERR_UNKNOWN;
    }
}

/* Unset sampling options are negative until here. */
static void settle(struct argp_state *state, struct bn_run_options *o)
{
    char names[96];
    bool by_chance = o->temperature >= 0.0 || o->top_p >= 0.0 || o->top_k != UINT64_MAX;

    if (o->greedy && by_chance)
        argp_error(state, "--greedy goes with none of --temperature, --top-k, --top-p");
    if (o->prompt && o->prompt_file)
        argp_error(state, "--prompt and --prompt-file: one of them");
    if (o->chat && !o->prompt && !o->prompt_file)
        argp_error(state, "--chat needs a prompt");
    if (o->system && !o->chat)
        argp_error(state, "--system needs --chat");
    if (!bn_choice_has(bn_engine_kernels, o->kernel) && strcmp(o->kernel, "list") != 0)
        argp_error(state, "--kernel: '%s' is none of %s", o->kernel,
                   bn_choice_names(bn_engine_kernels, names, sizeof names));
    if (!bn_choice_has(bn_engine_lm_heads, o->lm_head) && strcmp(o->lm_head, "list") != 0)
        argp_error(state, "--lm-head: '%s' is none of %s", o->lm_head,
                   bn_choice_names(bn_engine_lm_heads, names, sizeof names));
    o->greedy = !by_chance || o->temperature == 0.0;
    o->temperature = o->temperature < 0.0 ? 1.0 : o->temperature;
    o->top_p = o->top_p < 0.0 ? 1.0 : o->top_p;
    o->top_k = o->top_k == UINT64_MAX ? 0 : o->top_k;
}

static error_t parse(int key, char *arg, struct argp_state *state)
{
    struct bn_run_options *o = state->input;

    if (key == ARGP_KEY_ARG)
        argp_error(state, "unexpected argument '%s' (a prompt goes behind --prompt)", arg);
    if (key == ARGP_KEY_END)
        settle(state, o);
    if (parse_name(key, arg, o) == 0 || parse_switch(key, o) == 0)
        return 0;
    return parse_number(key, arg, state);
}

/* ---- environment ---- */

static const char *variable(const char *name)
{
    const char *value = getenv(name);

    return value && *value ? value : NULL;
}

static int switch_variable(const char *name, bool *out, struct bn_err *err)
{
    const char *value = variable(name);

    if (!value)
        return 0;
    bool on = strcmp(value, "1") == 0 || strcasecmp(value, "true") == 0 || strcasecmp(value, "on") == 0;
    bool off = strcmp(value, "0") == 0 || strcasecmp(value, "false") == 0 || strcasecmp(value, "off") == 0;
    if (!on && !off)
        return bn_err_set(err, "environment variable %s: '%s' is neither 1 nor 0", name, value);
    *out = on;
    return 0;
}

static int number_variable(const char *name, uint64_t min, uint64_t max, uint64_t *out, struct bn_err *err)
{
    const char *value = variable(name);

    if (value && bn_parse_u64(value, min, max, out) != 0)
        return bn_err_set(err, "environment variable %s: '%s' is not a whole number from %llu to %llu", name,
                          value, (unsigned long long)min, (unsigned long long)max);
    return 0;
}

static int read_environment(struct bn_run_options *o, struct bn_err *err)
{
    o->model = variable("BNPROF_MODEL");
    o->cpu = variable("BN_CPU");
    if (number_variable("RAYON_NUM_THREADS", 1, BN_POOL_MAX_THREADS, &o->threads, err) != 0 ||
        number_variable("BN_THREADS", 1, BN_POOL_MAX_THREADS, &o->threads, err) != 0 ||
        number_variable("BITNET_SEED", 0, UINT64_MAX, &o->seed, err) != 0 ||
        switch_variable("BITNET_STRICT_MODE", &o->strict, err) != 0 ||
        switch_variable("BITNET_DETERMINISTIC", &o->deterministic, err) != 0)
        return -1;
    o->has_seed = variable("BITNET_SEED") != NULL;
    return 0;
}

int bn_run_options_parse(struct bn_run_options *o, int argc, char **argv, struct bn_err *err)
{
    static const struct argp argp = {
        .options = table,
        .parser = parse,
        .doc = "Run a model: the continuation of the prompt on stdout, speeds on stderr.\v"
               "Environment: BNPROF_MODEL, BN_CPU, BN_THREADS (or RAYON_NUM_THREADS), BITNET_DETERMINISTIC, "
               "BITNET_SEED, BITNET_STRICT_MODE."};

    *o = (struct bn_run_options){.kernel = "auto",
                                 .lm_head = "auto",
                                 .kv = "f16",
                                 .temperature = -1.0,
                                 .top_p = -1.0,
                                 .top_k = UINT64_MAX};
    if (read_environment(o, err) != 0)
        return -1;
    argp_parse(&argp, argc, argv, 0, NULL, o);
    return 0;
}
