/* SPDX-License-Identifier: MIT
 * bnprof svg: draw a recording, or someone else's folded stacks, as a flame graph. */
#include <argp.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "flamegraphs/caption.h"
#include "flamegraphs/folded.h"
#include "flamegraphs/svg.h"
#include "flamegraphs/view.h"
#include "tools/cmds.h"
#include "tools/runs_cli.h"

enum { KEY_BY = 1000, KEY_ICICLE, KEY_CALLERS, KEY_PHASE, KEY_LAYER, KEY_MIN_WIDTH, KEY_FOLDED };

struct arguments {
    const char *run, *output, *folded;
    struct bn_view view;
    bool order_given, icicle;
    double min_width_px;
};

static const struct argp_option options[] = {
    {"output", 'o', "FILE", 0,
     "write there; - is standard output (default: flamegraph-FORMAT-DATE.svg in the recording's folder)", 0},
    {"by", KEY_BY, "ORDER", 0,
     "stage, stack or thread (default: stage if the recording has stages, else stack)", 0},
    {"phase", KEY_PHASE, "STAGE", 0, "only the samples in this stage: startup, prefill, decode, ffn, …", 0},
    {"layer", KEY_LAYER, "N", 0, "only the samples of layer N (the first is 0)", 0},
    {"icicle", KEY_ICICLE, NULL, 0, "root on top", 0},
    {"callers", KEY_CALLERS, NULL, 0, "from the leaf outwards: who calls the expensive functions", 0},
    {"min-width", KEY_MIN_WIDTH, "PX", 0,
     "leave out boxes narrower than PX of 1200 (default 0.1; 0 draws all)", 0},
    {"folded", KEY_FOLDED, "FILE", 0, "draw folded stacks (\"a;b;c 12\"); - is standard input", 0},
    {0},
};

static void parse_order(const char *arg, struct argp_state *state, struct arguments *a)
{
    static const char *const names[] = {"stage", "stack", "thread"};

    for (size_t i = 0; i < BN_COUNT(names); i++) {
        if (strcmp(arg, names[i]) != 0)
            continue;
        a->view.order = (enum bn_view_order)i;
        a->order_given = true;
        return;
    }
    argp_error(state, "--by %s: expected stage, stack or thread", arg);
}

static void check_together(struct argp_state *state, const struct arguments *a)
{
    if (!a->folded)
        return;
    if (a->run)
        argp_error(state, "--folded and a recording (%s): one of them", a->run);
    if (a->order_given || a->view.phase || a->view.layer >= 0)
        argp_error(state, "--by, --phase and --layer need a recording; folded stacks do not know them");
    if (!a->output && isatty(STDOUT_FILENO))
        argp_error(state, "the picture would fill the terminal: give -o FILE, or -o - to have it so");
}

static error_t parse_option(int key, char *arg, struct argp_state *state)
{
    struct arguments *a = state->input;
    uint64_t number;

    switch (key) {
    case 'o':
        a->output = arg;
        break;
    case KEY_BY:
        parse_order(arg, state, a);
        break;
    case KEY_ICICLE:
        a->icicle = true;
        break;
    case KEY_CALLERS:
        a->view.callers = true;
        break;
    case KEY_PHASE:
        a->view.phase = arg;
        break;
    case KEY_LAYER:
        if (bn_parse_u64(arg, 0, INT32_MAX, &number) != 0)
            argp_error(state, "--layer %s: expected the number of a layer", arg);
        a->view.layer = (int32_t)number;
        break;
    case KEY_MIN_WIDTH:
        if (bn_parse_double(arg, 0, 600, &a->min_width_px) != 0)
            argp_error(state, "--min-width %s: expected a width from 0 to 600", arg);
        break;
    case KEY_FOLDED:
        a->folded = arg;
        break;
    case ARGP_KEY_ARG:
        if (a->run)
            argp_error(state, "one recording at most: %s, then %s", a->run, arg);
        a->run = arg;
        break;
    case ARGP_KEY_END:
        check_together(state, a);
        break;
    default:
        return ARGP_ERR_UNKNOWN;
    }
    return 0;
}

static const struct argp parser = {
    options,
    parse_option,
    "[RUN]",
    "Draw a recording as an interactive flame graph, one SVG file that needs nothing else.\v"
    "RUN is a folder, a profile file, a run id, latest (the default), previous or latest~N. "
    "Prints the path of the picture.",
    NULL,
    NULL,
    NULL,
};

/* "2026-11-21 10:15:00 +0000" -> "20261121" */
static void date_of(const char *started, char date[9])
{
    size_t n = 0;

    for (; started && *started && *started != ' ' && n < 8; started++)
        if (*started >= '0' && *started <= '9')
            date[n++] = *started;
    date[n] = '\0';
    if (n != 8)
        memcpy(date, "undated", sizeof "undated");
}

/* What was recorded, in a word: the model's format, else the program's name as in "20261121-101500-sleep". */
static const char *format_of(const struct bn_profile *p)
{
    const char *word = p->run_id;

    if (p->model.format && *p->model.format)
        return p->model.format;
    for (int i = 0; word && i < 2; i++) {
        word = strchr(word, '-');
        word = word ? word + 1 : NULL;
    }
    return word && *word ? word : "unknown";
}

/* The words come from a file: they must not lead out of the folder. */
static char *default_path(const struct bn_profile *p, const char *run_dir)
{
    char date[9];

    date_of(p->started, date);
    char *path = bn_xasprintf("%s/flamegraph-%s-%s.svg", run_dir, format_of(p), date);
    for (char *c = path + strlen(run_dir) + 1; *c; c++)
        if (*c == '/')
            *c = '_';
    return path;
}

/* Draw to `path` and say how much was left out. */
static int draw(const struct bn_tree *tree, const struct bn_caption *caption, const struct arguments *a,
                const char *path, struct bn_err *err)
{
    struct bn_svg_options svg = {.title = caption->title,
                                 .subtitle = {caption->what, caption->quality},
                                 .icicle = a->icicle,
                                 .callers = a->view.callers,
                                 .min_width_px = a->min_width_px};
    struct bn_svg_result result;
    struct bn_out out;

    if (bn_out_open(&out, path, err) != 0)
        return -1;
    bn_svg_write(tree, &svg, out.f, &result);
    if (bn_out_commit(&out, err) != 0)
        return -1;
    if (tree->samples == 0)
        fputs("bnprof svg: no samples in this view: the picture is empty\n", stderr);
    if (result.n_elided > 0)
        fprintf(stderr,
                "bnprof svg: %llu box%s narrower than %g px not drawn; %.2f%% of the samples%s end in them\n",
                (unsigned long long)result.n_elided, result.n_elided == 1 ? "" : "es", a->min_width_px,
                result.elided_percent, tree->by_time ? "' time" : "");
    if (strcmp(path, "-") != 0)
        printf("%s\n", path);
    return 0;
}

static int draw_recording(struct arguments *a, struct bn_err *err)
{
    struct bn_profile p;
    struct bn_tree tree = {0};
    struct bn_caption caption = {0};
    char *run_dir = NULL, *path = NULL;
    int status = -1;

    if (bn_tool_load_run(a->run, &p, &run_dir, err) != 0)
        goto out;
    if (!a->order_given)
        a->view.order = bn_view_has_stages(&p) ? BN_VIEW_BY_STAGE : BN_VIEW_BY_STACK;
    if (bn_view_tree(&tree, &p, &a->view, err) != 0)
        goto out;
    caption = bn_caption_of_profile(&p, &a->view, &tree);
    path = a->output ? bn_xstrdup(a->output) : default_path(&p, run_dir);
    status = draw(&tree, &caption, a, path, err);
out:
    bn_caption_free(&caption);
    bn_tree_free(&tree);
    bn_profile_free(&p);
    free(run_dir);
    free(path);
    return status;
}

static const char *plural(uint64_t n)
{
    return n == 1 ? "" : "s";
}

static void tell(const char *name, const struct bn_folded_report *r)
{
    if (r->n_skipped > 0)
        fprintf(stderr, "bnprof svg: %s: %llu line%s skipped; the first, line %llu, has %s\n", name,
                (unsigned long long)r->n_skipped, plural(r->n_skipped), (unsigned long long)r->first_skipped,
                r->reason);
    if (r->n_fractions > 0)
        fprintf(stderr, "bnprof svg: %s: the fraction of %llu count%s was cut off\n", name,
                (unsigned long long)r->n_fractions, plural(r->n_fractions));
    if (r->n_two_counts > 0)
        fprintf(stderr, "bnprof svg: %s: two counts on %llu line%s (a comparison); the second is drawn\n",
                name, (unsigned long long)r->n_two_counts, plural(r->n_two_counts));
}

static int draw_folded(const struct arguments *a, struct bn_err *err)
{
    bool is_stdin = strcmp(a->folded, "-") == 0;
    const char *name = is_stdin ? "standard input" : a->folded;
    FILE *f = is_stdin ? stdin : fopen(a->folded, "r");
    struct bn_tree tree, callers;
    struct bn_folded_report report;
    int status = -1;

    if (!f)
        return bn_err_set(err, "%s: %s", name, strerror(errno));
    bn_tree_init(&tree);
    if (bn_folded_read(&tree, f, name, &report, err) != 0)
        goto out;
    tell(name, &report);
    bn_tree_finish(&tree);
    if (a->view.callers) {
        bn_tree_callers(&callers, &tree);
        bn_tree_finish(&callers);
        bn_tree_free(&tree);
        tree = callers;
    }
    struct bn_caption caption = bn_caption_of_folded(name, &tree, a->view.callers);
    status = draw(&tree, &caption, a, a->output ? a->output : "-", err);
    bn_caption_free(&caption);
out:
    bn_tree_free(&tree);
    if (!is_stdin)
        fclose(f);
    return status;
}

int cmd_svg(int argc, char **argv)
{
    struct arguments a = {.view.layer = -1, .min_width_px = BN_SVG_MIN_WIDTH_PX};
    struct bn_err err;

    if (argp_parse(&parser, argc, argv, 0, NULL, &a) != 0)
        return BN_EXIT_USAGE;
    int status = a.folded ? draw_folded(&a, &err) : draw_recording(&a, &err);
    return status == 0 ? BN_EXIT_DONE : bn_tool_fail(&err);
}
