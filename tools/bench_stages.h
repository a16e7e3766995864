/* SPDX-License-Identifier: MIT
 * The scope counters before and after a repetition, as the stages of its result. */
#ifndef TOOLS_BENCH_STAGES_H
#define TOOLS_BENCH_STAGES_H

#include "tools/bench_run.h"

/* All stages' counters now; the caller frees it. Call it outside of any scope. */
struct bn_bench_counts;
struct bn_bench_counts *bn_bench_counts(void);

/* Add what happened between the two to the result's stages; they have room for BN_SCOPE_MAX_NODES. */
void bn_bench_stages_add(struct bn_bench_result *result, const struct bn_bench_counts *before,
                         const struct bn_bench_counts *after);

#endif
