/* SPDX-License-Identifier: MIT
 * bnprof inspect: metadata, tensors and sanity checks of a model file. */
#include "tools/cmds.h"

#include <argp.h>
#include <stdlib.h>

#include "core/builtin.h"
#include "tools/inspect_report.h"

struct options {
    const char *model;
    bool norms, json;
};

enum { OPT_NORMS = 256, OPT_JSON };

static const struct argp_option option_list[] = {
    {"norms", OPT_NORMS, NULL, 0, "the root mean square of every norm's weights", 0},
    {"json", OPT_JSON, NULL, 0, "one JSON object", 0},
    {0}};

static error_t parse(int key, char *arg, struct argp_state *state)
{
    struct options *o = state->input;

    switch (key) {
    case OPT_NORMS:
        o->norms = true;
        return 0;
    case OPT_JSON:
        o->json = true;
        return 0;
    case ARGP_KEY_ARG:
        if (o->model)
            argp_error(state, "one MODEL expected, '%s' is a second", arg);
        o->model = arg;
        return 0;
    }
    return ARGP_ERR_UNKNOWN;
}

/* Open the file, or the built-in model; `bytes` are what was opened. */
static int open_model(struct bn_gguf *g, const char *path, struct bn_str *bytes, struct bn_err *err)
{
    if (!path) {
        *bytes = bn_builtin_model();
        return bn_gguf_open_memory(g, bytes->p, bytes->n, BN_BUILTIN_LABEL, err);
    }
    if (bn_gguf_open(g, path, err) != 0)
        return -1;
    *bytes = (struct bn_str){(const char *)g->map.p, g->map.n};
    return 0;
}

int cmd_inspect(int argc, char **argv)
{
    static const struct argp argp = {
        option_list,
        parse,
        "[MODEL]",
        "Metadata, tensors and sanity checks of a model file.\v"
        "MODEL defaults to $BNPROF_MODEL, else to the demo model linked into the program.",
        NULL,
        NULL,
        NULL};
    struct options o = {0};
    struct bn_inspection result;
    struct bn_gguf g;
    struct bn_str bytes;
    struct bn_err err;

    if (argp_parse(&argp, argc, argv, 0, NULL, &o) != 0)
        return BN_EXIT_USAGE;
    const char *environment = getenv("BNPROF_MODEL");
    if (!o.model && environment && *environment)
        o.model = environment;
    if (open_model(&g, o.model, &bytes, &err) != 0)
        return bn_tool_fail(&err);
    bn_inspect(&result, &g, bytes);
    if (o.json)
        bn_inspect_print_json(stdout, &result, &g);
    else
        bn_inspect_print(stdout, &result, &g, o.norms);
    bn_inspection_free(&result);
    bn_gguf_close(&g);
    return BN_EXIT_DONE;
}
