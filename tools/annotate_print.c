/* SPDX-License-Identifier: MIT
 * The annotated function as text. */
#include <inttypes.h>
#include <string.h>

#include "hotspots/report.h"
#include "hotspots/report_text.h"
#include "tools/annotate_view.h"

static const char *percent(const struct bn_sampled *part, const struct bn_sampled *whole)
{
    return bn_text_percent(whole->n ? bn_sampled_share(part, whole) : BN_UNKNOWN);
}

/* Less than that share of the whole, if there is one? */
static bool is_below(const struct bn_sampled *part, const struct bn_sampled *whole, double share)
{
    return whole->n && bn_sampled_share(part, whole) < share;
}

static void head(FILE *f, const struct bn_annotate_view *v)
{
    const struct bn_annotation *a = &v->a;
    bool equal = bn_sampled_equal(&v->all);

    fprintf(f, "%s", a->function);
    if (a->module)
        fprintf(f, " in %s", a->module);
    fprintf(f, ": %s samples of its own, ", bn_text_count(a->self.n));
    if (!equal)
        fprintf(f, "%s, ", bn_text_time((double)a->self.ns));
    fprintf(f, "%s of all %s", percent(&a->self, &v->all),
            equal ? bn_text_count(v->all.n) : bn_text_time((double)v->all.ns));
    if (a->inclusive.n != a->self.n) {
        fprintf(f, "; with what it calls %s, ", bn_text_count(a->inclusive.n));
        if (!equal)
            fprintf(f, "%s, ", bn_text_time((double)a->inclusive.ns));
        fputs(percent(&a->inclusive, &v->all), f);
    }
    fputc('\n', f);
    if (a->inlined)
        fprintf(f, "Inlined everywhere, last into %s.\n", a->caller ? a->caller : "unknown code");
    if (a->other)
        fprintf(f, "%s has a function of that name, too: %s samples in other modules; --module names one.\n",
                a->other, bn_text_count(a->elsewhere.n));
}

/* Samples of a line; blank for a line without. */
static void columns(FILE *f, const struct bn_annotate_view *v, const struct bn_annotated_line *l)
{
    if (l && l->self.n)
        fprintf(f, "%8" PRIu64 " %8s", l->self.n, percent(&l->self, &v->a.self));
    else
        fprintf(f, "%17s", "");
    if (l)
        fprintf(f, " %8" PRIu64, l->inclusive.n);
    else
        fprintf(f, " %8s", "");
}

static void text_lines(FILE *f, const struct bn_annotate_view *v, const struct bn_source_text *text,
                       uint32_t from, uint32_t end)
{
    for (; from < end && from <= text->n; from++) {
        columns(f, v, NULL);
        fprintf(f, " %7" PRIu32 " | %s\n", from, bn_source_text_line(text, from));
    }
}

/* Line 0 has no place in the file. */
static void one_line(FILE *f, const struct bn_annotate_view *v, const struct bn_annotate_source *s,
                     const struct bn_annotated_line *l)
{
    columns(f, v, l);
    if (l->line)
        fprintf(f, " %7" PRIu32, l->line);
    else if (s->file)
        fprintf(f, " %7s", "none");
    if (!s->text.why && s->file && l->line)
        fprintf(f, " | %s", bn_source_text_line(&s->text, l->line));
    fputc('\n', f);
}

static void source(FILE *f, const struct bn_annotate_view *v, const struct bn_annotate_source *s,
                   uint32_t context)
{
    const struct bn_annotated_line *lines = v->a.lines + s->first;
    bool has_text = s->file && !s->text.why;
    uint32_t next = 0; /* line behind the last one printed */

    fprintf(f, "\n%s", s->file ? s->file : "source not known");
    if (s->function != v->a.function)
        fprintf(f, ": %s, inlined", s->function);
    fprintf(f, "\n%8s %8s %8s%s\n", "self", "%", "total", s->file ? "    line" : "");
    for (size_t i = 0; i < s->n; i++) {
        uint32_t line = lines[i].line, from = line > context ? line - context : 1;
        if (has_text && line) {
            if (next && from > next)
                fprintf(f, "%34s\n", "⋮");
            text_lines(f, v, &s->text, from > next ? from : next, line);
        }
        one_line(f, v, s, &lines[i]);
        if (!has_text || !line)
            continue;
        uint32_t end =
            i + 1 < s->n && lines[i + 1].line <= line + context ? lines[i + 1].line : line + context + 1;
        text_lines(f, v, &s->text, line + 1, end);
        next = end;
    }
}

/* Why there is no text, each file once. */
static void without_text(FILE *f, const struct bn_annotate_view *v)
{
    const char *before = "\nLine numbers only: ";

    for (size_t i = 0; i < v->n_sources; i++) {
        const struct bn_annotate_source *s = &v->sources[i];
        bool told = !s->file || !s->text.why ||
                    (s->function != v->a.function && is_below(&s->self, &v->a.self, 0.01));
        for (size_t k = 0; k < i && !told; k++)
            told = v->sources[k].file == s->file;
        if (told)
            continue;
        fprintf(f, "%s%s (%s)", before, s->file, s->text.why);
        before = ", ";
    }
    if (before[0] == ',')
        fputc('\n', f);
}

static const char *base_name(const char *path)
{
    const char *slash = strrchr(path, '/');
    return slash ? slash + 1 : path;
}

static void instruction(FILE *f, const struct bn_annotate_view *v, const struct bn_annotate_instruction *i)
{
    char place[64] = "";

    if (i->file)
        snprintf(place, sizeof place, "%.40s:%" PRIu32, base_name(i->file), i->line);
    if (i->samples.n)
        fprintf(f, "%8" PRIu64 " %8s", i->samples.n, percent(&i->samples, &v->a.addressed));
    else
        fprintf(f, "%17s", "");
    fprintf(f, " %10" PRIx64 "  %-24s %s\n", i->vaddr, place, i->text);
}

static void add_up(struct bn_sampled *sum, const struct bn_annotate_view *v, size_t from, size_t end)
{
    for (; from < end; from++)
        bn_sampled_join(sum, &v->instructions[from].samples);
}

/* The instructions with at least 0.5 % of the samples, and those around them. */
static void assembly(FILE *f, const struct bn_annotate_view *v, uint32_t context)
{
    size_t next = 0; /* behind the last one printed */
    struct bn_sampled hidden = {0};

    if (v->no_assembly.msg[0]) {
        fprintf(f, "\nNo assembly: %s\n", v->no_assembly.msg);
        return;
    }
    fputs("\nAssembly: where the CPU was interrupted, at or behind the instruction that took the time\n", f);
    if (bn_sampled_equal(&v->a.addressed) && !bn_sampled_equal(&v->a.self))
        fputs("(%: of the number of samples; the record does not tell the time of single instructions)\n", f);
    fprintf(f, "%8s %8s %10s  %-24s %s\n", "self", "%", "address", "line", "instruction");
    for (size_t i = 0; i < v->n_instructions; i++) {
        size_t from = i > context ? i - context : 0, end = i + context + 1;
        if (v->instructions[i].samples.n == 0 ||
            is_below(&v->instructions[i].samples, &v->a.addressed, 0.005))
            continue;
        if (from > next)
            fprintf(f, "%30s\n", "⋮");
        add_up(&hidden, v, next, from);
        for (size_t k = from > next ? from : next; k < end && k < v->n_instructions; k++) {
            instruction(f, v, &v->instructions[k]);
            next = k + 1;
        }
    }
    add_up(&hidden, v, next, v->n_instructions);
    if (hidden.n)
        fprintf(f, "%8" PRIu64 " %8s on instructions with less than 0.5 %% each\n", hidden.n,
                percent(&hidden, &v->a.addressed));
}

/* Inlined code with next to no samples is told in one line: C++ has pages of it. */
static void sources(FILE *f, const struct bn_annotate_view *v, uint32_t context)
{
    size_t left_out = 0;
    struct bn_sampled samples = {0};

    for (size_t i = 0; i < v->n_sources; i++) {
        const struct bn_annotate_source *s = &v->sources[i];
        if (s->function == v->a.function || !is_below(&s->self, &v->a.self, 0.01)) {
            source(f, v, s, context);
            continue;
        }
        left_out++;
        bn_sampled_join(&samples, &s->self);
    }
    if (left_out)
        fprintf(f, "\n%zu more inlined pieces with less than 1 %% each, %s samples together\n", left_out,
                bn_text_count(samples.n));
}

void bn_annotate_print(FILE *f, const struct bn_annotate_view *v, uint32_t context)
{
    bn_report_quality(f, v->p, false);
    head(f, v);
    fprintf(f, "self: samples that stopped there%s; total: with what is inlined or called there\n",
            bn_sampled_equal(&v->a.self) ? "" : ", %: of the CPU time that they stand for");
    sources(f, v, context);
    without_text(f, v);
    assembly(f, v, context);
}
