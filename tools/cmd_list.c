/* SPDX-License-Identifier: MIT
 * bnprof list: the recorded runs, newest first. */
#include "tools/cmds.h"

#include <argp.h>
#include <stdlib.h>
#include <string.h>

#include "profiler/profile.h"
#include "profiler/runs.h"

static error_t parse(int key, char *arg, struct argp_state *state)
{
    if (key == ARGP_KEY_ARG)
        argp_error(state, "no argument expected, '%s' is one", arg);
    return key == ARGP_KEY_ARG ? 0 : ARGP_ERR_UNKNOWN;
}

/* The last part of a path, or what there is of a name. */
static const char *model_name(const struct bn_profile *p)
{
    const char *name = p->model.name ? p->model.name : p->model.path;
    const char *slash = name ? strrchr(name, '/') : NULL;

    return slash ? slash + 1 : name ? name : "-";
}

static void print_run(const char *base, const struct bn_run_entry *entry)
{
    char *file = bn_xasprintf("%s/%s/profile.json", base, entry->id);
    char speed[32] = "-", threads[16] = "-";
    struct bn_profile p = {0};
    struct bn_err err;

    if (entry->recording)
        printf("%-28s %5s  still being recorded\n", entry->id, "-");
    else if (entry->partial)
        printf("%-28s %5s  cut off; any command that reads it finishes it first\n", entry->id, "-");
    else if (bn_profile_load_summary(&p, file, &err) != 0)
        printf("%-28s %5s  %s\n", entry->id, "-", err.msg);
    else {
        if (p.run.known)
            snprintf(threads, sizeof threads, "%u", p.run.threads);
        if (p.run.known && !isnan(p.run.decode_tokens_per_second))
            snprintf(speed, sizeof speed, "%.1f", p.run.decode_tokens_per_second);
        printf("%-28s %5c %9llu %7s %-20.20s %7s %12s  %s%s\n", entry->id,
               p.quality.grade ? p.quality.grade : '?', (unsigned long long)p.quality.n_samples,
               p.model.format ? p.model.format : "-", model_name(&p), threads, speed,
               p.command ? p.command : "unknown", p.quality.partial ? " (cut off)" : "");
    }
    bn_profile_free(&p);
    free(file);
}

int cmd_list(int argc, char **argv)
{
    static const struct argp argp = {NULL, parse, NULL, "The recorded runs, newest first.", NULL, NULL, NULL};
    const char *base = bn_runs_base(NULL);
    struct bn_run_list list;
    struct bn_err err;

    if (argp_parse(&argp, argc, argv, 0, NULL, NULL) != 0)
        return BN_EXIT_USAGE;
    if (bn_runs_list(&list, base, &err) != 0)
        return bn_tool_fail(&err);
    if (list.n)
        printf("%-28s %5s %9s %7s %-20s %7s %12s  %s\n", "run", "grade", "samples", "format", "model",
               "threads", "decode tok/s", "command");
    else
        fprintf(stderr, "bnprof: no recording in %s; make one with: bnprof record -- run\n", base);
    for (size_t i = 0; i < list.n; i++)
        print_run(base, &list.entries[i]);
    bn_run_list_free(&list);
    return BN_EXIT_DONE;
}
