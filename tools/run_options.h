/* SPDX-License-Identifier: MIT
 * The options of `bnprof run`, from the command line and the environment. */
#ifndef TOOLS_RUN_OPTIONS_H
#define TOOLS_RUN_OPTIONS_H

#include "core/base.h"

struct bn_run_options {
    const char *model;     /* NULL = built in */
    const char *tokenizer; /* NULL = the model's */
    const char *prompt, *prompt_file;
    const char *system;
    const char *kernel;  /* "auto", "i2s", "mock", "list" */
    const char *lm_head; /* "auto", a name of bn_engine_lm_heads, "list" */
    const char *kv;      /* "f16", "int8", "list" */
    const char *cpu;     /* NULL = all that the machine has */
    bool chat, special, strict, deterministic, stages, json, quiet;
    bool greedy, has_seed;
    double temperature, top_p;
    uint64_t top_k, seed;
    uint64_t max_tokens, rounds; /* 0 = not given */
    uint64_t threads, ctx;       /* 0 = not given */
};

/* Options win over the environment, the environment over defaults. A wrong command line ends the program with
 * status 2 and a line on stderr, --help with 0 (argp's way); a wrong environment variable returns -1 with the
 * message. */
int bn_run_options_parse(struct bn_run_options *o, int argc, char **argv, struct bn_err *err);

#endif
