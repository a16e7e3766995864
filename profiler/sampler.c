/* SPDX-License-Identifier: MIT
 * One perf event and one ring for each CPU. The reader copies bytes and looks at little more than their
 * sizes: everything that can wait until the program has ended waits. */
#include "profiler/sampler.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <unistd.h>

#include "profiler/stack_ends.h"

enum {
    RECORD_EXTRA_BYTES =
        512,             /* of a sample besides its dump: head, registers, a kernel chain of usual length */
    RING_HOLDS_MS = 128, /* what the default ring holds of one busy CPU */
    RING_MIN_DUMPS = 32, /* a ring smaller than this is reported */
    RING_MAX_BYTES = 16 << 20,
    PAGE_MIN = 2,
};

/* ---- open ---- */

static size_t power_of_two(size_t n)
{
    size_t p = 1;

    while (p < n)
        p *= 2;
    return p;
}

static size_t record_bytes(const struct bn_ladder_options *o)
{
    return RECORD_EXTRA_BYTES + (o->frame_pointers ? 0 : o->stack_dump_bytes);
}

static size_t default_ring_bytes(const struct bn_ladder_options *o)
{
    size_t want = record_bytes(o) * ((size_t)o->rate_hz * RING_HOLDS_MS / 1000 + 1);

    if (want < record_bytes(o) * RING_MIN_DUMPS)
        want = record_bytes(o) * RING_MIN_DUMPS;
    return bn_min_size(power_of_two(want), RING_MAX_BYTES);
}

static void close_rings(struct bn_perf *s)
{
    for (size_t i = 0; i < s->n_rings; i++) {
        if (s->rings[i].map)
            munmap(s->rings[i].map, s->rings[i].map_bytes);
        close(s->rings[i].fd);
    }
    s->n_rings = 0;
}

/* A host with many CPUs needs more descriptors than the customary 1024. Ours alone: the child is forked
 * already. */
static int open_event(struct bn_perf *s, pid_t pid, int cpu)
{
    struct rlimit limit;
    int fd = bn_ladder_open(&s->ladder.attr, pid, cpu);

    if (fd >= 0 || errno != EMFILE || getrlimit(RLIMIT_NOFILE, &limit) != 0 ||
        limit.rlim_cur == limit.rlim_max)
        return fd;
    limit.rlim_cur = limit.rlim_max;
    setrlimit(RLIMIT_NOFILE, &limit);
    return bn_ladder_open(&s->ladder.attr, pid, cpu);
}

/* Returns 0 or an errno. *mapping tells which call it came from. */
static int open_rings(struct bn_perf *s, pid_t pid, bool *mapping)
{
    long n_cpus = sysconf(_SC_NPROCESSORS_CONF);
    size_t page = (size_t)sysconf(_SC_PAGESIZE);

    *mapping = false;
    if (!s->rings)
        s->rings = bn_xcalloc((size_t)n_cpus, sizeof *s->rings);
    for (long cpu = 0; cpu < n_cpus; cpu++) {
        int fd = open_event(s, pid, (int)cpu);
        if (fd < 0 && (errno == ENODEV || errno == ENXIO))
            continue; /* switched off */
        if (fd < 0)
            return errno;
        struct bn_perf_ring *ring = &s->rings[s->n_rings++];
        *ring = (struct bn_perf_ring){.fd = fd, .cpu = (uint32_t)cpu, .map_bytes = s->ring_bytes + page};
        void *map = mmap(NULL, ring->map_bytes, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
        if (map == MAP_FAILED) {
            *mapping = true;
            return errno;
        }
        ring->map = map;
    }
    return s->n_rings ? 0 : ENODEV;
}

/* Halve the rings until they fit what this user may lock. */
static int fit_rings(struct bn_perf *s, pid_t pid, const struct bn_ladder_options *o, struct bn_err *err)
{
    struct bn_ladder_host host;
    size_t min_bytes = PAGE_MIN * (size_t)sysconf(_SC_PAGESIZE);
    bool mapping;
    int why;

    while ((why = open_rings(s, pid, &mapping)) != 0) {
        close_rings(s);
        if (!mapping) {
            bn_ladder_read_host(&host);
            return bn_ladder_refuse(err, why, s->ladder.cycles, &host);
        }
        if ((why != EPERM && why != ENOMEM) || s->ring_bytes / 2 < min_bytes ||
            s->ring_bytes / 2 < 2 * record_bytes(o))
            return bn_err_set(err,
                              "no memory for the sample rings (%zu KiB for each CPU: %s): raise "
                              "kernel.perf_event_mlock_kb or `ulimit -l`, or lower --stack-dump",
                              s->ring_bytes / 1024, strerror(why));
        s->ring_bytes /= 2;
    }
    if (s->ring_bytes < (RING_MIN_DUMPS - 1) * record_bytes(o))
        bn_buf_printf(&s->notes,
                      "the sample rings are small, %zu KiB for each CPU, so samples may be lost: raise "
                      "kernel.perf_event_mlock_kb or `ulimit -l`, or lower --stack-dump\n",
                      s->ring_bytes / 1024);
    return 0;
}

int bn_perf_open(struct bn_perf *s, const struct bn_perf_options *o, pid_t pid, struct bn_err *err)
{
    struct bn_ladder_options ladder = o->ladder;
    struct bn_ladder_host host;

    *s = (struct bn_perf){0};
    bn_ladder_read_host(&host);
    if (host.max_rate_hz && ladder.rate_hz > host.max_rate_hz) {
        bn_buf_printf(&s->notes, "%u Hz lowered to %u Hz, this machine's kernel.perf_event_max_sample_rate\n",
                      ladder.rate_hz, host.max_rate_hz);
        ladder.rate_hz = host.max_rate_hz;
    }
    s->rate_hz = ladder.rate_hz;
    s->ring_bytes = o->ring_bytes ? o->ring_bytes : default_ring_bytes(&ladder);
    if (bn_ladder_choose(&s->ladder, &ladder, pid, err) != 0 || fit_rings(s, pid, &ladder, err) != 0) {
        bn_perf_close(s);
        return -1;
    }
    s->stacks = bn_stack_ends_new();
    return 0;
}

void bn_perf_stop(struct bn_perf *s)
{
    for (size_t i = 0; i < s->n_rings; i++)
        ioctl(s->rings[i].fd, PERF_EVENT_IOC_DISABLE, 0);
}

void bn_perf_close(struct bn_perf *s)
{
    close_rings(s);
    free(s->rings);
    free(s->marks);
    bn_stack_ends_free(s->stacks);
    bn_buf_free(&s->notes);
    *s = (struct bn_perf){0};
}

uint64_t bn_perf_lost(const struct bn_perf *s)
{
    uint64_t counted = 0, values[2];

    for (size_t i = 0; i < s->n_rings && s->ladder.attr.read_format == PERF_FORMAT_LOST; i++)
        if (read(s->rings[i].fd, values, sizeof values) == (ssize_t)sizeof values)
            counted += values[1];
    return counted > s->n_lost_records ? counted : s->n_lost_records;
}

/* ---- drain ---- */

static uint64_t load_u64(const uint8_t *p)
{
    uint64_t v;

    memcpy(&v, p, sizeof v);
    return v;
}

/* Where the parts of a sample are; the record's order is fixed by sample_type (perf_event_open(2)). */
enum { AT_TID = 20, AT_TIME = 24, AT_CHAIN = 48 };

#ifdef __x86_64__
enum { SP_INDEX = 7 };
#else
enum { SP_INDEX = 31 };
#endif

/* Offset of the stack dump's size word, 0 if the record holds none; *sp is the user stack pointer, 0 =
 * unknown. */
static size_t find_dump(const struct perf_event_attr *attr, const uint8_t *record, size_t size, uint64_t *sp)
{
    size_t at = AT_CHAIN;

    *sp = 0;
    if (!(attr->sample_type & PERF_SAMPLE_STACK_USER))
        return 0;
    if (attr->sample_type & PERF_SAMPLE_CALLCHAIN) {
        if (at + 8 > size || load_u64(record + at) > size / 8)
            return 0;
        at += 8 + 8 * (size_t)load_u64(record + at);
    }
    if (at + 8 > size)
        return 0;
    bool have_regs = load_u64(record + at) != PERF_SAMPLE_REGS_ABI_NONE;
    at += 8;
    if (have_regs) {
        size_t n = 8 * (size_t)__builtin_popcountll(attr->sample_regs_user);
        if (at + n > size)
            return 0;
        *sp = load_u64(record + at + 8 * SP_INDEX);
        at += n;
    }
    return at + 8 <= size ? at : 0;
}

/* Append a sample without the part of its dump that holds nothing of the thread's stack: what the kernel did
 * not copy is left-over ring content, what lies beyond the stack's mapping belongs to somebody else. */
static void append_sample(struct bn_perf *s, const uint8_t *record, size_t size, struct bn_buf *out)
{
    static const uint8_t zeros[8];
    struct perf_event_header head;
    uint64_t sp;
    int32_t tid;

    if (size < AT_CHAIN) {
        s->n_damaged++;
        return;
    }
    memcpy(&tid, record + AT_TID, sizeof tid);
    bn_grow(&s->marks, &s->cap_marks, s->n_marks + 1, sizeof *s->marks);
    s->marks[s->n_marks++] = (struct bn_perf_mark){.tid = tid, .t_ns = load_u64(record + AT_TIME)};
    s->n_samples++;

    size_t at = find_dump(&s->ladder.attr, record, size, &sp);
    uint64_t dump = at ? load_u64(record + at) : 0;
    if (dump == 0 || dump > size || at + 8 + dump + 8 > size) { /* no dump: nothing to clip */
        bn_buf_put(out, record, size);
        return;
    }
    uint64_t keep = load_u64(record + at + 8 + dump);
    keep = bn_min_size(keep, dump);
    keep = bn_min_size(keep, bn_stack_ends_room(s->stacks, tid, sp));
    uint64_t padded = bn_round_up(keep, 8);
    memcpy(&head, record, sizeof head);
    head.size = (uint16_t)(at + 8 + (padded ? padded + 8 : 0));
    bn_buf_put(out, &head, sizeof head);
    bn_buf_put(out, record + sizeof head, at - sizeof head);
    bn_buf_put(out, &padded, sizeof padded);
    bn_buf_put(out, record + at + 8, keep);
    bn_buf_put(out, zeros, padded - keep);
    if (padded)
        bn_buf_put(out, &keep, sizeof keep);
}

static void append_record(struct bn_perf *s, const uint8_t *record, size_t size, struct bn_buf *out)
{
    struct perf_event_header head;
    int32_t tid;

    memcpy(&head, record, sizeof head);
    if (head.type == PERF_RECORD_SAMPLE) {
        append_sample(s, record, size, out);
        return;
    }
    bn_buf_put(out, record, size);
    switch (head.type) {
    case PERF_RECORD_LOST: /* id, lost */
        if (size >= 24)
            s->n_lost_records += load_u64(record + 16);
        break;
    case PERF_RECORD_LOST_SAMPLES:
        if (size >= 16)
            s->n_lost_records += load_u64(record + 8);
        break;
    case PERF_RECORD_THROTTLE:
        s->n_throttled++;
        break;
    case PERF_RECORD_COMM:
        if (head.misc & PERF_RECORD_MISC_COMM_EXEC)
            bn_stack_ends_forget(s->stacks, 0);
        break;
    case PERF_RECORD_EXIT: /* pid, ppid, tid, ptid */
        if (size >= 24) {
            memcpy(&tid, record + 16, sizeof tid);
            bn_stack_ends_forget(s->stacks, tid);
        }
        break;
    default:
        break;
    }
}

static const uint8_t *ring_data(const struct bn_perf_ring *ring, size_t *data_bytes)
{
    const struct perf_event_mmap_page *control = ring->map;
    size_t page = (size_t)sysconf(_SC_PAGESIZE);
    size_t offset =
        control->data_offset ? (size_t)control->data_offset : page; /* kernels before 4.1 say nothing */

    *data_bytes = control->data_size ? (size_t)control->data_size : ring->map_bytes - page;
    return (const uint8_t *)ring->map + offset;
}

/* Bytes at position `at` of the endless stream; bounced when they wrap round the end of the ring. */
static const uint8_t *ring_at(const uint8_t *data, size_t data_bytes, uint64_t at, size_t n, uint8_t *bounce)
{
    size_t begin = (size_t)at & (data_bytes - 1), first = data_bytes - begin;

    if (n <= first)
        return data + begin;
    memcpy(bounce, data + begin, first);
    memcpy(bounce + first, data, n - first);
    return bounce;
}

uint32_t bn_perf_drain(struct bn_perf *s, size_t i, struct bn_buf *out)
{
    struct bn_perf_ring *ring = &s->rings[i];
    struct perf_event_mmap_page *control = ring->map;
    struct perf_event_header head;
    uint8_t bounce[UINT16_MAX + 1];
    size_t data_bytes;
    const uint8_t *data = ring_data(ring, &data_bytes);
    uint64_t end = __atomic_load_n(&control->data_head, __ATOMIC_ACQUIRE);
    uint64_t at = control->data_tail; /* ours alone */
    uint32_t n_records = 0;

    while (at < end) {
        memcpy(&head, ring_at(data, data_bytes, at, sizeof head, bounce), sizeof head);
        if (head.size < sizeof head || head.size % 8 != 0 || head.size > end - at) {
            s->n_damaged++;
            at = end;
            break;
        }
        append_record(s, ring_at(data, data_bytes, at, head.size, bounce), head.size, out);
        at += head.size;
        n_records++;
    }
    __atomic_store_n(&control->data_tail, end, __ATOMIC_RELEASE);
    bn_stack_ends_refill(s->stacks);
    return n_records;
}

double bn_perf_fill(const struct bn_perf *s)
{
    double fullest = 0;

    for (size_t i = 0; i < s->n_rings; i++) {
        const struct perf_event_mmap_page *control = s->rings[i].map;
        uint64_t waiting = __atomic_load_n(&control->data_head, __ATOMIC_ACQUIRE) - control->data_tail;
        double share = (double)waiting / (double)(s->rings[i].map_bytes - (size_t)sysconf(_SC_PAGESIZE));
        fullest = share > fullest ? share : fullest;
    }
    return fullest;
}
