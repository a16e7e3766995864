/* SPDX-License-Identifier: MIT
 * GGUF v3 writer: collects the header in memory, then streams the data behind it. */
#include "core/gguf_write.h"

#include <assert.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

enum { ALIGNMENT = 32 };

static const char padding[ALIGNMENT];

struct bn_gguf_writer {
    struct bn_out out;
    char *path;
    struct bn_err err;
    bool failed, in_data;
    struct bn_buf keys, tensors; /* their parts of the header */
    uint64_t n_keys;
    uint64_t *size_bytes; /* [n_tensors] */
    size_t n_tensors, capacity, current;
    uint64_t offset;  /* of the next tensor in the data section */
    uint64_t written; /* of the current tensor */
};

struct bn_gguf_writer *bn_gguf_writer_open(const char *path, struct bn_err *err)
{
    struct bn_gguf_writer *w = bn_xcalloc(1, sizeof *w);

    if (bn_out_open(&w->out, path, err) != 0) {
        free(w);
        return NULL;
    }
    w->path = bn_xstrdup(path);
    return w;
}

/* ---- header ---- */

static void put_u32(struct bn_buf *buf, uint32_t value)
{
    bn_buf_put(buf, &value, sizeof value);
}

static void put_u64(struct bn_buf *buf, uint64_t value)
{
    bn_buf_put(buf, &value, sizeof value);
}

static void put_str(struct bn_buf *buf, struct bn_str s)
{
    put_u64(buf, s.n);
    bn_buf_put(buf, s.p, s.n);
}

static void put_key(struct bn_gguf_writer *w, const char *key, enum bn_gguf_kind kind)
{
    assert(!w->in_data);
    put_str(&w->keys, bn_str_from(key));
    put_u32(&w->keys, kind);
    w->n_keys++;
}

static void put_array(struct bn_gguf_writer *w, const char *key, enum bn_gguf_kind kind, size_t n)
{
    put_key(w, key, BN_GGUF_ARRAY);
    put_u32(&w->keys, kind);
    put_u64(&w->keys, n);
}

void bn_gguf_write_u32(struct bn_gguf_writer *w, const char *key, uint32_t value)
{
    put_key(w, key, BN_GGUF_U32);
    put_u32(&w->keys, value);
}

void bn_gguf_write_f32(struct bn_gguf_writer *w, const char *key, float value)
{
    put_key(w, key, BN_GGUF_F32);
    bn_buf_put(&w->keys, &value, sizeof value);
}

void bn_gguf_write_bool(struct bn_gguf_writer *w, const char *key, bool value)
{
    put_key(w, key, BN_GGUF_BOOL);
    bn_buf_putc(&w->keys, value ? 1 : 0);
}

void bn_gguf_write_str(struct bn_gguf_writer *w, const char *key, struct bn_str value)
{
    put_key(w, key, BN_GGUF_STRING);
    put_str(&w->keys, value);
}

void bn_gguf_write_strs(struct bn_gguf_writer *w, const char *key, const struct bn_str *values, size_t n)
{
    put_array(w, key, BN_GGUF_STRING, n);
    for (size_t i = 0; i < n; i++)
        put_str(&w->keys, values[i]);
}

void bn_gguf_write_i32s(struct bn_gguf_writer *w, const char *key, const int32_t *values, size_t n)
{
    put_array(w, key, BN_GGUF_I32, n);
    bn_buf_put(&w->keys, values, n * sizeof *values);
}

void bn_gguf_write_f32s(struct bn_gguf_writer *w, const char *key, const float *values, size_t n)
{
    put_array(w, key, BN_GGUF_F32, n);
    bn_buf_put(&w->keys, values, n * sizeof *values);
}

void bn_gguf_write_tensor(struct bn_gguf_writer *w, const char *name, uint32_t type, uint64_t ne0,
                          uint64_t ne1)
{
    uint32_t n_dims = ne1 > 1 ? 2 : 1;
    uint64_t rows = ne1 > 1 ? ne1 : 1, size_bytes;

    assert(!w->in_data);
    if (bn_type_bytes(type, ne0, rows, &size_bytes) != 0) {
        bn_gguf_writer_fail(w, "tensor %s: %llu x %llu elements are no possible size for type %s", name,
                            (unsigned long long)ne0, (unsigned long long)rows,
                            bn_type_name(type) ? bn_type_name(type) : "(unknown)");
        return;
    }
    put_str(&w->tensors, bn_str_from(name));
    put_u32(&w->tensors, n_dims);
    put_u64(&w->tensors, ne0);
    if (n_dims == 2)
        put_u64(&w->tensors, rows);
    put_u32(&w->tensors, bn_type_in_file(type));
    put_u64(&w->tensors, w->offset);
    bn_grow(&w->size_bytes, &w->capacity, w->n_tensors + 1, sizeof *w->size_bytes);
    w->size_bytes[w->n_tensors++] = size_bytes;
    w->offset += bn_round_up(size_bytes, ALIGNMENT);
}

/* ---- data ---- */

void bn_gguf_writer_fail(struct bn_gguf_writer *w, const char *format, ...)
{
    char text[512];
    va_list args;

    if (w->failed)
        return; /* the first cause is the one to tell */
    va_start(args, format);
    vsnprintf(text, sizeof text, format, args);
    va_end(args);
    bn_err_set(&w->err, "%s: %s", w->path, text);
    w->failed = true;
}

static void emit(struct bn_gguf_writer *w, const void *bytes, size_t n)
{
    if (!w->failed && n > 0 && fwrite(bytes, 1, n, w->out.f) != n)
        bn_gguf_writer_fail(w, "cannot be written: %s", strerror(errno));
}

void bn_gguf_write_begin_data(struct bn_gguf_writer *w)
{
    struct bn_buf head = {0};

    assert(!w->in_data);
    w->in_data = true;
    bn_buf_put(&head, "GGUF", 4);
    put_u32(&head, 3);
    put_u64(&head, w->n_tensors);
    put_u64(&head, w->n_keys);
    emit(w, head.p, head.n);
    emit(w, w->keys.p, w->keys.n);
    emit(w, w->tensors.p, w->tensors.n);
    size_t n = head.n + w->keys.n + w->tensors.n;
    emit(w, padding, bn_round_up(n, ALIGNMENT) - n);
    bn_buf_free(&head);
}

void bn_gguf_write_data(struct bn_gguf_writer *w, const void *bytes, size_t n)
{
    assert(w->in_data);
    if (w->failed || n == 0)
        return;
    /* A piece lies within one tensor. */
    assert(w->current < w->n_tensors && n <= w->size_bytes[w->current] - w->written);
    emit(w, bytes, n);
    w->written += n;
    if (w->written < w->size_bytes[w->current])
        return;
    emit(w, padding, bn_round_up(w->written, ALIGNMENT) - w->written);
    w->written = 0;
    w->current++;
}

int bn_gguf_writer_close(struct bn_gguf_writer *w, struct bn_err *err)
{
    int status = -1;

    if (!w)
        return -1;
    assert(w->failed || (w->in_data && w->current == w->n_tensors));
    if (w->failed) {
        bn_err_set(err, "%s", w->err.msg);
        bn_out_abort(&w->out);
    } else {
        status = bn_out_commit(&w->out, err);
    }
    bn_buf_free(&w->keys);
    bn_buf_free(&w->tensors);
    free(w->size_bytes);
    free(w->path);
    free(w);
    return status;
}
