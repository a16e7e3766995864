/* SPDX-License-Identifier: MIT
 * GGUF reader: checks a file once, from the first byte to the last tensor, and indexes what it holds. */
#include "core/gguf.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>

static_assert(__BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__, "GGUF is read in place, little endian");

enum {
    HEADER_BYTES = 24,
    MIN_KEY_BYTES = 13,    /* name length, type, one byte of value */
    MIN_TENSOR_BYTES = 32, /* name length, dimension count, one dimension, type, offset */
    DEFAULT_ALIGNMENT = 32,
    MIN_ALIGNMENT = 8,
    MAX_ALIGNMENT = 1 << 20,
    MAX_DIMS = 4,
    SHOWN_BYTES = 80, /* of a name in a message */
};

/* Where the parser stands: every read goes through take(), the only place that moves `at`. `noun`, `index`,
 * `count` and `name` say in messages what is being read: "key 3 of 24", or "key general.name" once the name
 * is known. */
struct cursor {
    const char *path;
    const uint8_t *base;
    size_t n, at;
    const char *noun;
    uint64_t index, count;
    struct bn_str name;
    struct bn_err *err;
};

/* "PATH: byte AT: key NAME: MESSAGE". Always -1. */
static int BN_PRINTF(3, 4) fail(const struct cursor *c, size_t at, const char *format, ...)
{
    char text[384], place[128] = "";
    va_list args;

    va_start(args, format);
    vsnprintf(text, sizeof text, format, args);
    va_end(args);
    if (c->name.n > 0)
        snprintf(place, sizeof place, "%s %.*s: ", c->noun, (int)bn_min_size(c->name.n, SHOWN_BYTES),
                 c->name.p);
    else if (c->noun)
        snprintf(place, sizeof place, "%s %llu of %llu: ", c->noun, (unsigned long long)c->index + 1,
                 (unsigned long long)c->count);
    return bn_err_set(c->err, "%s: byte %zu: %s%s", c->path, at, place, text);
}

/* The next n bytes, which hold `what`; NULL with a message when the file ends before them. */
static const uint8_t *take(struct cursor *c, uint64_t n, const char *what)
{
    if (n > c->n - c->at) {
        fail(c, c->at, "%s takes %llu bytes here, but the file ends at byte %zu", what, (unsigned long long)n,
             c->n);
        return NULL;
    }
    const uint8_t *p = c->base + c->at;
    c->at += (size_t)n;
    return p;
}

static int take_u32(struct cursor *c, const char *what, uint32_t *out)
{
    const uint8_t *p = take(c, sizeof *out, what);
    if (p)
        memcpy(out, p, sizeof *out);
    return p ? 0 : -1;
}

static int take_u64(struct cursor *c, const char *what, uint64_t *out)
{
    const uint8_t *p = take(c, sizeof *out, what);
    if (p)
        memcpy(out, p, sizeof *out);
    return p ? 0 : -1;
}

static int take_str(struct cursor *c, const char *what, struct bn_str *out)
{
    uint64_t n;

    if (take_u64(c, what, &n) != 0)
        return -1;
    const uint8_t *p = take(c, n, what);
    if (!p)
        return -1;
    *out = (struct bn_str){(const char *)p, (size_t)n};
    return 0;
}

/* ---- header ---- */

static int bad_magic(const struct cursor *c)
{
    char text[5] = "";

    for (int i = 0; i < 4; i++)
        text[i] = c->base[i] >= ' ' && c->base[i] <= '~' ? (char)c->base[i] : '.';
    return bn_err_set(c->err, "%s: GGUF magic expected at byte 0, found \"%s\" (%02x %02x %02x %02x)",
                      c->path, text, c->base[0], c->base[1], c->base[2], c->base[3]);
}

static int check_version(const struct cursor *c, uint32_t version)
{
    if (version == 2 || version == 3)
        return 0;
    if (version == 1)
        return fail(c, 4, "GGUF version 2 or 3 expected, found the obsolete 1: convert the model anew");
    if ((version & 0xffff) == 0 && version != 0)
        return fail(c, 4, "a little-endian GGUF file expected, found a big-endian one (version %u)",
                    __builtin_bswap32(version));
    return fail(c, 4, "GGUF version 2 or 3 expected, found %u", version);
}

static int parse_header(struct cursor *c, struct bn_gguf *g)
{
    if (c->n == 0)
        return bn_err_set(c->err, "%s: the file is empty, a GGUF file was expected", c->path);
    if (c->n >= 4 && memcmp(c->base, "GGUF", 4) != 0)
        return bad_magic(c);
    if (c->n < HEADER_BYTES)
        return fail(c, c->n, "the file ends here, but a GGUF header takes %d bytes", HEADER_BYTES);
    c->at = 4;
    if (take_u32(c, "the version", &g->version) != 0 || check_version(c, g->version) != 0 ||
        take_u64(c, "the tensor count", &g->n_tensors) != 0 || take_u64(c, "the key count", &g->n_kv) != 0)
        return -1;
    /* An impossible count is better named here than as an early end of the file. */
    if (g->n_tensors > (c->n - c->at) / MIN_TENSOR_BYTES)
        return fail(c, 8, "%llu tensors cannot fit into a file of %zu bytes",
                    (unsigned long long)g->n_tensors, c->n);
    if (g->n_kv > (c->n - c->at) / MIN_KEY_BYTES)
        return fail(c, 16, "%llu keys cannot fit into a file of %zu bytes", (unsigned long long)g->n_kv,
                    c->n);
    return 0;
}

/* ---- keys ---- */

static int skip_strs(struct cursor *c, uint64_t count)
{
    struct bn_str ignored;

    for (uint64_t i = 0; i < count; i++)
        if (take_str(c, "a string of an array", &ignored) != 0)
            return -1;
    return 0;
}

static int parse_array(struct cursor *c, struct bn_gguf_kv *kv)
{
    size_t at = c->at;
    uint32_t kind;
    uint64_t bytes;

    if (take_u32(c, "an element type", &kind) != 0 || take_u64(c, "an array's length", &kv->count) != 0)
        return -1;
    if (!bn_gguf_kind_name(kind))
        return fail(c, at, "an element type from 0 to 12 expected, found %u", kind);
    if (kind == BN_GGUF_ARRAY)
        return fail(c, at, "an array of plain elements expected, found an array of arrays");
    kv->element_kind = (enum bn_gguf_kind)kind;
    kv->value = c->base + c->at;
    if (kind == BN_GGUF_STRING)
        return skip_strs(c, kv->count);
    if (__builtin_mul_overflow(kv->count, bn_gguf_kind_bytes(kind), &bytes))
        return fail(c, at + 4, "an array of %llu elements cannot fit into a file",
                    (unsigned long long)kv->count);
    return take(c, bytes, "an array") ? 0 : -1;
}

static int parse_value(struct cursor *c, struct bn_gguf_kv *kv)
{
    size_t at = c->at;
    uint32_t kind;
    struct bn_str ignored;

    if (take_u32(c, "a value type", &kind) != 0)
        return -1;
    if (!bn_gguf_kind_name(kind))
        return fail(c, at, "a value type from 0 to 12 expected, found %u", kind);
    kv->kind = (enum bn_gguf_kind)kind;
    if (kind == BN_GGUF_ARRAY)
        return parse_array(c, kv);
    kv->count = 1;
    kv->value = c->base + c->at;
    if (kind == BN_GGUF_STRING)
        return take_str(c, "a string", &ignored);
    if (!take(c, bn_gguf_kind_bytes(kind), "a number"))
        return -1;
    if (kind == BN_GGUF_BOOL && kv->value[0] > 1)
        return fail(c, c->at - 1, "a bool of 0 or 1 expected, found %u", kv->value[0]);
    return 0;
}

/* The name of a key or tensor; from here on messages carry it. */
static int take_name(struct cursor *c, struct bn_str *name)
{
    size_t at = c->at;

    if (take_str(c, "the name", name) != 0)
        return -1;
    if (name->n == 0)
        return fail(c, at, "a name expected, found an empty string");
    c->name = *name;
    return 0;
}

/* The list grows with what has really been read, so a count that lies costs nothing. */
static int parse_keys(struct cursor *c, struct bn_gguf *g)
{
    size_t capacity = 0;

    for (uint64_t i = 0; i < g->n_kv; i++) {
        struct bn_gguf_kv kv = {0};
        c->noun = "key", c->index = i, c->count = g->n_kv, c->name.n = 0;
        if (take_name(c, &kv.key) != 0 || parse_value(c, &kv) != 0)
            return -1;
        bn_grow(&g->kv, &capacity, (size_t)i + 1, sizeof *g->kv);
        g->kv[i] = kv;
    }
    return 0;
}

/* ---- tensors ---- */

/* What type 36 may be. */
static const uint32_t flavours[] = {BN_TYPE_I2_S, BN_TYPE_QK256, BN_TYPE_BITNET32};

/* Bytes that a tensor of type 36 has at least; choose_flavour finds out more. False: it has no such shape. */
static bool smallest_flavour(uint64_t ne0, uint64_t rows, uint64_t *bytes)
{
    uint64_t n;
    bool possible = false;

    for (size_t i = 0; i < BN_COUNT(flavours); i++) {
        if (bn_type_bytes(flavours[i], ne0, rows, &n) != 0)
            continue;
        *bytes = possible && *bytes < n ? *bytes : n;
        possible = true;
    }
    return possible;
}

/* Dimensions and type. */
static int parse_shape(struct cursor *c, struct bn_tensor *t)
{
    uint64_t rows = 1;
    size_t at = c->at;

    if (take_u32(c, "the number of dimensions", &t->n_dims) != 0)
        return -1;
    if (t->n_dims < 1 || t->n_dims > MAX_DIMS)
        return fail(c, at, "1 to %d dimensions expected, found %u", MAX_DIMS, t->n_dims);
    for (uint32_t d = 0; d < MAX_DIMS; d++) {
        t->ne[d] = 1;
        if (d < t->n_dims && take_u64(c, "a dimension", &t->ne[d]) != 0)
            return -1;
        if (t->ne[d] == 0)
            return fail(c, c->at - 8, "dimension %u is 0, at least 1 was expected", d);
        if (d > 0 && __builtin_mul_overflow(rows, t->ne[d], &rows))
            return fail(c, at, "the product of the dimensions goes beyond 64 bits");
    }
    at = c->at;
    if (take_u32(c, "the type", &t->type) != 0)
        return -1;
    if (!bn_type_name(t->type) || bn_type_in_file(t->type) != t->type)
        return fail(c, at, "unknown tensor type %u (0 = F32, 1 = F16, 30 = BF16, 36 = I2_S, ... expected)",
                    t->type);
    bool possible = t->type == BN_TYPE_I2_S ? smallest_flavour(t->ne[0], rows, &t->size_bytes)
                                            : bn_type_bytes(t->type, t->ne[0], rows, &t->size_bytes) == 0;
    if (!possible)
        return fail(c, at, "%llu x %llu elements are no possible size for type %s",
                    (unsigned long long)t->ne[0], (unsigned long long)rows, bn_type_name(t->type));
    return 0;
}

/* Where the data section starts is known only after the last tensor's header, so `data` points at the
 * tensor's offset field until place_tensors() turns it into the address of the data. */
static int parse_tensors(struct cursor *c, struct bn_gguf *g)
{
    size_t capacity = 0;

    for (uint64_t i = 0; i < g->n_tensors; i++) {
        struct bn_tensor t = {0};
        c->noun = "tensor", c->index = i, c->count = g->n_tensors, c->name.n = 0;
        if (take_name(c, &t.name) != 0 || parse_shape(c, &t) != 0)
            return -1;
        t.data = take(c, sizeof(uint64_t), "the offset");
        if (!t.data)
            return -1;
        bn_grow(&g->tensors, &capacity, (size_t)i + 1, sizeof *g->tensors);
        g->tensors[i] = t;
    }
    c->noun = NULL, c->name.n = 0;
    return 0;
}

static int place_tensor(struct cursor *c, const struct bn_gguf *g, struct bn_tensor *t)
{
    size_t at = (size_t)(t->data - c->base);
    uint64_t offset;

    c->noun = "tensor", c->name = t->name;
    memcpy(&offset, t->data, sizeof offset);
    if (offset % g->alignment != 0)
        return fail(c, at, "an offset that is a multiple of the alignment, %llu, expected, found %llu",
                    (unsigned long long)g->alignment, (unsigned long long)offset);
    uint64_t room = c->n - bn_min_size((size_t)g->data_offset, c->n);
    if (offset > room || t->size_bytes > room - offset)
        return fail(
            c, at,
            "%llu bytes of data at offset %llu of the data section expected, but it has only %llu bytes",
            (unsigned long long)t->size_bytes, (unsigned long long)offset, (unsigned long long)room);
    t->data = c->base + g->data_offset + offset;
    return 0;
}

static int by_data(const void *a, const void *b)
{
    const struct bn_tensor *x = *(const struct bn_tensor *const *)a, *y = *(const struct bn_tensor *const *)b;
    return (x->data > y->data) - (x->data < y->data);
}

/* n bytes, padded or (at the end of a file) not, take the room between a tensor and what follows it. */
static bool fills(uint64_t n, uint64_t room, uint64_t alignment)
{
    return n == room ||
           (n < room && bn_round_up((size_t)n, (size_t)alignment) == room / alignment * alignment);
}

/* Type 36 is I2_S, QK256 or BITNET32: whichever takes exactly the room. Where two do (a tensor of a few
 * hundred values, an alignment beyond 64 bytes), it is the first of them. */
static int choose_flavour(struct cursor *c, const struct bn_gguf *g, struct bn_tensor *t, uint64_t room)
{
    uint64_t rows = t->ne[1] * t->ne[2] * t->ne[3], n; /* no overflow: parse_shape */
    char sizes[120] = "";

    for (size_t i = 0, used = 0; i < BN_COUNT(flavours); i++) {
        if (bn_type_bytes(flavours[i], t->ne[0], rows, &n) != 0)
            continue;
        if (fills(n, room, g->alignment)) {
            t->type = flavours[i];
            t->size_bytes = n;
            return 0;
        }
        used += (size_t)snprintf(sizes + used, sizeof sizes - used, "%s%llu (%s)", used ? ", " : "",
                                 (unsigned long long)n, bn_type_name(flavours[i]));
    }
    c->noun = "tensor", c->name = t->name;
    return fail(c, (size_t)(t->data - c->base),
                "%llu bytes up to what follows, but %llu x %llu weights of type 36 take %s",
                (unsigned long long)room, (unsigned long long)t->ne[0], (unsigned long long)rows, sizes);
}

/* Sizes that follow from where the next tensor begins; and data that two tensors share, which means that an
 * offset is damaged or a type is not what it says. */
static int check_extents(struct cursor *c, struct bn_gguf *g)
{
    struct bn_tensor **order = bn_arena_array(&g->arena, (size_t)g->n_tensors, sizeof *order);

    for (uint64_t i = 0; i < g->n_tensors; i++)
        order[i] = &g->tensors[i];
    qsort(order, (size_t)g->n_tensors, sizeof *order, by_data);
    for (uint64_t i = 0; i < g->n_tensors; i++) {
        struct bn_tensor *t = order[i];
        const struct bn_tensor *next = i + 1 < g->n_tensors ? order[i + 1] : NULL;
        uint64_t room = (uint64_t)((next ? next->data : c->base + c->n) - t->data);
        if (t->type == BN_TYPE_I2_S && choose_flavour(c, g, t, room) != 0)
            return -1;
        if (!next || t->size_bytes <= room)
            continue;
        c->noun = "tensor", c->name = t->name;
        return fail(
            c, (size_t)(t->data - c->base), "its %llu bytes (%s) run into the next tensor, %.*s, at byte %zu",
            (unsigned long long)t->size_bytes, bn_type_name(t->type),
            (int)bn_min_size(next->name.n, SHOWN_BYTES), next->name.p, (size_t)(next->data - c->base));
    }
    return 0;
}

static int place_tensors(struct cursor *c, struct bn_gguf *g)
{
    g->data_offset = bn_round_up(c->at, (size_t)g->alignment);
    for (uint64_t i = 0; i < g->n_tensors; i++)
        if (place_tensor(c, g, &g->tensors[i]) != 0)
            return -1;
    return g->n_tensors > 0 ? check_extents(c, g) : 0;
}

/* ---- index ---- */

static int compare_str(struct bn_str a, struct bn_str b)
{
    int order = memcmp(a.p, b.p, bn_min_size(a.n, b.n));
    return order != 0 ? order : (a.n > b.n) - (a.n < b.n);
}

static int by_name(const void *a, const void *b)
{
    return compare_str(**(const struct bn_str *const *)a, **(const struct bn_str *const *)b);
}

/* Pointers to the names of n records, which are their first members, in byte order. NULL with a message when
 * two are equal. Sorting keeps hostile names from degrading a look-up as they could in a hash table. */
static const struct bn_str **sort_names(struct cursor *c, struct bn_arena *arena, const char *noun,
                                        const void *records, uint64_t n, size_t record_bytes)
{
    const struct bn_str **sorted = bn_arena_array(arena, (size_t)n + 1, sizeof(const struct bn_str *));

    for (uint64_t i = 0; i < n; i++)
        sorted[i] = (const struct bn_str *)(const void *)((const char *)records + i * record_bytes);
    qsort(sorted, (size_t)n, sizeof(const struct bn_str *), by_name);
    for (uint64_t i = 1; i < n; i++) {
        if (compare_str(*sorted[i - 1], *sorted[i]) != 0)
            continue;
        c->noun = noun, c->name = *sorted[i];
        fail(c, (size_t)((const uint8_t *)sorted[i]->p - c->base),
             "the name occurs twice, once was expected");
        return NULL;
    }
    return sorted;
}

static const void *look_up(const struct bn_str **sorted, uint64_t n, const char *name)
{
    struct bn_str key = bn_str_from(name);
    const struct bn_str *wanted = &key;
    const struct bn_str **hit =
        n == 0 ? NULL : bsearch(&wanted, sorted, (size_t)n, sizeof(const struct bn_str *), by_name);

    return hit ? *hit : NULL;
}

static_assert(offsetof(struct bn_gguf_kv, key) == 0 && offsetof(struct bn_tensor, name) == 0,
              "see sort_names");

const struct bn_gguf_kv *bn_gguf_find(const struct bn_gguf *gguf, const char *key)
{
    return look_up(gguf->keys_sorted, gguf->n_kv, key);
}

const struct bn_tensor *bn_gguf_tensor(const struct bn_gguf *gguf, const char *name)
{
    return look_up(gguf->names_sorted, gguf->n_tensors, name);
}

/* ---- open and close ---- */

static int find_alignment(struct cursor *c, struct bn_gguf *g)
{
    const struct bn_gguf_kv *kv = bn_gguf_find(g, "general.alignment");
    uint32_t alignment = DEFAULT_ALIGNMENT;

    if (bn_gguf_get_u32(g, "general.alignment", &alignment, c->err) < 0)
        return -1;
    g->alignment = alignment;
    if (alignment >= MIN_ALIGNMENT && alignment <= MAX_ALIGNMENT && (alignment & (alignment - 1)) == 0)
        return 0;
    c->noun = "key", c->name = kv->key;
    return fail(c, (size_t)(kv->value - c->base), "a power of two from %d to %d expected, found %u",
                MIN_ALIGNMENT, MAX_ALIGNMENT, alignment);
}

static int parse(struct bn_gguf *g, const void *bytes, size_t n, struct bn_err *err)
{
    struct cursor c = {.path = g->path, .base = bytes, .n = n, .err = err};

    g->size_bytes = n;
    if (parse_header(&c, g) != 0 || parse_keys(&c, g) != 0 || parse_tensors(&c, g) != 0)
        return -1;
    g->keys_sorted = sort_names(&c, &g->arena, "key", g->kv, g->n_kv, sizeof *g->kv);
    g->names_sorted = sort_names(&c, &g->arena, "tensor", g->tensors, g->n_tensors, sizeof *g->tensors);
    if (!g->keys_sorted || !g->names_sorted || find_alignment(&c, g) != 0)
        return -1;
    return place_tensors(&c, g);
}

int bn_gguf_open_memory(struct bn_gguf *gguf, const void *bytes, size_t n, const char *label,
                        struct bn_err *err)
{
    *gguf = (struct bn_gguf){0};
    gguf->path = bn_arena_strdup(&gguf->arena, label);
    if (parse(gguf, bytes, n, err) == 0)
        return 0;
    bn_gguf_close(gguf);
    return -1;
}

int bn_gguf_open(struct bn_gguf *gguf, const char *path, struct bn_err *err)
{
    struct bn_map map;

    *gguf = (struct bn_gguf){0};
    if (bn_map_open(&map, path, err) != 0)
        return -1;
    if (bn_gguf_open_memory(gguf, map.p, map.n, path, err) != 0) {
        bn_map_close(&map);
        return -1;
    }
    gguf->map = map;
    return 0;
}

void bn_gguf_close(struct bn_gguf *gguf)
{
    if (!gguf)
        return;
    free(gguf->kv);
    free(gguf->tensors);
    bn_arena_free(&gguf->arena);
    bn_map_close(&gguf->map);
    *gguf = (struct bn_gguf){0};
}
