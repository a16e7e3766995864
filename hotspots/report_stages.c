/* SPDX-License-Identifier: MIT
 * The table that joins both instruments: exact times of the scopes beside sampled CPU time, and the cause of
 * every gap between them. */
#include <stdlib.h>
#include <string.h>

#include "hotspots/group.h"
#include "hotspots/report_text.h"
#include "hotspots/roofline.h"
#include "profiler/stats.h"

static struct bn_sampled *weigh_stages(const struct bn_profile *p)
{
    struct bn_sampled *by_stage = bn_xcalloc(p->n_stages, sizeof *by_stage);

    for (size_t i = 0; i < p->n_samples; i++)
        bn_sampled_add(&by_stage[p->samples[i].stage], p->samples[i].weight_ns);
    return by_stage;
}

/* Timers see wall time, samples see CPU time; what lies between is the time that threads were off their CPUs,
 * which the kernel's records of switches give per stage. */
static void off_cpu_text(struct bn_buf *b, const struct bn_stage_node *s)
{
    if (s->asleep_ns)
        bn_buf_printf(b, "asleep %s", bn_text_time((double)s->asleep_ns));
    if (s->preempted_ns)
        bn_buf_printf(b, "%spreempted %s", s->asleep_ns ? ", " : "", bn_text_time((double)s->preempted_ns));
}

static bool is_edge(const struct bn_profile *p, const struct bn_stage_node *s)
{
    return s->parent == 0 && p->stages[0].parent == 0 &&
           (strcmp(s->name, "startup") == 0 || strcmp(s->name, "shutdown") == 0);
}

/* How long threads were off their CPUs is known where the kernel told of switches; then the running time of
 * threads is known too. CPU timers tell none. */
static bool off_cpu_known(const struct bn_profile *p)
{
    if (bn_profile_by_timer(&p->quality))
        return false;
    for (size_t i = 0; i < p->n_threads; i++)
        if (p->threads[i].cpu_ns > 0)
            return true;
    return p->quality.n_sleeps + p->quality.n_preemptions > 0;
}

/* What the host took from all CPUs together, 0 = unknown. */
static double stolen_ns(const struct bn_profile *p)
{
    const char *cpus = bn_profile_fact(p, "cpus");
    uint64_t n = 0;

    if (!cpus || bn_parse_u64(cpus, 1, 1 << 20, &n) != 0 || !(p->quality.steal_share > 0))
        return 0;
    return p->quality.steal_share * (double)p->quality.duration_ns * (double)n;
}

/* What remains when the time off the CPUs is taken out lies outside of the interval. Only a cause that was
 * measured, and is large enough, is named. missing_ns: exact time that has no samples, and no other cause. */
static void put_rest_cause(struct bn_buf *b, const struct bn_profile *p, const struct bn_stage_node *s,
                           double missing_ns)
{
    if (missing_ns < 0)
        bn_buf_puts(b, bn_profile_fact(p, "timers_until") ? "samples taken after the timers were last read"
                       : is_edge(p, s)
                           ? "samples also cover what runs before the first and after the last scope"
                           : "more samples than timer: the scopes' own cost");
    else if (!off_cpu_known(p))
        bn_buf_printf(b, "cause unknown (%s of switches: asleep, preempted or lost)",
                      bn_profile_by_timer(&p->quality) ? "CPU timers do not tell" : "nothing was told");
    else if (!p->quality.kernel_sampled && !bn_profile_by_timer(&p->quality))
        bn_buf_puts(b, "kernel time not seen");
    else if (p->quality.n_lost || p->quality.n_throttled)
        bn_buf_puts(b, "lost samples");
    else if (stolen_ns(p) >= missing_ns)
        bn_buf_printf(b, "possibly time that the host took (steal: %s in all)", bn_text_time(stolen_ns(p)));
    else
        bn_buf_puts(b, "unexplained");
}

/* The time that may have been spent in a stage with these samples. One rule for what is printed and for the
 * verdict: with so many rows 95 % would call chance a gap in a few of them. */
static struct bn_interval time_interval(const struct bn_profile *p, const struct bn_sampled *all,
                                        const struct bn_sampled *samples)
{
    static const double z = 3.48; /* 99.95 % */
    struct bn_interval share = bn_sampled_interval(samples, all, z);
    double n = (double)all->n, each_ns = samples->n ? (double)samples->ns / (double)samples->n : 0;

    if (!bn_sampled_equal(all))
        return (struct bn_interval){share.low * (double)all->ns, share.high * (double)all->ns};
    if (samples->n == 0 && p->quality.asked_hz > 0)
        each_ns = 1e9 / p->quality.asked_hz;
    return (struct bn_interval){share.low * n * each_ns, share.high * n * each_ns};
}

static void put_gap(FILE *f, const struct bn_profile *p, uint32_t stage, const struct bn_sampled *all,
                    const struct bn_sampled *samples, double exact_ns)
{
    struct bn_interval ci = time_interval(p, all, samples);
    const struct bn_stage_node *s = &p->stages[stage];
    double off_ns = (double)(s->asleep_ns + s->preempted_ns), rest_ns = exact_ns - off_ns;
    struct bn_buf text = {0};

    off_cpu_text(&text, s);
    if (samples->n == 0 && rest_ns < ci.high) {
        fprintf(f, "%s", text.n ? text.p : "too short to be sampled");
    } else if (exact_ns >= ci.low && exact_ns <= ci.high) {
        fprintf(f, "within the interval");
    } else {
        double gap_ns = exact_ns - (double)samples->ns;
        fprintf(f, "%s%s: ", gap_ns > 0 ? "+" : "−", bn_text_time(gap_ns > 0 ? gap_ns : -gap_ns));
        bool explained = rest_ns >= ci.low && rest_ns <= ci.high;
        if (!explained) {
            bn_buf_puts(&text, text.n ? ", " : "");
            if (gap_ns > 0 && rest_ns < ci.low)
                bn_buf_puts(&text, "which is more than the gap");
            else
                put_rest_cause(&text, p, s, rest_ns - (double)samples->ns);
        }
        fprintf(f, "%s", text.p);
    }
    bn_buf_free(&text);
}

/* ---- functions ---- */

/* A stage's functions with most self time. */
enum { TOPS = 2 };
struct tops {
    struct {
        const char *function;
        struct bn_sampled self;
    } top[TOPS]; /* without samples: there is none */
};

static void add_top(struct tops *t, const char *function, const struct bn_sampled *self)
{
    int at = TOPS;

    while (at > 0 && bn_sampled_compare(self, &t->top[at - 1].self) > 0)
        at--;
    for (int i = TOPS - 1; i > at; i--)
        t->top[i] = t->top[i - 1];
    if (at < TOPS) {
        t->top[at].function = function;
        t->top[at].self = *self;
    }
}

/* Of each stage; the caller frees. */
static struct tops *find_tops(const struct bn_profile *p)
{
    struct tops *tops = bn_xcalloc(p->n_stages, sizeof *tops);
    struct bn_groups g;
    size_t n;

    bn_groups_make(&g, p, false);
    struct bn_group_cell *cells = bn_group_cells(&g, p, true, &n);
    for (size_t i = 0; i < n; i++)
        add_top(&tops[cells[i].stage], p->frames[g.first_frame[cells[i].group]].function, &cells[i].self);
    free(cells);
    bn_groups_free(&g);
    return tops;
}

/* Those with a good part of the stage's samples. */
static void put_tops(FILE *f, const struct tops *t, const struct bn_sampled *samples)
{
    static const double least = 0.1;
    const char *between = "";

    for (int i = 0; i < TOPS; i++) {
        double share = t->top[i].self.n ? bn_sampled_share(&t->top[i].self, samples) : 0;
        if (share < least)
            break;
        fprintf(f, "%s%s %.0f %%", between, bn_text_code(t->top[i].function), 100 * share);
        between = ", ";
    }
    fputs(*between ? " | " : "– | ", f);
}

/* ---- rows ---- */

static void put_row(FILE *f, const struct bn_profile *p, uint32_t stage, const struct bn_sampled *all,
                    const struct bn_sampled *samples, const struct tops *tops)
{
    const struct bn_stage_node *s = &p->stages[stage];
    double exact_ns = (double)(s->self_ns + s->worker_ns);
    struct bn_interval ci = time_interval(p, all, samples);
    struct bn_roofline roof = bn_roofline_stage(p, stage);
    char path[1024];

    fprintf(f, "| %s | %s", bn_text_cell(bn_profile_stage_path(p, stage, path, sizeof path)),
            bn_text_count(s->calls));
    if (s->open_calls)
        fprintf(f, " (%s still open)", bn_text_count(s->open_calls));
    fprintf(f, " | %s | ", bn_text_time(exact_ns));
    if (s->total_ns == 0 && s->fused_into && s->fused_into[0]) {
        fprintf(f, "fused into %s | – | – | – | – | – |\n", bn_text_cell(s->fused_into));
        return;
    }
    if (samples->n)
        fprintf(f, "%s (%s … %s) | ", bn_text_time((double)samples->ns), bn_text_time(ci.low),
                bn_text_time(ci.high));
    else
        fputs("no sample | ", f);
    put_tops(f, tops, samples);
    fprintf(f, "%s | %s | %s | ", isnan(roof.gbytes_per_s) ? "–" : bn_text_number(roof.gbytes_per_s, 2),
            isnan(roof.gops_per_s) ? "–" : bn_text_number(roof.gops_per_s, 1),
            isnan(roof.share) ? "–" : bn_text_percent(roof.share));
    put_gap(f, p, stage, all, samples, exact_ns);
    fputs(" |\n", f);
}

static bool has_open(const struct bn_profile *p)
{
    for (size_t i = 1; i < p->n_stages; i++)
        if (p->stages[i].open_calls)
            return true;
    return false;
}

static void put_head(FILE *f, const struct bn_profile *p)
{
    const char *until = bn_profile_fact(p, "timers_until");

    fprintf(
        f,
        "## Stages: timers and samples side by side\n\nExact time is wall time of all threads without child "
        "stages; sampled time is CPU time with its interval (99.95 %%, so that chance leaves hardly one of "
        "the rows outside), divided among functions by self time. A gap is exact less sampled time, where "
        "exact lies outside of that interval: "
        "what threads slept there, or had to leave the CPU to others (preempted), is %s.\n\n",
        off_cpu_known(p)                   ? "known from the kernel's records of switches"
        : bn_profile_by_timer(&p->quality) ? "not known: CPU timers tell of no switches"
                                           : "not known: there are no records of switches");
    if (has_open(p))
        fputs("Scopes that were still open ended with their thread, its program or the recording; their time "
              "up to then is counted.\n\n",
              f);
    if (until)
        fprintf(f, "The recording was cut off: %s.\n\n", until);
    fputs("| Stage | Calls | Exact | Sampled | Top functions | GB/s | GOP/s | Of limit | Gap |\n"
          "|---|---|---|---|---|---|---|---|---|\n",
          f);
}

/* The table's rows; waits in which nobody but idle workers were, too short for a row each, are left out. */
struct rows {
    struct bn_sampled all, *by_stage;
    struct tops *tops;
    double fold_below_ns, folded_ns;
    unsigned n_folded;
};

static bool is_left_out(struct rows *rows, const struct bn_stage_node *s, const struct bn_sampled *samples)
{
    if (s->calls || samples->n)
        return false;
    if (s->total_ns + s->worker_ns + s->asleep_ns + s->preempted_ns == 0)
        return true;
    if (strcmp(s->name, "wait") != 0 || (double)s->worker_ns >= rows->fold_below_ns)
        return false;
    rows->n_folded++;
    rows->folded_ns += (double)s->worker_ns;
    return true;
}

/* Every stage in the order of the tree, what was found first first and right below what it is in; the caller
 * frees. A stage's parent comes before it. */
static uint32_t *tree_order(const struct bn_profile *p)
{
    uint32_t *size = bn_xcalloc(p->n_stages, sizeof *size), *at = bn_xcalloc(p->n_stages, sizeof *at);
    uint32_t *order = bn_xcalloc(p->n_stages, sizeof *order);

    for (uint32_t i = (uint32_t)p->n_stages - 1; i > 0; i--)
        size[p->stages[i].parent] += ++size[i];
    for (uint32_t i = 1; i < p->n_stages; i++) { /* at: where a stage's next child goes */
        uint32_t parent = p->stages[i].parent;
        uint32_t own = at[parent] + 1;
        at[parent] += size[i];
        at[i] = own;
        order[own] = i;
    }
    free(size);
    free(at);
    return order;
}

void bn_report_stages(FILE *f, const struct bn_profile *p)
{
    static const double FOLD_SHARE = 0.01;
    struct rows rows = {.all = bn_profile_sampled(p, 0)};
    uint32_t *order;

    if (p->n_stages <= 1)
        return;
    put_head(f, p);
    rows.by_stage = weigh_stages(p);
    rows.tops = find_tops(p);
    for (uint32_t i = 1; i < p->n_stages; i++)
        rows.fold_below_ns += FOLD_SHARE * (double)(p->stages[i].self_ns + p->stages[i].worker_ns);
    order = tree_order(p);
    for (uint32_t i = 1; i < p->n_stages; i++)
        if (!is_left_out(&rows, &p->stages[order[i]], &rows.by_stage[order[i]]))
            put_row(f, p, order[i], &rows.all, &rows.by_stage[order[i]], &rows.tops[order[i]]);
    fputs("\n", f);
    if (rows.n_folded)
        fprintf(f,
                "Left out: %u stages in which idle workers waited for less than %.1f %% of all this time, %s "
                "together.\n\n",
                rows.n_folded, 100 * FOLD_SHARE, bn_text_time(rows.folded_ns));
    free(order);
    free(rows.by_stage);
    free(rows.tops);
}
