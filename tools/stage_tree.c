/* SPDX-License-Identifier: MIT
 * The scope tree: children stand below their parent, in the order in which they were first entered. */
#include "tools/stage_tree.h"

#include <stdlib.h>
#include <string.h>

#include "core/scope.h"

size_t bn_stage_rows_live(struct bn_stage_row *rows)
{
    const struct bn_scope_shared *region = bn_scope_region();
    static char names[BN_SCOPE_MAX_NODES][64];
    struct bn_scope_total *sums = bn_xcalloc(BN_SCOPE_MAX_NODES, sizeof *sums);
    size_t n = bn_scope_sums(region, sums);

    for (size_t i = 0; i < n; i++) {
        struct bn_scope_total sum = sums[i];
        rows[i] =
            (struct bn_stage_row){.parent = region->nodes[i].parent,
                                  .name = bn_stage_name((enum bn_stage)region->nodes[i].stage),
                                  .calls = sum.calls,
                                  .total_ns = sum.total_ns,
                                  .self_ns = sum.self_ns,
                                  .worker_ns = sum.worker_ns,
                                  .min_ns = sum.min_ns,
                                  .max_ns = sum.max_ns,
                                  .p50_ns = sum.p50_ns,
                                  .p95_ns = sum.p95_ns,
                                  .p99_ns = sum.p99_ns,
                                  .bytes = sum.bytes,
                                  .ops = sum.ops,
                                  .fused_into = bn_stage_names(sum.fused_into, names[i], sizeof names[i])};
    }
    free(sums);
    return n;
}

/* What a row adds to its own numbers from those below it. */
struct inclusive {
    uint64_t bytes, ops;
};

/* Children have larger indices than their parents: one pass from the end adds everything up. */
static struct inclusive *add_up(const struct bn_stage_row *rows, size_t n)
{
    struct inclusive *sum = bn_xcalloc(n + 1, sizeof *sum);

    for (size_t i = n; i-- > 0;) {
        sum[i].bytes += rows[i].bytes;
        sum[i].ops += rows[i].ops;
        if (i > 0 && rows[i].parent < i) {
            sum[rows[i].parent].bytes += sum[i].bytes;
            sum[rows[i].parent].ops += sum[i].ops;
        }
    }
    return sum;
}

/* ---- table ---- */

enum { CELL = 16 };

static const char *time_cell(char cell[CELL], double ns)
{
    if (ns >= 1e9)
        snprintf(cell, CELL, "%.2f s", ns / 1e9);
    else if (ns >= 1e6)
        snprintf(cell, CELL, "%.2f ms", ns / 1e6);
    else if (ns >= 1e3)
        snprintf(cell, CELL, "%.2f us", ns / 1e3);
    else
        snprintf(cell, CELL, "%.0f ns", ns);
    return cell;
}

static const char *rate_cell(char cell[CELL], uint64_t amount, uint64_t ns)
{
    if (amount == 0 || ns == 0)
        return "";
    snprintf(cell, CELL, "%.2f", (double)amount / (double)ns);
    return cell;
}

/* Tokens that the time of row i is to be divided by; 0 = it belongs to no phase. */
static uint64_t phase_tokens(const struct bn_stage_row *rows, size_t i, uint64_t n_prompt_tokens)
{
    for (; i > 0; i = rows[i].parent) {
        if (strcmp(rows[i].name, "decode") == 0)
            return rows[i].calls;
        if (strcmp(rows[i].name, "prefill") == 0)
            return n_prompt_tokens;
    }
    return 0;
}

/* What single calls took is known of those that have ended. */
static const char *call_cell(char cell[CELL], const struct bn_stage_row *r, uint64_t ns)
{
    return r->calls > r->open_calls ? time_cell(cell, (double)ns) : "";
}

static void print_row(FILE *f, const struct bn_stage_row *r, const struct inclusive *sum, unsigned depth,
                      uint64_t tokens)
{
    char total[CELL], self[CELL], min[CELL], p50[CELL], p95[CELL], p99[CELL], max[CELL], bytes[CELL],
        ops[CELL], token[CELL] = "", workers[CELL] = "";

    if (tokens)
        time_cell(token, (double)r->total_ns / (double)tokens);
    if (r->worker_ns)
        time_cell(workers, (double)r->worker_ns);
    if (r->calls == 0) {
        fprintf(f, "%*s%-*s %9s %9s %9s %9s %9s %9s %9s %9s %7s %8s %9s %9s\n", (int)(2 * depth), "",
                (int)(32 - 2 * depth), r->name, "", "", "", "", "", "", "", "", "", "", "", workers);
        return;
    }
    if (r->total_ns == 0 && r->fused_into && r->fused_into[0]) {
        fprintf(f, "%*s%-*s %9llu fused into %s\n", (int)(2 * depth), "", (int)(32 - 2 * depth), r->name,
                (unsigned long long)r->calls, r->fused_into);
        return;
    }
    fprintf(f, "%*s%-*s %9llu %9s %9s %9s %9s %9s %9s %9s %7s %8s %9s %9s", (int)(2 * depth), "",
            (int)(32 - 2 * depth), r->name, (unsigned long long)r->calls,
            time_cell(total, (double)r->total_ns), time_cell(self, (double)r->self_ns),
            call_cell(min, r, r->min_ns), call_cell(p50, r, r->p50_ns), call_cell(p95, r, r->p95_ns),
            call_cell(p99, r, r->p99_ns), call_cell(max, r, r->max_ns),
            rate_cell(bytes, sum->bytes, r->total_ns), rate_cell(ops, sum->ops, r->total_ns), token, workers);
    if (r->open_calls)
        fprintf(f, "  %llu still open", (unsigned long long)r->open_calls);
    fputc('\n', f);
}

static void print_below(FILE *f, const struct bn_stage_row *rows, const struct inclusive *sum, size_t n,
                        size_t parent, unsigned depth, uint64_t n_prompt_tokens)
{
    for (size_t i = parent + 1; i < n && depth < BN_SCOPE_MAX_DEPTH; i++) {
        if (rows[i].parent != parent || (rows[i].calls == 0 && rows[i].worker_ns == 0))
            continue;
        print_row(f, &rows[i], &sum[i], depth, phase_tokens(rows, i, n_prompt_tokens));
        print_below(f, rows, sum, n, i, depth + 1, n_prompt_tokens);
    }
}

void bn_stage_tree_print(FILE *f, const struct bn_stage_row *rows, size_t n, uint64_t n_prompt_tokens)
{
    struct inclusive *sum = add_up(rows, n);

    fprintf(f, "%-32s %9s %9s %9s %9s %9s %9s %9s %9s %7s %8s %9s %9s\n", "stage", "calls", "total", "self",
            "min", "p50", "p95", "p99", "max", "GB/s", "GOP/s", "per token", "workers");
    print_below(f, rows, sum, n, 0, 0, n_prompt_tokens);
    free(sum);
}

void bn_stage_cost_print(FILE *f, double empty_scope_ns)
{
    if (empty_scope_ns > 0)
        fprintf(f, "scope cost subtracted from total and self: %.0f ns each\n", empty_scope_ns);
    fprintf(f, "percentiles: middles of classes, at most %.0f %% off; min and max exact\n",
            100.0 * 0.5 / BN_SCOPE_SUB);
}

/* ---- JSON ---- */

static cJSON *json_row(const struct bn_stage_row *rows, const struct inclusive *sum, size_t n, size_t i)
{
    const struct bn_stage_row *r = &rows[i];
    cJSON *o = cJSON_CreateObject();

    cJSON_AddStringToObject(o, "name", r->name);
    cJSON_AddNumberToObject(o, "calls", (double)r->calls);
    cJSON_AddNumberToObject(o, "total_ns", (double)r->total_ns);
    cJSON_AddNumberToObject(o, "self_ns", (double)r->self_ns);
    cJSON_AddNumberToObject(o, "worker_ns", (double)r->worker_ns);
    cJSON_AddNumberToObject(o, "min_ns", (double)r->min_ns);
    cJSON_AddNumberToObject(o, "max_ns", (double)r->max_ns);
    cJSON_AddNumberToObject(o, "p50_ns", (double)r->p50_ns);
    cJSON_AddNumberToObject(o, "p95_ns", (double)r->p95_ns);
    cJSON_AddNumberToObject(o, "p99_ns", (double)r->p99_ns);
    cJSON_AddNumberToObject(o, "bytes", (double)sum[i].bytes);
    cJSON_AddNumberToObject(o, "ops", (double)sum[i].ops);
    if (r->recorded) {
        cJSON_AddNumberToObject(o, "open_calls", (double)r->open_calls);
        cJSON_AddNumberToObject(o, "samples", (double)r->samples);
        cJSON_AddNumberToObject(o, "sampled_ns", (double)r->sampled_ns);
        cJSON_AddNumberToObject(o, "asleep_ns", (double)r->asleep_ns);
        cJSON_AddNumberToObject(o, "preempted_ns", (double)r->preempted_ns);
    }
    if (r->fused_into && r->fused_into[0])
        cJSON_AddStringToObject(o, "fused_into", r->fused_into);
    cJSON *children = cJSON_AddArrayToObject(o, "children");
    for (size_t c = i + 1; c < n; c++) {
        if (rows[c].parent == i && (rows[c].calls || rows[c].worker_ns))
            cJSON_AddItemToArray(children, json_row(rows, sum, n, c));
    }
    return o;
}

cJSON *bn_stage_tree_json(const struct bn_stage_row *rows, size_t n)
{
    struct inclusive *sum = add_up(rows, n);
    cJSON *tree = n ? json_row(rows, sum, n, 0) : cJSON_CreateObject();

    free(sum);
    return tree;
}
