/* SPDX-License-Identifier: MIT
 * profile.part: checksummed blocks appended while a program is recorded, and read back up to the last whole
 * one. */
#include "profiler/raw.h"

#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

static const char magic[8] = {'B', 'N', 'P', 'A', 'R', 'T', '1', '\n'};

enum {
    ALIGN_BYTES = 8,
    COVERED_BYTES = 8,      /* of a block's head by its checksum: kind and size */
    DIRECT_BYTES = 1 << 16, /* a body that is written where it lies */
    FLUSH_BYTES = 1 << 20,  /* gathered before a write without being asked */
};

_Static_assert(sizeof(struct bn_raw_block) == 16, "blocks are 8-byte aligned");

/* ---- CRC-32C ---- */

static uint32_t crc_tables[8][256];
static pthread_once_t crc_once = PTHREAD_ONCE_INIT;

/* Eight bytes a step ("slicing"): table k holds the checksum of a byte that is followed by k zero bytes. */
static void fill_tables(void)
{
    for (uint32_t i = 0; i < 256; i++) {
        uint32_t c = i;
        for (int bit = 0; bit < 8; bit++)
            c = (c >> 1) ^ (c & 1 ? 0x82f63b78u : 0);
        crc_tables[0][i] = c;
    }
    for (int k = 1; k < 8; k++)
        for (uint32_t i = 0; i < 256; i++)
            crc_tables[k][i] = (crc_tables[k - 1][i] >> 8) ^ crc_tables[0][crc_tables[k - 1][i] & 255];
}

uint32_t bn_raw_crc32c_table(uint32_t crc, const void *bytes, size_t n)
{
    const uint8_t *p = bytes;

    pthread_once(&crc_once, fill_tables);
    crc = ~crc;
    for (; n >= 8; n -= 8, p += 8) {
        uint32_t low =
            crc ^ ((uint32_t)p[0] | (uint32_t)p[1] << 8 | (uint32_t)p[2] << 16 | (uint32_t)p[3] << 24);
        crc = crc_tables[7][low & 255] ^ crc_tables[6][low >> 8 & 255] ^ crc_tables[5][low >> 16 & 255] ^
              crc_tables[4][low >> 24] ^ crc_tables[3][p[4]] ^ crc_tables[2][p[5]] ^ crc_tables[1][p[6]] ^
              crc_tables[0][p[7]];
    }
    for (; n > 0; n--)
        crc = (crc >> 8) ^ crc_tables[0][(crc ^ *p++) & 255];
    return ~crc;
}

#ifdef __x86_64__
__attribute__((target("sse4.2"))) static uint32_t crc32c_sse42(uint32_t crc, const uint8_t *p, size_t n)
{
    uint64_t c = ~crc;

    for (; n >= 8; n -= 8, p += 8) {
        uint64_t word;
        memcpy(&word, p, sizeof word);
        c = __builtin_ia32_crc32di(c, word);
    }
    for (; n > 0; n--)
        c = __builtin_ia32_crc32qi((uint32_t)c, *p++);
    return ~(uint32_t)c;
}
#endif

uint32_t bn_raw_crc32c(uint32_t crc, const void *bytes, size_t n)
{
#ifdef __x86_64__
    if (__builtin_cpu_supports("sse4.2"))
        return crc32c_sse42(crc, bytes, n);
#endif
    return bn_raw_crc32c_table(crc, bytes, n);
}

/* ---- writing ---- */

int bn_raw_create(struct bn_raw_writer *w, const char *path, struct bn_err *err)
{
    *w = (struct bn_raw_writer){.fd = -1};
    w->fd = open(path, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0666);
    if (w->fd < 0)
        return bn_err_set(err, "%s: %s", path, strerror(errno));
    /* A file system without locks is no reason not to record. Waits no longer than somebody's look at the
     * lock. */
    (void)flock(w->fd, LOCK_EX);
    w->path = bn_xstrdup(path);
    bn_buf_put(&w->buf, magic, sizeof magic);
    return 0;
}

static void write_all(struct bn_raw_writer *w, const char *p, size_t size)
{
    size_t done = 0;

    while (done < size && !w->failed) {
        ssize_t n = write(w->fd, p + done, size - done);
        if (n < 0 && errno == EINTR)
            continue;
        if (n <= 0) {
            w->failed = true;
            bn_err_set(&w->why, "%s: %s", w->path, n < 0 ? strerror(errno) : "nothing could be written");
            break;
        }
        done += (size_t)n;
        w->written_bytes += (uint64_t)n;
    }
}

void bn_raw_append(struct bn_raw_writer *w, enum bn_raw_kind kind, const void *head, size_t head_bytes,
                   const void *body, size_t body_bytes)
{
    static const uint8_t zeros[ALIGN_BYTES];
    size_t n = head_bytes + body_bytes;
    struct bn_raw_block block = {.kind = kind, .payload_bytes = (uint32_t)n};

    assert(n <= UINT32_MAX - ALIGN_BYTES);
    if (w->failed)
        return;
    block.crc32c = bn_raw_crc32c(0, &block, COVERED_BYTES);
    block.crc32c = bn_raw_crc32c(block.crc32c, head, head_bytes);
    block.crc32c = bn_raw_crc32c(block.crc32c, body, body_bytes);
    bn_buf_put(&w->buf, &block, sizeof block);
    bn_buf_put(&w->buf, head, head_bytes);
    if (body_bytes >= DIRECT_BYTES) { /* not worth gathering */
        bn_raw_flush(w);
        write_all(w, body, body_bytes);
    } else {
        bn_buf_put(&w->buf, body, body_bytes);
    }
    bn_buf_put(&w->buf, zeros, bn_round_up(n, ALIGN_BYTES) - n);
    if (w->buf.n >= FLUSH_BYTES)
        bn_raw_flush(w);
}

void bn_raw_flush(struct bn_raw_writer *w)
{
    write_all(w, w->buf.p, w->buf.n);
    w->buf.n = 0;
}

int bn_raw_close(struct bn_raw_writer *w, struct bn_err *err)
{
    if (w->fd < 0)
        return 0;
    bn_raw_flush(w);
    /* EINVAL, ENOTSUP: a kind of file that cannot be synced, which loses nothing. */
    if (!w->failed && fsync(w->fd) != 0 && errno != EINVAL && errno != ENOTSUP) {
        w->failed = true;
        bn_err_set(&w->why, "%s: %s", w->path, strerror(errno));
    }
    if (close(w->fd) != 0 && !w->failed) {
        w->failed = true;
        bn_err_set(&w->why, "%s: %s", w->path, strerror(errno));
    }
    w->fd = -1;
    bn_buf_free(&w->buf);
    free(w->path);
    w->path = NULL;
    return w->failed ? bn_err_set(err, "%s", w->why.msg) : 0;
}

/* ---- reading ---- */

int bn_raw_open(struct bn_raw_reader *r, const char *path, struct bn_err *err)
{
    *r = (struct bn_raw_reader){0};
    if (bn_map_open(&r->map, path, err) != 0)
        return -1;
    if (r->map.n < sizeof magic || memcmp(r->map.p, magic, sizeof magic) != 0) {
        bn_raw_close_reader(r);
        return bn_err_set(err, "%s: not a recording: byte 0 should read BNPART1", path);
    }
    bn_raw_rewind(r);
    return 0;
}

/* How a block at `at` is: there, or not. */
enum whole { WHOLE, WRONG, BEYOND_END };

static enum whole block_at(struct bn_raw_reader *r, size_t at, struct bn_raw_block *block)
{
    size_t left = r->map.n - at;

    if (left < sizeof *block)
        return BEYOND_END;
    memcpy(block, r->map.p + at, sizeof *block);
    left -= sizeof *block;
    /* The padding belongs to the block: a file that ends inside it was cut off, though nothing of worth is
     * missing. */
    if (block->payload_bytes > left || bn_round_up(block->payload_bytes, ALIGN_BYTES) > left)
        return BEYOND_END;
    if (block->reserved != 0)
        return WRONG;
    uint32_t crc = bn_raw_crc32c(0, block, COVERED_BYTES);
    crc = bn_raw_crc32c(crc, r->map.p + at + sizeof *block, block->payload_bytes);
    return crc == block->crc32c ? WHOLE : WRONG;
}

/* Where the next whole block begins behind a damaged one; the file's end if none does. A file can be made so
 * that every place looks like a long block, so the work is bounded. */
static size_t find_block(struct bn_raw_reader *r, struct bn_raw_block *block)
{
    for (size_t at = r->pos + ALIGN_BYTES; at + sizeof *block <= r->map.n; at += ALIGN_BYTES) {
        memcpy(block, r->map.p + at, sizeof *block);
        bool likely = block->kind > 0 && block->kind < BN_RAW_KINDS && block->reserved == 0 &&
                      block->payload_bytes <= r->map.n - at - sizeof *block;
        if (!likely)
            continue;
        if (block->payload_bytes > r->search_left)
            break;
        r->search_left -= block->payload_bytes;
        if (block_at(r, at, block) == WHOLE)
            return at;
    }
    return r->map.n;
}

int bn_raw_next(struct bn_raw_reader *r, struct bn_raw_block *block, const uint8_t **payload)
{
    if (r->pos == r->map.n || r->cut_off)
        return 0;
    enum whole whole = block_at(r, r->pos, block);
    r->gap_bytes = 0;
    if (whole != WHOLE) {
        size_t at = find_block(r, block);
        r->cut_off = at == r->map.n && whole == BEYOND_END;
        if (r->cut_off)
            return 0;
        r->gap_bytes = at - r->pos;
        r->skipped_bytes += r->gap_bytes;
        r->pos = at;
        if (at == r->map.n)
            return 0;
    }
    *payload = r->map.p + r->pos + sizeof *block;
    r->pos += sizeof *block + bn_round_up(block->payload_bytes, ALIGN_BYTES);
    return 1;
}

void bn_raw_rewind(struct bn_raw_reader *r)
{
    enum { SEARCH_FACTOR = 16 };

    r->pos = sizeof magic;
    r->cut_off = false;
    r->skipped_bytes = r->gap_bytes = 0;
    r->search_left = (uint64_t)r->map.n * SEARCH_FACTOR;
}

void bn_raw_close_reader(struct bn_raw_reader *r)
{
    bn_map_close(&r->map);
    *r = (struct bn_raw_reader){0};
}
