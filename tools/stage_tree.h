/* SPDX-License-Identifier: MIT
 * The scope tree as a table and as JSON: for `run --stages` from the live process, for `stages` from a
 * record. */
#ifndef TOOLS_STAGE_TREE_H
#define TOOLS_STAGE_TREE_H

#include <cjson/cJSON.h>

#include "core/base.h"

/* One stage path; row 0 is the root, parent < own index. Bytes and operations are the stage's own, without
 * its children's. */
struct bn_stage_row {
    uint32_t parent;
    const char *name;
    uint64_t calls, total_ns, self_ns, worker_ns, min_ns, max_ns, p50_ns, p95_ns, p99_ns, bytes, ops;
    const char *fused_into; /* stages under which the time of fused calls stands; "" = none */
    /* Of a recording, all threads in this stage and none below it; else recorded is false. */
    bool recorded;
    uint64_t samples, sampled_ns, asleep_ns, preempted_ns;
    uint64_t open_calls; /* of calls: never left, their time goes to the end */
};

/* The stages of this process so far. `rows` has room for BN_SCOPE_MAX_NODES; returns how many there are. */
size_t bn_stage_rows_live(struct bn_stage_row *rows);

/* The table: indented names; calls; total, self, min, p50, p95, p99, max of the time on the calling thread;
 * GB/s and GOP/s of the stage with its children; time per token (below prefill: prompt token, n_prompt_tokens
 * in all; below decode: decoded token); workers: time that pool threads worked there, without waiting. Behind
 * it, if there are some, how many calls are still open. */
void bn_stage_tree_print(FILE *f, const struct bn_stage_row *rows, size_t n, uint64_t n_prompt_tokens);

/* One line: what a scope itself costs, which total and self are without. Nothing if that is unknown. */
void bn_stage_cost_print(FILE *f, double empty_scope_ns);

/* The same tree: name, calls, total_ns, self_ns, p50_ns, p95_ns, p99_ns, bytes, ops, children (PRODUCT's
 * keys), and min_ns, max_ns, worker_ns; of a recording samples, sampled_ns (CPU time that they stand for),
 * asleep_ns and preempted_ns, each without the children's, and open_calls. bytes and ops include the
 * children's, as total_ns does. The caller owns the result. */
cJSON *bn_stage_tree_json(const struct bn_stage_row *rows, size_t n);

#endif
