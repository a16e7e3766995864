/* SPDX-License-Identifier: MIT
 * Writes profile.json: the same record gives the same bytes. */
#include <assert.h>
#include <stdlib.h>
#include <string.h>

#include "profiler/profile_private.h"

/* The strings of the frames, numbered by first use. Interned strings are told apart by their address. */
struct strings {
    const char **list;
    size_t n, capacity;
    struct string_slot {
        const char *s;
        size_t number;
    } * slots;
    size_t n_slots; /* a power of two, at least twice the number of strings */
};

static struct string_slot *find_slot(const struct strings *st, const char *s)
{
    size_t i = ((uintptr_t)s * (uint64_t)0x9e3779b97f4a7c15u >> 20) & (st->n_slots - 1);

    while (st->slots[i].s && st->slots[i].s != s)
        i = (i + 1) & (st->n_slots - 1);
    return &st->slots[i];
}

static void gather(struct strings *st, const char *s)
{
    if (!s)
        return;
    struct string_slot *slot = find_slot(st, s);
    if (slot->s)
        return;
    *slot = (struct string_slot){s, st->n};
    bn_grow(&st->list, &st->capacity, st->n + 1, sizeof *st->list);
    st->list[st->n++] = s;
}

static void gather_frames(struct strings *st, const struct bn_profile *p)
{
    for (st->n_slots = 64; st->n_slots < p->n_frames * 4 * 2;)
        st->n_slots *= 2;
    st->slots = bn_xcalloc(st->n_slots, sizeof *st->slots);
    for (size_t i = 0; i < p->n_frames; i++) {
        gather(st, p->frames[i].function);
        gather(st, p->frames[i].module);
        gather(st, p->frames[i].file);
        gather(st, p->frames[i].raw);
    }
}

static void put_string(FILE *f, const char *s)
{
    if (!s) {
        fputs("null", f);
        return;
    }
    putc('"', f);
    for (; *s; s++) {
        unsigned char c = (unsigned char)*s;
        if (c == '"' || c == '\\')
            putc('\\', f);
        if (c < 0x20)
            fprintf(f, "\\u%04x", c);
        else
            putc(c, f);
    }
    putc('"', f);
}

static void put_u64(FILE *f, uint64_t v)
{
    const char *quote = v > BN_JSON_MAX_INTEGER ? "\"" : "";

    fprintf(f, "%s%llu%s", quote, (unsigned long long)v, quote);
}

/* The shortest decimal that reads back as the same double. */
static void put_double(FILE *f, double v)
{
    char text[32];

    if (!isfinite(v)) {
        fputs("null", f);
        return;
    }
    for (int digits = 15; digits <= 17; digits++) {
        snprintf(text, sizeof text, "%.*g", digits, v);
        if (strtod(text, NULL) == v)
            break;
    }
    fputs(text, f);
}

static void put_index(FILE *f, uint32_t v)
{
    fprintf(f, "%lld", v == BN_NONE ? -1LL : (long long)v);
}

static void put_field(FILE *f, const struct bn_field *field, const void *item, const struct strings *st)
{
    const void *at = (const char *)item + field->offset;

    switch (field->type) {
    case BN_FIELD_STRING:
        put_string(f, *(const char *const *)at);
        break;
    case BN_FIELD_NAME: {
        const char *s = *(const char *const *)at;
        put_index(f, s ? (uint32_t)find_slot(st, s)->number : BN_NONE);
        break;
    }
    case BN_FIELD_U64:
        put_u64(f, *(const uint64_t *)at);
        break;
    case BN_FIELD_U64_MAYBE:
        if (*(const uint64_t *)at == UINT64_MAX)
            fputs("null", f);
        else
            put_u64(f, *(const uint64_t *)at);
        break;
    case BN_FIELD_U32:
    case BN_FIELD_PARENT:
        put_u64(f, *(const uint32_t *)at);
        break;
    case BN_FIELD_INDEX:
        put_index(f, *(const uint32_t *)at);
        break;
    case BN_FIELD_I32:
        fprintf(f, "%d", *(const int32_t *)at);
        break;
    case BN_FIELD_BOOL:
        fputs(*(const bool *)at ? "true" : "false", f);
        break;
    case BN_FIELD_TIME:
        put_u64(f, (uint64_t) * (const int64_t *)at);
        break;
    case BN_FIELD_DOUBLE:
        put_double(f, *(const double *)at);
        break;
    case BN_FIELD_CHAR: {
        const char text[2] = {*(const char *)at, '\0'};
        put_string(f, text[0] ? text : NULL);
        break;
    }
    case BN_FIELD_ENUM: {
        unsigned v = *(const unsigned *)at;
        assert(v < field->n_names);
        put_string(f, field->names[v]);
        break;
    }
    }
}

/* In a column the short forms: numbers for enums, 0 and 1 for truth. */
static void put_cell(FILE *f, const struct bn_field *field, const void *item, const struct strings *st)
{
    const void *at = (const char *)item + field->offset;

    if (field->type == BN_FIELD_ENUM)
        fprintf(f, "%u", *(const unsigned *)at);
    else if (field->type == BN_FIELD_BOOL)
        putc(*(const bool *)at ? '1' : '0', f);
    else
        put_field(f, field, item, st);
}

/* A rare field that is 0 in all n items. */
static bool is_left_out(const struct bn_field *field, const char *items, size_t item_bytes, size_t n)
{
    uint64_t value, any = 0;

    for (size_t i = 0; field->rare && i < n; i++) {
        memcpy(&value, items + i * item_bytes + field->offset, sizeof value);
        any |= value;
    }
    return field->rare && any == 0;
}

static void put_fields(FILE *f, const struct bn_section *s, const void *item)
{
    for (size_t i = 0; i < s->n_fields; i++) {
        if (is_left_out(&s->fields[i], item, s->item_bytes, 1))
            continue;
        fprintf(f, "%s\"%s\":", i ? "," : "", s->fields[i].key);
        put_field(f, &s->fields[i], item, NULL);
    }
}

static void put_rows(FILE *f, const struct bn_section *s, const char *items, size_t n)
{
    fprintf(f, "\"%s\":[", s->key);
    for (size_t i = 0; i < n; i++) {
        fputs(i ? ",\n{" : "\n{", f);
        put_fields(f, s, items + i * s->item_bytes);
        putc('}', f);
    }
    putc(']', f);
}

static size_t value_bytes(enum bn_field_type type)
{
    switch (type) {
    case BN_FIELD_BOOL:
        return sizeof(bool);
    case BN_FIELD_U32:
    case BN_FIELD_INDEX:
    case BN_FIELD_PARENT:
    case BN_FIELD_I32:
        return sizeof(uint32_t);
    case BN_FIELD_ENUM:
        return sizeof(unsigned);
    default:
        return sizeof(uint64_t);
    }
}

/* Has every entry the first one's value? */
static bool is_constant(const struct bn_field *field, const char *items, size_t item_bytes, size_t n)
{
    size_t bytes = value_bytes(field->type);

    for (size_t i = 1; i < n; i++)
        if (memcmp(items + i * item_bytes + field->offset, items + field->offset, bytes) != 0)
            return false;
    return n > 1;
}

static void put_column(FILE *f, const struct bn_field *field, const char *items, size_t item_bytes, size_t n,
                       const struct strings *st)
{
    uint64_t before = 0, now;

    putc('[', f);
    for (size_t i = 0; i < n; i++) {
        if (i)
            putc(',', f);
        if (!field->delta) {
            put_cell(f, field, items + i * item_bytes, st);
            continue;
        }
        memcpy(&now, items + i * item_bytes + field->offset, sizeof now);
        put_u64(f, now - before);
        before = now;
    }
    putc(']', f);
}

static void put_columns(FILE *f, const struct bn_section *s, const char *items, size_t n,
                        const struct strings *st)
{
    fprintf(f, "\"%s\":{", s->key);
    for (size_t c = 0; c < s->n_fields; c++) {
        if (is_left_out(&s->fields[c], items, s->item_bytes, n))
            continue;
        fprintf(f, "%s\n\"%s\":", c ? "," : "", s->fields[c].key);
        if (c > 0 && is_constant(&s->fields[c], items, s->item_bytes, n))
            put_cell(f, &s->fields[c], items, st);
        else
            put_column(f, &s->fields[c], items, s->item_bytes, n, st);
    }
    putc('}', f);
}

static void put_section(FILE *f, const struct bn_profile *p, const struct bn_section *s,
                        const struct strings *st)
{
    const char *base = (const char *)p + s->offset;
    const char *items = NULL;
    size_t n = 0;

    if (s->shape == BN_SECTION_ROWS || s->shape == BN_SECTION_COLUMNS) {
        memcpy(&items, base, sizeof items);
        n = *(const size_t *)(const void *)((const char *)p + s->count_offset);
    }
    fputs(",\n", f);
    switch (s->shape) {
    case BN_SECTION_HEAD:
        put_fields(f, s, base);
        break;
    case BN_SECTION_OBJECT:
        fprintf(f, "\"%s\":{", s->key);
        put_fields(f, s, base);
        putc('}', f);
        break;
    case BN_SECTION_ROWS:
        put_rows(f, s, items, n);
        break;
    case BN_SECTION_COLUMNS:
        put_columns(f, s, items, n, st);
        break;
    }
}

int bn_profile_save(const struct bn_profile *p, const char *path, struct bn_err *err)
{
    struct strings st = {0};
    struct bn_out out;

    if (bn_profile_check(p, false, err) != 0 || bn_out_open(&out, path, err) != 0)
        return -1;
    gather_frames(&st, p);
    fprintf(out.f, "{\"schema\":\"%s\",\"version\":%d", BN_PROFILE_SCHEMA, BN_PROFILE_VERSION);
    for (size_t i = 0; i < bn_profile_n_sections; i++)
        put_section(out.f, p, &bn_profile_sections[i], &st);
    fputs(",\n\"strings\":[", out.f);
    for (size_t i = 0; i < st.n; i++) {
        fputs(i ? ",\n" : "\n", out.f);
        put_string(out.f, st.list[i]);
    }
    putc(']', out.f);
    fputs("}\n", out.f);
    free(st.list);
    free(st.slots);
    return bn_out_commit(&out, err);
}
