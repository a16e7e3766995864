/* SPDX-License-Identifier: MIT
 * Records in one piece: what does not fit before the end of the ring begins anew at its start, behind a
 * record that fills the rest. */
#include "profiler/timer_ring.h"

#include <linux/perf_event.h>
#include <string.h>
#include <sys/prctl.h>

char *bn_timer_ring_reserve(struct bn_timer_ring *ring, size_t n)
{
    uint64_t head = atomic_load_explicit(&ring->slot->head, memory_order_relaxed);
    uint64_t used = head - atomic_load_explicit(&ring->slot->tail, memory_order_acquire);
    size_t at = (size_t)head & (ring->size - 1), first = ring->size - at;
    size_t need = n <= first ? n : first + n;

    if (used > ring->size || need > ring->size - used)
        return NULL;
    ring->head = head;
    if (n <= first)
        return ring->bytes + at;
    struct perf_event_header pad = {.type = BN_TIMER_PAD, .size = (uint16_t)first};
    memcpy(ring->bytes + at, &pad, sizeof pad);
    ring->head += first;
    return ring->bytes;
}

void bn_timer_ring_commit(struct bn_timer_ring *ring, size_t n)
{
    atomic_store_explicit(&ring->slot->head, ring->head + n, memory_order_release);
}

/* What ends every record that is no sample: who, when, where. */
struct trailer {
    uint32_t pid, tid;
    uint64_t t_ns;
    uint32_t cpu, reserved;
};

/* Header, body, text padded with NULs, trailer. */
static void put(struct bn_timer_ring *ring, struct perf_event_header head, const void *body,
                size_t body_bytes, const char *text, size_t text_bytes, const struct trailer *end)
{
    size_t padded = text ? (text_bytes + 8) / 8 * 8 : 0;
    size_t size = sizeof head + body_bytes + padded + sizeof *end;
    char *at = size <= UINT16_MAX ? bn_timer_ring_reserve(ring, size) : NULL;

    if (!at) {
        atomic_fetch_add_explicit(&ring->slot->lost, 1, memory_order_relaxed);
        return;
    }
    head.size = (uint16_t)size;
    memcpy(at, &head, sizeof head);
    memcpy(at + sizeof head, body, body_bytes);
    memset(at + sizeof head + body_bytes, 0, padded);
    if (text_bytes)
        memcpy(at + sizeof head + body_bytes, text, text_bytes);
    memcpy(at + size - sizeof *end, end, sizeof *end);
    bn_timer_ring_commit(ring, size);
}

static struct trailer trailer_of(const struct bn_timer_ring *ring, int32_t pid, uint64_t t_ns)
{
    return (struct trailer){.pid = (uint32_t)pid, .tid = (uint32_t)ring->slot->tid, .t_ns = t_ns};
}

void bn_timer_ring_task(struct bn_timer_ring *ring, uint32_t type, int32_t pid, int32_t tid,
                        int32_t parent_pid, int32_t parent, uint64_t t_ns)
{
    struct {
        int32_t pid, parent_pid, tid, parent_tid;
        uint64_t t_ns;
    } body = {pid, parent_pid, tid, parent, t_ns};
    struct trailer end = {.pid = (uint32_t)pid, .tid = (uint32_t)tid, .t_ns = t_ns};

    put(ring, (struct perf_event_header){.type = type}, &body, sizeof body, NULL, 0, &end);
}

void bn_timer_ring_used(struct bn_timer_ring *ring, int32_t pid, uint64_t t_ns, uint64_t cpu_ns)
{
    struct {
        int32_t pid, tid;
        uint64_t value;
    } body = {pid, ring->slot->tid, cpu_ns};
    struct trailer end = trailer_of(ring, pid, t_ns);

    put(ring, (struct perf_event_header){.type = PERF_RECORD_READ}, &body, sizeof body, NULL, 0, &end);
}

void bn_timer_ring_comm(struct bn_timer_ring *ring, int32_t pid, uint64_t t_ns, uint32_t misc)
{
    int32_t body[2] = {pid, ring->slot->tid};
    struct trailer end = trailer_of(ring, pid, t_ns);

    put(ring, (struct perf_event_header){.type = PERF_RECORD_COMM, .misc = (uint16_t)misc}, body, sizeof body,
        ring->slot->name, strnlen(ring->slot->name, sizeof ring->slot->name), &end);
}

void bn_timer_ring_name(struct bn_timer_ring *ring, int32_t pid, uint64_t t_ns, bool always)
{
    char name[16] = "";

    if (prctl(PR_GET_NAME, name) != 0 || (!always && memcmp(name, ring->slot->name, sizeof name) == 0))
        return;
    memcpy(ring->slot->name, name, sizeof name);
    bn_timer_ring_comm(ring, pid, t_ns, 0);
}

void bn_timer_ring_mmap(struct bn_timer_ring *ring, int32_t pid, uint64_t t_ns, const uint64_t range[3],
                        const char *path, size_t n)
{
    struct {
        int32_t pid, tid;
        uint64_t start, length, file_offset;
        uint8_t file[24]; /* device and inode: not told */
        uint32_t protection, flags;
    } body = {.pid = pid,
              .tid = ring->slot->tid,
              .start = range[0],
              .length = range[1] - range[0],
              .file_offset = range[2],
              .protection = 5}; /* read and execute */
    struct trailer end = trailer_of(ring, pid, t_ns);

    put(ring, (struct perf_event_header){.type = PERF_RECORD_MMAP2}, &body, sizeof body, path, n, &end);
}
