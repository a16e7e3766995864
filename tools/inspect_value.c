/* SPDX-License-Identifier: MIT
 * Metadata values as text and as JSON. */
#include "tools/inspect_value.h"

#include <inttypes.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "core/utf8.h"

enum {
    FIRST = 4,           /* elements of an array that are shown */
    STRING_CHARS = 100,  /* of a string in the text */
    ELEMENT_CHARS = 24,  /* of a string in an array */
    JSON_CHARS = 1 << 16 /* of a string in the JSON */
};

void bn_inspect_put_str(struct bn_buf *out, struct bn_str s, size_t max_chars)
{
    bn_buf_puts(out, "");
    for (size_t at = 0, chars = 0; at < s.n; chars++) {
        if (chars == max_chars) {
            bn_buf_puts(out, "...");
            return;
        }
        unsigned length = bn_utf8_length(s.p + at, s.n - at);
        unsigned char c = (unsigned char)s.p[at], next = length == 2 ? (unsigned char)s.p[at + 1] : 0;
        bool control = c < 0x20 || c == 0x7f || (c == 0xc2 && next < 0xa0); /* U+0000 ... 1F, 7F ... 9F */
        if (length == 0 || control)
            bn_buf_putc(out, '?');
        else
            bn_buf_put(out, s.p + at, length);
        at += length ? length : 1;
    }
}

char *bn_inspect_str(struct bn_str s, size_t max_chars)
{
    struct bn_buf out = {0};

    bn_inspect_put_str(&out, s, max_chars);
    return out.p;
}

/* ---- one value ---- */

struct scalar {
    enum { IS_SIGNED, IS_UNSIGNED, IS_FLOAT, IS_BOOL, IS_STRING } form;
    int64_t i;
    uint64_t u;
    double f;
    struct bn_str s;
};

/* The decimal number of the fewest digits that is this float, so that 1e-5 does not become 9.99999975e-06. */
static double shortest(float f)
{
    char text[32];

    for (int digits = 6; digits <= 9; digits++) {
        snprintf(text, sizeof text, "%.*g", digits, (double)f);
        if (strtof(text, NULL) == f)
            break;
    }
    return isfinite(f) ? strtod(text, NULL) : (double)f;
}

static struct scalar integer(enum bn_gguf_kind kind, const uint8_t *p)
{
    unsigned bits = 8 * (unsigned)bn_gguf_kind_bytes(kind);
    bool is_signed = kind == BN_GGUF_I8 || kind == BN_GGUF_I16 || kind == BN_GGUF_I32 || kind == BN_GGUF_I64;
    uint64_t raw = 0;

    memcpy(&raw, p, bits / 8);
    if (!is_signed)
        return (struct scalar){.form = IS_UNSIGNED, .u = raw};
    return (struct scalar){.form = IS_SIGNED, .i = (int64_t)(raw << (64 - bits)) >> (64 - bits)};
}

/* Read one value of `kind` (no array) and move the cursor behind it. */
static struct scalar next_scalar(enum bn_gguf_kind kind, const uint8_t **cursor)
{
    const uint8_t *p = *cursor;
    float f;
    double d;

    if (kind == BN_GGUF_STRING)
        return (struct scalar){.form = IS_STRING, .s = bn_gguf_next_str(cursor)};
    *cursor += bn_gguf_kind_bytes(kind);
    switch (kind) {
    case BN_GGUF_BOOL:
        return (struct scalar){.form = IS_BOOL, .u = p[0] != 0};
    case BN_GGUF_F32:
        memcpy(&f, p, sizeof f);
        return (struct scalar){.form = IS_FLOAT, .f = shortest(f)};
    case BN_GGUF_F64:
        memcpy(&d, p, sizeof d);
        return (struct scalar){.form = IS_FLOAT, .f = d};
    default:
        return integer(kind, p);
    }
}

static void put_scalar(struct bn_buf *out, struct scalar v, size_t max_chars)
{
    switch (v.form) {
    case IS_SIGNED:
        bn_buf_printf(out, "%" PRId64, v.i);
        return;
    case IS_UNSIGNED:
        bn_buf_printf(out, "%" PRIu64, v.u);
        return;
    case IS_FLOAT:
        bn_buf_printf(out, "%.9g", v.f);
        return;
    case IS_BOOL:
        bn_buf_puts(out, v.u ? "true" : "false");
        return;
    case IS_STRING:
        bn_inspect_put_str(out, v.s, max_chars);
        return;
    }
}

static cJSON *scalar_json(struct scalar v, size_t max_chars)
{
    static const double exact = 0x1p53;
    struct bn_buf text = {0};
    bool is_integer = v.form == IS_SIGNED || v.form == IS_UNSIGNED;
    double value = v.form == IS_SIGNED ? (double)v.i : v.form == IS_UNSIGNED ? (double)v.u : v.f;

    if (v.form == IS_BOOL)
        return cJSON_CreateBool(v.u != 0);
    if (v.form == IS_FLOAT && !isfinite(value))
        return cJSON_CreateNull();
    if (v.form == IS_FLOAT || (is_integer && fabs(value) < exact))
        return cJSON_CreateNumber(value);
    put_scalar(&text, v, max_chars);
    cJSON *json = cJSON_CreateString(text.p);
    bn_buf_free(&text);
    return json;
}

/* ---- values of keys ---- */

void bn_inspect_put_value(struct bn_buf *out, const struct bn_gguf_kv *kv)
{
    const uint8_t *cursor = kv->value;

    if (kv->kind != BN_GGUF_ARRAY) {
        put_scalar(out, next_scalar(kv->kind, &cursor), STRING_CHARS);
        return;
    }
    bn_buf_printf(out, "[%" PRIu64 " x %s]", kv->count, bn_gguf_kind_name(kv->element_kind));
    for (uint64_t i = 0; i < kv->count && i < FIRST; i++) {
        bn_buf_puts(out, i ? ", " : " ");
        put_scalar(out, next_scalar(kv->element_kind, &cursor), ELEMENT_CHARS);
    }
    if (kv->count > FIRST)
        bn_buf_puts(out, ", ...");
}

cJSON *bn_inspect_value_json(const struct bn_gguf_kv *kv)
{
    const uint8_t *cursor = kv->value;

    if (kv->kind != BN_GGUF_ARRAY)
        return scalar_json(next_scalar(kv->kind, &cursor), JSON_CHARS);
    cJSON *array = cJSON_CreateObject();
    cJSON_AddStringToObject(array, "kind", bn_gguf_kind_name(kv->element_kind));
    cJSON_AddNumberToObject(array, "count", (double)kv->count);
    cJSON *first = cJSON_AddArrayToObject(array, "first");
    for (uint64_t i = 0; i < kv->count && i < FIRST; i++)
        cJSON_AddItemToArray(first, scalar_json(next_scalar(kv->element_kind, &cursor), JSON_CHARS));
    return array;
}
