/* SPDX-License-Identifier: MIT
 * GGUF files built byte by byte, good and bad, for the reader's tests. */
#ifndef TESTS_UNIT_GGUF_BYTES_H
#define TESTS_UNIT_GGUF_BYTES_H

#include "core/gguf.h"

#include <regex.h>
#include <setjmp.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

static inline void put32(struct bn_buf *b, uint32_t v)
{
    bn_buf_put(b, &v, sizeof v);
}

static inline void put64(struct bn_buf *b, uint64_t v)
{
    bn_buf_put(b, &v, sizeof v);
}

static inline void put_name(struct bn_buf *b, const char *s)
{
    put64(b, strlen(s));
    bn_buf_puts(b, s);
}

static inline void put_header(struct bn_buf *b, uint32_t version, uint64_t n_tensors, uint64_t n_kv)
{
    bn_buf_puts(b, "GGUF");
    put32(b, version);
    put64(b, n_tensors);
    put64(b, n_kv);
}

static inline void put_u32_key(struct bn_buf *b, const char *key, uint32_t value)
{
    put_name(b, key);
    put32(b, BN_GGUF_U32);
    put32(b, value);
}

static inline void put_tensor(struct bn_buf *b, const char *name, uint32_t type, uint64_t ne0, uint64_t ne1,
                              uint64_t offset)
{
    put_name(b, name);
    put32(b, 2);
    put64(b, ne0);
    put64(b, ne1);
    put32(b, type);
    put64(b, offset);
}

/* Zeros up to a multiple of 32, then n more. */
static inline void put_data(struct bn_buf *b, size_t n)
{
    while (b->n % 32 != 0)
        bn_buf_putc(b, 0);
    for (size_t i = 0; i < n; i++)
        bn_buf_putc(b, (char)i);
}

/* Six keys of all shapes and two tensors: 160 bytes of data. */
static inline struct bn_buf small_file(uint32_t version)
{
    struct bn_buf b = {0};

    put_header(&b, version, 2, 6);
    put_u32_key(&b, "a.number", 7);
    put_name(&b, "general.name");
    put32(&b, BN_GGUF_STRING);
    put_name(&b, "small");
    put_name(&b, "words");
    put32(&b, BN_GGUF_ARRAY);
    put32(&b, BN_GGUF_STRING);
    put64(&b, 3);
    put_name(&b, "one");
    put_name(&b, "");
    put_name(&b, "three");
    put_name(&b, "shorts");
    put32(&b, BN_GGUF_ARRAY);
    put32(&b, BN_GGUF_I16);
    put64(&b, 2);
    put32(&b, 0xfffe0001);
    put_name(&b, "yes");
    put32(&b, BN_GGUF_BOOL);
    bn_buf_putc(&b, 1);
    put_name(&b, "long");
    put32(&b, BN_GGUF_I64);
    put64(&b, (uint64_t)-5);
    put_tensor(&b, "w", BN_TYPE_I2_S, 128, 2, 0);
    put_tensor(&b, "f", BN_TYPE_F32, 16, 1, 96);
    put_data(&b, 160);
    return b;
}

/* Open a copy of exactly n bytes, so that ASan sees every read beyond. The copy is kept in *copy for the
 * caller. */
static inline int open_copy(struct bn_gguf *g, const void *bytes, size_t n, void **copy, struct bn_err *err)
{
    *copy = malloc(n ? n : 1);
    assert_non_null(*copy);
    if (n > 0)
        memcpy(*copy, bytes, n);
    return bn_gguf_open_memory(g, *copy, n, "t.gguf", err);
}

static inline bool matches(const char *text, const char *pattern)
{
    regex_t regex;

    assert_int_equal(regcomp(&regex, pattern, REG_EXTENDED | REG_NOSUB), 0);
    bool hit = regexec(&regex, text, 0, NULL, 0) == 0;
    regfree(&regex);
    if (!hit)
        print_message("# \"%s\" does not match /%s/\n", text, pattern);
    return hit;
}

#endif
