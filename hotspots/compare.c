/* SPDX-License-Identifier: MIT
 * Comparison: time per token of each item, from samples gathered in blocks of consecutive tokens, because
 * samples within one token are not independent; the blocks are what is resampled. */
#include "hotspots/compare.h"

#include <stdlib.h>
#include <string.h>

#include "profiler/stats.h"

enum { BLOCKS = 40 };

const char *bn_verdict_name(enum bn_verdict verdict)
{
    static const char *const names[] = {"cannot_tell", "equal", "faster", "slower"};

    return names[verdict];
}

/* ---- what one run says about one item ---- */

struct side {
    const struct bn_profile *p;
    struct bn_ranking ranking;
    bool per_token;
    uint32_t first_step, last_step; /* of the decoded tokens that the timeline shows */
    double den[BLOCKS];             /* tokens in each block, or shares of the run */
};

static size_t block_of_step(const struct side *s, uint32_t step)
{
    if (step <= s->first_step)
        return 0;
    uint64_t n = (uint64_t)s->last_step - s->first_step + 1;
    size_t block = (size_t)((uint64_t)(step - s->first_step) * BLOCKS / n);
    return block < BLOCKS ? block : BLOCKS - 1;
}

static size_t block_of_time(const struct side *s, uint64_t t_ns)
{
    uint64_t n = s->p->quality.duration_ns ? s->p->quality.duration_ns : 1;
    size_t block = (size_t)((double)t_ns / (double)n * BLOCKS);

    return block < BLOCKS ? block : BLOCKS - 1;
}

static void side_open(struct side *s, const struct bn_profile *p, enum bn_rank_by by)
{
    *s = (struct side){.p = p, .first_step = UINT32_MAX};
    bn_ranking_make(&s->ranking, p, by);
}

static void side_blocks(struct side *s, bool per_token)
{
    double counted = 0;

    s->per_token = per_token;
    if (!per_token) {
        for (int i = 0; i < BLOCKS; i++)
            s->den[i] = 1.0 / BLOCKS;
        return;
    }
    for (size_t i = 0; i < s->p->n_tokens; i++) {
        const struct bn_token *t = &s->p->tokens[i];
        if (t->prefill)
            continue;
        s->first_step = t->step < s->first_step ? t->step : s->first_step;
        s->last_step = t->step > s->last_step ? t->step : s->last_step;
    }
    for (size_t i = 0; i < s->p->n_tokens; i++)
        if (!s->p->tokens[i].prefill) {
            s->den[block_of_step(s, s->p->tokens[i].step)]++;
            counted++;
        }
    for (int i = 0; i < BLOCKS && counted > 0; i++) /* the timeline may be thinned; the count is exact */
        s->den[i] *= (double)s->ranking.decode_tokens / counted;
}

static bool is_item(const struct side *s, const struct bn_rank_item *item, const struct bn_sample *sample)
{
    const struct bn_profile *p = s->p;
    uint32_t stack = sample->stack;

    if (s->ranking.by == BN_RANK_STAGE)
        return sample->stage == item->stage;
    while (s->ranking.by == BN_RANK_FUNCTION && stack && p->frames[p->stacks[stack].frame].inlined)
        stack = p->stacks[stack].parent;
    if (!stack)
        return false;
    const struct bn_frame *f = &p->frames[p->stacks[stack].frame];
    if (s->ranking.by == BN_RANK_LINE) {
        const char *colon = strrchr(item->name, ':');
        return f->file && colon && strlen(f->file) == (size_t)(colon - item->name) &&
               strncmp(f->file, item->name, strlen(f->file)) == 0 && f->line == strtoul(colon + 1, NULL, 10);
    }
    return f->function == item->name && f->module == item->module;
}

struct estimate {
    double value, se; /* se NAN = too few data */
};

static struct estimate estimate(const double *num, const double *den)
{
    double n[BLOCKS], d[BLOCKS], sum_n = 0, sum_d = 0;
    size_t used = 0;

    for (int i = 0; i < BLOCKS; i++) {
        if (den[i] <= 0)
            continue;
        n[used] = num[i];
        d[used++] = den[i];
        sum_n += num[i];
        sum_d += den[i];
    }
    if (sum_d <= 0)
        return (struct estimate){BN_UNKNOWN, BN_UNKNOWN};
    struct bn_interval ci = bn_stats_bootstrap_ratio(n, d, used);
    return (struct estimate){sum_n / sum_d, (ci.high - ci.low) / 3.92};
}

static struct estimate item_estimate(const struct side *s, const struct bn_rank_item *item)
{
    double num[BLOCKS] = {0};

    if (!item)
        return estimate(num, s->den);
    for (size_t i = 0; i < s->p->n_samples; i++) {
        const struct bn_sample *sample = &s->p->samples[i];
        if (s->per_token && !bn_ranking_in_token(&s->ranking, s->p, sample))
            continue;
        if (!is_item(s, item, sample) || bn_class_of(s->p, sample) == BN_CLASS_WAIT)
            continue;
        num[s->per_token ? block_of_step(s, sample->step) : block_of_time(s, sample->t_ns)] +=
            (double)sample->weight_ns;
    }
    return estimate(num, s->den);
}

static struct estimate total_estimate(const struct side *s)
{
    double num[BLOCKS] = {0};

    if (!s->per_token)
        return (struct estimate){(double)bn_profile_cpu_ns(&s->p->quality), BN_UNKNOWN};
    double n[BLOCKS] = {0};
    for (size_t i = 0; i < s->p->n_tokens; i++) {
        const struct bn_token *t = &s->p->tokens[i];
        if (t->prefill)
            continue;
        size_t block = block_of_step(s, t->step);
        num[block] += (double)(t->end_ns - t->start_ns);
        n[block]++;
    }
    struct estimate e = estimate(num, n);
    if (s->ranking.decode == BN_NONE)
        return e;
    const struct bn_stage_node *decode = &s->p->stages[s->ranking.decode];
    e.value =
        (double)decode->total_ns / (double)decode->calls; /* exact; the thinned timeline gives the spread */
    return e;
}

/* ---- the verdict ---- */

static void decide(struct bn_compare_row *row, struct estimate previous, struct estimate current)
{
    double d = current.value - previous.value;
    double half = 1.96 * sqrt(previous.se * previous.se + current.se * current.se);
    double floor = BN_COMPARE_FLOOR * previous.value;

    row->previous = previous.value;
    row->current = current.value;
    row->low = d - half;
    row->high = d + half;
    row->more = BN_UNKNOWN;
    row->verdict = BN_VERDICT_CANNOT_TELL;
    if (isnan(d) || isnan(half))
        return;
    if (row->low > floor)
        row->verdict = BN_VERDICT_SLOWER;
    else if (row->high < -floor)
        row->verdict = BN_VERDICT_FASTER;
    else if (row->low >= -floor && row->high <= floor)
        row->verdict = BN_VERDICT_EQUAL;
    else if (floor > 0) {
        /* The interval must shrink until it lies on one side of the floor: half-width below its distance. */
        double distance = fabs(fabs(d) - floor);
        row->more = distance > 0.005 * previous.value ? (half / distance) * (half / distance) : BN_UNKNOWN;
    }
}

static double share_of(const struct side *s, const struct bn_rank_item *item)
{
    return item ? bn_sampled_share(&item->self, &s->ranking.total) : 0;
}

static void add_row(struct bn_comparison *c, const char *name, const char *module, const struct side *a,
                    const struct side *b)
{
    const struct bn_rank_item *x = bn_ranking_find(&a->ranking, name, module);
    const struct bn_rank_item *y = bn_ranking_find(&b->ranking, name, module);
    struct bn_compare_row *row = &c->rows[c->n++];

    *row = (struct bn_compare_row){.name = bn_arena_strdup(&c->arena, name),
                                   .previous_share = share_of(a, x),
                                   .current_share = share_of(b, y)};
    decide(row, item_estimate(a, x), item_estimate(b, y));
}

static bool has_row(const struct bn_comparison *c, const char *name)
{
    for (size_t i = 0; i < c->n; i++)
        if (strcmp(c->rows[i].name, name) == 0)
            return true;
    return false;
}

/* ---- can they be compared at all ---- */

static void note_if(struct bn_comparison *c, const char *what, const char *a, const char *b)
{
    if (a && b && strcmp(a, b) != 0)
        bn_buf_printf(&c->notes, "%s differs: %s before, %s now\n", what, a, b);
}

static void note_differences(struct bn_comparison *c, const struct bn_profile *a, const struct bn_profile *b)
{
    note_if(c, "the CPU", bn_profile_fact(a, "cpu_model"), bn_profile_fact(b, "cpu_model"));
    note_if(c, "the host", bn_profile_fact(a, "hostname"), bn_profile_fact(b, "hostname"));
    note_if(c, "the kernel release", bn_profile_fact(a, "kernel"), bn_profile_fact(b, "kernel"));
    note_if(c, "the model", a->model.sha256, b->model.sha256);
    note_if(c, "the CPU path", a->run.cpu_used, b->run.cpu_used);
    note_if(c, "the kernel choice", a->run.kernel, b->run.kernel);
    note_if(c, "the lm_head", a->run.lm_head, b->run.lm_head);
    note_if(c, "the event", a->quality.event, b->quality.event);
    if (a->run.known && b->run.known && a->run.threads != b->run.threads)
        bn_buf_printf(&c->notes, "threads differ: %u before, %u now\n", a->run.threads, b->run.threads);
    if (a->run.token_hash && b->run.token_hash && strcmp(a->run.token_hash, b->run.token_hash) != 0)
        bn_buf_printf(
            &c->notes,
            "the output tokens differ (hash %s before, %s now): the two did not compute the same thing\n",
            a->run.token_hash, b->run.token_hash);
    if (a->config_key && b->config_key && strcmp(a->config_key, b->config_key) != 0)
        bn_buf_puts(&c->notes, "the configuration differs (model, format, threads, sizes or command)\n");
    if (a->quality.kernel_sampled != b->quality.kernel_sampled)
        bn_buf_puts(&c->notes, "kernel time was sampled in only one of them\n");
}

void bn_compare(struct bn_comparison *c, const struct bn_profile *previous, const struct bn_profile *current,
                enum bn_rank_by by, size_t top)
{
    struct side a, b;

    *c = (struct bn_comparison){0};
    note_differences(c, previous, current);
    side_open(&a, previous, by);
    side_open(&b, current, by);
    c->per_token =
        a.ranking.decode_tokens > 0 && b.ranking.decode_tokens > 0 && previous->n_tokens && current->n_tokens;
    side_blocks(&a, c->per_token);
    side_blocks(&b, c->per_token);
    c->rows = bn_xcalloc(2 * top + 1, sizeof *c->rows);
    struct bn_compare_row *total = &c->rows[c->n++];
    *total = (struct bn_compare_row){.name = c->per_token ? "decode step (wall time)" : "all CPU time",
                                     .total = true,
                                     .previous_share = BN_UNKNOWN,
                                     .current_share = BN_UNKNOWN};
    decide(total, total_estimate(&a), total_estimate(&b));
    for (size_t i = 0; i < top; i++) {
        if (i < b.ranking.n && !has_row(c, b.ranking.items[i].name))
            add_row(c, b.ranking.items[i].name, b.ranking.items[i].module, &a, &b);
        if (i < a.ranking.n && !has_row(c, a.ranking.items[i].name))
            add_row(c, a.ranking.items[i].name, a.ranking.items[i].module, &a, &b);
    }
    bn_ranking_free(&a.ranking);
    bn_ranking_free(&b.ranking);
}

void bn_comparison_free(struct bn_comparison *c)
{
    free(c->rows);
    bn_buf_free(&c->notes);
    bn_arena_free(&c->arena);
    *c = (struct bn_comparison){0};
}
