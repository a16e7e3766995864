/* SPDX-License-Identifier: MIT
 * bnprof synth: write a random model of a real shape. */
#include "tools/cmds.h"

#include <argp.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "core/synth.h"

struct options {
    const struct bn_synth_shape *shape;
    const char *output, *tokenizer;
    int wtype, etype; /* -1 = not given */
    uint64_t seed;
};

static const struct {
    const char *name;
    int type;
} types[] = {{"i2_s", BN_TYPE_I2_S},   {"qk256", BN_TYPE_QK256}, {"bitnet32", BN_TYPE_BITNET32},
             {"tq1_0", BN_TYPE_TQ1_0}, {"tq2_0", BN_TYPE_TQ2_0}, {"f16", BN_TYPE_F16},
             {"bf16", BN_TYPE_BF16},   {"f32", BN_TYPE_F32},     {"q8_0", BN_TYPE_Q8_0},
             {"q6_k", BN_TYPE_Q6_K},   {"q4_k", BN_TYPE_Q4_K},   {"q4_0", BN_TYPE_Q4_0}};

static const struct argp_option option_list[] = {
    {"shape", 's', "SHAPE", 0, "2b4t, large, 3b, 8b or tiny (list: what they are)", 0},
    {"output", 'o', "FILE", 0, "the GGUF file to write", 0},
    {"wtype", 'w', "TYPE", 0,
     "projections: i2_s (default; 3b: f16), qk256, bitnet32, tq1_0, tq2_0, f16, bf16, f32, q8_0, q6_k, q4_k, "
     "q4_0",
     0},
    {"etype", 'e', "TYPE", 0, "embedding and output matrix: f16 (default), bf16, f32, q8_0, q6_k, q4_k, q4_0",
     0},
    {"tokenizer", 't', "FILE", 0, "GGUF file whose vocabulary to copy (default: byte tokens and fillers)", 0},
    {"seed", 'S', "N", 0, "the same seed gives the same file (default 1)", 0},
    {0}};

static const char doc[] =
    "Write a random model of a real shape: right for speed, memory and arithmetic, not for meaning.";

static int parse_type(struct argp_state *state, const char *option, const char *arg)
{
    for (size_t i = 0; i < BN_COUNT(types); i++)
        if (strcmp(types[i].name, arg) == 0)
            return types[i].type;
    argp_error(
        state,
        "--%s %s: i2_s, qk256, bitnet32, tq1_0, tq2_0, f16, bf16, f32, q8_0, q6_k, q4_k or q4_0 expected",
        option, arg);
    return -1;
}

static void parse_shape(struct argp_state *state, struct options *o, const char *arg)
{
    const struct bn_synth_shape *shape;

    if (strcmp(arg, "list") == 0) {
        for (size_t i = 0; (shape = bn_synth_shape_at(i)); i++)
            printf("%-6s %s\n", shape->name, shape->what);
        exit(bn_tool_finish(BN_EXIT_DONE));
    }
    o->shape = bn_synth_shape(arg);
    if (!o->shape)
        argp_error(state, "--shape %s: 2b4t, large, 3b, 8b, tiny or list expected", arg);
}

static error_t parse(int key, char *arg, struct argp_state *state)
{
    struct options *o = state->input;

    switch (key) {
    case 's':
        parse_shape(state, o, arg);
        return 0;
    case 'o':
        o->output = arg;
        return 0;
    case 'w':
        o->wtype = parse_type(state, "wtype", arg);
        return 0;
    case 'e':
        o->etype = parse_type(state, "etype", arg);
        return 0;
    case 't':
        o->tokenizer = arg;
        return 0;
    case 'S':
        if (bn_parse_u64(arg, 0, UINT64_MAX, &o->seed) != 0)
            argp_error(state, "--seed %s: a number from 0 to 2^64-1 expected", arg);
        return 0;
    case ARGP_KEY_ARG:
        argp_error(state, "no argument expected, '%s' is one", arg);
        return 0;
    case ARGP_KEY_END:
        if (!o->shape)
            argp_error(state, "--shape expected (list: what there is)");
        if (!o->output)
            argp_error(state, "-o FILE expected");
        if (strcmp(o->output, "-") == 0 && isatty(STDOUT_FILENO))
            argp_error(state, "-o -: a model is not written to a terminal");
        return 0;
    }
    return ARGP_ERR_UNKNOWN;
}

/* ---- progress, and stopping without leaving anything behind ---- */

static volatile sig_atomic_t stopped;

static void stop(int signal_number)
{
    stopped = signal_number;
}

/* A signal that was ignored on purpose (nohup) stays ignored. */
static void catch (int signal_number)
{
    struct sigaction action = {.sa_handler = stop, .sa_flags = SA_RESTART}, old;

    if (sigaction(signal_number, NULL, &old) == 0 && old.sa_handler != SIG_IGN)
        sigaction(signal_number, &action, NULL);
}

struct meter {
    bool shown;
    uint64_t next_ns;
};

static bool progress(void *ctx, uint64_t done, uint64_t total)
{
    struct meter *meter = ctx;
    uint64_t now = bn_now_ns();

    if (meter->shown && now >= meter->next_ns) {
        fprintf(stderr, "\r%3.0f %% of %.2f GB", 100.0 * (double)done / (double)total, (double)total * 1e-9);
        meter->next_ns = now + 100 * 1000 * 1000;
    }
    return !stopped;
}

static int write_model(const struct options *o, struct bn_synth *synth)
{
    struct meter meter = {.shown = isatty(STDERR_FILENO)};
    struct bn_err err;
    struct stat st;

    synth->progress = progress;
    synth->ctx = &meter;
    catch (SIGINT);
    catch (SIGTERM);
    catch (SIGHUP);
    signal(SIGXFSZ, SIG_IGN); /* beyond ulimit -f: an error of write, not the end */
    int status = bn_synth_write(o->output, synth, &err);
    if (meter.shown)
        fputs("\r                      \r", stderr);
    if (status != 0)
        return bn_tool_fail(&err);
    if (stat(o->output, &st) == 0)
        fprintf(stderr, "bnprof: %s: %lld bytes, shape %s\n", o->output, (long long)st.st_size,
                o->shape->name);
    return BN_EXIT_DONE;
}

int cmd_synth(int argc, char **argv)
{
    static const struct argp argp = {option_list, parse, NULL, doc, NULL, NULL, NULL};
    struct options o = {.wtype = -1, .etype = -1, .seed = 1};
    struct bn_gguf vocabulary = {0};
    struct bn_err err;

    if (argp_parse(&argp, argc, argv, 0, NULL, &o) != 0)
        return BN_EXIT_USAGE;
    struct bn_synth synth = {.shape = o.shape,
                             .wtype = o.wtype >= 0 ? (uint32_t)o.wtype : o.shape->wtype,
                             .etype = o.etype >= 0 ? (uint32_t)o.etype : BN_TYPE_F16,
                             .seed = o.seed};
    if (bn_synth_check(&synth, &err) != 0)
        return bn_tool_usage(argv[0], "%s", err.msg);
    if (o.tokenizer) {
        if (bn_gguf_open(&vocabulary, o.tokenizer, &err) != 0)
            return bn_tool_fail(&err);
        synth.vocabulary = &vocabulary;
    }
    int status = write_model(&o, &synth);
    bn_gguf_close(&vocabulary);
    return status;
}
