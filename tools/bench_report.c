/* SPDX-License-Identifier: MIT
 * The tables of `bnprof bench`: rows of cells, aligned for people or in Markdown. */
#include "tools/bench_report.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "core/builtin.h"

enum { MAX_COLUMNS = 12, CELL = 64 };

/* ---- tables ---- */

struct table {
    size_t n_columns, n_rows, capacity; /* row 0 is the head */
    bool left[MAX_COLUMNS];             /* text, not numbers */
    char (*cells)[MAX_COLUMNS][CELL];
};

/* A new row; the answer is its cells. */
static char (*add_row(struct table *t))[CELL]
{
    bn_grow(&t->cells, &t->capacity, t->n_rows + 1, sizeof *t->cells);
    memset(t->cells[t->n_rows], 0, sizeof *t->cells);
    return t->cells[t->n_rows++];
}

/* heads: separated by '|'; one that begins with '<' stands left. */
static void open_table(struct table *t, const char *heads)
{
    *t = (struct table){0};
    char(*row)[CELL] = add_row(t);
    for (const char *p = heads; *p && t->n_columns < MAX_COLUMNS; t->n_columns++) {
        t->left[t->n_columns] = *p == '<';
        p += *p == '<';
        int n = (int)strcspn(p, "|");
        snprintf(row[t->n_columns], CELL, "%.*s", n, p);
        p += p[n] == '|' ? n + 1 : n;
    }
}

static void print_row(FILE *f, const struct table *t, size_t r, const int *width, bool md)
{
    struct bn_buf line = {0};

    for (size_t c = 0; c < t->n_columns; c++) {
        bn_buf_puts(&line, md ? c ? " | " : "| " : c ? "  " : "");
        bn_buf_printf(&line, "%*s", t->left[c] ? -width[c] : width[c], t->cells[r][c]);
    }
    if (md)
        bn_buf_puts(&line, " |");
    while (line.n && line.p[line.n - 1] == ' ')
        line.n--;
    fprintf(f, "%.*s\n", (int)line.n, line.p);
    bn_buf_free(&line);
}

static void print_table(FILE *f, const struct table *t, bool md)
{
    int width[MAX_COLUMNS] = {0};

    for (size_t r = 0; r < t->n_rows; r++) {
        for (size_t c = 0; c < t->n_columns; c++) {
            int n = (int)strlen(t->cells[r][c]);
            width[c] = n > width[c] ? n : width[c];
        }
    }
    for (size_t r = 0; r < t->n_rows; r++) {
        print_row(f, t, r, width, md);
        for (size_t c = 0; md && r == 0 && c < t->n_columns; c++)
            fputs(t->left[c] ? "|---" : "|--:", f);
        if (md && r == 0)
            fputs("|\n", f);
    }
    free(t->cells);
}

/* ---- cells ---- */

/* Four digits that count. */
static void put_number(char cell[CELL], double value)
{
    snprintf(cell, CELL, "%.*f", value < 10 ? 3 : value < 100 ? 2 : value < 1000 ? 1 : 0, value);
}

static void put_rate(char cell[CELL], double value, const char *unit)
{
    snprintf(cell, CELL, "%.*f %s", value < 10 ? 2 : 1, value, unit);
}

/* "31.2 GB/s", "34.9 GB/s", "89 %" */
static void put_share(char reached[CELL], char limit[CELL], char share[CELL], const struct bn_bench_share *s)
{
    bool int8 = s->bound == BN_BENCH_INT8 || (s->gbytes_per_s <= 0 && s->gmacs_per_s > 0);
    const char *unit = int8 ? "GMAC/s" : "GB/s";

    if (s->bound == BN_BENCH_NOT_COUNTED)
        return;
    put_rate(reached, int8 ? s->gmacs_per_s : s->gbytes_per_s, unit);
    if (isnan(s->share)) {
        snprintf(limit, CELL, "%s", bn_bench_bound_name(s->bound));
        return;
    }
    put_rate(limit, s->limit, unit);
    if (s->share > 1.0)
        snprintf(share, CELL, "error");
    else
        snprintf(share, CELL, "%.0f %%", s->share * 100.0);
}

/* ---- the report ---- */

static void print_head(FILE *f, const struct bn_bench *b, bool md)
{
    const struct bn_engine *e = &b->engines[0];
    const struct bn_model *m = &e->model;
    const char *end = md ? "  \n" : "\n";

    fprintf(f, "%s%s%s (%s, %.1f MB of weights); kv %s, cpu %s; %u repetition%s%s",
            *m->name ? m->name : "model", md ? " " : "  ",
            b->options->model ? b->options->model : BN_BUILTIN_LABEL, m->format,
            (double)m->weight_bytes / 1e6, bn_kv_type_name(e->kv), e->cpu_used, b->options->repetitions,
            b->options->repetitions == 1 ? "" : "s", end);
    for (size_t i = 0; i < b->options->threads.n; i++) {
        const struct bn_limits *l = &b->limits[i];
        fprintf(f, "limits, %u thread%s: ", l->threads, l->threads == 1 ? "" : "s");
        if (l->read_bytes_per_s > 0)
            fprintf(f, "%.1f GB/s read", l->read_bytes_per_s * 1e-9);
        else
            fputs("reading not measured (too little free memory)", f);
        fprintf(f, ", %.1f GMAC/s int8%s", l->int8_macs_per_s * 1e-9, end);
    }
    fputs("\n", f);
}

static void print_results(FILE *f, const struct bn_bench *b, bool md)
{
    struct table t;

    open_table(&t, "<test|threads|<kernel|<lm_head|tok/s|min|max|reached|limit|share|nearby");
    for (size_t i = 0; i < b->n_results; i++) {
        const struct bn_bench_result *r = &b->results[i];
        if (r->n_repetitions == 0)
            continue;
        char(*row)[CELL] = add_row(&t);
        snprintf(row[0], CELL, "%s", r->test);
        snprintf(row[1], CELL, "%u", r->threads);
        snprintf(row[2], CELL, "%s", r->kernel);
        snprintf(row[3], CELL, "%s", r->lm_head);
        put_number(row[4], r->speed.median);
        put_number(row[5], r->speed.min);
        put_number(row[6], r->speed.max);
        put_share(row[7], row[8], row[9], &r->share);
        if (r->nearby <= 1.0)
            snprintf(row[10], CELL, "%.0f %%", r->nearby * 100.0);
    }
    print_table(f, &t, md);
}

static void print_stages(FILE *f, const struct bn_bench_result *r, bool md)
{
    double tokens = (double)r->n * r->runs * (double)r->n_repetitions;
    struct table t;
    char names[CELL - 16];

    fprintf(f, "\n%s%s, %u thread%s, %s, lm_head %s%s\n", md ? "**" : "", r->test, r->threads,
            r->threads == 1 ? "" : "s", r->kernel, r->lm_head, md ? "**\n" : "");
    open_table(&t, "<stage|us/token|of test|GB/s|GMAC/s|share|<of");
    for (size_t i = 0; i < r->n_stages; i++) {
        const struct bn_bench_stage *s = &r->stages[i];
        char(*row)[CELL] = add_row(&t), reached[CELL];
        snprintf(row[0], CELL, "%s", s->name);
        if (s->seconds <= 0 && s->fused_into) {
            bn_stage_names(s->fused_into, names, sizeof names);
            snprintf(row[6], CELL, "fused into %s", names);
            continue;
        }
        put_number(row[1], s->seconds / tokens * 1e6);
        snprintf(row[2], CELL, "%.1f %%", s->seconds / r->seconds * 100.0);
        if (s->work.memory_bytes > 0)
            snprintf(row[3], CELL, "%.2f", s->share.gbytes_per_s);
        if (s->work.int8_macs > 0)
            snprintf(row[4], CELL, "%.1f", s->share.gmacs_per_s);
        put_share(reached, row[6], row[5], &s->share);
    }
    print_table(f, &t, md);
}

void bn_bench_print(FILE *f, const struct bn_bench *b, bool md)
{
    print_head(f, b, md);
    print_results(f, b, md);
    for (size_t i = 0; b->options->stages && i < b->n_results; i++) {
        if (b->results[i].n_repetitions)
            print_stages(f, &b->results[i], md);
    }
}
