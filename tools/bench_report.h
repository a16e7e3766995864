/* SPDX-License-Identifier: MIT
 * What `bnprof bench` measured, as a table, as Markdown and as JSON. */
#ifndef TOOLS_BENCH_REPORT_H
#define TOOLS_BENCH_REPORT_H

#include "tools/bench_run.h"

/* Limits, then a line a result; with options->stages a table of stages for each. md: Markdown, else aligned
 * columns. Results without a whole repetition are left out. */
void bn_bench_print(FILE *f, const struct bn_bench *bench, bool md);

/* The object of `bench --json` (docs/bench.md) and a newline. */
void bn_bench_print_json(FILE *f, const struct bn_bench *bench);

#endif
