/* SPDX-License-Identifier: MIT
 * bnprof annotate: the source lines and instructions of one function, with their samples. */
#include "tools/cmds.h"

#include <argp.h>
#include <string.h>

#include "tools/annotate_view.h"
#include "tools/runs_cli.h"

struct options {
    const char *function, *run, *module, *out;
    uint64_t context;
    bool json, no_assembly;
};

enum { OPT_JSON = 256, OPT_MODULE, OPT_CONTEXT, OPT_NO_ASSEMBLY };

static const struct argp_option option_list[] = {
    {"module", OPT_MODULE, "NAME", 0, "of several functions of that name the one in this file", 0},
    {"context", OPT_CONTEXT, "N", 0, "lines shown around each that has samples (default 2)", 0},
    {"no-asm", OPT_NO_ASSEMBLY, NULL, 0, "source lines only", 0},
    {"json", OPT_JSON, NULL, 0, "as JSON", 0},
    {"output", 'o', "FILE", 0, "write there instead of standard output", 0},
    {0}};

static error_t parse(int key, char *arg, struct argp_state *state)
{
    struct options *o = state->input;

    switch (key) {
    case OPT_MODULE:
        o->module = arg;
        return 0;
    case OPT_CONTEXT:
        if (bn_parse_u64(arg, 0, 10000, &o->context) != 0)
            argp_error(state, "--context %s: a number from 0 to 10000 expected", arg);
        return 0;
    case OPT_NO_ASSEMBLY:
        o->no_assembly = true;
        return 0;
    case OPT_JSON:
        o->json = true;
        return 0;
    case 'o':
        o->out = arg;
        return 0;
    case ARGP_KEY_ARG:
        if (o->run)
            argp_error(state, "FUNCTION and one RUN expected, '%s' is too much", arg);
        *(o->function ? &o->run : &o->function) = arg;
        return 0;
    case ARGP_KEY_END:
        if (!o->function || !*o->function)
            argp_error(state, "the name of a function expected; `bnprof hotspots' lists some");
        return 0;
    }
    return ARGP_ERR_UNKNOWN;
}

static int write_view(const struct options *o, const struct bn_annotate_view *v, struct bn_err *err)
{
    struct bn_out out;

    if (bn_out_open(&out, o->out ? o->out : "-", err) != 0)
        return -1;
    if (o->json)
        bn_annotate_json(out.f, v);
    else
        bn_annotate_print(out.f, v, (uint32_t)o->context);
    return bn_out_commit(&out, err);
}

int cmd_annotate(int argc, char **argv)
{
    static const struct argp argp = {
        option_list,
        parse,
        "FUNCTION [RUN]",
        "Source lines and instructions of one function, with their samples.\v"
        "FUNCTION is a name as reports show it, a symbol's own spelling, or a part that only one function's "
        "name has. Code inlined into it stands under its own name and lines. Source text is shown if the "
        "file "
        "has not changed since the program was built; instructions if objdump is there and the program's "
        "file is still the recorded one (by build id).\n"
        "RUN is a folder, a profile file, latest (default), previous, latest~N or a run id.",
        NULL,
        NULL,
        NULL};
    struct options o = {.context = 2};
    struct bn_annotate_view v = {0};
    struct bn_profile p;
    struct bn_err err;

    if (argp_parse(&argp, argc, argv, 0, NULL, &o) != 0)
        return BN_EXIT_USAGE;
    int status = bn_tool_load_run(o.run, &p, NULL, &err);
    if (status == 0)
        status = bn_annotate_view_make(&v, &p, o.function, o.module, !o.no_assembly, &err);
    if (status == 0)
        status = write_view(&o, &v, &err);
    bn_annotate_view_free(&v);
    bn_profile_free(&p);
    return status == 0 ? BN_EXIT_DONE : bn_tool_fail(&err);
}
