/* SPDX-License-Identifier: MIT
 * Drains the rings of a region that the measured programs write: every record is copied first and checked
 * then, numbers that matter are the recorder's own. Mappings that a program cannot tell about in time
 * (dlopen, a JIT's code) are read from /proc/PID/maps. */
#include "profiler/timer.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <linux/perf_event.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#include "profiler/timer_proc.h"

enum {
    RECORD_EXTRA_BYTES = 512, /* of a sample besides its dump, usually */
    CHAIN_BYTES = 1024,       /* of one whose stack is longer than its dump */
    RING_HOLDS_MS = 200,      /* what the default ring holds of one busy thread */
    RING_MIN_BYTES = 256 << 10,
    RING_MAX_BYTES = 4 << 20,
    RECORD_MAX_BYTES = 65528,
    LOOK_MS = 250, /* between two looks for threads that are gone */
};

/* ---- open and close ---- */

static uint32_t power_of_two(uint64_t n)
{
    uint32_t p = RING_MIN_BYTES;

    while (p < n && p < RING_MAX_BYTES)
        p *= 2;
    return p;
}

/* The coarse clocks advance at the tick. */
static uint32_t tick_ns(void)
{
    struct timespec t;

    if (clock_getres(CLOCK_MONOTONIC_COARSE, &t) != 0 || t.tv_sec != 0 || t.tv_nsec <= 0)
        return 0;
    return (uint32_t)t.tv_nsec;
}

static void choose_rate(struct bn_timer *t, uint32_t asked_hz, uint32_t tick)
{
    uint32_t most_hz = tick ? 1000000000u / tick : asked_hz;

    t->rate_hz = asked_hz;
    if (asked_hz > most_hz) {
        bn_buf_printf(
            &t->notes,
            "%u Hz lowered to %u Hz: CPU timers expire at this kernel's clock tick, every %.3g ms\n",
            asked_hz, most_hz, tick / 1e6);
        t->rate_hz = most_hz;
    }
    t->interval_ns = (1000000000u + t->rate_hz / 2) / t->rate_hz;
}

int bn_timer_open(struct bn_timer *t, const struct bn_timer_options *o, struct bn_err *err)
{
    uint32_t tick = tick_ns(), dump = o->stack_dump_bytes;

    *t = (struct bn_timer){.fd = -1};
    t->format = (struct bn_record_format){.sample_type = BN_TIMER_SAMPLE_TYPE, .regs_user = BN_TIMER_REGS};
    if (dump > RECORD_MAX_BYTES - RECORD_EXTRA_BYTES - CHAIN_BYTES)
        dump = RECORD_MAX_BYTES - RECORD_EXTRA_BYTES - CHAIN_BYTES;
    choose_rate(t, o->rate_hz, tick);
    uint64_t want = (uint64_t)(RECORD_EXTRA_BYTES + dump) * ((uint64_t)t->rate_hz * RING_HOLDS_MS / 1000 + 1);
    t->ring_bytes = o->ring_bytes ? (uint32_t)o->ring_bytes : power_of_two(want);
    size_t size = bn_timer_region_bytes(t->ring_bytes);
    t->fd = memfd_create("bnprof-timer", MFD_CLOEXEC);
    t->region_made = t->fd >= 0;
    if (t->fd < 0 || ftruncate(t->fd, (off_t)size) != 0) {
        bn_err_set(err, "no memory for the timers' rings (%zu MiB): %s", size >> 20, strerror(errno));
        bn_timer_close(t);
        return -1;
    }
    void *p = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_NORESERVE, t->fd, 0);
    if (p == MAP_FAILED) {
        bn_err_set(err, "no memory for the timers' rings (%zu MiB): %s", size >> 20, strerror(errno));
        bn_timer_close(t);
        return -1;
    }
    t->region = p;
    t->region->magic = BN_TIMER_MAGIC;
    t->region->version = BN_TIMER_VERSION;
    t->region->size_bytes = size;
    t->region->interval_ns = t->interval_ns;
    t->region->stack_dump_bytes = dump & ~7u;
    t->region->ring_bytes = t->ring_bytes;
    bn_maps_init(&t->maps);
    return 0;
}

char *bn_timer_environment(const struct bn_timer *t)
{
    return bn_xasprintf(BN_TIMER_ENV "=/proc/%d/fd/%d", (int)getpid(), t->fd);
}

void bn_timer_stop(struct bn_timer *t)
{
    if (t->region)
        t->region->stopped = 1;
}

void bn_timer_close(struct bn_timer *t)
{
    if (t->region) {
        bn_timer_stop(t);
        munmap(t->region, bn_timer_region_bytes(t->ring_bytes));
        bn_maps_free(&t->maps);
    }
    if (t->region_made)
        close(t->fd);
    bn_buf_free(&t->notes);
    bn_buf_free(&t->text);
    bn_buf_free(&t->fresh);
    bn_buf_free(&t->sorted);
    bn_ring_free(&t->ring);
    *t = (struct bn_timer){.fd = -1};
}

/* ---- what a record tells the recorder ---- */

static struct bn_timer_view *view_of(struct bn_timer *t, int32_t pid)
{
    for (size_t i = 0; i < BN_TIMER_MAX_PROCESSES; i++)
        if (t->views[i].pid == pid)
            return &t->views[i];
    return NULL;
}

static void note_sample(struct bn_timer *t, const struct bn_record *r)
{
    t->n_samples++;
    if (bn_timer_known_at(bn_maps_process(&t->maps, r->pid), r->ip))
        return;
    struct bn_timer_view *view = view_of(t, r->pid);
    if (view)
        view->missed = true;
}

/* Look at the record at the end of `out`, which begins at `from`. False: it is to be dropped. */
static bool accept(struct bn_timer *t, struct bn_buf *out, size_t from)
{
    const uint8_t *at = (const uint8_t *)out->p + from;
    struct bn_record r;
    struct bn_err err;

    if (bn_record_size(at, out->n - from) != out->n - from ||
        bn_record_decode(&t->format, at, &r, &err) != 0 || r.t_ns > t->now_ns + LOOK_MS * 1000000ull) {
        t->n_damaged++;
        return false;
    }
    switch (r.type) {
    case PERF_RECORD_SAMPLE:
        note_sample(t, &r);
        return true;
    case PERF_RECORD_MMAP2:
        if (bn_timer_knows(t, bn_maps_process(&t->maps, r.pid),
                           (uint64_t[]){r.start, r.start + r.length, r.file_offset}, r.text, strlen(r.text),
                           0, r.t_ns)) /* told later, it may have been gone in between */
            return false;
        break;
    case PERF_RECORD_COMM:
    case PERF_RECORD_FORK:
    case PERF_RECORD_EXIT:
    case PERF_RECORD_READ:
        break;
    default:
        t->n_damaged++;
        return false;
    }
    bn_maps_apply(&t->maps, &r);
    return true;
}

/* ---- the rings of the threads ---- */

static uint32_t drain_slot(struct bn_timer *t, size_t i, struct bn_buf *out)
{
    struct bn_timer_slot *slot = &t->region->slots[i];
    const char *ring = bn_timer_ring(t->region, (uint32_t)i, t->ring_bytes);
    uint64_t end = atomic_load_explicit(&slot->head, memory_order_acquire), at = t->tails[i];
    uint32_t n_records = 0;

    while (at != end) {
        struct perf_event_header head;
        size_t place = (size_t)at & (t->ring_bytes - 1);
        size_t room = bn_min_size(t->ring_bytes - place, end - at), from = out->n;
        if (end - at > t->ring_bytes || room < sizeof head)
            head.size = 0;
        else
            memcpy(&head, ring + place, sizeof head);
        if (head.size < sizeof head || head.size % 8 != 0 || head.size > room) {
            t->n_damaged++;
            at = end;
            break;
        }
        at += head.size;
        if (head.type == BN_TIMER_PAD)
            continue;
        bn_buf_put(out, ring + place, head.size);
        if (accept(t, out, from))
            n_records++;
        else
            out->n = from;
    }
    t->tails[i] = at;
    atomic_store_explicit(&slot->tail, at, memory_order_release);
    return n_records;
}

/* Give the slot of a thread that has ended to the next one, its memory to the system. */
static void give_back(struct bn_timer *t, size_t i)
{
    struct bn_timer_slot *slot = &t->region->slots[i];
    off_t at = (off_t)(bn_timer_rings_at() + i * (size_t)t->ring_bytes);

    if (t->tails[i] > 0)
        fallocate(t->fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, at, (off_t)t->ring_bytes);
    t->n_ended_lost += slot->lost;
    t->tails[i] = 0;
    slot->lost = 0;
    slot->head = slot->tail = 0;
    slot->pid = slot->tid = 0;
    atomic_store(&slot->state, BN_TIMER_FREE);
}

/* ---- rounds ---- */

/* Nobody has said that the thread has ended: it was killed, or was the last of its process. */
static void end_gone(struct bn_timer *t, struct bn_timer_slot *slot)
{
    int32_t pid, tid;

    if (!bn_timer_claim_gone(slot, &pid, &tid))
        return;
    slot->state = BN_TIMER_ENDED;
    bn_timer_put_exit(&t->fresh, pid, tid, t->now_ns);
}

static void free_gone(struct bn_timer_process *process)
{
    uint32_t live = BN_TIMER_LIVE;
    int32_t pid = process->pid;

    if (process->state != BN_TIMER_LIVE || pid <= 0 || kill(pid, 0) == 0 || errno != ESRCH ||
        !atomic_compare_exchange_strong(&process->state, &live, BN_TIMER_TAKEN))
        return;
    process->state = process->pid == pid ? BN_TIMER_FREE : BN_TIMER_LIVE;
}

/* Threads that were killed, and processes that are gone, could not say so. */
static void look_for_ended(struct bn_timer *t)
{
    uint64_t now_ns = bn_now_ns();

    if (now_ns - t->looked_ns < LOOK_MS * 1000000ull)
        return;
    t->looked_ns = now_ns;
    for (size_t i = 0; i < BN_TIMER_MAX_SLOTS; i++)
        end_gone(t, &t->region->slots[i]);
    for (size_t i = 0; i < BN_TIMER_MAX_PROCESSES; i++)
        free_gone(&t->region->processes[i]);
}

static uint32_t drain(struct bn_timer *t, size_t ring, struct bn_buf *out)
{
    _Atomic uint32_t *state = &t->region->slots[ring].state;
    uint32_t ended = BN_TIMER_ENDED;

    if (atomic_compare_exchange_strong(state, &ended, BN_TIMER_TAKEN)) { /* no thread takes it meanwhile */
        uint32_t n = drain_slot(t, ring, out);
        give_back(t, ring);
        return n;
    }
    return ended == BN_TIMER_LIVE ? drain_slot(t, ring, out) : 0;
}

struct moment {
    uint64_t t_ns;
    size_t at;
};

static int by_time(const void *a, const void *b)
{
    const struct moment *x = a, *y = b;

    if (x->t_ns != y->t_ns)
        return x->t_ns < y->t_ns ? -1 : 1;
    return (x->at > y->at) - (x->at < y->at);
}

/* Bring the records of `from` into the order of time, in `to`. Records of one time keep their order. */
static void sort_records(const struct bn_timer *t, const struct bn_buf *from, struct bn_buf *to)
{
    struct moment *moments = NULL;
    size_t n = 0, capacity = 0, size;

    for (size_t at = 0; at < from->n; at += size) {
        const uint8_t *record = (const uint8_t *)from->p + at;
        size = bn_record_size(record, from->n - at);
        bn_grow(&moments, &capacity, n + 1, sizeof *moments);
        moments[n++] = (struct moment){bn_record_time(&t->format, record), at};
    }
    if (n)
        qsort(moments, n, sizeof *moments, by_time);
    to->n = 0;
    for (size_t i = 0; i < n; i++) {
        const char *record = from->p + moments[i].at;
        bn_buf_put(to, record, bn_record_size((const uint8_t *)record, UINT16_MAX));
    }
    free(moments);
}

void bn_timer_see(struct bn_timer *t)
{
    size_t size = 8;

    t->now_ns = bn_now_ns();
    t->fresh.n = 0;
    if (t->ring.end > t->ring.at)
        bn_buf_put(&t->fresh, t->ring.data + t->ring.at, (size_t)(t->ring.end - t->ring.at));
    for (size_t i = 0; i < BN_TIMER_MAX_SLOTS; i++)
        drain(t, i, &t->fresh);
    bn_timer_read_maps(t, &t->fresh); /* after the samples that may lie in them */
    look_for_ended(t);
    sort_records(t, &t->fresh, &t->sorted);
    while (size < t->sorted.n)
        size *= 2;
    t->ring.data = (const uint8_t *)t->sorted.p;
    t->ring.data_bytes = size; /* nothing wraps */
    t->ring.at = 0;
    t->ring.end = t->sorted.n;
    t->ring.next = NULL;
}

uint64_t bn_timer_used_ns(const struct bn_timer *t)
{
    uint64_t sum_ns = t->region ? t->region->ended_ns : 0;

    for (size_t i = 0; t->region && i < BN_TIMER_MAX_PROCESSES; i++) {
        const struct bn_timer_process *process = &t->region->processes[i];
        if (process->state == BN_TIMER_LIVE && process->pid > 0 && !process->told)
            sum_ns += bn_timer_process_ns(process->pid);
    }
    return sum_ns;
}

uint64_t bn_timer_lost(const struct bn_timer *t)
{
    uint64_t lost = t->n_ended_lost + t->n_damaged;

    for (size_t i = 0; t->region && i < BN_TIMER_MAX_SLOTS; i++)
        lost += t->region->slots[i].lost;
    return lost;
}

void bn_timer_shortcomings(const struct bn_timer *t, struct bn_buf *notes)
{
    const struct bn_timer_region *r = t->region;
    if (r->untimed_processes)
        bn_buf_printf(notes, "%u processes were not sampled: more than %d ran at a time\n",
                      r->untimed_processes, BN_TIMER_MAX_PROCESSES);
    if (r->untimed_threads)
        bn_buf_printf(notes, "%u threads were not sampled: more than %d ran at a time\n", r->untimed_threads,
                      BN_TIMER_MAX_SLOTS);
    if (r->refused_timers)
        bn_buf_printf(notes, "%u threads were not sampled: timer_create failed: %s\n", r->refused_timers,
                      strerror(r->refused_errno));
    if (r->conflicts)
        bn_buf_printf(notes,
                      "%u processes took the timers' signal for themselves: their later threads were not "
                      "sampled\n",
                      r->conflicts);
}
