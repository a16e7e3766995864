/* SPDX-License-Identifier: MIT
 * bnprof run: prompt in, text and speed out. */
#include <errno.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#include <unistd.h>

#include "core/prompts.h"
#include "core/scope.h"
#include "profiler/timer_inside.h"
#include "tools/cmds.h"
#include "tools/engine.h"
#include "tools/run_options.h"
#include "tools/run_report.h"
#include "tools/run_text.h"
#include "tools/stage_tree.h"

enum {
    DEFAULT_MAX_TOKENS = 128,
    DETERMINISTIC_SEED = 42,
    MAX_STOP_IDS = 4,
    INSISTENT = 4,
    PROMPT_CHUNK = 1 << 16
};

struct run {
    struct bn_run_options options;
    struct bn_engine engine;
    struct bn_gguf tokenizer_gguf; /* of --tokenizer, when that is a GGUF */
    struct bn_tokenizer *tok;
    struct bn_sample_options sample;
    struct bn_sampler sampler;
    struct bn_generator generator;
    uint32_t stop_ids[MAX_STOP_IDS];
    size_t n_stop_ids;
    struct bn_ids *prompts; /* [n_prompts] */
    size_t n_prompts;
    struct bn_ids tokens; /* generated in round 1 */
    struct bn_buf answer; /* their text */
    struct bn_run_text text;
    struct bn_run_report report;
    struct bn_err err; /* not on the stack, which every sample copies down to main */
};

static volatile sig_atomic_t interrupted;

/* The first ones end the generation behind the current token (timeout(1) sends two at once); who insists ends
 * the program. */
static void on_interrupt(int signal_number)
{
    if (++interrupted >= INSISTENT)
        signal(signal_number, SIG_DFL);
}

/* ---- start: sampling, kernels and threads ---- */

static uint64_t choose_seed(const struct bn_run_options *o)
{
    uint64_t seed = DETERMINISTIC_SEED;

    if (o->has_seed)
        return o->seed;
    if (!o->deterministic && getrandom(&seed, sizeof seed, GRND_NONBLOCK) != (ssize_t)sizeof seed)
        seed = bn_now_ns();
    return seed;
}

static void choose_sampling(struct run *r)
{
    const struct bn_run_options *o = &r->options;

    r->sample = (struct bn_sample_options){.greedy = o->greedy,
                                           .temperature = (float)o->temperature,
                                           .top_k = (uint32_t)o->top_k,
                                           .top_p = (float)o->top_p,
                                           .seed = choose_seed(o)};
    if (r->sample.temperature <= 0.0f) /* smaller than a float can be */
        r->sample.greedy = true;
}

static int choose_kernels(struct run *r)
{
    const struct bn_run_options *o = &r->options;
    struct bn_engine_options names = {.model = o->model,
                                      .kernel = o->kernel,
                                      .kv = o->kv,
                                      .lm_head = o->lm_head,
                                      .n_top = bn_sample_top(&r->sample),
                                      .cpu = o->cpu,
                                      .threads = (unsigned)o->threads,
                                      .n_ctx = (uint32_t)o->ctx};

    if (bn_engine_choose(&r->engine, &names, &r->err) != 0)
        return bn_tool_usage("bnprof run", "%s", r->err.msg);
    if (strcmp(o->kernel, "mock") != 0)
        return BN_EXIT_DONE;
    if (o->strict) {
        bn_err_set(&r->err, "--kernel mock computes nothing of use and is refused under --strict");
        bn_tool_fail(&r->err);
        return BN_EXIT_GATE;
    }
    if (!o->quiet)
        fputs("bnprof: warning: mock kernels compute nothing of use\n", stderr);
    return BN_EXIT_DONE;
}

/* Answer an option whose value is `list`. */
static bool answer_list(const struct bn_run_options *o)
{
    bool kernels = strcmp(o->kernel, "list") == 0, cpu = o->cpu && strcmp(o->cpu, "list") == 0;
    bool kv = strcmp(o->kv, "list") == 0;
    bool lm_heads = strcmp(o->lm_head, "list") == 0;

    if (kernels)
        bn_choice_print(stdout, bn_engine_kernels);
    else if (lm_heads)
        bn_choice_print(stdout, bn_engine_lm_heads);
    else if (cpu)
        bn_engine_print_cpu(stdout);
    else if (kv)
        bn_choice_print(stdout, bn_engine_kv);
    return kernels || lm_heads || cpu || kv;
}

static int start(struct run *r, int argc, char **argv, bool *listed)
{
    BN_SCOPE(STARTUP);
    struct bn_run_options *o = &r->options;

    if (bn_run_options_parse(o, argc, argv, &r->err) != 0) {
        bn_tool_fail(&r->err);
        return BN_EXIT_USAGE;
    }
    *listed = answer_list(o);
    if (*listed)
        return BN_EXIT_DONE;
    choose_sampling(r);
    int status = choose_kernels(r);
    if (status != BN_EXIT_DONE)
        return status;
    if (bn_engine_threads(&r->engine, &r->err) != 0)
        return bn_tool_fail(&r->err);
    struct sigaction action = {.sa_handler = on_interrupt, .sa_flags = SA_RESTART};
    sigaction(SIGINT, &action, NULL);
    signal(SIGPIPE, SIG_IGN); /* a reader that went away is an error of a write */
    return BN_EXIT_DONE;
}

/* ---- load ---- */

/* A GGUF says so in its first bytes; everything else is taken for JSON. */
static bool is_gguf(const char *path)
{
    char magic[4] = "";
    FILE *f = fopen(path, "rb");

    if (!f)
        return false;
    bool is = fread(magic, 1, sizeof magic, f) == sizeof magic && memcmp(magic, "GGUF", sizeof magic) == 0;
    fclose(f);
    return is;
}

static int load_tokenizer(struct run *r, struct bn_err *err)
{
    BN_SCOPE(TOKENIZER_LOAD);
    uint64_t start_ns = bn_now_ns();
    const char *path = r->options.tokenizer;
    int status;

    if (!path)
        status = bn_tokenizer_load(&r->tok, &r->engine.model.gguf, err);
    else if (!is_gguf(path))
        status = bn_tokenizer_load_json(&r->tok, path, err);
    else if ((status = bn_gguf_open(&r->tokenizer_gguf, path, err)) == 0)
        status = bn_tokenizer_load(&r->tok, &r->tokenizer_gguf, err);
    r->report.tokenizer_ms = (double)(bn_now_ns() - start_ns) / 1e6;
    if (status == 0 && bn_tokenizer_warning(r->tok) && !r->options.quiet)
        fprintf(stderr, "bnprof: warning: %s\n", bn_tokenizer_warning(r->tok));
    return status;
}

static void add_stop_id(struct run *r, int64_t id)
{
    for (size_t i = 0; i < r->n_stop_ids; i++) {
        if (r->stop_ids[i] == id)
            return;
    }
    if (id >= 0 && id < r->engine.model.n_vocab && r->n_stop_ids < MAX_STOP_IDS)
        r->stop_ids[r->n_stop_ids++] = (uint32_t)id;
}

/* The file's own end of sequence and end of turn, and Llama 3's (128001 and 128009 there) where the
 * vocabulary has them by name. */
static int find_stop_ids(struct run *r, struct bn_err *err)
{
    uint32_t eot = UINT32_MAX;
    const struct bn_gguf *gguf = r->tokenizer_gguf.n_kv ? &r->tokenizer_gguf : &r->engine.model.gguf;

    if (bn_gguf_get_u32(gguf, "tokenizer.ggml.eot_token_id", &eot, err) < 0)
        return -1;
    add_stop_id(r, bn_tokenizer_eos(r->tok));
    add_stop_id(r, eot == UINT32_MAX ? -1 : (int64_t)eot);
    add_stop_id(r, bn_tokenizer_find(r->tok, "<|end_of_text|>"));
    add_stop_id(r, bn_tokenizer_find(r->tok, "<|eot_id|>"));
    return 0;
}

/* ---- prompts ---- */

static int read_prompt_file(const char *path, struct bn_buf *text, struct bn_err *err)
{
    bool is_stdin = strcmp(path, "-") == 0;
    FILE *f = is_stdin ? stdin : fopen(path, "rb");
    size_t n;

    if (!f)
        return bn_err_set(err, "%s: %s", path, strerror(errno));
    do { /* straight into the buffer: a large array here would stand in the frame of every later call */
        bn_grow(&text->p, &text->capacity, text->n + PROMPT_CHUNK + 1, 1);
        n = fread(text->p + text->n, 1, PROMPT_CHUNK, f);
        text->n += n;
    } while (n > 0);
    int status =
        ferror(f) ? bn_err_set(err, "%s: %s", is_stdin ? "standard input" : path, strerror(errno)) : 0;
    if (!is_stdin)
        fclose(f);
    return status;
}

/* One turn, "ROLE: TEXT<|eot_id|>"; the text cannot spell the end of its own turn unless --special allows it.
 */
static int encode_turn(struct run *r, const char *role, struct bn_str text, bool bos, struct bn_ids *ids,
                       struct bn_err *err)
{
    int32_t eot = bn_tokenizer_find(r->tok, "<|eot_id|>");
    struct bn_buf turn = {0};

    if (eot < 0)
        return bn_err_set(err, "--chat: the vocabulary has no <|eot_id|> to end a turn with");
    bn_buf_printf(&turn, "%s: ", role);
    bn_buf_put(&turn, text.p, text.n);
    int status =
        bn_tokenizer_encode(r->tok, (struct bn_str){turn.p, turn.n}, bos, r->options.special, ids, err);
    bn_ids_push(ids, (uint32_t)eot);
    bn_buf_free(&turn);
    return status;
}

static int encode_prompt(struct run *r, struct bn_str text, struct bn_ids *ids, struct bn_err *err)
{
    const struct bn_run_options *o = &r->options;
    bool bos = bn_tokenizer_add_bos(r->tok);

    if (!o->chat)
        return bn_tokenizer_encode(r->tok, text, bos, o->special, ids, err);
    if (o->system && encode_turn(r, "System", bn_str_from(o->system), bos, ids, err) != 0)
        return -1;
    if (encode_turn(r, "User", text, bos && !o->system, ids, err) != 0)
        return -1;
    return bn_tokenizer_encode(r->tok, BN_STR("Assistant: "), false, false, ids, err);
}

static int encode_prompts(struct run *r, struct bn_err *err)
{
    BN_SCOPE(TOKENIZE);
    const struct bn_run_options *o = &r->options;
    struct bn_workload work = {.max_tokens = DEFAULT_MAX_TOKENS, .rounds = 1, .n_prompts = 1};
    struct bn_buf text = {0};
    int status = 0;

    if (!o->prompt && !o->prompt_file)
        work = bn_builtin_workload(r->engine.model.bytes_per_token);
    r->report.max_tokens = o->max_tokens ? (uint32_t)o->max_tokens : work.max_tokens;
    r->report.rounds = o->rounds ? (uint32_t)o->rounds : work.rounds;
    r->n_prompts = work.n_prompts;
    r->prompts = bn_xcalloc(r->n_prompts, sizeof *r->prompts);
    if (o->prompt_file)
        status = read_prompt_file(o->prompt_file, &text, err);
    for (size_t i = 0; i < r->n_prompts && status == 0; i++) {
        struct bn_str prompt = o->prompt_file ? (struct bn_str){text.p, text.n}
                               : o->prompt    ? bn_str_from(o->prompt)
                                              : bn_str_from(work.prompts[i]);
        status = encode_prompt(r, prompt, &r->prompts[i], err);
        bn_scope_count(prompt.n, 0);
    }
    bn_buf_free(&text);
    return status;
}

/* ---- generate ---- */

static bool emit(void *user, uint32_t id, size_t index)
{
    (void)index;
    return bn_run_text_token(user, id);
}

static int prepare(struct run *r, struct bn_err *err)
{
    BN_SCOPE(STARTUP);
    const struct bn_run_options *o = &r->options;
    struct bn_engine *e = &r->engine;

    if (bn_engine_session(e, err) != 0)
        return -1;
    bn_sampler_open(&r->sampler, &r->sample, &e->kernels, e->model.n_vocab);
    bn_run_text_open(&r->text, r->tok, o->special);
    bn_generator_open(&r->generator, &e->session, &r->sampler, r->stop_ids, r->n_stop_ids,
                      r->report.max_tokens, (size_t)r->report.rounds * r->n_prompts, emit, &r->text);
    r->generator.interrupt = &interrupted;
    r->report.model = &e->model;
    r->report.path = o->model;
    r->report.kernels = &e->kernels;
    r->report.cpu_used = e->cpu_used;
    r->report.cpu_detected = e->cpu_detected;
    r->report.kernel = e->kernel;
    r->report.lm_head = e->lm_head_name;
    r->report.load_ms = e->load_ms;
    r->report.threads = bn_pool_threads(e->pool);
    r->report.deterministic = o->deterministic;
    r->report.generator = &r->generator;
    r->report.session = &e->session;
    r->report.tokens = &r->tokens;
    bn_run_report_publish(&r->report, false);
    return 0;
}

static void keep_answer(struct run *r)
{
    const struct bn_generator *g = &r->generator;
    bool stopped = g->end == BN_END_STOP_TOKEN;

    for (size_t i = 0; i < g->n_tokens; i++) {
        bn_ids_push(&r->tokens, g->tokens[i]);
        if (i + stopped < g->n_tokens)
            bn_tokenizer_decode(r->tok, g->tokens[i], false, r->options.special, &r->answer);
    }
    if (g->end == BN_END_CONTEXT_FULL && !r->options.quiet)
        fprintf(stderr, "bnprof: the context of %u tokens is full\n", r->engine.session.n_ctx);
}

/* Every round starts from the same seed: all do the same work. */
static int generate(struct run *r, struct bn_err *err)
{
    for (size_t i = 0; i < r->n_prompts; i++) {
        if (bn_generator_check(&r->generator, r->prompts[i].p, r->prompts[i].n, err) != 0)
            return -1;
    }
    for (uint32_t round = 0; round < r->report.rounds; round++) {
        r->sampler.state = r->sampler.options.seed;
        r->text.print = round == 0 && !r->options.json;
        for (size_t i = 0; i < r->n_prompts; i++) {
            if (bn_generate(&r->generator, r->prompts[i].p, r->prompts[i].n, err) != 0)
                return -1;
            bn_run_text_end(&r->text);
            if (round == 0)
                keep_answer(r);
            if (r->generator.end == BN_END_INTERRUPTED || r->text.failed)
                return 0;
        }
    }
    return 0;
}

static int report(struct run *r)
{
    BN_SCOPE(SHUTDOWN);

    r->report.text = (struct bn_str){r->answer.p, r->answer.n};
    if (r->options.json)
        bn_run_report_json(stdout, &r->report, r->options.stages);
    int status = bn_run_text_check(&r->text, &r->err) == 0 ? BN_EXIT_DONE : BN_EXIT_FAILED;
    if (status != BN_EXIT_DONE && r->text.errno_value != EPIPE)
        bn_tool_fail(&r->err);
    bn_run_report_publish(&r->report, true);
    if (status != BN_EXIT_DONE)
        return status;
    if (r->options.stages && !r->options.json) {
        struct bn_stage_row *rows = bn_xcalloc(BN_SCOPE_MAX_NODES, sizeof *rows);
        bn_stage_tree_print(stderr, rows, bn_stage_rows_live(rows), r->generator.n_prompt_tokens);
        bn_stage_cost_print(stderr, bn_scope_region()->empty_scope_ns);
        free(rows);
    }
    if (!r->options.quiet)
        bn_run_report_print(stderr, &r->report);
    return interrupted ? 128 + SIGINT : BN_EXIT_DONE;
}

static void shut_down(struct run *r)
{
    bn_run_text_close(&r->text);
    bn_generator_close(&r->generator);
    bn_sampler_close(&r->sampler);
    for (size_t i = 0; i < r->n_prompts; i++)
        bn_ids_free(&r->prompts[i]);
    free(r->prompts);
    bn_ids_free(&r->tokens);
    bn_buf_free(&r->answer);
    bn_tokenizer_free(r->tok);
    bn_gguf_close(&r->tokenizer_gguf);
    bn_engine_close(&r->engine);
}

/* Where perf events are refused the recorder has samples taken from within. */
static void sample_thread(void)
{
    if (bn_timer_attach())
        bn_timer_thread_begin((int)getpid());
}

int cmd_run(int argc, char **argv)
{
    static struct run run; /* zero: every close accepts that */
    struct run *r = &run;
    bool listed = false;

    bn_scope_on_threads(sample_thread, bn_timer_thread_end);
    bn_scope_init();
    int status = start(r, argc, argv, &listed);
    if (status == BN_EXIT_DONE && !listed) {
        bool ready = bn_engine_load(&r->engine, &r->err) == 0 && load_tokenizer(r, &r->err) == 0 &&
                     find_stop_ids(r, &r->err) == 0 && encode_prompts(r, &r->err) == 0 &&
                     prepare(r, &r->err) == 0;
        if (!ready || generate(r, &r->err) != 0)
            status = bn_tool_fail(&r->err);
        else
            status = report(r);
    }
    BN_SCOPE(SHUTDOWN);
    shut_down(r);
    return status;
}
