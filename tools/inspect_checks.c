/* SPDX-License-Identifier: MIT
 * Sanity checks of a model file. */
#include "tools/inspect_checks.h"

#include <cjson/cJSON.h>
#include <inttypes.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "core/tokenizer.h"

static void found(struct bn_inspection *r, char *line)
{
    bn_grow(&r->findings, &r->cap_findings, r->n_findings + 1, sizeof *r->findings);
    r->findings[r->n_findings++] = line;
}

static char *name_of(const struct bn_tensor *t)
{
    return bn_xasprintf("%.*s", (int)t->name.n, t->name.p);
}

/* Codes of 3 in one byte: both bits of a pair set. */
static uint64_t count_code3(const uint8_t *p, uint64_t n)
{
    uint64_t count = 0, word;

    for (; n >= 8; n -= 8, p += 8) {
        memcpy(&word, p, 8);
        count += (unsigned)__builtin_popcountll(word & (word >> 1) & 0x5555555555555555u);
    }
    for (; n > 0; n--, p++)
        count += (unsigned)__builtin_popcount((unsigned)(*p & (*p >> 1) & 0x55));
    return count;
}

static void check_i2s(struct bn_inspection *r, const struct bn_tensor *t)
{
    uint64_t code_bytes = t->size_bytes - 32, n3 = count_code3(t->data, code_bytes);
    char *name = name_of(t);
    float scale;

    memcpy(&scale, t->data + code_bytes, sizeof scale);
    r->n_i2s++;
    r->n_codes += code_bytes * 4;
    r->n_code3 += n3;
    if (n3)
        found(r, bn_xasprintf("%s: %" PRIu64 " codes of 3: not written by a converter, or another layout",
                              name, n3));
    if (!(scale > 0) || !isfinite(scale))
        found(r, bn_xasprintf("%s: scale %g, a finite number above 0 expected", name, (double)scale));
    if (t->ne[0] % 128)
        found(r, bn_xasprintf("%s: rows of %" PRIu64 ", a multiple of 128 expected", name, t->ne[0]));
    free(name);
}

static double half_value(uint16_t h)
{
    int exponent = h >> 10 & 31, fraction = h & 1023;
    double v = exponent == 31 ? (fraction ? NAN : INFINITY)
               : exponent     ? ldexp(1024 + fraction, exponent - 25)
                              : ldexp(fraction, -24);

    return h & 0x8000 ? -v : v;
}

static double value_at(const struct bn_tensor *t, uint64_t i)
{
    uint32_t word = 0;
    uint16_t half;
    float f;

    if (t->type == BN_TYPE_F32) {
        memcpy(&f, t->data + 4 * i, 4);
        return (double)f;
    }
    memcpy(&half, t->data + 2 * i, 2);
    if (t->type == BN_TYPE_F16)
        return half_value(half);
    word = (uint32_t)half << 16;
    memcpy(&f, &word, 4);
    return (double)f;
}

static void check_norm(struct bn_inspection *r, const struct bn_tensor *t)
{
    uint64_t n = t->ne[0] * t->ne[1] * t->ne[2] * t->ne[3];
    double sum = 0;

    if (n == 0 || (t->type != BN_TYPE_F32 && t->type != BN_TYPE_F16 && t->type != BN_TYPE_BF16))
        return;
    for (uint64_t i = 0; i < n; i++)
        sum += value_at(t, i) * value_at(t, i);
    bn_grow(&r->norms, &r->cap_norms, r->n_norms + 1, sizeof *r->norms);
    struct bn_norm_rms *norm = &r->norms[r->n_norms++];
    *norm = (struct bn_norm_rms){name_of(t), sqrt(sum / (double)n)};
    if (!isfinite(norm->rms) || norm->rms == 0)
        found(r, bn_xasprintf("%s: root mean square %g, a finite number above 0 expected", norm->name,
                              norm->rms));
}

static bool name_contains(const struct bn_tensor *t, const char *word)
{
    return memmem(t->name.p, t->name.n, word, strlen(word)) != NULL;
}

static void check_tokenizer(struct bn_inspection *r, const struct bn_gguf *g)
{
    struct bn_tokenizer *tok = NULL;
    struct bn_err err;

    if (!bn_gguf_find(g, "tokenizer.ggml.tokens"))
        return;
    if (bn_tokenizer_load(&tok, g, &err) != 0) {
        found(r, bn_xstrdup(err.msg));
        return;
    }
    snprintf(r->tokenizer, sizeof r->tokenizer, "%" PRIu32 " tokens, BOS %" PRId32 ", EOS %" PRId32 "%s%s",
             bn_tokenizer_size(tok), bn_tokenizer_bos(tok), bn_tokenizer_eos(tok),
             bn_tokenizer_warning(tok) ? "; " : "",
             bn_tokenizer_warning(tok) ? bn_tokenizer_warning(tok) : "");
    bn_tokenizer_free(tok);
}

void bn_inspect(struct bn_inspection *r, const struct bn_gguf *g)
{
    *r = (struct bn_inspection){0};
    for (uint64_t i = 0; i < g->n_tensors; i++) {
        const struct bn_tensor *t = &g->tensors[i];
        if (t->type == BN_TYPE_I2_S)
            check_i2s(r, t);
        else if (name_contains(t, "norm"))
            check_norm(r, t);
    }
    check_tokenizer(r, g);
}

void bn_inspection_free(struct bn_inspection *r)
{
    for (size_t i = 0; i < r->n_norms; i++)
        free(r->norms[i].name);
    for (size_t i = 0; i < r->n_findings; i++)
        free(r->findings[i]);
    free(r->norms);
    free(r->findings);
    *r = (struct bn_inspection){0};
}

/* ---- JSON ---- */

static void add_number(cJSON *o, const char *key, double value)
{
    if (isfinite(value))
        cJSON_AddNumberToObject(o, key, value);
    else
        cJSON_AddNullToObject(o, key);
}

/* Names and strings out of the file may be no UTF-8: cJSON passes bytes on, so what is no printable ASCII
 * becomes '?' unless it is a byte of a longer sequence. */
static char *clean(struct bn_str s)
{
    char *text = bn_xasprintf("%.*s", (int)bn_min_size(s.n, 4096), s.p);

    for (char *p = text; *p; p++)
        if ((unsigned char)*p < 0x20 || *p == 0x7f)
            *p = '?';
    return text;
}

static void add_metadata(cJSON *root, const struct bn_gguf *g)
{
    cJSON *o = cJSON_AddObjectToObject(root, "metadata");

    for (uint64_t i = 0; i < g->n_kv; i++) {
        const struct bn_gguf_kv *kv = &g->kv[i];
        char *key = clean(kv->key), *text = NULL;
        struct bn_err err;
        struct bn_str s;
        uint32_t u;
        float f;
        bool b;
        if (kv->kind == BN_GGUF_ARRAY)
            add_number(cJSON_AddObjectToObject(o, key), "array_of", (double)kv->count);
        else if (kv->kind == BN_GGUF_STRING && bn_gguf_get_str(g, key, &s, &err) == 1)
            cJSON_AddStringToObject(o, key, text = clean(s));
        else if (kv->kind == BN_GGUF_BOOL && bn_gguf_get_bool(g, key, &b, &err) == 1)
            cJSON_AddBoolToObject(o, key, b);
        else if (kv->kind == BN_GGUF_F32 && bn_gguf_get_f32(g, key, &f, &err) == 1)
            add_number(o, key, (double)f);
        else if (bn_gguf_get_u32(g, key, &u, &err) == 1)
            add_number(o, key, u);
        else
            cJSON_AddNullToObject(o, key);
        free(key);
        free(text);
    }
}

static void add_tensors(cJSON *root, const struct bn_gguf *g)
{
    cJSON *list = cJSON_AddArrayToObject(root, "tensors");

    for (uint64_t i = 0; i < g->n_tensors; i++) {
        const struct bn_tensor *t = &g->tensors[i];
        cJSON *o = cJSON_CreateObject(), *shape;
        char *name = clean(t->name);
        cJSON_AddStringToObject(o, "name", name);
        cJSON_AddStringToObject(o, "type", bn_type_name(t->type));
        shape = cJSON_AddArrayToObject(o, "shape");
        for (uint32_t d = 0; d < t->n_dims; d++)
            cJSON_AddItemToArray(shape, cJSON_CreateNumber((double)t->ne[d]));
        add_number(o, "size_bytes", (double)t->size_bytes);
        cJSON_AddItemToArray(list, o);
        free(name);
    }
}

void bn_inspection_print_json(FILE *f, const struct bn_inspection *r, const struct bn_gguf *g)
{
    cJSON *root = cJSON_CreateObject(), *list, *o;

    cJSON_AddStringToObject(root, "file", g->path);
    add_number(root, "gguf_version", g->version);
    add_number(root, "size_bytes", (double)g->size_bytes);
    add_metadata(root, g);
    add_tensors(root, g);
    o = cJSON_AddObjectToObject(root, "norms");
    for (size_t i = 0; i < r->n_norms; i++)
        add_number(o, r->norms[i].name, r->norms[i].rms);
    o = cJSON_AddObjectToObject(root, "i2s");
    add_number(o, "tensors", (double)r->n_i2s);
    add_number(o, "codes", (double)r->n_codes);
    add_number(o, "codes_of_3", (double)r->n_code3);
    cJSON_AddStringToObject(root, "tokenizer", r->tokenizer);
    list = cJSON_AddArrayToObject(root, "findings");
    for (size_t i = 0; i < r->n_findings; i++)
        cJSON_AddItemToArray(list, cJSON_CreateString(r->findings[i]));
    cJSON_AddStringToObject(root, "status", r->n_findings ? "failed" : "ok");
    char *text = cJSON_Print(root);
    fprintf(f, "%s\n", text);
    cJSON_free(text);
    cJSON_Delete(root);
}
