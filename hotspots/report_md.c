/* SPDX-License-Identifier: MIT
 * The report for people, in Markdown. Plain text is the same lines without the marks (report.c). */
#include "hotspots/report.h"

#include <stdlib.h>
#include <string.h>

#include "hotspots/report_text.h"
#include "hotspots/roofline.h"
#include "profiler/stats.h"

static const char *known(const char *s)
{
    return s ? s : "unknown";
}

/* ---- head ---- */

static void head(FILE *f, const struct bn_profile *p, const struct bn_report_options *o)
{
    const char *format = p->model.format;

    fprintf(f, "# Flamegraph Top-%zu Hotspots Analysis\n\n", o->top);
    fprintf(f, "**Date**: %s\n", known(p->started));
    if (p->model.arch)
        fprintf(f, "**Model**: %s (%s, %s)\n**Format**: %s\n", known(p->model.name), p->model.arch,
                known(p->model.path), known(format));
    fprintf(f, "**Run**: %s\n**Command**: `%s`\n", known(p->run_id), known(p->command));
    fprintf(f, "**Flamegraph**: `bnprof svg %s`\n", known(p->run_id));
    fprintf(f, "**Fingerprint**: %s, %s, kernel %s, %s\n", known(bn_profile_fact(p, "cpu_model")),
            known(bn_profile_fact(p, "os")), known(bn_profile_fact(p, "kernel")),
            known(bn_profile_fact(p, "compiler")));
    if (p->run.known)
        fprintf(f, "**Speed**: prompt %s tok/s, decode %s tok/s, %u threads, CPU path %s\n",
                bn_text_number(p->run.prompt_tokens_per_second, 1),
                bn_text_number(p->run.decode_tokens_per_second, 1), p->run.threads, known(p->run.cpu_used));
    fputs("\n---\n\n", f);
}

static int decimals(double value)
{
    return value == floor(value) ? 0 : 2;
}

static void flags(FILE *f, const struct bn_profile *p)
{
    static const char *const severity[] = {"info", "warning", "critical"};
    size_t raised = 0;

    for (size_t i = 0; i < p->n_flags; i++) {
        const struct bn_flag *flag = &p->flags[i];
        if (flag->state != BN_FLAG_RAISED)
            continue;
        if (raised++ == 0)
            fputs("## Red flags\n\n", f);
        fprintf(f, "- **%s** (%s): %s %s, threshold %s %s. %s. %s\n", flag->id, severity[flag->severity],
                bn_text_number(flag->value, decimals(flag->value)), known(flag->unit),
                bn_text_number(flag->threshold, decimals(flag->threshold)), known(flag->unit),
                known(flag->evidence), known(flag->advice));
    }
    if (raised)
        fputc('\n', f);
}

/* ---- one hotspot ---- */

/* By line, the functions inlined around it, into the innermost real one, belong to the path. */
static void call_path(FILE *f, const struct bn_profile *p, const struct bn_rank_item *item, bool by_line)
{
    uint32_t entries[256];
    size_t n = 0;
    int depth = 0;
    char path[1024];

    fputs("**Call Path**:\n```\n", f);
    if (item->stage)
        fprintf(f, "[%s]\n", bn_profile_stage_path(p, item->stage, path, sizeof path));
    for (uint32_t e = item->stack; e && n < BN_COUNT(entries); e = p->stacks[e].parent) {
        bool inlined = p->frames[p->stacks[e].frame].inlined;
        if (by_line || !inlined)
            entries[n++] = e;
        by_line = by_line && inlined;
    }
    while (n-- > 0) {
        const struct bn_frame *frame = &p->frames[p->stacks[entries[n]].frame];
        fprintf(f, "%*s%s%s%s%s\n", depth * 4, "", depth ? "└── " : "", frame->function,
                frame->inlined ? " (inlined)" : "", n == 0 ? "  ← HOTSPOT" : "");
        depth += depth < 20;
    }
    fputs("```\n\n", f);
}

static uint64_t dispatches(const struct bn_profile *p, const char *symbol)
{
    for (size_t i = 0; i < p->n_kernels; i++)
        if (strcmp(p->kernels[i].symbol, symbol) == 0)
            return p->kernels[i].calls;
    return 0;
}

static void call_count(FILE *f, const struct bn_profile *p, const struct bn_ranking *r,
                       const struct bn_rank_item *item, uint64_t stage_calls, uint32_t n_stages)
{
    uint64_t n = r->by == BN_RANK_STAGE ? p->stages[item->stage].calls : dispatches(p, item->name);
    const char *what = r->by == BN_RANK_STAGE ? "entries, exact" : "dispatches, exact";
    char path[1024];

    if (n == 0 && stage_calls) {
        n = stage_calls;
        what = n_stages == 1 ? "entries of its stage, exact" : "entries of its stages, exact";
    } else if (n == 0 && item->stage && p->stages[item->stage].calls) {
        n = p->stages[item->stage].calls;
        fprintf(f, "- **Call Count**: unknown; its main stage %s was entered %s times (exact)\n",
                bn_text_cell(bn_profile_stage_path(p, item->stage, path, sizeof path)), bn_text_count(n));
        return;
    }
    if (n == 0)
        fputs("- **Call Count**: unknown (no scope or dispatch counter covers it)\n", f);
    else
        fprintf(f, "- **Call Count**: %s (%s)\n", bn_text_count(n), what);
}

static void speed(FILE *f, const struct bn_profile *p, const struct bn_roofline *roof)
{
    const struct bn_profile_limits *limits = &p->limits;

    if (isnan(roof->gbytes_per_s) && isnan(roof->gops_per_s)) {
        fputs("- **Achieved**: unknown (its stages count no bytes or operations)\n", f);
        return;
    }
    fprintf(f, "- **Achieved**: %s GB/s, %s GOP/s in its stages", bn_text_number(roof->gbytes_per_s, 2),
            bn_text_number(roof->gops_per_s, 1));
    if (!isnan(roof->share))
        fprintf(f, "; %s of the machine's limit (%s: %s)", bn_text_percent(roof->share), roof->bound,
                strcmp(roof->bound, "memory") == 0 ? "reads" : "int8 peak");
    else
        fprintf(f, "; no limit applies: %s", roof->bound);
    if (limits->read_bytes_per_s > 0)
        fprintf(f, " [limits measured after the run, %u threads: %s GB/s read, %s GMAC/s int8]",
                limits->threads, bn_text_number(limits->read_bytes_per_s / 1e9, 1),
                bn_text_number(limits->int8_macs_per_s / 1e9, 0));
    fputc('\n', f);
}

/* What the measurements say about it; nothing that was not measured. */
static void meaning(FILE *f, const struct bn_ranking *r, const struct bn_rank_item *item,
                    const struct bn_roofline *roof)
{
    double self = bn_sampled_share(&item->self, &r->total);

    fputs("\n**What that means**: ", f);
    if (!isnan(roof->share) && roof->share > 1.02)
        fprintf(f,
                "it ran faster than the measured limit (%s), so the limit or the byte count is wrong; do not "
                "act on this.\n\n",
                bn_text_percent(roof->share));
    else if (!isnan(roof->share) && roof->share >= 0.85)
        fprintf(
            f,
            "it runs at %s of what the machine can do (%s); only less work per token can make it faster.\n\n",
            bn_text_percent(roof->share), roof->bound);
    else if (!isnan(roof->share))
        fprintf(f,
                "at the machine's limit (%s) the same work would take %s less time: at most %s of the whole "
                "run.\n\n",
                roof->bound, bn_text_percent(1 - roof->share), bn_text_percent(self * (1 - roof->share)));
    else
        fprintf(f, "making it twice as fast would make the run %.2fx as fast (Amdahl).\n\n",
                1 / (1 - self / 2));
}

/* The function that holds the line's code, to look at all of it. */
static void annotate_hint(FILE *f, const struct bn_profile *p, uint32_t stack)
{
    while (p->frames[p->stacks[stack].frame].inlined && p->stacks[stack].parent)
        stack = p->stacks[stack].parent;
    char *command = bn_xasprintf("bnprof annotate '%s'", p->frames[p->stacks[stack].frame].function);
    fprintf(f, "- **All its lines**: %s\n", bn_text_code(command));
    free(command);
}

static void hotspot(FILE *f, const struct bn_profile *p, const struct bn_ranking *r,
                    const struct bn_rank_item *item, size_t number)
{
    struct bn_interval ci = bn_sampled_interval(&item->self, &r->total, BN_Z95);
    struct bn_roofline roof;
    uint64_t calls = 0;
    uint32_t n_stages = 0;

    if (r->by == BN_RANK_STAGE)
        roof = bn_roofline_stage(p, item->stage);
    else if (r->by == BN_RANK_FUNCTION)
        roof = bn_roofline_function(p, item, &calls, &n_stages);
    else
        roof = (struct bn_roofline){.share = BN_UNKNOWN};
    fprintf(f, "### %zu. %s — %s CPU Time\n\n", number, bn_text_code(item->name),
            bn_text_percent(bn_sampled_share(&item->self, &r->total)));
    if (r->by != BN_RANK_STAGE)
        call_path(f, p, item, r->by == BN_RANK_LINE);
    fprintf(f, "**Metrics**:\n- **CPU Time** (inclusive): %s of %s, %s\n",
            bn_text_percent(bn_sampled_share(&item->inclusive, &r->total)), bn_text_whole(&r->total),
            bn_text_time((double)item->inclusive.ns));
    fprintf(f, "- **Self Time**: %s (95 %% interval %.1f … %.1f %%; %s samples, %s)\n",
            bn_text_percent(bn_sampled_share(&item->self, &r->total)), 100 * ci.low, 100 * ci.high,
            bn_text_count(item->self.n), bn_text_time((double)item->self.ns));
    bool line = r->by == BN_RANK_LINE; /* nobody counts a line's calls, bytes or operations */
    if (!line)
        call_count(f, p, r, item, calls, n_stages);
    if (r->decode_tokens)
        fprintf(f, "- **Per %s**: %s of CPU time\n", r->decode == BN_NONE ? "step" : "decoded token",
                bn_text_time(bn_ns_per_token(r, item->decode_self_ns)));
    if (p->n_stages > 1 && !line)
        speed(f, p, &roof);
    if (line && item->stack)
        annotate_hint(f, p, item->stack);
    for (int i = 0; i < BN_RANK_LINES && item->lines[i].self.n; i++)
        fprintf(f, "%s%s:%u (%s of its self time)%s", i == 0 ? "- **Source**: " : ", ", item->lines[i].file,
                item->lines[i].line, bn_text_percent(bn_sampled_share(&item->lines[i].self, &item->self)),
                i + 1 == BN_RANK_LINES || !item->lines[i + 1].self.n ? "\n" : "");
    meaning(f, r, item, &roof);
}

static void hotspots(FILE *f, const struct bn_profile *p, const struct bn_ranking *r, size_t top)
{
    static const char *const by[] = {"function", "stage", "source line"};

    fprintf(f,
            "## Top-%zu CPU Time Consumers\n\nRanked by self CPU time per %s over all threads; waiting is "
            "apart (%s of %s).\n\n",
            top, by[r->by], bn_text_percent(bn_sampled_share(&r->wait, &r->total)), bn_text_whole(&r->total));
    if (r->total.n == 0)
        fputs("No samples: nothing can be ranked.\n\n", f);
    for (size_t i = 0; i < top && i < r->n && r->items[i].self.n; i++)
        hotspot(f, p, r, &r->items[i], i + 1);
    fputs("---\n\n", f);
}

/* ---- aggregate ---- */

static void aggregate(FILE *f, const struct bn_ranking *r, size_t top)
{
    double coverage = 0;

    if (r->total.n == 0)
        return;
    for (size_t i = 0; i < top && i < r->n; i++)
        coverage += bn_sampled_share(&r->items[i].self, &r->total);
    fprintf(f,
            "## Aggregate Analysis\n\n**Total Hotspot Coverage**: %s (sum of the top-%zu self times, which "
            "do not overlap)\n\n",
            bn_text_percent(coverage), top);
    fputs("**CPU Distribution by class** (disjoint, all samples):\n", f);
    for (int c = 0; c < BN_CLASS_COUNT; c++)
        if (r->class_ns[c])
            fprintf(f, "- %s: %s\n", bn_class_name(c),
                    bn_text_percent((double)r->class_ns[c] / (double)r->total.ns));
    fprintf(f,
            "\n**Optimization Potential**: if each of the top-%zu took half its time, the run would be %.2fx "
            "as fast "
            "(Amdahl: 1 / (1 - %.3f / 2)).\n\n",
            top, 1 / (1 - coverage / 2), coverage);
    fprintf(f,
            "**Priority**: **%s** (High: coverage above 60 %%, Medium: 40 to 60 %%, Low: below)\n\n---\n\n",
            coverage > 0.6    ? "High"
            : coverage >= 0.4 ? "Medium"
                              : "Low");
}

static void opportunities(FILE *f, const struct bn_profile *p)
{
    size_t n, shown = 0;
    struct bn_opportunity *all = bn_roofline_opportunities(p, &n);
    char path[1024];

    fputs("## Opportunities\n\n", f);
    if (n == 0)
        fprintf(f, "None can be computed: %s.\n\n",
                p->n_stages <= 1 ? "a program without scopes has no byte or operation counts"
                : bn_roofline_memory_bound(p) == 0
                    ? "the model fits the last cache and no stage has a compute limit measured"
                : isnan(p->limits.read_bytes_per_s) ? "the machine's limits were not measured"
                                                    : "no stage counts bytes");
    else
        fputs(
            "Stages by recoverable time: time now minus time of the same work at the machine's limit.\n\n"
            "| Stage | Now | At the limit | Recoverable | Of limit | Bound by |\n|---|---|---|---|---|---|\n",
            f);
    for (size_t i = 0; i < n && shown < 10 && all[i].roofline.recoverable_ns > 0; i++, shown++)
        fprintf(f, "| %s | %s | %s | %s | %s | %s |\n",
                bn_text_cell(bn_profile_stage_path(p, all[i].stage, path, sizeof path)),
                bn_text_time((double)bn_roofline_time_ns(p, all[i].stage)),
                bn_text_time(all[i].roofline.limit_ns), bn_text_time(all[i].roofline.recoverable_ns),
                bn_text_percent(all[i].roofline.share), all[i].roofline.bound);
    if (n)
        fputc('\n', f);
    free(all);
}

/* ---- comparison ---- */

static void row_notes(FILE *f, const struct bn_compare_row *row)
{
    fputs(bn_verdict_name(row->verdict), f);
    if (row->verdict == BN_VERDICT_CANNOT_TELL && !isnan(row->more))
        fprintf(f, " (about %.1fx as long a run would decide)", row->more < 1 ? 1 : row->more);
    if (row->previous == 0 && row->current > 0)
        fputs(", new", f);
    if (row->current == 0 && row->previous > 0)
        fputs(", gone", f);
}

static void list_verdicts(FILE *f, const struct bn_comparison *c, enum bn_verdict verdict, const char *title)
{
    size_t n = 0;

    fprintf(f, "**%s**: ", title);
    for (size_t i = 0; i < c->n; i++)
        if (c->rows[i].verdict == verdict)
            fprintf(f, "%s%s (%+.1f %%)", n++ ? ", " : "", bn_text_code(c->rows[i].name),
                    c->rows[i].previous > 0 ? 100 * (c->rows[i].current / c->rows[i].previous - 1) : 100);
    fputs(n ? "\n\n" : "None\n\n", f);
}

static void comparison(FILE *f, const struct bn_profile *previous, const struct bn_comparison *c)
{
    fputs("## Comparison to Previous Baseline\n\n", f);
    if (!c) {
        fputs("**Previous Baseline**: None (initial baseline)\n\n", f);
        return;
    }
    fprintf(f, "**Previous Baseline**: %s (%s)\n\n", known(previous->run_id), known(previous->started));
    if (c->notes.n) {
        fputs("Mind the differences:\n\n", f);
        for (char *line = c->notes.p, *end; *line; line = end + 1) {
            end = strchr(line, '\n');
            fprintf(f, "- %.*s\n", (int)(end - line), line);
        }
        fputc('\n', f);
    }
    fprintf(f,
            "CPU time %s, 95 %% interval of the change; changes within ±%.0f %% of one run each are never "
            "called a change.\n\n",
            c->per_token ? "per decoded token" : "per run", 100 * BN_COMPARE_FLOOR);
    fputs("| Function | Previous | Current | Delta | Interval | Share | Notes "
          "|\n|---|---|---|---|---|---|---|\n",
          f);
    for (size_t i = 0; i < c->n; i++) {
        const struct bn_compare_row *row = &c->rows[i];
        fprintf(f, "| %s | %s | %s | ", bn_text_code(row->name), bn_text_time(row->previous),
                bn_text_time(row->current));
        if (row->previous > 0)
            fprintf(f, "%+.1f %% | ", 100 * (row->current / row->previous - 1));
        else
            fputs("– | ", f);
        if (isnan(row->low))
            fputs("unknown | ", f);
        else
            fprintf(f, "%s … %s | ", bn_text_time(row->low), bn_text_time(row->high));
        if (isnan(row->previous_share))
            fputs("– | ", f);
        else
            fprintf(f, "%s → %s | ", bn_text_percent(row->previous_share),
                    bn_text_percent(row->current_share));
        row_notes(f, row);
        fputs(" |\n", f);
    }
    fputc('\n', f);
    list_verdicts(f, c, BN_VERDICT_SLOWER, "Regressions");
    list_verdicts(f, c, BN_VERDICT_FASTER, "Improvements");
}

/* ---- action items: from flags, regressions and the largest opportunity ---- */

static void actions(FILE *f, const struct bn_profile *p, const struct bn_comparison *c)
{
    size_t n = 0, n_opportunities;
    char path[1024];
    struct bn_opportunity *all = bn_roofline_opportunities(p, &n_opportunities);

    fputs("---\n\n## Action Items\n\n", f);
    for (size_t i = 0; i < p->n_flags; i++)
        if (p->flags[i].state == BN_FLAG_RAISED && p->flags[i].severity > BN_FLAG_INFO) {
            fprintf(f, "- [ ] %s: %s (Priority: %s)\n", p->flags[i].id, known(p->flags[i].advice),
                    p->flags[i].severity == BN_FLAG_CRITICAL ? "H" : "M");
            n++;
        }
    for (size_t i = 0; c && i < c->n; i++)
        if (c->rows[i].verdict == BN_VERDICT_SLOWER) {
            fprintf(f, "- [ ] find out why %s became slower (Priority: H)\n", bn_text_code(c->rows[i].name));
            n++;
        }
    if (n_opportunities && all[0].roofline.share < 0.85) {
        fprintf(f, "- [ ] bring %s nearer to the limit: %s of %s could be saved (Priority: M)\n",
                bn_text_cell(bn_profile_stage_path(p, all[0].stage, path, sizeof path)),
                bn_text_time(all[0].roofline.recoverable_ns),
                bn_text_time((double)bn_roofline_time_ns(p, all[0].stage)));
        n++;
    }
    if (n == 0)
        fputs("None: no flag is raised, nothing became slower, and no stage is known to be far from the "
              "machine's limit.\n",
              f);
    free(all);
}

void bn_report_sections(FILE *f, const struct bn_profile *p, const struct bn_report_options *o,
                        const struct bn_ranking *r, const struct bn_comparison *c)
{
    head(f, p, o);
    bn_report_quality(f, p, true);
    flags(f, p);
    hotspots(f, p, r, o->top);
    aggregate(f, r, o->top);
    bn_report_stages(f, p);
    opportunities(f, p);
    if (o->compare)
        comparison(f, o->previous, c);
    actions(f, p, c);
}
