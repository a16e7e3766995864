/* SPDX-License-Identifier: MIT
 * `bnprof inspect`'s output: tables for people, one object for programs. */
#include "tools/inspect_report.h"

#include <cjson/cJSON.h>
#include <inttypes.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "tools/inspect_value.h"

enum { NAME_CHARS = 80, MAX_TYPES = 64 };

/* ---- totals ---- */

struct totals {
    uint64_t tensors, elements, bytes;
};

static void add_tensor(struct totals *t, const struct bn_tensor *tensor)
{
    t->tensors++;
    t->elements += tensor->ne[0] * tensor->ne[1] * tensor->ne[2] * tensor->ne[3];
    t->bytes += tensor->size_bytes;
}

/* by_type[type], and all of them in the result. */
static struct totals sum_types(const struct bn_gguf *g, struct totals by_type[MAX_TYPES])
{
    struct totals all = {0};

    memset(by_type, 0, MAX_TYPES * sizeof *by_type);
    for (uint64_t i = 0; i < g->n_tensors; i++) {
        add_tensor(&all, &g->tensors[i]);
        if (g->tensors[i].type < MAX_TYPES) /* every known type is */
            add_tensor(&by_type[g->tensors[i].type], &g->tensors[i]);
    }
    return all;
}

/* ---- text ---- */

static void print_metadata(FILE *f, const struct bn_gguf *g)
{
    fprintf(f, "metadata (%" PRIu64 " keys)\n", g->n_kv);
    for (uint64_t i = 0; i < g->n_kv; i++) {
        struct bn_buf value = {0};
        char *key = bn_inspect_str(g->kv[i].key, NAME_CHARS);
        bn_inspect_put_value(&value, &g->kv[i]);
        fprintf(f, "  %-46s %-6s %s\n", key, bn_gguf_kind_name(g->kv[i].kind), value.p);
        free(key);
        bn_buf_free(&value);
    }
}

static void print_tensors(FILE *f, const struct bn_gguf *g)
{
    fprintf(f, "\ntensors (%" PRIu64 "), elements of the fastest dimension first\n", g->n_tensors);
    for (uint64_t i = 0; i < g->n_tensors; i++) {
        const struct bn_tensor *t = &g->tensors[i];
        struct bn_buf shape = {0};
        char *name = bn_inspect_str(t->name, NAME_CHARS);
        for (uint32_t d = 0; d < t->n_dims; d++)
            bn_buf_printf(&shape, "%s%" PRIu64, d ? " x " : "", t->ne[d]);
        fprintf(f, "  %-32s %-8s %-16s %13" PRIu64 " bytes\n", name, bn_type_name(t->type), shape.p,
                t->size_bytes);
        free(name);
        bn_buf_free(&shape);
    }
}

static void print_totals(FILE *f, const struct bn_gguf *g)
{
    struct totals by_type[MAX_TYPES], all = sum_types(g, by_type);

    fputs("\nby type\n", f);
    for (uint32_t type = 0; type < MAX_TYPES; type++)
        if (by_type[type].tensors)
            fprintf(f, "  %-8s %5" PRIu64 " tensors %14" PRIu64 " elements %14" PRIu64 " bytes\n",
                    bn_type_name(type), by_type[type].tensors, by_type[type].elements, by_type[type].bytes);
    fprintf(f,
            "  all      %5" PRIu64 " tensors %14" PRIu64 " elements %14" PRIu64 " bytes, file %" PRIu64
            " bytes\n",
            all.tensors, all.elements, all.bytes, g->size_bytes);
}

static void print_checks(FILE *f, const struct bn_inspection *r, const struct bn_gguf *g)
{
    fputs("\nchecks\n", f);
    fprintf(f,
            "  ternary    %" PRIu64 " tensors, %" PRIu64 " codes, %" PRIu64
            " of them 3 (no converter writes it)\n",
            r->n_ternary, r->n_codes, r->n_code3);
    fprintf(f, "  norms      %zu\n", r->n_norms);
    fprintf(f, "  tokenizer  %s\n", r->tokenizer ? r->tokenizer : "none");
    fprintf(f, "  engine     %s\n",
            r->engine      ? r->engine
            : g->n_tensors ? "does not run it"
                           : "nothing to run: the file has no tensors");
    for (size_t i = 0; i < r->n_findings; i++)
        fprintf(f, "  PROBLEM    %s\n", r->findings[i]);
    fprintf(f, "  %zu problem%s\n", r->n_findings, r->n_findings == 1 ? "" : "s");
}

void bn_inspect_print(FILE *f, const struct bn_inspection *r, const struct bn_gguf *g, bool norms)
{
    char *path = bn_inspect_str(bn_str_from(g->path), 4096);

    fprintf(f, "%s: GGUF version %" PRIu32 ", alignment %" PRIu64 " bytes\n\n", path, g->version,
            g->alignment);
    free(path);
    print_metadata(f, g);
    print_tensors(f, g);
    print_totals(f, g);
    if (norms) {
        fputs("\nnorms, root mean square of the weights\n", f);
        for (size_t i = 0; i < r->n_norms; i++)
            fprintf(f, "  %-32s %.6g\n", r->norms[i].name, r->norms[i].rms);
    }
    print_checks(f, r, g);
}

/* ---- JSON ---- */

static void add_number(cJSON *o, const char *key, double value)
{
    if (isfinite(value))
        cJSON_AddNumberToObject(o, key, value);
    else
        cJSON_AddNullToObject(o, key);
}

static void add_text(cJSON *o, const char *key, const char *text)
{
    if (text)
        cJSON_AddStringToObject(o, key, text);
    else
        cJSON_AddNullToObject(o, key);
}

static void add_metadata(cJSON *root, const struct bn_gguf *g)
{
    cJSON *o = cJSON_AddObjectToObject(root, "metadata");

    for (uint64_t i = 0; i < g->n_kv; i++) {
        char *key = bn_inspect_str(g->kv[i].key, 4096);
        cJSON_AddItemToObject(o, key, bn_inspect_value_json(&g->kv[i]));
        free(key);
    }
}

static void add_tensors(cJSON *root, const struct bn_gguf *g)
{
    cJSON *list = cJSON_AddArrayToObject(root, "tensors");

    for (uint64_t i = 0; i < g->n_tensors; i++) {
        const struct bn_tensor *t = &g->tensors[i];
        cJSON *o = cJSON_CreateObject();
        char *name = bn_inspect_str(t->name, 4096);
        cJSON_AddStringToObject(o, "name", name);
        cJSON_AddStringToObject(o, "type", bn_type_name(t->type));
        cJSON *shape = cJSON_AddArrayToObject(o, "shape");
        for (uint32_t d = 0; d < t->n_dims; d++)
            cJSON_AddItemToArray(shape, cJSON_CreateNumber((double)t->ne[d]));
        add_number(o, "size_bytes", (double)t->size_bytes);
        cJSON_AddItemToArray(list, o);
        free(name);
    }
}

static void add_types(cJSON *root, const struct bn_gguf *g)
{
    struct totals by_type[MAX_TYPES];
    cJSON *types = cJSON_AddObjectToObject(root, "types");

    sum_types(g, by_type);
    for (uint32_t type = 0; type < MAX_TYPES; type++) {
        if (by_type[type].tensors == 0)
            continue;
        cJSON *o = cJSON_AddObjectToObject(types, bn_type_name(type));
        add_number(o, "tensors", (double)by_type[type].tensors);
        add_number(o, "elements", (double)by_type[type].elements);
        add_number(o, "size_bytes", (double)by_type[type].bytes);
    }
}

static void add_checks(cJSON *root, const struct bn_inspection *r)
{
    cJSON *norms = cJSON_AddObjectToObject(root, "norms");
    for (size_t i = 0; i < r->n_norms; i++)
        add_number(norms, r->norms[i].name, r->norms[i].rms);
    cJSON *ternary = cJSON_AddObjectToObject(root, "i2s"); /* the name from before there were others */
    add_number(ternary, "tensors", (double)r->n_ternary);
    add_number(ternary, "codes", (double)r->n_codes);
    add_number(ternary, "codes_of_3", (double)r->n_code3);
    add_text(root, "tokenizer", r->tokenizer);
    add_text(root, "engine", r->engine);
    cJSON *findings = cJSON_AddArrayToObject(root, "findings");
    for (size_t i = 0; i < r->n_findings; i++)
        cJSON_AddItemToArray(findings, cJSON_CreateString(r->findings[i]));
    cJSON_AddStringToObject(root, "status", r->n_findings ? "failed" : "ok");
}

void bn_inspect_print_json(FILE *f, const struct bn_inspection *r, const struct bn_gguf *g)
{
    cJSON *root = cJSON_CreateObject();
    char *path = bn_inspect_str(bn_str_from(g->path), 4096);

    cJSON_AddStringToObject(root, "file", path);
    add_number(root, "gguf_version", g->version);
    add_number(root, "alignment", (double)g->alignment);
    add_number(root, "size_bytes", (double)g->size_bytes);
    add_metadata(root, g);
    add_tensors(root, g);
    add_types(root, g);
    add_checks(root, r);
    char *text = cJSON_Print(root);
    fprintf(f, "%s\n", text);
    cJSON_free(text);
    cJSON_Delete(root);
    free(path);
}
