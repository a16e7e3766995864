/* SPDX-License-Identifier: MIT
 * Drawing the tree: header, legend, boxes, footer; style and script come from the files beside this one. */
#include "flamegraphs/svg.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>

#include "flamegraphs/svg_text.h"

extern const char bn_embed_flamegraph_css[], bn_embed_flamegraph_css_end[];
extern const char bn_embed_flamegraph_js[], bn_embed_flamegraph_js_end[];

/* All lengths in px of the picture as drawn here; the script redraws it as wide as its window. */
enum {
    WIDTH = 1200,
    PAD = 16,
    PLOT = WIDTH - 2 * PAD,
    TITLE_Y = 32,
    SUBTITLE_Y = 54,
    LINE = 18,
    LEGEND_Y = 98,
    FRAMES_Y = 116,
    ROW = 19,
    BOX = 18,
    EMPTY_HEIGHT = 60,
    FOOTER = 74,
    TEXT_PAD = 4,
};

static const double column_px =
    7.23; /* of a 12 px monospace font; DejaVu's and Menlo's, the widest of the usual ones */

static const double legend_px = 6.2; /* a letter of an 11 px sans-serif font, on average */

static const struct {
    char class;       /* of the box: this letter and the shade */
    bool code;        /* has a share of its own */
    const char *what; /* tooltip and legend */
} kinds[BN_TREE_KINDS] = {
    [BN_TREE_ROOT] = {'r', false, NULL},
    [BN_TREE_STAGE] = {'s', false, "stage"},
    [BN_TREE_THREAD] = {'t', false, "thread"},
    [BN_TREE_COMPUTE] = {'e', true, "compute kernel"},
    [BN_TREE_PROGRAM] = {'p', true, "program"},
    [BN_TREE_LIBRARY] = {'l', true, "library"},
    [BN_TREE_KERNEL] = {'o', true, "operating system"},
    [BN_TREE_WAIT] = {'w', true, "waiting"},
    [BN_TREE_UNKNOWN] = {'u', true, "no symbol"},
    [BN_TREE_MARK] = {'m', true, "mark"},
};

/* ---- numbers ---- */

static void put(FILE *f, const char *s)
{
    bn_svg_put_text(f, s, strlen(s));
}

static double percent(uint64_t part, uint64_t whole)
{
    return whole ? 100.0 * (double)part / (double)whole : 0;
}

/* At most two decimals, none that say nothing. */
static void put_px(FILE *f, const char *attribute, double px)
{
    char text[48];
    int n = snprintf(text, sizeof text, "%.2f", px);

    while (text[n - 1] == '0')
        n--;
    if (text[n - 1] == '.')
        n--;
    fprintf(f, " %s=\"%.*s\"", attribute, n, text);
}

static void put_seconds(FILE *f, uint64_t ns)
{
    if (ns >= 1000000000)
        fprintf(f, "%.2f s", (double)ns * 1e-9);
    else if (ns >= 1000000)
        fprintf(f, "%.2f ms", (double)ns * 1e-6);
    else
        fprintf(f, "%.2f µs", (double)ns * 1e-3);
}

/* ---- one box ---- */

struct drawing {
    const struct bn_tree *tree;
    const struct bn_svg_options *options;
    uint64_t *start;    /* [n_nodes] width of what stands to the left */
    bool *drawn;        /* [n_nodes] */
    uint32_t max_depth; /* of the drawn ones */
    uint32_t rows;      /* shown; those beyond hold so little that they wait for zoom or search */
};

/* Rows beyond the shown ones lie outside the picture. */
static double row_y(const struct drawing *d, uint32_t depth)
{
    return FRAMES_Y + ROW * (d->options->icicle ? (double)depth : (double)d->rows - 1 - (double)depth);
}

static unsigned shade(const char *name)
{
    uint32_t h = 2166136261u;

    for (; *name; name++)
        h = (h ^ (unsigned char)*name) * 16777619u;
    return (h ^ h >> 15) % 4;
}

static void put_place(FILE *f, const struct bn_tree_node *node)
{
    fputs(kinds[node->kind].what, f);
    if (node->inlined)
        fputs(", inlined", f);
    if (node->module) {
        fputs(" · ", f);
        put(f, node->module);
    }
    if (node->file) {
        fputs(" · ", f);
        put(f, node->file);
        if (node->line_min)
            fprintf(f, ":%u", node->line_min);
        if (node->line_max > node->line_min)
            fprintf(f, "–%u", node->line_max);
    }
}

static void put_title(FILE *f, const struct bn_tree *tree, uint32_t i, bool with_self)
{
    const struct bn_tree_node *node = &tree->nodes[i];
    uint64_t whole = bn_tree_whole(tree);
    char samples[32];

    fputs("<title>", f);
    put(f, node->name);
    bn_svg_grouped(node->total, samples);
    if (node->kind == BN_TREE_ROOT)
        fprintf(f, " (%s samples, 100%%)", samples);
    else
        fprintf(f, " (%s samples, %.2f%%)", samples, percent(bn_tree_width(tree, i), whole));
    if (with_self && node->self > 0) {
        fprintf(f, "\nself %.2f%% (%s samples", percent(bn_tree_self_width(tree, i), whole),
                bn_svg_grouped(node->self, samples));
        if (tree->by_time) {
            fputs(", ", f);
            put_seconds(f, node->self_ns);
        }
        fputc(')', f);
    }
    if (node->total_ns > 0) {
        fputs("\nCPU time ", f);
        put_seconds(f, node->total_ns);
    }
    if (node->calls > 0) {
        fprintf(f, "\ntimer: %s calls, ", bn_svg_grouped(node->calls, samples));
        put_seconds(f, node->timer_ns);
    }
    if (node->kind != BN_TREE_ROOT) {
        fputc('\n', f);
        put_place(f, node);
    }
    fputs("</title>", f);
}

/* Boxes stand a little apart; narrow ones give less of their width for it. */
static double visible_width(double width)
{
    return width - (width < 2.5 ? 0.3 * width : 0.75);
}

static void put_box(FILE *f, const struct drawing *d, uint32_t i)
{
    const struct bn_tree *tree = d->tree;
    const struct bn_tree_node *node = &tree->nodes[i];
    uint64_t start = d->start[i], n = bn_tree_width(tree, i);
    double y = row_y(d, node->depth);
    double scale = PLOT / (double)bn_tree_whole(tree);
    double x = PAD + (double)start * scale, width = (double)n * scale;
    double room = (width - 2 * TEXT_PAD) / column_px;

    fprintf(f, "<g class=\"%c%u%s\" data-x=\"%llu\" data-n=\"%llu\">", kinds[node->kind].class,
            shade(node->name), node->depth < d->rows ? "" : " hide", (unsigned long long)start,
            (unsigned long long)n);
    put_title(f, tree, i, !d->options->callers);
    fputs("<rect", f);
    put_px(f, "x", x);
    put_px(f, "y", y);
    put_px(f, "width", visible_width(width));
    fprintf(f, " height=\"%d\" rx=\"2\"/>", BOX);
    if (room >= 3) {
        fputs("<text", f);
        put_px(f, "x", x + TEXT_PAD);
        put_px(f, "y", y + 13);
        fputc('>', f);
        bn_svg_put_cut(f, node->name, (size_t)room);
        fputs("</text>", f);
    }
    fputs("</g>\n", f);
}

/* ---- all boxes ---- */

/* Children stand after their parents in the array and are drawn only above a drawn one. */
static void lay_out(struct drawing *d, struct bn_svg_result *result)
{
    const struct bn_tree *tree = d->tree;
    uint64_t whole = bn_tree_whole(tree);

    for (uint32_t i = 0; i < tree->n_nodes; i++) {
        const struct bn_tree_node *n = &tree->nodes[i];
        double width = PLOT * (double)bn_tree_width(tree, i) / (double)whole;
        bool parent_drawn = i == 0 || d->drawn[n->parent];
        uint64_t next = d->start[i];
        d->drawn[i] = parent_drawn && bn_tree_width(tree, i) > 0 && width >= d->options->min_width_px;
        if (d->drawn[i]) {
            result->n_drawn++;
            d->max_depth = n->depth > d->max_depth ? n->depth : d->max_depth;
        } else if (n->total > 0) {
            result->n_elided++;
            result->elided += parent_drawn ? bn_tree_width(tree, i) : 0;
        }
        for (uint32_t k = n->first_child; k != (uint32_t)BN_TREE_NO_NODE; k = tree->nodes[k].next_sibling) {
            d->start[k] = next;
            next += bn_tree_width(tree, k);
        }
    }
    result->elided_percent = percent(result->elided, whole);
}

/* One sample with a deep stack would make the picture tall and empty: rows that hold less than a two
 * hundredth of the whole are folded away. A row never holds more than the one it stands on. */
static void fold_rows(struct drawing *d)
{
    uint64_t *sums = bn_xcalloc((size_t)d->max_depth + 1, sizeof *sums);

    for (uint32_t i = 0; i < d->tree->n_nodes; i++)
        if (d->drawn[i])
            sums[d->tree->nodes[i].depth] += bn_tree_width(d->tree, i);
    while (d->rows <= d->max_depth && sums[d->rows] >= bn_tree_whole(d->tree) / 200.0)
        d->rows++;
    free(sums);
}

/* Every box before those above it, siblings from left to right: the script finds parents by this order. */
static void put_boxes(const struct drawing *d, FILE *f)
{
    const struct bn_tree_node *nodes = d->tree->nodes;
    uint32_t i = 0;

    for (;;) {
        if (d->drawn[i])
            put_box(f, d, i);
        if (d->drawn[i] && nodes[i].first_child != (uint32_t)BN_TREE_NO_NODE) {
            i = nodes[i].first_child;
            continue;
        }
        while (i != 0 && nodes[i].next_sibling == (uint32_t)BN_TREE_NO_NODE)
            i = nodes[i].parent;
        if (i == 0)
            return;
        i = nodes[i].next_sibling;
    }
}

/* ---- around the boxes ---- */

static void put_embedded(FILE *f, const char *start, const char *end)
{
    fputs("<![CDATA[\n", f);
    fwrite(start, 1, (size_t)(end - start), f);
    fputs("]]>", f);
}

static const char *what_of(const struct bn_tree *tree)
{
    return tree->by_time ? "CPU time" : "samples";
}

static void put_head(FILE *f, const struct bn_tree *tree, const struct bn_svg_options *o, int height)
{
    fprintf(f,
            "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n"
            "<svg xmlns=\"http://www.w3.org/2000/svg\" class=\"bnprof-flamegraph\" role=\"img\" "
            "width=\"%d\" height=\"%d\" viewBox=\"0 0 %d %d\">\n<title>",
            WIDTH, height, WIDTH, height);
    put(f, o->title);
    fprintf(f,
            "</title>\n<desc>Flame graph: each box is a stage or a function, as wide as its share of the %s, "
            "standing on its caller",
            what_of(tree));
    for (size_t i = 0; i < BN_COUNT(o->subtitle); i++) {
        fputs(i == 0 ? ". " : "; ", f);
        put(f, o->subtitle[i] ? o->subtitle[i] : "");
    }
    fputs(".</desc>\n<style>", f);
    put_embedded(f, bn_embed_flamegraph_css, bn_embed_flamegraph_css_end);
    fprintf(f,
            "</style>\n<rect id=\"background\" width=\"100%%\" height=\"100%%\"/>\n"
            "<text id=\"title\" x=\"%d\" y=\"%d\">",
            PAD, TITLE_Y);
    bn_svg_put_cut(f, o->title, 80);
    fprintf(f, "</text>\n<text id=\"subtitle\">");
    for (size_t i = 0; i < BN_COUNT(o->subtitle); i++) {
        if (!o->subtitle[i])
            continue;
        fprintf(f, "<tspan x=\"%d\" y=\"%d\">", PAD, SUBTITLE_Y + (int)i * LINE);
        bn_svg_put_cut(f, o->subtitle[i], 190);
        fputs("</tspan>", f);
    }
    fputs("</text>\n", f);
}

/* Shown by the script: without it they could do nothing. */
static void put_controls(FILE *f)
{
    fprintf(f,
            "<g id=\"controls\" class=\"script\" transform=\"translate(%d,0)\">"
            "<g id=\"unzoom\" class=\"button hide\" role=\"button\" tabindex=\"0\"><title>Reset zoom "
            "(Esc)</title>"
            "<rect x=\"-388\" y=\"14\" width=\"92\" height=\"26\" rx=\"4\"/>"
            "<text x=\"-342\" y=\"31\">Reset zoom</text></g>"
            "<g id=\"search\" class=\"field\" role=\"button\" tabindex=\"0\">"
            "<title>Search names by regular expression (/ or Ctrl-F)</title>"
            "<rect x=\"-288\" y=\"14\" width=\"236\" height=\"26\" rx=\"4\"/>"
            "<text x=\"-278\" y=\"31\">Search</text></g>"
            "<g id=\"ignorecase\" class=\"button\" role=\"button\" tabindex=\"0\">"
            "<title>Ignore case (Ctrl-I)</title>"
            "<rect x=\"-44\" y=\"14\" width=\"28\" height=\"26\" rx=\"4\"/>"
            "<text x=\"-30\" y=\"31\">Aa</text></g>"
            "<text id=\"matched\" x=\"-16\" y=\"%d\"> </text></g>\n",
            WIDTH, SUBTITLE_Y + LINE);
}

static void put_legend(FILE *f, const struct bn_tree *tree, bool callers)
{
    uint64_t self[BN_TREE_KINDS] = {0};
    bool present[BN_TREE_KINDS] = {false};
    const char *share = tree->by_time ? "share of the CPU time that was spent here (self)"
                                      : "share of the samples that end here (self)";
    double x = PAD;

    for (uint32_t i = 1; i < tree->n_nodes; i++) {
        const struct bn_tree_node *n = &tree->nodes[i];
        uint64_t width = bn_tree_width(tree, i);
        self[n->kind] += callers ? (n->depth == 1 ? width : 0) : bn_tree_self_width(tree, i);
        present[n->kind] |= width > 0;
    }
    fputs("<g id=\"legend\">\n", f);
    for (size_t k = 1; k < BN_TREE_KINDS; k++) {
        char label[64];
        if (!present[k])
            continue;
        snprintf(label, sizeof label, "%s", kinds[k].what);
        if (kinds[k].code && self[k] > 0)
            snprintf(label, sizeof label, "%s %.1f%%", kinds[k].what, percent(self[k], bn_tree_whole(tree)));
        fprintf(f, "<g class=\"%c0\"><title>%s</title><rect", kinds[k].class,
                kinds[k].code ? share : "not code");
        put_px(f, "x", x);
        fprintf(f, " y=\"%d\" width=\"11\" height=\"11\" rx=\"2\"/><text", LEGEND_Y - 10);
        put_px(f, "x", x + 17);
        fprintf(f, " y=\"%d\">%s</text></g>\n", LEGEND_Y, label);
        x += 17 + legend_px * (double)strlen(label) + 18;
    }
    fputs("</g>\n", f);
}

static void put_foot(FILE *f, const struct drawing *d, const struct bn_svg_result *result, int y)
{
    char number[32];

    fprintf(f, "<g id=\"foot\"><g id=\"status\"><rect id=\"shade\" y=\"%d\" width=\"100%%\" height=\"%d\"/>",
            y + 4, LINE + 8);
    fprintf(f, "<text id=\"details\" x=\"%d\" y=\"%d\"> </text></g>\n<text id=\"elided\" x=\"%d\" y=\"%d\">",
            PAD, y + 21, PAD, y + 43);
    if (d->max_depth >= d->rows && d->rows > 0)
        fprintf(f, "%u more row%s hold%s less than 0.5%% of the %s: zoom or search to see. ",
                d->max_depth + 1 - d->rows, d->max_depth == d->rows ? "" : "s",
                d->max_depth == d->rows ? "s" : "", what_of(d->tree));
    if (result->n_elided > 0)
        fprintf(f, "%s box%s narrower than %g px not drawn; %.2f%% of the samples%s end in them.",
                bn_svg_grouped(result->n_elided, number), result->n_elided == 1 ? "" : "es",
                d->options->min_width_px, result->elided_percent, d->tree->by_time ? "' time" : "");
    fprintf(f, "</text>\n<text id=\"help\" class=\"script\" x=\"%d\" y=\"%d\"> </text></g>\n<script>",
            WIDTH - PAD, y + 61); /* a line of its own: the one above may be long */
    put_embedded(f, bn_embed_flamegraph_js, bn_embed_flamegraph_js_end);
    fputs("</script>\n</svg>\n", f);
}

void bn_svg_write(const struct bn_tree *tree, const struct bn_svg_options *options, FILE *f,
                  struct bn_svg_result *result)
{
    struct drawing d = {.tree = tree, .options = options, .rows = 1};
    int rows_height = EMPTY_HEIGHT;

    assert(tree->finished);
    *result = (struct bn_svg_result){0};
    d.start = bn_xcalloc(tree->n_nodes, sizeof *d.start);
    d.drawn = bn_xcalloc(tree->n_nodes, sizeof *d.drawn);
    if (bn_tree_whole(tree) > 0) {
        lay_out(&d, result);
        fold_rows(&d);
        rows_height = ROW * (int)d.rows;
    }
    put_head(f, tree, options, FRAMES_Y + rows_height + FOOTER);
    put_controls(f);
    put_legend(f, tree, options->callers);
    fprintf(f, "<g id=\"frames\" data-samples=\"%llu\" data-rows=\"%u\"%s%s>\n",
            (unsigned long long)bn_tree_whole(tree), d.rows, tree->by_time ? " data-unit=\"ns\"" : "",
            options->icicle ? " class=\"icicle\"" : "");
    if (bn_tree_whole(tree) > 0)
        put_boxes(&d, f);
    else
        fprintf(f, "<text id=\"empty\" x=\"%d\" y=\"%d\">No samples: there is nothing to draw.</text>\n", PAD,
                FRAMES_Y + 30);
    fputs("</g>\n", f);
    put_foot(f, &d, result, FRAMES_Y + rows_height);
    free(d.start);
    free(d.drawn);
}
