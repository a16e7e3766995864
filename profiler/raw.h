/* SPDX-License-Identifier: MIT
 * Raw records: what a sampler delivers before anything is unwound or named, and profile.part, the append-only
 * file they are spooled to while the program runs. Blocks carry a checksum, so a recording that was cut off
 * can be finished up to its last whole block, and what follows a damaged one can be found again.
 *
 * File: "BNPART1\n", then blocks: struct bn_raw_block, payload, padding to 8 bytes. */
#ifndef PROFILER_RAW_H
#define PROFILER_RAW_H

#include "core/base.h"

enum bn_raw_kind {
    BN_RAW_HEADER =
        1, /* JSON: command, times, event, rate, ladder, host facts: all that is known before the start */
    BN_RAW_SCOPES = 3,   /* struct bn_raw_scopes, then struct bn_scope_event: those that delimit tokens */
    BN_RAW_SNAPSHOT = 4, /* JSON: the scope region's nodes, statistics, threads and run info; the last one
                            counts */
    BN_RAW_MODULE = 5,   /* struct bn_raw_module, then bytes: an image that is no file (the vdso) */
    BN_RAW_FOOTER =
        6, /* JSON: exit status, resource usage, loss, steal, limits: all that is known at the end */
    BN_RAW_FILE = 7,     /* struct bn_raw_file, then the path without a NUL: a mapped file that holds code */
    BN_RAW_THREADS = 8,  /* struct bn_raw_thread: new or renamed threads */
    BN_RAW_STACKS = 9,   /* struct bn_raw_stacks, then struct bn_raw_stack: new entries of the stack table */
    BN_RAW_SAMPLES = 10, /* struct bn_raw_samples, then struct bn_raw_sample, in time order */
    BN_RAW_OFF_CPU = 11, /* struct bn_raw_off_cpu: time that threads did not run, by scope node; the last
                            block counts */
    BN_RAW_ON_CPU = 12,  /* struct bn_raw_on_cpu: time that each thread ran; the last block counts */
    BN_RAW_KINDS
};

struct bn_raw_block {
    uint32_t kind;
    uint32_t payload_bytes;
    uint32_t crc32c; /* of kind and payload_bytes (the 8 bytes above), then the payload */
    uint32_t reserved;
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

struct bn_raw_file {
    uint32_t index; /* counted up from 0 */
    uint32_t build_id_bytes;
    uint8_t build_id[20];
    uint32_t reserved;
};

struct bn_raw_thread {
    uint32_t index; /* a new one is one more than the largest so far */
    int32_t pid, tid;
    char name[20]; /* NUL-terminated; empty = not told */
};

/* Stacks are a tree: entry 0 is the empty stack, an entry's parent is its caller and smaller than itself.
 * first = 1: the table begins anew, numbers in later samples mean its new entries. */
struct bn_raw_stacks {
    uint32_t first; /* number of the first entry that follows */
    uint32_t epoch; /* how many tables there were before this one */
};

enum {
    BN_RAW_KERNEL = -1,  /* address: in the kernel */
    BN_RAW_NOWHERE = -2, /* address: in no mapping that is known to be executable */
    BN_RAW_MARK = -3,    /* address: enum bn_unwind_end, why the chain goes no further */
};

struct bn_raw_stack {
    uint32_t parent;
    int32_t file;     /* index of a BN_RAW_FILE, or one of the above */
    uint64_t address; /* of the instruction to be named: a vaddr of the file; UINT64_MAX = cannot be told */
};

struct bn_raw_samples {
    uint64_t base_ns; /* CLOCK_MONOTONIC */
};

enum bn_raw_sample_flag {
    BN_RAW_SAMPLE_KERNEL = 1 << 0,     /* taken in the kernel */
    BN_RAW_SAMPLE_DUMP_SHORT = 1 << 1, /* the chain went beyond the copied stack */
    BN_RAW_SAMPLE_IDLE = 1 << 3, /* of a worker that waits for work while the main thread is in `node` */
    BN_RAW_SAMPLE_EDGE = 1 << 2, /* within the cost of a scope of a change of stage */
};
/* Above them, the lower bits of the epoch of the table that `stack` is of. */
enum { BN_RAW_SAMPLE_EPOCH_SHIFT = 16 };

/* Where a sample has no scope node. */
enum { BN_RAW_NO_SCOPES = 0xffff, BN_RAW_BEFORE_SCOPES = 0xfffe, BN_RAW_SCOPES_LOST = 0xfffd };

struct bn_raw_sample {
    uint64_t weight; /* the event's period */
    uint32_t dt_ns;  /* after base_ns */
    uint32_t thread;
    uint32_t stack;
    uint32_t step;
    uint16_t node; /* of the scope tree, or one of the above */
    int16_t layer;
    uint32_t flags; /* enum bn_raw_sample_flag */
};

struct bn_raw_off_cpu {
    uint32_t node; /* 0: in no scope */
    uint32_t reserved;
    uint64_t asleep_ns, n_asleep;       /* the thread waited for something */
    uint64_t preempted_ns, n_preempted; /* it could have run, others did */
};

struct bn_raw_on_cpu {
    uint32_t thread;
    uint32_t reserved;
    uint64_t ns;
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
    bool cut_off;           /* the file ended in the middle of a block */
    uint64_t skipped_bytes; /* so far: what failed its checksum */
    uint64_t gap_bytes;     /* of that, what stood right before the latest block */
    uint64_t search_left;   /* bytes that may still be summed in search of a whole block */
};
int bn_raw_open(struct bn_raw_reader *r, const char *path, struct bn_err *err);
/* 1 and the next whole block, 0 at the end. What fails its checksum is skipped up to the next block that does
 * not. Payloads are 8-byte aligned and valid until close. */
int bn_raw_next(struct bn_raw_reader *r, struct bn_raw_block *block, const uint8_t **payload);
void bn_raw_rewind(struct bn_raw_reader *r);
void bn_raw_close_reader(struct bn_raw_reader *r);

#endif
