/* SPDX-License-Identifier: MIT
 * The annotated function for programs: everything with samples, and the text beside it. */
#include <cJSON.h>

#include "hotspots/report.h"
#include "tools/annotate_view.h"

static void text(cJSON *object, const char *key, const char *value)
{
    if (value)
        cJSON_AddStringToObject(object, key, value);
    else
        cJSON_AddNullToObject(object, key);
}

/* "ns" where it is not told by the number: where the record's samples do not weigh the same. */
static void counts(cJSON *object, const struct bn_annotate_view *v, const struct bn_sampled *samples,
                   const struct bn_sampled *whole)
{
    bool known = whole->ns > 0 || whole->n == 0;

    cJSON_AddNumberToObject(object, "samples", (double)samples->n);
    if (!bn_sampled_equal(&v->all) && known)
        cJSON_AddNumberToObject(object, "ns", (double)samples->ns);
    if (whole->n)
        cJSON_AddNumberToObject(object, "share", bn_sampled_share(samples, whole));
    else
        cJSON_AddNullToObject(object, "share");
}

static cJSON *source(const struct bn_annotate_view *v, const struct bn_annotate_source *s)
{
    cJSON *o = cJSON_CreateObject();

    text(o, "file", s->file);
    text(o, "function", s->function);
    cJSON_AddBoolToObject(o, "inlined", s->function != v->a.function);
    text(o, "path", s->text.why ? NULL : s->text.path);
    text(o, "no_text", s->file ? s->text.why : "no debug information");
    cJSON *lines = cJSON_AddArrayToObject(o, "lines");
    for (size_t i = s->first; i < s->first + s->n; i++) {
        const struct bn_annotated_line *l = &v->a.lines[i];
        cJSON *line = cJSON_CreateObject();
        cJSON_AddNumberToObject(line, "line", l->line);
        counts(line, v, &l->self, &v->a.self);
        cJSON_AddNumberToObject(line, "inclusive_samples", (double)l->inclusive.n);
        text(line, "text",
             s->file && !s->text.why && l->line ? bn_source_text_line(&s->text, l->line) : NULL);
        cJSON_AddItemToArray(lines, line);
    }
    return o;
}

static cJSON *assembly(const struct bn_annotate_view *v)
{
    cJSON *list = cJSON_CreateArray();
    char address[24];

    for (size_t i = 0; i < v->n_instructions; i++) {
        const struct bn_annotate_instruction *from = &v->instructions[i];
        cJSON *o = cJSON_CreateObject();
        snprintf(address, sizeof address, "0x%llx", (unsigned long long)from->vaddr);
        text(o, "address", address);
        counts(o, v, &from->samples, &v->a.addressed);
        text(o, "instruction", from->text);
        if (from->file) {
            text(o, "file", from->file);
            cJSON_AddNumberToObject(o, "line", from->line);
        }
        cJSON_AddItemToArray(list, o);
    }
    return list;
}

void bn_annotate_json(FILE *f, const struct bn_annotate_view *v)
{
    cJSON *root = cJSON_CreateObject(), *sources;

    text(root, "run_id", v->p->run_id);
    cJSON_AddItemToObject(root, "quality", bn_report_quality_json(v->p));
    text(root, "function", v->a.function);
    text(root, "module", v->a.module);
    cJSON_AddBoolToObject(root, "inlined_everywhere", v->a.inlined);
    counts(root, v, &v->a.self, &v->all);
    cJSON_AddNumberToObject(root, "inclusive_samples", (double)v->a.inclusive.n);
    cJSON_AddNumberToObject(root, "all_samples", (double)v->p->n_samples);
    sources = cJSON_AddArrayToObject(root, "sources");
    for (size_t i = 0; i < v->n_sources; i++)
        cJSON_AddItemToArray(sources, source(v, &v->sources[i]));
    text(root, "no_assembly", v->no_assembly.msg[0] ? v->no_assembly.msg : NULL);
    cJSON_AddItemToObject(root, "assembly", assembly(v));
    char *printed = cJSON_Print(root);
    if (printed)
        fprintf(f, "%s\n", printed);
    cJSON_free(printed);
    cJSON_Delete(root);
}
