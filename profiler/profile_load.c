/* SPDX-License-Identifier: MIT
 * Reads profile.json. The file is hostile until proved otherwise: every type, range and index is checked, and
 * the first fault ends the load with its place, such as "samples[12].stack: index 99 out of 40". */
#include <cjson/cJSON.h>
#include <stdlib.h>
#include <string.h>

#include "profiler/profile_private.h"

struct loader {
    struct bn_profile *p;
    const char **strings; /* of the frames, in file order */
    size_t n_strings;
    struct bn_err *err;
};

/* One value and where it stands; item SIZE_MAX: not in a list. */
struct place {
    const struct bn_section *section;
    const struct bn_field *field;
    size_t item;
};

static int bad(const struct loader *l, const struct place *at, const char *format, ...) BN_PRINTF(3, 4);

static int bad(const struct loader *l, const struct place *at, const char *format, ...)
{
    char what[256];
    va_list args;

    va_start(args, format);
    vsnprintf(what, sizeof what, format, args);
    va_end(args);
    if (at->section->shape == BN_SECTION_HEAD)
        return bn_err_set(l->err, "%s: %s", at->field->key, what);
    if (at->item == SIZE_MAX)
        return bn_err_set(l->err, "%s.%s: %s", at->section->key, at->field->key, what);
    return bn_err_set(l->err, "%s[%zu].%s: %s", at->section->key, at->item, at->field->key, what);
}

static int get_integer(const struct loader *l, const struct place *at, const cJSON *json, int64_t min,
                       uint64_t max, int64_t *out)
{
    if (cJSON_IsNumber(json)) {
        double v = json->valuedouble;
        if (v >= (double)min && v <= (double)max && v <= (double)BN_JSON_MAX_INTEGER &&
            v == (double)(int64_t)v) {
            *out = (int64_t)v;
            return 0;
        }
    } else if (cJSON_IsString(json) && min == 0) {
        uint64_t v;
        if (bn_parse_u64(json->valuestring, 0, max, &v) == 0) {
            *out = (int64_t)v;
            return 0;
        }
    }
    return bad(l, at, "expected an integer from %lld to %llu", (long long)min, (unsigned long long)max);
}

static int get_string(const struct loader *l, const struct place *at, const cJSON *json, const char **out)
{
    if (cJSON_IsString(json))
        *out = bn_profile_str(l->p, json->valuestring);
    else if (cJSON_IsNull(json) && !at->field->required)
        *out = NULL;
    else
        return bad(l, at, "expected a string%s", at->field->required ? "" : " or null");
    return 0;
}

static int get_name(const struct loader *l, const struct place *at, const cJSON *json, const char **out)
{
    int64_t v;

    if (get_integer(l, at, json, at->field->required ? 0 : -1, UINT32_MAX - 1, &v) != 0)
        return -1;
    if (v >= 0 && (uint64_t)v >= l->n_strings)
        return bad(l, at, "index %lld out of %zu", (long long)v, l->n_strings);
    *out = v < 0 ? NULL : l->strings[v];
    return 0;
}

/* -1 stands for BN_NONE where the entry may be without one: the frame of the empty stack, entry 0. */
static int get_index(const struct loader *l, const struct place *at, const cJSON *json, uint32_t *out)
{
    size_t count = *(const size_t *)(const void *)((const char *)l->p + at->field->count_offset);
    bool empty_stack = at->section->offset == offsetof(struct bn_profile, stacks) && at->item == 0;
    int64_t v;

    if (get_integer(l, at, json, empty_stack ? -1 : 0, UINT32_MAX - 1, &v) != 0)
        return -1;
    if (empty_stack != (v < 0))
        return bad(l, at, "expected -1");
    if (v >= 0 && (uint64_t)v >= count)
        return bad(l, at, "index %lld out of %zu", (long long)v, count);
    *out = v < 0 ? BN_NONE : (uint32_t)v;
    return 0;
}

static int get_parent(const struct loader *l, const struct place *at, const cJSON *json, uint32_t *out)
{
    int64_t v;

    if (get_integer(l, at, json, 0, UINT32_MAX - 1, &v) != 0)
        return -1;
    if (at->item == 0 ? v != 0 : (uint64_t)v >= at->item)
        return bad(l, at, "parent %lld does not come before entry %zu", (long long)v, at->item);
    *out = (uint32_t)v;
    return 0;
}

static int get_bool(const struct loader *l, const struct place *at, const cJSON *json, bool *out)
{
    int64_t v;

    if (cJSON_IsBool(json)) {
        *out = cJSON_IsTrue(json);
        return 0;
    }
    if (at->section->shape != BN_SECTION_COLUMNS)
        return bad(l, at, "expected true or false");
    if (get_integer(l, at, json, 0, 1, &v) != 0)
        return -1;
    *out = v != 0;
    return 0;
}

static int get_enum(const struct loader *l, const struct place *at, const cJSON *json, unsigned *out)
{
    const struct bn_field *field = at->field;
    int64_t v;

    if (at->section->shape == BN_SECTION_COLUMNS) {
        if (get_integer(l, at, json, 0, field->n_names - 1, &v) != 0)
            return -1;
        *out = (unsigned)v;
        return 0;
    }
    for (size_t i = 0; cJSON_IsString(json) && i < field->n_names; i++) {
        if (strcmp(json->valuestring, field->names[i]) == 0) {
            *out = (unsigned)i;
            return 0;
        }
    }
    return bad(l, at, "not one of the %zu known words", field->n_names);
}

static int get_field(const struct loader *l, const struct place *at, const cJSON *json, void *item)
{
    void *out = (char *)item + at->field->offset;
    int64_t v = 0;
    const char *s = NULL;

    switch (at->field->type) {
    case BN_FIELD_STRING:
        return get_string(l, at, json, out);
    case BN_FIELD_NAME:
        return get_name(l, at, json, out);
    case BN_FIELD_INDEX:
        return get_index(l, at, json, out);
    case BN_FIELD_PARENT:
        return get_parent(l, at, json, out);
    case BN_FIELD_BOOL:
        return get_bool(l, at, json, out);
    case BN_FIELD_ENUM:
        return get_enum(l, at, json, out);
    case BN_FIELD_U64:
    case BN_FIELD_U64_MAYBE:
        if (at->field->type == BN_FIELD_U64_MAYBE && cJSON_IsNull(json))
            v = -1;
        else if (get_integer(l, at, json, 0, UINT64_MAX, &v) != 0)
            return -1;
        *(uint64_t *)out = (uint64_t)v;
        return 0;
    case BN_FIELD_U32:
        if (get_integer(l, at, json, 0, UINT32_MAX, &v) != 0)
            return -1;
        *(uint32_t *)out = (uint32_t)v;
        return 0;
    case BN_FIELD_I32:
        if (get_integer(l, at, json, INT32_MIN, INT32_MAX, &v) != 0)
            return -1;
        *(int32_t *)out = (int32_t)v;
        return 0;
    case BN_FIELD_TIME:
        if (get_integer(l, at, json, 0, INT64_MAX, &v) != 0)
            return -1;
        *(int64_t *)out = v;
        return 0;
    case BN_FIELD_DOUBLE:
        if (!cJSON_IsNull(json) && !(cJSON_IsNumber(json) && isfinite(json->valuedouble)))
            return bad(l, at, "expected a number or null");
        *(double *)out = cJSON_IsNull(json) ? BN_UNKNOWN : json->valuedouble;
        return 0;
    case BN_FIELD_CHAR:
        if (get_string(l, at, json, &s) != 0)
            return -1;
        if (s && strlen(s) != 1)
            return bad(l, at, "expected one character or null");
        *(char *)out = s ? s[0] : '\0';
        return 0;
    }
    return 0;
}

/* A member that the file lacks keeps its "unknown": an older bnprof did not write it. */
static int load_fields(const struct loader *l, const struct bn_section *s, size_t item, const cJSON *object,
                       void *into)
{
    for (size_t i = 0; i < s->n_fields; i++) {
        struct place at = {s, &s->fields[i], item};
        const cJSON *json = cJSON_GetObjectItemCaseSensitive(object, s->fields[i].key);
        if (!json && (s->fields[i].required || s->fields[i].type == BN_FIELD_PARENT))
            return bad(l, &at, "is missing");
        if (json && get_field(l, &at, json, into) != 0)
            return -1;
    }
    return 0;
}

static int load_rows(const struct loader *l, const struct bn_section *s, const cJSON *array)
{
    void *item = bn_xcalloc(1, s->item_bytes);
    const cJSON *row = array->child;
    int status = 0;

    for (size_t i = 0; row && status == 0; i++, row = row->next) {
        memset(item, 0, s->item_bytes);
        if (!cJSON_IsObject(row))
            status = bn_err_set(l->err, "%s[%zu]: expected an object", s->key, i);
        else
            status = load_fields(l, s, i, row, item);
        if (status == 0)
            s->take(l->p, item);
    }
    free(item);
    return status;
}

/* Differences become values. */
static int add_up(const struct loader *l, const struct place *column, char *items, size_t n)
{
    uint64_t sum = 0, value;

    for (size_t i = 0; i < n; i++) {
        char *at = items + i * column->section->item_bytes + column->field->offset;
        memcpy(&value, at, sizeof value);
        if (__builtin_add_overflow(sum, value, &sum))
            return bad(l, column, "add up to more than 2^64");
        memcpy(at, &sum, sizeof sum);
    }
    return 0;
}

/* json: an array, or the one value of all entries. */
static int load_column(const struct loader *l, const struct place *column, const cJSON *json, char *items,
                       size_t n)
{
    const cJSON *value = cJSON_IsArray(json) ? json->child : json;
    struct place at = *column;
    size_t i = 0;

    for (; value && (i < n || value != json); i++) {
        at.item = i;
        if (i < n && get_field(l, &at, value, items + i * at.section->item_bytes) != 0)
            return -1;
        value = value == json ? json : value->next;
    }
    if (i != n)
        return bad(l, column, "%zu values where %s has %zu", i, at.section->fields[0].key, n);
    return column->field->delta ? add_up(l, column, items, n) : 0;
}

static int load_columns(const struct loader *l, const struct bn_section *s, const cJSON *object)
{
    const cJSON *first = cJSON_GetObjectItemCaseSensitive(object, s->fields[0].key);
    size_t n = 0;
    int status = 0;

    for (const cJSON *json = first ? first->child : NULL; json; json = json->next)
        n++;
    char *items = bn_xcalloc(n, s->item_bytes);
    for (size_t c = 0; c < s->n_fields && status == 0; c++) {
        struct place at = {s, &s->fields[c], SIZE_MAX};
        const cJSON *array = cJSON_GetObjectItemCaseSensitive(object, s->fields[c].key);
        if (!array && s->fields[c].optional)
            continue;
        bool usable = cJSON_IsArray(array) || (c > 0 && array);
        status = usable ? load_column(l, &at, array, items, n) : bad(l, &at, "expected an array");
    }
    for (size_t i = 0; i < n && status == 0; i++)
        s->take(l->p, items + i * s->item_bytes);
    free(items);
    return status;
}

static int load_section(const struct loader *l, const struct bn_section *s, const cJSON *root)
{
    const cJSON *json = s->shape == BN_SECTION_HEAD ? root : cJSON_GetObjectItemCaseSensitive(root, s->key);
    void *object = (char *)l->p + s->offset;

    if (!json && s->optional)
        return 0;
    if (s->shape == BN_SECTION_ROWS ? !cJSON_IsArray(json) : !cJSON_IsObject(json))
        return bn_err_set(l->err, "%s: expected an %s", s->key,
                          s->shape == BN_SECTION_ROWS ? "array" : "object");
    switch (s->shape) {
    case BN_SECTION_HEAD:
    case BN_SECTION_OBJECT:
        return load_fields(l, s, SIZE_MAX, json, object);
    case BN_SECTION_ROWS:
        return load_rows(l, s, json);
    case BN_SECTION_COLUMNS:
        return load_columns(l, s, json);
    }
    return 0;
}

static int load_strings(struct loader *l, const cJSON *root)
{
    const cJSON *array = cJSON_GetObjectItemCaseSensitive(root, "strings");
    size_t capacity = 0;

    if (!cJSON_IsArray(array))
        return bn_err_set(l->err, "strings: expected an array");
    for (const cJSON *json = array->child; json; json = json->next) {
        if (!cJSON_IsString(json))
            return bn_err_set(l->err, "strings[%zu]: expected a string", l->n_strings);
        bn_grow(&l->strings, &capacity, l->n_strings + 1, sizeof *l->strings);
        l->strings[l->n_strings++] = bn_profile_str(l->p, json->valuestring);
    }
    return 0;
}

static int check_header(const struct loader *l, const cJSON *root)
{
    const cJSON *schema = cJSON_GetObjectItemCaseSensitive(root, "schema");
    const cJSON *version = cJSON_GetObjectItemCaseSensitive(root, "version");

    if (!cJSON_IsString(schema) || strcmp(schema->valuestring, BN_PROFILE_SCHEMA) != 0)
        return bn_err_set(l->err, "no profile: expected \"schema\": \"%s\"", BN_PROFILE_SCHEMA);
    if (!cJSON_IsNumber(version) || version->valuedouble != BN_PROFILE_VERSION)
        return bn_err_set(l->err, "version: expected %d (written by another bnprof?)", BN_PROFILE_VERSION);
    return 0;
}

static int load_all(struct loader *l, const cJSON *root, bool summary)
{
    struct bn_profile *p = l->p;

    if (check_header(l, root) != 0 || (!summary && load_strings(l, root) != 0))
        return -1;
    p->n_stages = 0; /* the file brings its own entries 0 */
    p->n_stacks = summary ? p->n_stacks : 0;
    for (size_t i = 0; i < bn_profile_n_sections; i++) {
        const struct bn_section *s = &bn_profile_sections[i];
        if (summary && s->shape == BN_SECTION_COLUMNS)
            continue;
        if (load_section(l, s, root) != 0)
            return -1;
        if (s->offset == offsetof(struct bn_profile, stages) &&
            bn_profile_check_depth("stages", &p->stages[0].parent, sizeof *p->stages, p->n_stages, l->err) !=
                0)
            return -1;
    }
    if (bn_profile_check_depth("stacks", &p->stacks[0].parent, sizeof *p->stacks, p->n_stacks, l->err) != 0)
        return -1;
    return bn_profile_check(p, summary, l->err);
}

/* The first byte from `at` on that JSON does not pass over, n if there is none. */
static size_t skip_blanks(const char *text, size_t n, size_t at)
{
    while (at < n && memchr(" \t\r\n", text[at], 4))
        at++;
    return at;
}

static int load_text(struct bn_profile *p, const char *text, size_t n, bool summary, struct bn_err *err)
{
    struct loader l = {.p = p, .err = err};
    const char *end = NULL;
    int status = -1;

    cJSON *root = n ? cJSON_ParseWithLengthOpts(text, n, &end, false) : NULL;
    size_t behind = root ? skip_blanks(text, n, (size_t)(end - text)) : 0;
    if (n == 0)
        bn_err_set(err, "empty, a profile was expected");
    else if (root && behind < n)
        bn_err_set(err, "byte %zu: %zu bytes behind the end of the profile", behind, n - behind);
    else if (!root)
        bn_err_set(err, "no JSON near byte %zu", end ? (size_t)(end - text) : 0);
    else
        status = load_all(&l, root, summary);
    cJSON_Delete(root);
    free(l.strings);
    return status;
}

int bn_profile_load(struct bn_profile *p, const char *path, struct bn_err *err)
{
    struct bn_map map;

    bn_profile_init(p);
    if (bn_map_open(&map, path, err) != 0)
        return -1;
    int status = load_text(p, (const char *)map.p, map.n, false, err);
    bn_map_close(&map);
    if (status != 0) {
        bn_err_prefix(err, "%s", path);
        bn_profile_free(p);
        bn_profile_init(p);
    }
    return status;
}

static bool ends_as_saved(const struct bn_map *map)
{
    size_t n = map->n;

    while (n > 0 && memchr(" \t\r\n", map->p[n - 1], 4))
        n--;
    return n > 1 && memcmp(map->p + n - 2, "]}", 2) == 0;
}

/* save writes the columns, which are nearly all of the file, behind everything else and begins them on a new
 * line; a raw newline cannot occur inside a JSON string, so what stands before that line is the head, less
 * its end. A file laid out differently is parsed whole. */
int bn_profile_load_summary(struct bn_profile *p, const char *path, struct bn_err *err)
{
    static const char columns[] = ",\n\"tokens\":{";
    struct bn_buf head = {0};
    struct bn_map map;

    bn_profile_init(p);
    if (bn_map_open(&map, path, err) != 0)
        return -1;
    const uint8_t *at = map.n ? memmem(map.p, map.n, columns, sizeof columns - 1) : NULL;
    bn_buf_put(&head, map.p, at ? (size_t)(at - map.p) : map.n);
    if (at)
        bn_buf_putc(&head, '}');
    bool ends = at && ends_as_saved(&map);
    bn_map_close(&map);
    int status = at && !ends
                     ? bn_err_set(err, "does not end like a profile: cut off, or followed by something")
                     : load_text(p, head.p, head.n, true, err);
    bn_buf_free(&head);
    if (status != 0) {
        bn_err_prefix(err, "%s", path);
        bn_profile_free(p);
        bn_profile_init(p);
    }
    return status;
}
