/* SPDX-License-Identifier: MIT
 * bnprof stages: the tree of scoped timers of a recording. */
#include "tools/cmds.h"

#include <argp.h>
#include <stdlib.h>

#include "hotspots/report.h"
#include "tools/runs_cli.h"
#include "tools/stage_tree.h"

struct options {
    const char *run;
    bool json;
};

enum { OPT_JSON = 256 };

static const struct argp_option option_list[] = {{"json", OPT_JSON, NULL, 0, "the tree as JSON", 0}, {0}};

static error_t parse(int key, char *arg, struct argp_state *state)
{
    struct options *o = state->input;

    switch (key) {
    case OPT_JSON:
        o->json = true;
        return 0;
    case ARGP_KEY_ARG:
        if (o->run)
            argp_error(state, "one RUN expected, '%s' is a second", arg);
        o->run = arg;
        return 0;
    }
    return ARGP_ERR_UNKNOWN;
}

static struct bn_stage_row *rows_of(const struct bn_profile *p)
{
    struct bn_stage_row *rows = bn_xcalloc(p->n_stages, sizeof *rows);

    for (size_t i = 0; i < p->n_stages; i++) {
        const struct bn_stage_node *s = &p->stages[i];
        rows[i] = (struct bn_stage_row){.parent = s->parent,
                                        .name = s->name,
                                        .calls = s->calls,
                                        .total_ns = s->total_ns,
                                        .self_ns = s->self_ns,
                                        .worker_ns = s->worker_ns,
                                        .min_ns = s->min_ns,
                                        .max_ns = s->max_ns,
                                        .p50_ns = s->p50_ns,
                                        .p95_ns = s->p95_ns,
                                        .p99_ns = s->p99_ns,
                                        .bytes = s->bytes,
                                        .ops = s->ops,
                                        .fused_into = s->fused_into,
                                        .recorded = true,
                                        .open_calls = s->open_calls,
                                        .asleep_ns = s->asleep_ns,
                                        .preempted_ns = s->preempted_ns};
    }
    for (size_t i = 0; i < p->n_samples; i++) {
        rows[p->samples[i].stage].samples++;
        rows[p->samples[i].stage].sampled_ns += p->samples[i].weight_ns;
    }
    return rows;
}

static void print(const struct bn_profile *p, const struct options *o)
{
    struct bn_stage_row *rows = rows_of(p);

    if (o->json) {
        cJSON *tree = bn_stage_tree_json(rows, p->n_stages);
        cJSON_AddItemToObject(tree, "quality", bn_report_quality_json(p));
        char *text = cJSON_Print(tree);
        puts(text);
        cJSON_free(text);
        cJSON_Delete(tree);
    } else if (p->n_stages <= 1) {
        const char *why = bn_profile_fact(p, "scopes");
        fprintf(stderr, "bnprof: %s has no stages: %s\n", p->run_id ? p->run_id : "the recording",
                why ? why : "the program marks none (docs/scopes.md)");
    } else {
        bn_report_quality(stdout, p, false);
        bn_stage_tree_print(stdout, rows, p->n_stages, p->run.known ? p->run.prompt_tokens : 0);
        bn_stage_cost_print(stdout, p->quality.empty_scope_ns);
    }
    free(rows);
}

int cmd_stages(int argc, char **argv)
{
    static const struct argp argp = {
        option_list,
        parse,
        "[RUN]",
        "The tree of scoped timers of a recording: calls, times, throughput.\v"
        "RUN is a folder, a profile file, latest (default), previous, latest~N or a run id.",
        NULL,
        NULL,
        NULL};
    struct options o = {0};
    struct bn_profile p;
    struct bn_err err;
    int status = BN_EXIT_DONE;

    if (argp_parse(&argp, argc, argv, 0, NULL, &o) != 0)
        return BN_EXIT_USAGE;
    if (bn_tool_load_run(o.run, &p, NULL, &err) != 0)
        status = bn_tool_fail(&err);
    else
        print(&p, &o);
    bn_profile_free(&p);
    return status;
}
