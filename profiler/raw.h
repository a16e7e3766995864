/* SPDX-License-Identifier: MIT
 * Raw records: what a sampler delivers before anything is unwound or named, and profile.part, the append-only
 * file they are spooled to while the program runs. Blocks carry a checksum, so a recording that was cut off
 * can be finished up to its last whole block.
 *
 * File: "BNPART1\n", then blocks: struct bn_raw_block, payload, padding to 8 bytes. */
#ifndef PROFILER_RAW_H
#define PROFILER_RAW_H

#include "core/base.h"

enum bn_raw_kind {
    BN_RAW_HEADER =
        1, /* JSON: command, times, event, rate, ladder, host facts: all that is known before the start */
    BN_RAW_PERF, /* struct bn_raw_perf, then whole perf_event records as the kernel wrote them (dumps clipped
                    to dyn_size) */
    BN_RAW_SCOPES,   /* struct bn_raw_scopes, then that many struct bn_scope_event */
    BN_RAW_SNAPSHOT, /* JSON: the scope region's nodes, statistics, threads and run info; the last one counts
                      */
    BN_RAW_MODULE,   /* struct bn_raw_module, then bytes: an image that is no file (the vdso) */
    BN_RAW_FOOTER, /* JSON: exit status, resource usage, loss, steal, limits: all that is known at the end */
};

struct bn_raw_block {
    uint32_t kind;
    uint32_t payload_bytes;
    uint32_t crc32c; /* of kind and payload_bytes (the 8 bytes above), then the payload */
    uint32_t reserved;
};

struct bn_raw_perf {
    uint32_t cpu;
    uint32_t n_records;
};

struct bn_raw_scopes {
    int32_t tid;
    uint32_t slot;
    uint64_t dropped; /* so far */
};

struct bn_raw_module {
    uint64_t start; /* address in the program, 0 = unknown */
    uint64_t size_bytes;
};

/* ---- writing ---- */

struct bn_raw_writer {
    int fd;
    char *path;
    uint64_t written_bytes;
    struct bn_buf buf; /* gathered, written out by flush or when large */
    bool failed;       /* a write failed (disk full): later blocks are dropped; `why` holds the message */
    struct bn_err why;
};
/* The new file is locked (flock) until bn_raw_close: a locked profile.part is being recorded, an unlocked one
 * is a left-over. An existing file is an error. */
int bn_raw_create(struct bn_raw_writer *w, const char *path, struct bn_err *err);
/* head may be empty; head and body form one payload. */
void bn_raw_append(struct bn_raw_writer *w, enum bn_raw_kind kind, const void *head, size_t head_bytes,
                   const void *body, size_t body_bytes);
void bn_raw_flush(struct bn_raw_writer *w);
int bn_raw_close(struct bn_raw_writer *w,
                 struct bn_err *err); /* flush, fsync, close; -1 if anything was lost */

/* CRC-32C (Castagnoli) of the bytes, continuing from `crc` (0 at the start). Source: RFC 3720, B.4. */
uint32_t bn_raw_crc32c(uint32_t crc, const void *bytes, size_t n);
/* The same from a table, for CPUs without the instruction; equal by test. */
uint32_t bn_raw_crc32c_table(uint32_t crc, const void *bytes, size_t n);

/* ---- reading ---- */

struct bn_raw_reader {
    struct bn_map map;
    size_t pos;
    bool damaged; /* stopped at a block that is cut off or fails its checksum */
};
int bn_raw_open(struct bn_raw_reader *r, const char *path, struct bn_err *err);
/* 1 and the next block, 0 at the end (or at damage). Payloads are 8-byte aligned and valid until close. */
int bn_raw_next(struct bn_raw_reader *r, struct bn_raw_block *block, const uint8_t **payload);
void bn_raw_rewind(struct bn_raw_reader *r);
void bn_raw_close_reader(struct bn_raw_reader *r);

#endif
