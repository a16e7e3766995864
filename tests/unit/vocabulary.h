/* SPDX-License-Identifier: MIT
 * Small vocabularies for the tokenizer's tests: as GGUF bytes, and random ones. */
#ifndef TESTS_UNIT_VOCABULARY_H
#define TESTS_UNIT_VOCABULARY_H

#include "core/tokenizer.h"
#include "core/vocab.h"
#include "tests/unit/gguf_bytes.h"
#include "tests/unit/random.h"

/* A list of strings of any bytes but NUL. */
struct words {
    char **p;
    size_t n, capacity;
};

static inline void words_add(struct words *w, const char *word)
{
    bn_grow(&w->p, &w->capacity, w->n + 1, sizeof *w->p);
    w->p[w->n++] = bn_xstrdup(word);
}

static inline int words_find(const struct words *w, const char *word)
{
    for (size_t i = 0; i < w->n; i++)
        if (strcmp(w->p[i], word) == 0)
            return (int)i;
    return -1;
}

static inline void words_free(struct words *w)
{
    for (size_t i = 0; i < w->n; i++)
        free(w->p[i]);
    free(w->p);
    *w = (struct words){0};
}

/* GPT-2's printable character for a byte, as UTF-8: written from the rule "bytes that have no visible
 * character take the next ones from U+0100 on", which is not how the code under test goes about it. */
static inline void put_byte_level(struct bn_buf *out, unsigned byte)
{
    unsigned next = 0x100;

    for (unsigned b = 0; b < 256; b++) {
        bool visible = (b >= '!' && b <= '~') || (b >= 0xa1 && b <= 0xac) || b >= 0xae;
        unsigned c = visible ? b : next++;
        if (b != byte)
            continue;
        if (c < 0x80) {
            bn_buf_putc(out, (char)c);
        } else {
            bn_buf_putc(out, (char)(0xc0 | c >> 6));
            bn_buf_putc(out, (char)(0x80 | (c & 0x3f)));
        }
    }
}

/* The byte-level spelling of a string. The caller frees it. */
static inline char *spelled(const char *bytes)
{
    struct bn_buf out = {0};

    bn_buf_puts(&out, "");
    for (; *bytes; bytes++)
        put_byte_level(&out, (unsigned char)*bytes);
    return out.p;
}

/* ---- GGUF ---- */

/* Keys are counted as they are put; finish_gguf writes the count into the header. */
struct gguf_text {
    struct bn_buf b;
    uint64_t n_keys;
};

static inline void start_gguf(struct gguf_text *g)
{
    *g = (struct gguf_text){0};
    put_header(&g->b, 3, 0, 0);
}

static inline void key(struct gguf_text *g, const char *name, uint32_t kind)
{
    put_name(&g->b, name);
    put32(&g->b, kind);
    g->n_keys++;
}

static inline void key_str(struct gguf_text *g, const char *name, const char *value)
{
    key(g, name, BN_GGUF_STRING);
    put_name(&g->b, value);
}

static inline void key_u32(struct gguf_text *g, const char *name, uint32_t value)
{
    key(g, name, BN_GGUF_U32);
    put32(&g->b, value);
}

static inline void key_bool(struct gguf_text *g, const char *name, bool value)
{
    key(g, name, BN_GGUF_BOOL);
    bn_buf_putc(&g->b, value);
}

static inline void key_words(struct gguf_text *g, const char *name, char *const *words, size_t n)
{
    key(g, name, BN_GGUF_ARRAY);
    put32(&g->b, BN_GGUF_STRING);
    put64(&g->b, n);
    for (size_t i = 0; i < n; i++)
        put_name(&g->b, words[i]);
}

/* 32-bit numbers: kind is BN_GGUF_I32, BN_GGUF_U32 or BN_GGUF_F32. */
static inline void key_numbers(struct gguf_text *g, const char *name, uint32_t kind, const void *numbers,
                               size_t n)
{
    key(g, name, BN_GGUF_ARRAY);
    put32(&g->b, kind);
    put64(&g->b, n);
    bn_buf_put(&g->b, numbers, 4 * n);
}

static inline void finish_gguf(struct gguf_text *g)
{
    memcpy(g->b.p + 16, &g->n_keys, sizeof g->n_keys);
}

/* ---- a tokenizer and what it stands on ---- */

struct loaded {
    struct bn_gguf gguf;
    struct bn_tokenizer *tok;
    void *copy;
};

static inline int load_text(struct loaded *l, struct gguf_text *g, struct bn_err *err)
{
    *l = (struct loaded){0};
    finish_gguf(g);
    assert_int_equal(open_copy(&l->gguf, g->b.p, g->b.n, &l->copy, err), 0);
    return bn_tokenizer_load(&l->tok, &l->gguf, err);
}

static inline int load_file(struct loaded *l, const char *path, struct bn_err *err)
{
    *l = (struct loaded){0};
    return bn_gguf_open(&l->gguf, path, err) != 0 ? -1 : bn_tokenizer_load(&l->tok, &l->gguf, err);
}

static inline void unload(struct loaded *l)
{
    bn_tokenizer_free(l->tok);
    bn_gguf_close(&l->gguf);
    free(l->copy);
    *l = (struct loaded){0};
}

/* ---- using it ---- */

enum { BOS = 1, SPECIAL = 2 };

/* The ids as "1 2 3", or the error's message. The caller frees it. */
static inline char *ids_of(struct bn_tokenizer *tok, const void *text, size_t n, unsigned flags)
{
    struct bn_ids ids = {0};
    struct bn_buf out = {0};
    struct bn_err err;

    bn_buf_puts(&out, "");
    if (bn_tokenizer_encode(tok, (struct bn_str){text, n}, flags & BOS, flags & SPECIAL, &ids, &err) != 0)
        bn_buf_puts(&out, err.msg);
    for (size_t i = 0; i < ids.n; i++)
        bn_buf_printf(&out, i == 0 ? "%u" : " %u", ids.p[i]);
    bn_ids_free(&ids);
    return out.p;
}

static inline void check_ids(struct bn_tokenizer *tok, const char *text, unsigned flags, const char *expected)
{
    char *ids = ids_of(tok, text, strlen(text), flags);

    if (strcmp(ids, expected) != 0)
        print_message("# of \"%s\"\n", text);
    assert_string_equal(ids, expected);
    free(ids);
}

/* Encoding and decoding gives the same bytes back. */
static inline void check_round_trip(struct bn_tokenizer *tok, const void *text, size_t n)
{
    struct bn_ids ids = {0};
    struct bn_buf out = {0};
    struct bn_err err = {""};

    if (bn_tokenizer_encode(tok, (struct bn_str){text, n}, false, false, &ids, &err) != 0)
        fail_msg("%s", err.msg);
    for (size_t i = 0; i < ids.n; i++)
        bn_tokenizer_decode(tok, ids.p[i], i == 0, false, &out);
    assert_int_equal(out.n, n);
    if (n > 0)
        assert_memory_equal(out.p, text, n);
    bn_ids_free(&ids);
    bn_buf_free(&out);
}

static inline void put_utf8(struct bn_buf *out, uint32_t c)
{
    if (c < 0x80) {
        bn_buf_putc(out, (char)c);
        return;
    }
    if (c < 0x800) {
        bn_buf_putc(out, (char)(0xc0 | c >> 6));
    } else {
        if (c < 0x10000) {
            bn_buf_putc(out, (char)(0xe0 | c >> 12));
        } else {
            bn_buf_putc(out, (char)(0xf0 | c >> 18));
            bn_buf_putc(out, (char)(0x80 | (c >> 12 & 0x3f)));
        }
        bn_buf_putc(out, (char)(0x80 | (c >> 6 & 0x3f)));
    }
    bn_buf_putc(out, (char)(0x80 | (c & 0x3f)));
}

/* Random text that is hard to split: blanks of many kinds, digits, scripts, emoji, marks, and, if asked for,
 * bytes that are no UTF-8. */
static inline struct bn_buf random_text(uint64_t *state, size_t n, bool invalid)
{
    static const char *const pieces[] = {" ",
                                         "  ",
                                         "\n",
                                         "\r\n",
                                         "\t",
                                         "\xc2\xa0",
                                         "\xe3\x80\x80",
                                         "'s",
                                         "'T",
                                         "12",
                                         "3",
                                         "1234",
                                         "\xd9\xa3",
                                         "!",
                                         "...",
                                         "\xe2\x80\x94",
                                         "e",
                                         "an",
                                         "The",
                                         "\xc3\xa9",
                                         "e\xcc\x81",
                                         "\xe4\xb8\xad\xe6\x96\x87",
                                         "_",
                                         "<|eot_id|>",
                                         "\xf0\x9f\x91\x8d\xf0\x9f\x8f\xbd",
                                         "\xe2\x80\x8d",
                                         "\xe2\x96\x81"};
    struct bn_buf out = {0};

    bn_buf_puts(&out, "");
    while (out.n < n) {
        size_t kind = random_below(state, 8);
        uint32_t c = (uint32_t)random_below(state, 0x110000);
        if (kind == 0 && (c < 0xd800 || c > 0xdfff))
            put_utf8(&out, c);
        else if (kind == 1 && invalid)
            bn_buf_putc(&out, (char)random_below(state, 256));
        else
            bn_buf_puts(&out, pieces[random_below(state, BN_COUNT(pieces))]);
    }
    return out;
}

/* A file in the folder of optional models, or NULL after the reason for skipping has been said. Freed by the
 * caller. */
static inline char *optional_model(const char *name)
{
    const char *folder = getenv("MODELS");
    char *path = folder && *folder ? bn_xasprintf("%s/%s", folder, name) : NULL;
    FILE *f = path ? fopen(path, "rb") : NULL;

    if (f) {
        fclose(f);
        return path;
    }
    print_message("# skipped: no %s\n", name);
    free(path);
    return NULL;
}

#endif
