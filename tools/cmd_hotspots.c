/* SPDX-License-Identifier: MIT
 * bnprof hotspots: the top consumers of a recording, compared with an earlier one if asked. */
#include "tools/cmds.h"

#include <argp.h>
#include <stdlib.h>
#include <string.h>

#include "hotspots/report.h"
#include "tools/runs_cli.h"

struct options {
    const char *run, *out, *compare;
    struct bn_report_options report;
    bool strict;
};

enum { OPT_TOP = 256, OPT_BY, OPT_COMPARE, OPT_FORMAT, OPT_STRICT };

static const struct argp_option option_list[] = {
    {"top", OPT_TOP, "N", 0, "how many (default 3)", 0},
    {"by", OPT_BY, "function|stage|line", 0, "what is ranked (default function)", 0},
    {"compare", OPT_COMPARE, "previous|RUN", 0,
     "compare with the newest older run of the same configuration, or with RUN", 0},
    {"format", OPT_FORMAT, "md|json|text", 0, "default md", 0},
    {"output", 'o', "FILE", 0, "write there instead of standard output", 0},
    {"strict", OPT_STRICT, NULL, 0, "exit 4 when there is nothing to compare with", 0},
    {0}};

/* Index of `word` among `words` (NULL ends), or a usage error. */
static int choose(struct argp_state *state, const char *option, const char *word, const char *const *words)
{
    for (int i = 0; words[i]; i++)
        if (strcmp(word, words[i]) == 0)
            return i;
    argp_error(state, "%s %s: expected %s, %s or %s", option, word, words[0], words[1], words[2]);
    return 0;
}

static error_t parse(int key, char *arg, struct argp_state *state)
{
    static const char *const by[] = {"function", "stage", "line", NULL}, *const format[] = {"md", "json",
                                                                                            "text", NULL};
    struct options *o = state->input;
    uint64_t top;

    switch (key) {
    case OPT_TOP:
        if (bn_parse_u64(arg, 1, 1000, &top) != 0)
            argp_error(state, "--top %s: a number from 1 to 1000 expected", arg);
        o->report.top = top;
        return 0;
    case OPT_BY:
        o->report.by = (enum bn_rank_by)choose(state, "--by", arg, by);
        return 0;
    case OPT_FORMAT:
        o->report.format = (enum bn_report_format)choose(state, "--format", arg, format);
        return 0;
    case OPT_COMPARE:
        o->compare = arg;
        return 0;
    case OPT_STRICT:
        o->strict = true;
        return 0;
    case 'o':
        o->out = arg;
        return 0;
    case ARGP_KEY_ARG:
        if (o->run)
            argp_error(state, "one RUN expected, '%s' is a second", arg);
        o->run = arg;
        return 0;
    }
    return ARGP_ERR_UNKNOWN;
}

/* 1: loaded; 0: there is none (said on stderr); -1: failed. */
static int load_previous(const struct options *o, const struct bn_profile *current, const char *run_dir,
                         struct bn_profile *previous, struct bn_err *err)
{
    if (strcmp(o->compare, "previous") == 0)
        return bn_tool_load_previous(current, run_dir, previous, NULL, err);
    return bn_tool_load_run(o->compare, previous, NULL, err) == 0 ? 1 : -1;
}

static int write_report(const struct options *o, const struct bn_profile *p, struct bn_err *err)
{
    struct bn_out out;

    if (bn_out_open(&out, o->out ? o->out : "-", err) != 0)
        return -1;
    bn_report_write(out.f, p, &o->report);
    return bn_out_commit(&out, err);
}

int cmd_hotspots(int argc, char **argv)
{
    static const struct argp argp = {
        option_list,
        parse,
        "[RUN]",
        "Top consumers of a recording, as a report.\v"
        "RUN is a folder, a profile file, latest (default), previous, latest~N or a run id.\n"
        "Exit: 0 done, 1 failed, 2 bad command line, 4 nothing to compare with (--strict).",
        NULL,
        NULL,
        NULL};
    struct options o = {.report = {.top = 3}};
    struct bn_profile p, previous = {0};
    struct bn_err err;
    char *run_dir = NULL;
    int found = 0, status = BN_EXIT_FAILED;

    if (argp_parse(&argp, argc, argv, 0, NULL, &o) != 0)
        return BN_EXIT_USAGE;
    if (bn_tool_load_run(o.run, &p, &run_dir, &err) != 0)
        goto out;
    if (o.compare && (found = load_previous(&o, &p, run_dir, &previous, &err)) < 0)
        goto out;
    o.report.compare = o.compare != NULL;
    o.report.previous = found ? &previous : NULL;
    if (write_report(&o, &p, &err) != 0)
        goto out;
    status = o.compare && !found && o.strict ? BN_EXIT_NO_BASELINE : BN_EXIT_DONE;
out:
    if (status == BN_EXIT_FAILED)
        bn_tool_fail(&err);
    bn_profile_free(&p);
    bn_profile_free(&previous);
    free(run_dir);
    return status;
}
