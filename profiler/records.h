/* SPDX-License-Identifier: MIT
 * perf_event records as profile.part holds them, decoded with every length checked. */
#ifndef PROFILER_RECORDS_H
#define PROFILER_RECORDS_H

#include "core/base.h"

/* What must be known of the events to decode their records. */
struct bn_record_format {
    uint64_t sample_type; /* PERF_SAMPLE_… */
    uint64_t regs_user;   /* mask of the user registers in a sample */
};

enum { BN_RECORD_MAX_REGS = 64, BN_RECORD_MAX_BUILD_ID = 20 };

/* One record; pointers go into the file's mapping. Fields that its type does not have are zero. */
struct bn_record {
    uint32_t type; /* PERF_RECORD_… */
    uint16_t misc;
    uint64_t t_ns; /* CLOCK_MONOTONIC */
    int32_t pid, tid;

    /* MMAP, MMAP2 */
    uint64_t start, length, file_offset;
    uint8_t build_id[BN_RECORD_MAX_BUILD_ID];
    uint32_t build_id_bytes; /* 0 = not told */
    bool executable;
    const char *text; /* file name; COMM: thread name; NUL-terminated */

    /* SWITCH: misc has PERF_RECORD_MISC_SWITCH_OUT, and _PREEMPT with it, if the thread was taken off its CPU
     * against its will */

    /* FORK, EXIT */
    int32_t parent_pid, parent_tid;

    uint64_t value; /* READ: CPU time of the thread, ns */

    uint64_t lost; /* LOST, LOST_SAMPLES: how many */

    /* SAMPLE */
    uint64_t ip, period;
    const uint8_t *chain; /* n_chain unaligned u64 */
    size_t n_chain;
    uint64_t regs_abi; /* 0 = no user registers, 2 = 64 bit */
    uint64_t regs_mask;
    uint64_t regs[BN_RECORD_MAX_REGS]; /* by perf's register number */
    const uint8_t *stack;              /* from the stack pointer upwards */
    size_t stack_bytes;                /* really copied */
    size_t other_bytes;                /* the record's size without the dump */
};

/* The unaligned little-endian words of a chain. */
static inline uint64_t bn_record_word(const uint8_t *p, size_t index)
{
    uint64_t word;
    __builtin_memcpy(&word, p + index * sizeof word, sizeof word);
    return word;
}

/* Check that the record at `at` lies within `n` bytes; returns its size, 0 if it does not. */
size_t bn_record_size(const uint8_t *at, size_t n);

/* Its time only; 0 if it has none. The record must have passed bn_record_size. */
uint64_t bn_record_time(const struct bn_record_format *format, const uint8_t *at);

/* Decode it. Returns 0, or -1 with a message if its contents do not fit its size. Types without a use here
 * come back with type, pid 0 and time. */
int bn_record_decode(const struct bn_record_format *format, const uint8_t *at, struct bn_record *record,
                     struct bn_err *err);

/* Can samples of this format be decoded? */
int bn_record_check_format(const struct bn_record_format *format, struct bn_err *err);

#endif
