/* SPDX-License-Identifier: MIT
 * bnprof inspect: metadata, tensors and sanity checks of a model file. */
#include "tools/cmds.h"

#include <argp.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "core/builtin.h"
#include "tools/inspect_checks.h"

struct options {
    const char *model;
    bool norms, json;
};

enum { OPT_NORMS = 256, OPT_JSON };

static const struct argp_option option_list[] = {
    {"norms", OPT_NORMS, NULL, 0, "the root mean square of every norm's weights", 0},
    {"json", OPT_JSON, NULL, 0, "one JSON object", 0},
    {0}};

static error_t parse(int key, char *arg, struct argp_state *state)
{
    struct options *o = state->input;

    switch (key) {
    case OPT_NORMS:
        o->norms = true;
        return 0;
    case OPT_JSON:
        o->json = true;
        return 0;
    case ARGP_KEY_ARG:
        if (o->model)
            argp_error(state, "one MODEL expected, '%s' is a second", arg);
        o->model = arg;
        return 0;
    }
    return ARGP_ERR_UNKNOWN;
}

/* ---- metadata ---- */

static const char *kind_name(enum bn_gguf_kind kind)
{
    static const char *const names[] = {"u8",   "i8",  "u16", "i16", "u32", "i32", "f32",
                                        "bool", "str", "arr", "u64", "i64", "f64"};

    return (unsigned)kind < BN_COUNT(names) ? names[kind] : "?";
}

/* A scalar as text; control bytes become '?', long strings are cut. */
static void scalar_text(enum bn_gguf_kind kind, const uint8_t *p, struct bn_buf *out)
{
    uint64_t u = 0;
    static const uint8_t sizes[] = {1, 1, 2, 2, 4, 4, 4, 1, 0, 0, 8, 8, 8};

    memcpy(&u, p, sizes[kind]);
    switch (kind) {
    case BN_GGUF_F32: {
        float f;
        memcpy(&f, p, 4);
        bn_buf_printf(out, "%g", (double)f);
        break;
    }
    case BN_GGUF_F64: {
        double d;
        memcpy(&d, p, 8);
        bn_buf_printf(out, "%g", d);
        break;
    }
    case BN_GGUF_BOOL:
        bn_buf_puts(out, u ? "true" : "false");
        break;
    case BN_GGUF_I8:
        bn_buf_printf(out, "%d", (int8_t)u);
        break;
    case BN_GGUF_I16:
        bn_buf_printf(out, "%d", (int16_t)u);
        break;
    case BN_GGUF_I32:
        bn_buf_printf(out, "%" PRId32, (int32_t)u);
        break;
    case BN_GGUF_I64:
        bn_buf_printf(out, "%" PRId64, (int64_t)u);
        break;
    case BN_GGUF_STRING: {
        struct bn_str s = bn_gguf_next_str(&p);
        for (size_t i = 0; i < s.n && i < 100; i++)
            bn_buf_putc(out, (unsigned char)s.p[i] < 0x20 || s.p[i] == 0x7f ? '?' : s.p[i]);
        if (s.n > 100)
            bn_buf_puts(out, "…");
        break;
    }
    default:
        bn_buf_printf(out, "%" PRIu64, u);
    }
}

static void print_metadata(const struct bn_gguf *g)
{
    printf("metadata (%" PRIu64 " keys)\n", g->n_kv);
    for (uint64_t i = 0; i < g->n_kv; i++) {
        const struct bn_gguf_kv *kv = &g->kv[i];
        struct bn_buf text = {0};
        if (kv->kind == BN_GGUF_ARRAY)
            bn_buf_printf(&text, "[%" PRIu64 " x %s]", kv->count, kind_name(kv->element_kind));
        else
            scalar_text(kv->kind, kv->value, &text);
        printf("  %-44.*s %-4s %s\n", (int)kv->key.n, kv->key.p, kind_name(kv->kind), text.p ? text.p : "");
        bn_buf_free(&text);
    }
}

/* ---- tensors ---- */

static void shape_text(const struct bn_tensor *t, char *buf, size_t size)
{
    size_t n = 0;

    for (uint32_t d = 0; d < t->n_dims && n < size; d++)
        n += (size_t)snprintf(buf + n, size - n, "%s%" PRIu64, d ? " x " : "", t->ne[d]);
}

static void print_tensors(const struct bn_gguf *g)
{
    char shape[128];

    printf("\ntensors (%" PRIu64 "); sizes in elements, fastest first\n", g->n_tensors);
    for (uint64_t i = 0; i < g->n_tensors; i++) {
        const struct bn_tensor *t = &g->tensors[i];
        shape_text(t, shape, sizeof shape);
        printf("  %-36.*s %-5s %-20s %14" PRIu64 " bytes\n", (int)t->name.n, t->name.p, bn_type_name(t->type),
               shape, t->size_bytes);
    }
}

static void print_totals(const struct bn_gguf *g)
{
    uint64_t all = 0;

    puts("\nby type");
    for (uint32_t type = 0; type < 64; type++) {
        uint64_t n = 0, bytes = 0;
        for (uint64_t i = 0; i < g->n_tensors; i++)
            if (g->tensors[i].type == type) {
                n++;
                bytes += g->tensors[i].size_bytes;
            }
        all += bytes;
        if (n)
            printf("  %-5s %5" PRIu64 " tensors %14" PRIu64 " bytes\n", bn_type_name(type), n, bytes);
    }
    printf("  all   %5" PRIu64 " tensors %14" PRIu64 " bytes, file %" PRIu64 " bytes\n", g->n_tensors, all,
           g->size_bytes);
}

static void print_checks(const struct bn_inspection *r, bool norms)
{
    if (norms) {
        puts("\nnorms (root mean square)");
        for (size_t i = 0; i < r->n_norms; i++)
            printf("  %-36s %.6g\n", r->norms[i].name, r->norms[i].rms);
    }
    puts("\nchecks");
    for (size_t i = 0; i < r->n_findings; i++)
        printf("  PROBLEM %s\n", r->findings[i]);
    if (r->n_findings == 0)
        puts("  none failed");
    printf("  I2_S: %" PRIu64 " tensors, %" PRIu64 " codes, %" PRIu64
           " of them 3 (never written by a converter)\n",
           r->n_i2s, r->n_codes, r->n_code3);
    if (r->tokenizer[0])
        printf("  tokenizer: %s\n", r->tokenizer);
}

/* ---- command ---- */

static int open_model(struct bn_gguf *g, const char *path, struct bn_err *err)
{
    struct bn_str builtin = bn_builtin_model();

    if (path)
        return bn_gguf_open(g, path, err);
    return bn_gguf_open_memory(g, builtin.p, builtin.n, BN_BUILTIN_LABEL, err);
}

int cmd_inspect(int argc, char **argv)
{
    static const struct argp argp = {
        option_list,
        parse,
        "[MODEL]",
        "Metadata, tensors and sanity checks of a model file.\v"
        "MODEL defaults to $BNPROF_MODEL, else to the demo model linked into the program.",
        NULL,
        NULL,
        NULL};
    struct options o = {0};
    struct bn_inspection result;
    struct bn_gguf g;
    struct bn_err err;

    if (argp_parse(&argp, argc, argv, 0, NULL, &o) != 0)
        return BN_EXIT_USAGE;
    if (!o.model && getenv("BNPROF_MODEL") && *getenv("BNPROF_MODEL"))
        o.model = getenv("BNPROF_MODEL");
    if (open_model(&g, o.model, &err) != 0)
        return bn_tool_fail(&err);
    bn_inspect(&result, &g);
    if (o.json) {
        bn_inspection_print_json(stdout, &result, &g);
    } else {
        printf("%s: GGUF v%" PRIu32 ", alignment %" PRIu64 "\n\n", g.path, g.version, g.alignment);
        print_metadata(&g);
        print_tensors(&g);
        print_totals(&g);
        print_checks(&result, o.norms);
    }
    bn_inspection_free(&result);
    bn_gguf_close(&g);
    return BN_EXIT_DONE;
}
