/* SPDX-License-Identifier: MIT
 * The options of `bnprof bench`, from the command line and the environment. */
#ifndef TOOLS_BENCH_OPTIONS_H
#define TOOLS_BENCH_OPTIONS_H

#include "core/base.h"

enum { BN_BENCH_LIST = 32 }; /* entries of a list at most */

struct bn_bench_numbers {
    uint32_t v[BN_BENCH_LIST];
    size_t n;
};

struct bn_bench_names {
    const char *v[BN_BENCH_LIST];
    size_t n;
};

struct bn_bench_options {
    const char *model;                        /* NULL = built in */
    const char *kv;                           /* a name of bn_engine_kv; NULL = f16 */
    const char *cpu;                          /* NULL = all that the machine has */
    struct bn_bench_numbers prompts, decodes; /* tokens; n = 0: not given; a 0 in it: none */
    struct bn_bench_numbers depths;           /* positions in the cache; at least one */
    struct bn_bench_numbers threads;          /* at least one */
    struct bn_bench_names kernels, lm_heads;  /* at least one each */
    uint32_t repetitions;
    bool stages, json, md;
    bool list_kernels, list_lm_heads, list_cpu, list_kv; /* asked for by the word `list` */
};

/* Options win over the environment. A wrong command line ends the program with status 2 and a line on stderr,
 * --help with 0 (argp's way); a wrong environment variable returns -1 with the message. Names point into
 * argv's words, which are cut at the commas. */
int bn_bench_options_parse(struct bn_bench_options *o, int argc, char **argv, struct bn_err *err);

#endif
