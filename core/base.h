/* SPDX-License-Identifier: MIT
 * What every room needs: errors, string views, arenas, growing buffers, the clock, whole-file output. */
#ifndef CORE_BASE_H
#define CORE_BASE_H

#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

#define BN_COUNT(a)     (sizeof(a) / sizeof((a)[0]))
#define BN_PRINTF(f, a) __attribute__((format(printf, f, a)))

static inline size_t bn_min_size(size_t a, size_t b)
{
    return a < b ? a : b;
}

static inline size_t bn_round_up(size_t n, size_t to)
{
    return (n + to - 1) / to * to;
}

/* ---- errors: the outside world failed; the message is one line, complete, without a final newline ---- */

struct bn_err {
    char msg[768];
};

/* Write the message; control characters from hostile names become '?'. Always returns -1, so that
 * `return bn_err_set(err, …)` reads well. err may be NULL. */
int bn_err_set(struct bn_err *err, const char *format, ...) BN_PRINTF(2, 3);

/* Put "prefix: " before the message that is already there. Always returns -1. */
int bn_err_prefix(struct bn_err *err, const char *format, ...) BN_PRINTF(2, 3);

/* ---- string views: not NUL-terminated, owned by somebody else ---- */

struct bn_str {
    const char *p;
    size_t n;
};

#define BN_STR(literal) ((struct bn_str){(literal), sizeof(literal) - 1})
struct bn_str bn_str_from(const char *s);
bool bn_str_eq(struct bn_str a, struct bn_str b);
bool bn_str_is(struct bn_str a, const char *s);

/* ---- arena: memory that is freed all at once ---- */

struct bn_arena {
    struct bn_arena_block *last;
    size_t used_bytes; /* handed out, without slack */
};

/* Zeroed memory, aligned to 64 bytes for sizes of 64 and more, else to 16. Never NULL: running out of
 * memory ends the program with a message (there is nothing sensible left to do). */
void *bn_arena_alloc(struct bn_arena *arena, size_t size_bytes);
/* count * size with an overflow check. */
void *bn_arena_array(struct bn_arena *arena, size_t count, size_t size_bytes);
char *bn_arena_strndup(struct bn_arena *arena, const char *s, size_t n);
char *bn_arena_strdup(struct bn_arena *arena, const char *s);
void bn_arena_free(struct bn_arena *arena);

/* ---- heap that cannot fail ---- */

void *bn_xmalloc(size_t size_bytes);
void *bn_xcalloc(size_t count, size_t size_bytes);
void *bn_xrealloc(void *p, size_t size_bytes);
char *bn_xstrdup(const char *s);
/* Grow *items so that it holds at least `need` elements of item_bytes; *capacity is in elements. */
void bn_grow(void *items, size_t *capacity, size_t need, size_t item_bytes);
char *bn_xasprintf(const char *format, ...) BN_PRINTF(1, 2);

/* ---- growing byte buffer, always NUL-terminated behind its n bytes ---- */

struct bn_buf {
    char *p;
    size_t n, capacity;
};

void bn_buf_put(struct bn_buf *buf, const void *bytes, size_t n);
void bn_buf_puts(struct bn_buf *buf, const char *s);
void bn_buf_putc(struct bn_buf *buf, char c);
void bn_buf_printf(struct bn_buf *buf, const char *format, ...) BN_PRINTF(2, 3);
void bn_buf_free(struct bn_buf *buf);

/* ---- numbers as text: the "C" locale always, whole string or -1 ---- */

int bn_parse_u64(const char *s, uint64_t min, uint64_t max, uint64_t *out);
int bn_parse_double(const char *s, double min, double max, double *out);

/* ---- clock: CLOCK_MONOTONIC, ns; the same clock that the samples carry ---- */

uint64_t bn_now_ns(void);

/* ---- files ---- */

/* Read-only mapping of a whole file. An empty file maps to p = NULL, n = 0. The file stays open: who needs
 * bytes but once reads them from fd, which maps no pages. fd means something only while p is not NULL. */
struct bn_map {
    const uint8_t *p;
    size_t n;
    int fd;
};
int bn_map_open(struct bn_map *map, const char *path, struct bn_err *err);
/* Read bytes [at, at + n) of the file. 0, or -1: they cannot be read, or are no longer there. */
int bn_map_read(const struct bn_map *map, void *out, size_t at, size_t n);
void bn_map_close(struct bn_map *map);

/* Output that appears whole or not at all: a temporary file beside `path`, then flush, fsync, rename.
 * path "-" is stdout; a device or a pipe is written to, and a link followed, never replaced. Usage: open,
 * fprintf(out.f), commit; abort drops it (accepts an unopened one). */
struct bn_out {
    FILE *f;
    char *path;      /* of the file itself, behind all links */
    char *temp_path; /* NULL: written directly */
};
int bn_out_open(struct bn_out *out, const char *path, struct bn_err *err);
int bn_out_commit(struct bn_out *out, struct bn_err *err);
void bn_out_abort(struct bn_out *out);

#endif
