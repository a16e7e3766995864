/* SPDX-License-Identifier: MIT
 * bnprof list: the recorded runs, newest first. */
#include "tools/cmds.h"

#include <argp.h>
#include <stdlib.h>

#include "profiler/profile.h"
#include "profiler/runs.h"

static error_t parse(int key, char *arg, struct argp_state *state)
{
    if (key == ARGP_KEY_ARG)
        argp_error(state, "no argument expected, '%s' is one", arg);
    return key == ARGP_KEY_ARG ? 0 : ARGP_ERR_UNKNOWN;
}

static void print_run(const char *base, const struct bn_run_entry *entry)
{
    char *file = bn_xasprintf("%s/%s/profile.json", base, entry->id);
    struct bn_profile p;
    struct bn_err err;

    if (entry->partial)
        printf("%-28s %5s  cut off; any command that reads it finishes it first\n", entry->id, "-");
    else if (bn_profile_load(&p, file, &err) != 0)
        printf("%-28s %5s  %s\n", entry->id, "-", err.msg);
    else {
        char speed[32] = "-";
        if (p.run.known && !isnan(p.run.decode_tokens_per_second))
            snprintf(speed, sizeof speed, "%.1f", p.run.decode_tokens_per_second);
        printf("%-28s %5c %9llu %8u %12s  %s\n", entry->id, p.quality.grade ? p.quality.grade : '?',
               (unsigned long long)p.quality.n_samples, p.run.threads, speed,
               p.command ? p.command : "unknown");
    }
    if (!entry->partial)
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
        printf("%-28s %5s %9s %8s %12s  %s\n", "run", "grade", "samples", "threads", "decode tok/s",
               "command");
    else
        fprintf(stderr, "bnprof: no recording in %s; make one with: bnprof record -- run\n", base);
    for (size_t i = 0; i < list.n; i++)
        print_run(base, &list.entries[i]);
    bn_run_list_free(&list);
    return BN_EXIT_DONE;
}
