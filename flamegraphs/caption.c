/* SPDX-License-Identifier: MIT
 * Title and subtitle of a flame graph. */
#include "flamegraphs/caption.h"

#include <stdlib.h>
#include <string.h>

#include "flamegraphs/svg_text.h"

static const char *or_unknown(const char *s)
{
    return s && *s ? s : "unknown";
}

static const char *base_name(const char *path)
{
    const char *slash = path ? strrchr(path, '/') : NULL;
    return slash && slash[1] ? slash + 1 : path;
}

static bool has_model(const struct bn_profile *p)
{
    return p->model.arch || p->model.name || p->model.path;
}

static char *title_of(const struct bn_profile *p, const struct bn_view *view)
{
    static const char *const by[] = {"by stage", "by stack", "by thread"};
    const char *name = p->model.name ? p->model.name : base_name(p->model.path);

    if (!has_model(p))
        name = p->command;
    return bn_xasprintf("CPU time %s%s: %s", by[view->order], view->callers ? ", callers first" : "",
                        or_unknown(name));
}

static char *what_of(const struct bn_profile *p, const struct bn_view *view)
{
    struct bn_buf b = {0};

    if (view->phase)
        bn_buf_printf(&b, "%s only · ", view->phase);
    if (view->layer >= 0)
        bn_buf_printf(&b, "layer %d only · ", view->layer);
    if (has_model(p)) /* a foreign program has none */
        bn_buf_printf(&b, "model %s · format %s · ", or_unknown(base_name(p->model.path)),
                      or_unknown(p->model.format));
    if (p->run.known)
        bn_buf_printf(&b, "%u thread%s · kernel %s, %s · ", p->run.threads, p->run.threads == 1 ? "" : "s",
                      or_unknown(p->run.kernel), or_unknown(p->run.cpu_used));
    bn_buf_printf(&b, "%s · run %s", p->started ? p->started : "date unknown", or_unknown(p->run_id));
    return b.p;
}

static void put_rate(struct bn_buf *b, const struct bn_profile_quality *q)
{
    bn_buf_printf(b, " · %s, ", q->event ? q->event : "event unknown");
    if (isnan(q->asked_hz))
        bn_buf_puts(b, "asked rate unknown, ");
    else
        bn_buf_printf(b, "%.0f Hz asked, ", q->asked_hz);
    if (isnan(q->achieved_hz))
        bn_buf_puts(b, "achieved rate unknown");
    else
        bn_buf_printf(b, "%.1f Hz achieved", q->achieved_hz);
}

static double percent(uint64_t part, uint64_t whole)
{
    return whole ? 100.0 * (double)part / (double)whole : 0;
}

static void put_share(struct bn_buf *b, const char *what, uint64_t part, uint64_t whole, double share)
{
    char number[32];

    bn_buf_printf(b, " · %s %s", what, bn_svg_grouped(part, number));
    if (whole > 0)
        bn_buf_printf(b, " (%.2f%%)", share);
}

static char *quality_of(const struct bn_profile *p, const struct bn_tree *tree)
{
    const struct bn_profile_quality *q = &p->quality;
    struct bn_buf b = {0};
    uint64_t records = q->n_samples + q->n_lost;
    char number[32];

    bn_buf_puts(&b, bn_svg_grouped(tree->samples, number));
    if (tree->samples != p->n_samples)
        bn_buf_printf(&b, " of %s", bn_svg_grouped(p->n_samples, number));
    bn_buf_puts(&b, " samples");
    if (tree->by_time)
        bn_buf_printf(&b, " of different weights: widths are CPU time, %.2f s in all",
                      (double)tree->ns / 1e9);
    put_rate(&b, q);
    if (q->partial) /* told at the end only */
        bn_buf_puts(&b, " · lost unknown");
    else
        put_share(&b, "lost", q->n_lost, records, percent(q->n_lost, records));
    put_share(&b, "truncated", q->n_truncated, q->n_samples,
              tree->by_time ? bn_profile_percent(p, BN_SAMPLE_TRUNCATED)
                            : percent(q->n_truncated, q->n_samples));
    if (q->grade)
        bn_buf_printf(&b, " · grade %c", q->grade);
    else
        bn_buf_puts(&b, " · grade unknown");
    if (q->partial)
        bn_buf_puts(&b, " · recovered from an unfinished recording");
    return b.p;
}

struct bn_caption bn_caption_of_profile(const struct bn_profile *p, const struct bn_view *view,
                                        const struct bn_tree *tree)
{
    return (struct bn_caption){title_of(p, view), what_of(p, view), quality_of(p, tree)};
}

struct bn_caption bn_caption_of_folded(const char *name, const struct bn_tree *tree, bool callers)
{
    char number[32];

    return (struct bn_caption){
        bn_xasprintf("Folded stacks%s: %s", callers ? ", callers first" : "", base_name(name)),
        bn_xstrdup("model unknown · format unknown · date unknown · run unknown"),
        bn_xasprintf("%s samples · rate unknown · lost unknown · grade unknown",
                     bn_svg_grouped(tree->samples, number)),
    };
}

void bn_caption_free(struct bn_caption *caption)
{
    free(caption->title);
    free(caption->what);
    free(caption->quality);
    *caption = (struct bn_caption){0};
}
