/* SPDX-License-Identifier: MIT
 * The shared memory between a program that samples itself by CPU timers (profiler/timer_inside.c) and the
 * recorder (profiler/timer.c): processes, threads, and a ring of perf_event records for each thread.
 *
 * The recorder makes it (a memfd), the programs map it. A slot's ring has one writer, its thread, and one
 * reader, the recorder. Nothing here may be trusted by the recorder: the programs can write all of it. */
#ifndef PROFILER_TIMER_REGION_H
#define PROFILER_TIMER_REGION_H

#include <errno.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/syscall.h>
#include <unistd.h>

#define BN_TIMER_MAGIC   0x31524d54u /* "TMR1" */
#define BN_TIMER_VERSION 3u
/* The region's path for the programs: /proc/PID/fd/N of the recorder. */
#define BN_TIMER_ENV "BNPROF_TIMER"

enum {
    BN_TIMER_MAX_SLOTS = 256,     /* threads at one time */
    BN_TIMER_MAX_PROCESSES = 256, /* processes at one time */
    BN_TIMER_PAD = 0xffff,        /* type of a record that fills the end of a ring */
};

/* FREE -> TAKEN (being set up) -> LIVE -> ENDED by the program; ENDED -> TAKEN -> FREE by the recorder once
 * drained. The next thread need not wait for that: ENDED -> TAKEN by the program goes on with the same ring,
 * as does LIVE -> TAKEN where the thread is gone.
 */
enum bn_timer_state { BN_TIMER_FREE, BN_TIMER_TAKEN, BN_TIMER_LIVE, BN_TIMER_ENDED };

struct bn_timer_slot {
    _Atomic uint32_t state;
    _Atomic int32_t pid, tid;
    _Atomic uint64_t head; /* bytes written; owner: the thread */
    _Atomic uint64_t tail; /* bytes read; owner: the recorder */
    _Atomic uint64_t samples;
    _Atomic uint64_t lost; /* samples and other records that found the ring full */

    /* The thread's alone. */
    uint64_t stack_end;    /* no frame lies above; 0 = unknown */
    _Atomic uint32_t busy; /* it is writing a record outside of the signal handler */
    int32_t timer, has_timer;
    uint64_t counted_ns; /* of its CPU time: what samples stand for already */
    char name[16];
};

struct bn_timer_process {
    _Atomic uint32_t state; /* as a slot's */
    _Atomic int32_t pid;
    _Atomic uint64_t start_ns;  /* when its mappings had been written down, or taken over from its parent */
    _Atomic uint32_t loads;     /* calls of dlopen and dlclose that began */
    _Atomic uint64_t closed_ns; /* when the last dlclose returned */
    _Atomic uint32_t closing;   /* calls of dlclose under way: what they unmap has no closed_ns yet */
    _Atomic uint32_t told;      /* its CPU time is in ended_ns */
    _Atomic uint32_t conflict;  /* the program took the timers' signal away: they were stopped */
};

struct bn_timer_region {
    uint32_t magic, version;
    uint64_t size_bytes;
    uint32_t interval_ns;
    uint32_t stack_dump_bytes; /* multiple of 8 */
    uint32_t ring_bytes;       /* of each slot, a power of two */
    _Atomic uint64_t ended_ns; /* CPU time of processes that have ended, as they say */
    _Atomic uint32_t stopped;  /* no more samples are wanted */
    _Atomic uint32_t untimed_threads, untimed_processes; /* found no room here */
    _Atomic uint32_t refused_timers;                     /* threads whose timer the kernel refused */
    _Atomic uint32_t conflicts;                          /* processes that took the timers' signal away */
    _Atomic int32_t refused_errno;                       /* of the last one */
    struct bn_timer_process processes[BN_TIMER_MAX_PROCESSES];
    struct bn_timer_slot slots[BN_TIMER_MAX_SLOTS];
    /* then, from the next multiple of 4096 on, the rings */
};

static inline size_t bn_timer_rings_at(void)
{
    return (sizeof(struct bn_timer_region) + 4095) / 4096 * 4096;
}

static inline size_t bn_timer_region_bytes(uint32_t ring_bytes)
{
    return bn_timer_rings_at() + (size_t)BN_TIMER_MAX_SLOTS * ring_bytes;
}

static inline char *bn_timer_ring(struct bn_timer_region *region, uint32_t slot, uint32_t ring_bytes)
{
    return (char *)region + bn_timer_rings_at() + (size_t)slot * ring_bytes;
}

/* True if the slot's thread is gone and had not said so; the slot is the caller's from then on. Whoever
 * brings its `tid` to 0 has it: `pid` is written before `tid`, and read after it. */
static inline bool bn_timer_claim_gone(struct bn_timer_slot *slot, int32_t *pid, int32_t *tid)
{
    int32_t expected = *tid = slot->tid;

    *pid = slot->pid;
    return *tid > 0 && *pid > 0 && syscall(SYS_tgkill, *pid, *tid, 0) != 0 && errno == ESRCH &&
           atomic_compare_exchange_strong(&slot->tid, &expected, 0);
}

/* What a record of this source holds: the fields of perf_event's sample_type, and on x86-64 and AArch64 the
 * registers that the kernel would have copied. */
#define BN_TIMER_SAMPLE_TYPE                                                                                 \
    (PERF_SAMPLE_IP | PERF_SAMPLE_TID | PERF_SAMPLE_TIME | PERF_SAMPLE_CPU | PERF_SAMPLE_PERIOD |            \
     PERF_SAMPLE_CALLCHAIN | PERF_SAMPLE_REGS_USER | PERF_SAMPLE_STACK_USER)
#if defined __x86_64__
#define BN_TIMER_REGS 0xff0fffull
#else
#define BN_TIMER_REGS 0x1ffffffffull
#endif

#endif
