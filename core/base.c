/* SPDX-License-Identifier: MIT
 * Errors, arenas, buffers, numbers, files: what core/base.h promises. */
#include "core/base.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

/* ---- errors ---- */

/* Names out of files stand in messages: a message stays one line and cannot drive the terminal. */
static void make_printable(char *s)
{
    for (; *s; s++)
        if ((unsigned char)*s < 0x20 || *s == 0x7f)
            *s = '?';
}

int bn_err_set(struct bn_err *err, const char *format, ...)
{
    va_list args;

    if (!err)
        return -1;
    va_start(args, format);
    vsnprintf(err->msg, sizeof err->msg, format, args);
    va_end(args);
    make_printable(err->msg);
    return -1;
}

int bn_err_prefix(struct bn_err *err, const char *format, ...)
{
    char prefix[sizeof err->msg];
    va_list args;

    if (!err)
        return -1;
    va_start(args, format);
    vsnprintf(prefix, sizeof prefix - 2, format, args);
    va_end(args);
    strcat(prefix, ": ");
    size_t n = strlen(prefix), old = strlen(err->msg);
    memmove(err->msg + n, err->msg, bn_min_size(old, sizeof err->msg - 1 - n));
    memcpy(err->msg, prefix, n);
    err->msg[bn_min_size(n + old, sizeof err->msg - 1)] = '\0';
    make_printable(err->msg);
    return -1;
}

/* ---- string views ---- */

struct bn_str bn_str_from(const char *s)
{
    return (struct bn_str){s, s ? strlen(s) : 0};
}

bool bn_str_eq(struct bn_str a, struct bn_str b)
{
    return a.n == b.n && (a.n == 0 || memcmp(a.p, b.p, a.n) == 0);
}

bool bn_str_is(struct bn_str a, const char *s)
{
    return bn_str_eq(a, bn_str_from(s));
}

/* ---- memory ---- */

static void *checked(void *p, size_t size_bytes)
{
    if (!p && size_bytes > 0) {
        fprintf(stderr, "bnprof: out of memory (%zu bytes more were needed)\n", size_bytes);
        exit(1);
    }
    return p;
}

void *bn_xmalloc(size_t size_bytes)
{
    return checked(malloc(size_bytes ? size_bytes : 1), size_bytes);
}

void *bn_xcalloc(size_t count, size_t size_bytes)
{
    return checked(calloc(count ? count : 1, size_bytes ? size_bytes : 1), size_bytes);
}

void *bn_xrealloc(void *p, size_t size_bytes)
{
    return checked(realloc(p, size_bytes ? size_bytes : 1), size_bytes);
}

char *bn_xstrdup(const char *s)
{
    return checked(strdup(s), strlen(s) + 1);
}

char *bn_xasprintf(const char *format, ...)
{
    va_list args;
    char *s = NULL;

    va_start(args, format);
    int n = vasprintf(&s, format, args);
    va_end(args);
    return checked(n < 0 ? NULL : s, 1);
}

void bn_grow(void *items, size_t *capacity, size_t need, size_t item_bytes)
{
    void *p;

    if (need <= *capacity)
        return;
    size_t n = *capacity < 8 ? 8 : *capacity + *capacity / 2;
    if (n < need)
        n = need;
    if (n > SIZE_MAX / item_bytes)
        checked(NULL, SIZE_MAX);
    memcpy(&p, items, sizeof p); /* items is the address of a typed pointer */
    p = bn_xrealloc(p, n * item_bytes);
    memcpy(items, &p, sizeof p);
    *capacity = n;
}

enum { ARENA_BLOCK_BYTES = 1 << 16, ARENA_ALIGN = 64, HUGE_PAGE = 1 << 21 };

struct bn_arena_block {
    struct bn_arena_block *before;
    size_t used, size;
    _Alignas(ARENA_ALIGN) char bytes[];
};

void *bn_arena_alloc(struct bn_arena *arena, size_t size_bytes)
{
    struct bn_arena_block *block = arena->last;
    size_t align = size_bytes >= ARENA_ALIGN ? ARENA_ALIGN : 16;
    size_t at = block ? bn_round_up(block->used, align) : 0;

    if (!block || at > block->size || size_bytes > block->size - at) {
        size_t size = size_bytes > ARENA_BLOCK_BYTES ? size_bytes : ARENA_BLOCK_BYTES;
        if (size > SIZE_MAX - sizeof *block - ARENA_ALIGN)
            checked(NULL, size);
        size_t total = bn_round_up(sizeof *block + size, ARENA_ALIGN);
        void *p = NULL;
        if (posix_memalign(&p, total < HUGE_PAGE ? ARENA_ALIGN : HUGE_PAGE, total) != 0)
            p = NULL;
        block = checked(p, total);
        if (total >= HUGE_PAGE) /* fewer faults and TLB misses; where it is refused no harm is done */
            madvise(block, total, MADV_HUGEPAGE);
        memset(block, 0, total);
        block->before = arena->last;
        block->size = size;
        arena->last = block;
        at = 0;
    }
    block->used = at + size_bytes;
    arena->used_bytes += size_bytes;
    return block->bytes + at;
}

void *bn_arena_array(struct bn_arena *arena, size_t count, size_t size_bytes)
{
    size_t total;

    if (__builtin_mul_overflow(count, size_bytes, &total))
        checked(NULL, SIZE_MAX);
    return bn_arena_alloc(arena, total);
}

char *bn_arena_strndup(struct bn_arena *arena, const char *s, size_t n)
{
    char *copy = bn_arena_alloc(arena, n + 1);

    if (n)
        memcpy(copy, s, n);
    return copy;
}

char *bn_arena_strdup(struct bn_arena *arena, const char *s)
{
    return bn_arena_strndup(arena, s, strlen(s));
}

void bn_arena_free(struct bn_arena *arena)
{
    while (arena->last) {
        struct bn_arena_block *before = arena->last->before;
        free(arena->last);
        arena->last = before;
    }
    arena->used_bytes = 0;
}

/* ---- growing buffer ---- */

void bn_buf_put(struct bn_buf *buf, const void *bytes, size_t n)
{
    bn_grow(&buf->p, &buf->capacity, buf->n + n + 1, 1);
    if (n)
        memcpy(buf->p + buf->n, bytes, n);
    buf->n += n;
    buf->p[buf->n] = '\0';
}

void bn_buf_puts(struct bn_buf *buf, const char *s)
{
    bn_buf_put(buf, s, strlen(s));
}

void bn_buf_putc(struct bn_buf *buf, char c)
{
    bn_buf_put(buf, &c, 1);
}

void bn_buf_printf(struct bn_buf *buf, const char *format, ...)
{
    va_list args, again;

    va_start(args, format);
    va_copy(again, args);
    int n = vsnprintf(NULL, 0, format, args);
    va_end(args);
    if (n > 0) {
        bn_grow(&buf->p, &buf->capacity, buf->n + (size_t)n + 1, 1);
        vsnprintf(buf->p + buf->n, (size_t)n + 1, format, again);
        buf->n += (size_t)n;
    }
    va_end(again);
}

void bn_buf_free(struct bn_buf *buf)
{
    free(buf->p);
    *buf = (struct bn_buf){0};
}

/* ---- numbers ---- */

int bn_parse_u64(const char *s, uint64_t min, uint64_t max, uint64_t *out)
{
    char *end;

    if (!s || *s < '0' || *s > '9')
        return -1;
    errno = 0;
    unsigned long long v = strtoull(s, &end, 10);
    if (errno || *end || v < min || v > max)
        return -1;
    *out = v;
    return 0;
}

int bn_parse_double(const char *s, double min, double max, double *out)
{
    char *end;

    if (!s || !*s || *s == ' ')
        return -1;
    errno = 0;
    double v = strtod(s, &end);
    if (errno == ERANGE || *end || !(v >= min && v <= max))
        return -1;
    *out = v;
    return 0;
}

/* ---- clock ---- */

uint64_t bn_now_ns(void)
{
    struct timespec t;

    clock_gettime(CLOCK_MONOTONIC, &t);
    return (uint64_t)t.tv_sec * 1000000000u + (uint64_t)t.tv_nsec;
}

/* ---- files ---- */

int bn_map_open(struct bn_map *map, const char *path, struct bn_err *err)
{
    struct stat st;
    int status = -1;

    *map = (struct bn_map){0};
    int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK); /* a FIFO must not hold us up */
    if (fd < 0)
        return bn_err_set(err, "%s: %s", path, strerror(errno));
    if (fstat(fd, &st) != 0) {
        bn_err_set(err, "%s: %s", path, strerror(errno));
        goto out;
    }
    if (!S_ISREG(st.st_mode)) {
        bn_err_set(err, "%s: is %s, a regular file was expected", path,
                   S_ISDIR(st.st_mode) ? "a directory" : "no regular file");
        goto out;
    }
    if (st.st_size > 0) {
        void *p = mmap(NULL, (size_t)st.st_size, PROT_READ, MAP_PRIVATE, fd, 0);
        if (p == MAP_FAILED) {
            bn_err_set(err, "%s: cannot be mapped: %s", path, strerror(errno));
            goto out;
        }
        *map = (struct bn_map){.p = p, .n = (size_t)st.st_size, .fd = fd};
        return 0;
    }
    status = 0;
out:
    close(fd);
    return status;
}

int bn_map_read(const struct bn_map *map, void *out, size_t at, size_t n)
{
    for (size_t done = 0; done < n;) {
        ssize_t got = pread(map->fd, (char *)out + done, n - done, (off_t)(at + done));
        if (got < 0 && errno == EINTR)
            continue;
        if (got <= 0)
            return -1;
        done += (size_t)got;
    }
    return 0;
}

void bn_map_close(struct bn_map *map)
{
    if (map->p) {
        munmap((void *)(uintptr_t)map->p, map->n);
        close(map->fd);
    }
    *map = (struct bn_map){0};
}

/* Where a link leads to; the path itself if it is none, or leads to what has no name. */
static char *target_of(const char *path)
{
    struct stat there;
    char *target = lstat(path, &there) == 0 && S_ISLNK(there.st_mode) ? realpath(path, NULL) : NULL;

    return target ? target : bn_xstrdup(path);
}

static bool is_device(const char *path)
{
    struct stat there;

    return stat(path, &there) == 0 && !S_ISREG(there.st_mode) && !S_ISDIR(there.st_mode);
}

int bn_out_open(struct bn_out *out, const char *path, struct bn_err *err)
{
    *out = (struct bn_out){0};
    if (strcmp(path, "-") == 0) {
        out->f = stdout;
        return 0;
    }
    char *target = target_of(path), *temp = NULL;
    if (!is_device(target))
        temp = bn_xasprintf("%s.tmp-%ld", target, (long)getpid());
    int fd = temp ? open(temp, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0666)
                  : open(target, O_WRONLY | O_NOCTTY | O_CLOEXEC);
    if (fd < 0) {
        bn_err_set(err, "%s: cannot be written: %s", path, strerror(errno));
        free(target);
        free(temp);
        return -1;
    }
    out->f = fdopen(fd, "w");
    out->path = target;
    out->temp_path = temp;
    return 0;
}

int bn_out_commit(struct bn_out *out, struct bn_err *err)
{
    const char *name = out->path ? out->path : "standard output";
    bool bad = fflush(out->f) != 0 || ferror(out->f);

    if (out->path) {
        bad = bad || (out->temp_path && fsync(fileno(out->f)) != 0);
        int saved = errno;
        bad = (fclose(out->f) != 0) || bad;
        out->f = NULL;
        errno = saved ? saved : errno;
        bad = bad || (out->temp_path && rename(out->temp_path, out->path) != 0);
    }
    if (bad)
        bn_err_set(err, "%s: cannot be written: %s", name, strerror(errno));
    bn_out_abort(out);
    return bad ? -1 : 0;
}

void bn_out_abort(struct bn_out *out)
{
    if (out->path && out->f)
        fclose(out->f);
    if (out->temp_path)
        unlink(out->temp_path); /* after a rename there is nothing left to remove */
    free(out->path);
    free(out->temp_path);
    *out = (struct bn_out){0};
}
