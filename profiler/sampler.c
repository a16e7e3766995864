/* SPDX-License-Identifier: MIT
 * One perf event and one ring for each CPU. */
#include "profiler/sampler.h"

#include <errno.h>
#include <fcntl.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <unistd.h>

enum {
    RECORD_EXTRA_BYTES =
        512,             /* of a sample besides its dump: head, registers, a kernel chain of usual length */
    RING_HOLDS_MS = 250, /* what the default ring holds of one busy CPU: two rounds of reading, and room */
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
        bn_ring_free(&s->rings[i].ring);
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

static struct bn_ring ring_of(const void *map, size_t ring_bytes, size_t page)
{
    const struct perf_event_mmap_page *control = map;
    size_t offset =
        control->data_offset ? (size_t)control->data_offset : page; /* kernels before 4.1 say nothing */

    return (struct bn_ring){.data = (const uint8_t *)map + offset,
                            .data_bytes = control->data_size ? (size_t)control->data_size : ring_bytes};
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
        ring->ring = ring_of(map, s->ring_bytes, page);
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
            return bn_ladder_refuse(err, why, s->ladder.event == BN_EVENT_CYCLES, &host);
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

static int choose_timer(struct bn_perf *s, const struct bn_perf_options *o, struct bn_err *err)
{
    const struct bn_timer_options timer = {.rate_hz = o->ladder.rate_hz,
                                           .stack_dump_bytes = o->ladder.stack_dump_bytes,
                                           .ring_bytes = o->ring_bytes};

    s->timer = bn_xcalloc(1, sizeof *s->timer);
    if (bn_timer_open(s->timer, &timer, err) != 0)
        return -1;
    if (o->ladder.frame_pointers)
        bn_buf_puts(&s->notes,
                    "--call-graph fp needs the kernel: CPU timers copy the stack, as with dwarf\n");
    if (s->timer->notes.n)
        bn_buf_puts(&s->notes, s->timer->notes.p);
    s->rate_hz = s->timer->rate_hz;
    s->ring_bytes = s->timer->ring_bytes;
    s->frame_pointers = false;
    s->ladder.attr.sample_period = s->timer->interval_ns;
    s->ladder.attr.sample_stack_user = s->timer->region->stack_dump_bytes;
    s->rings = bn_xcalloc(1, sizeof *s->rings);
    s->rings[0].fd = -1;
    s->n_rings = 1;
    return 0;
}

int bn_perf_choose(struct bn_perf *s, const struct bn_perf_options *o, pid_t pid, struct bn_err *err)
{
    struct bn_ladder_options ladder = o->ladder;
    struct bn_ladder_host host;

    *s = (struct bn_perf){.frame_pointers = o->ladder.frame_pointers};
    bn_ladder_read_host(&host);
    if (host.max_rate_hz && ladder.rate_hz > host.max_rate_hz)
        ladder.rate_hz = host.max_rate_hz;
    if (bn_ladder_choose(&s->ladder, &ladder, pid, err) != 0)
        return -1;
    bn_buf_puts(&s->notes, s->ladder.steps);
    if (s->ladder.event == BN_EVENT_TIMER)
        return choose_timer(s, o, err);
    if (ladder.rate_hz != o->ladder.rate_hz)
        bn_buf_printf(&s->notes, "%u Hz lowered to %u Hz, this machine's kernel.perf_event_max_sample_rate\n",
                      o->ladder.rate_hz, ladder.rate_hz);
    s->rate_hz = ladder.rate_hz;
    s->ring_bytes = o->ring_bytes ? o->ring_bytes : default_ring_bytes(&ladder);
    return 0;
}

/* When threads of which all events are inherited take turns on a CPU, the kernel lets them trade their events
 * and saves the switch. A thread that starts others then goes on with events that have just begun their
 * period, and when it starts them often it is never sampled. An event that is not inherited ends the trade
 * between it and them. It counts nothing; without it (no descriptor left) the recording goes on. */
static void anchor_events(struct bn_perf *s, pid_t pid)
{
    struct perf_event_attr attr = {.type = PERF_TYPE_SOFTWARE,
                                   .size = sizeof attr,
                                   .config = PERF_COUNT_SW_DUMMY,
                                   .exclude_kernel = 1,
                                   .exclude_hv = 1};

    s->anchor_fd = bn_ladder_open(&attr, pid, -1);
    s->anchored = s->anchor_fd >= 0;
}

int bn_perf_start(struct bn_perf *s, const struct bn_perf_options *o, pid_t pid, struct bn_err *err)
{
    if (s->timer)
        return 0;
    if (fit_rings(s, pid, &o->ladder, err) != 0)
        return -1;
    anchor_events(s, pid);
    return 0;
}

int bn_perf_open(struct bn_perf *s, const struct bn_perf_options *o, pid_t pid, struct bn_err *err)
{
    if (bn_perf_choose(s, o, pid, err) == 0 && bn_perf_start(s, o, pid, err) == 0)
        return 0;
    bn_perf_close(s);
    return -1;
}

void bn_perf_stop(struct bn_perf *s)
{
    if (s->timer) {
        bn_timer_stop(s->timer);
        return;
    }
    for (size_t i = 0; i < s->n_rings; i++)
        ioctl(s->rings[i].fd, PERF_EVENT_IOC_DISABLE, 0);
    for (size_t i = 0; i < s->n_more_fds; i++)
        ioctl(s->more_fds[i], PERF_EVENT_IOC_DISABLE, 0);
}

void bn_perf_close(struct bn_perf *s)
{
    if (s->timer) {
        bn_timer_close(s->timer);
        free(s->timer);
        s->n_rings = 0;
    }
    close_rings(s);
    for (size_t i = 0; i < s->n_more_fds; i++)
        close(s->more_fds[i]);
    free(s->more_fds);
    if (s->anchored)
        close(s->anchor_fd);
    free(s->rings);
    bn_buf_free(&s->notes);
    *s = (struct bn_perf){0};
}

/* What an event and those that were inherited from it have counted: perf_event_open(2) has the order. */
struct count {
    uint64_t value, running_ns, lost; /* lost: only where the kernel counts it */
};

static struct count count_of(const struct bn_perf *s, int fd)
{
    bool loss = s->ladder.attr.read_format & PERF_FORMAT_LOST;
    struct count count = {0};
    ssize_t want = (ssize_t)(loss ? sizeof count : offsetof(struct count, lost));

    if (!(s->ladder.attr.read_format & PERF_FORMAT_TOTAL_TIME_RUNNING) ||
        read(fd, &count, (size_t)want) != want)
        return (struct count){0};
    return count;
}

static struct count count_all(const struct bn_perf *s)
{
    struct count sum = {0};

    for (size_t i = 0; i < s->n_rings + s->n_more_fds; i++) {
        struct count one = count_of(s, i < s->n_rings ? s->rings[i].fd : s->more_fds[i - s->n_rings]);
        sum.running_ns += one.running_ns;
        sum.lost += one.lost;
    }
    return sum;
}

uint64_t bn_perf_covered_ns(const struct bn_perf *s)
{
    return s->timer ? 0 : count_all(s).running_ns;
}

uint64_t bn_perf_lost(const struct bn_perf *s)
{
    return s->timer ? bn_timer_lost(s->timer) : count_all(s).lost;
}

/* ---- read ---- */

void bn_perf_see(struct bn_perf *s)
{
    if (s->timer) {
        s->timer->ring.at = s->rings[0].ring.at; /* what the reader has taken */
        bn_timer_see(s->timer);
        s->rings[0].ring = s->timer->ring;
        return;
    }
    for (size_t i = 0; i < s->n_rings; i++) {
        struct perf_event_mmap_page *control = s->rings[i].map;
        s->rings[i].ring.end = __atomic_load_n(&control->data_head, __ATOMIC_ACQUIRE);
    }
}

void bn_perf_release(struct bn_perf *s)
{
    for (size_t i = 0; i < s->n_rings && !s->timer; i++) {
        struct perf_event_mmap_page *control = s->rings[i].map;
        __atomic_store_n(&control->data_tail, s->rings[i].ring.at, __ATOMIC_RELEASE);
    }
}
