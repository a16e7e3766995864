/* SPDX-License-Identifier: MIT
 * The machine's limits: threads that run the probes of kernels/ at the same time, the best pass counts. */
#include "core/limits.h"

#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "kernels/limits_probe.h"

enum {
    MAX_BUFFER_BYTES = 512 << 20,
    READ_PASSES = 10,
    INT8_PASSES = 4,
    PASSES = READ_PASSES + INT8_PASSES,
    INT8_PASS_NS = 20 * 1000 * 1000,
    INT8_CHUNK_MACS = 4 << 20, /* between two looks at the clock */
};

static const uint64_t read_budget_ns = 250 * 1000 * 1000; /* a slow machine makes fewer passes */

/* One thread's share of one pass. */
struct span {
    uint64_t start_ns, end_ns, work; /* bytes or MACs */
};

struct crew {
    struct bn_probe probe;
    uint32_t n_threads;
    uint8_t *buffer;
    size_t share_bytes; /* a thread's part of the buffer */
    pthread_mutex_t gate;
    bool cancelled; /* written before the gate opens */
    pthread_barrier_t barrier;
    _Atomic uint64_t reading_since_ns;
    _Atomic uint64_t sink;
};

struct worker {
    struct crew *crew;
    uint32_t index;
    pthread_t thread;
    struct span spans[PASSES];
};

/* ---- what a thread does ---- */

static void read_pass(struct worker *w, struct span *span, enum bn_probe_order order)
{
    struct crew *crew = w->crew;
    const uint8_t *share = crew->buffer + w->index * crew->share_bytes;

    span->start_ns = bn_now_ns();
    if (span->start_ns - atomic_load(&crew->reading_since_ns) < read_budget_ns) {
        atomic_fetch_add(&crew->sink, bn_probe_read(&crew->probe, share, crew->share_bytes, order));
        span->work = crew->share_bytes;
    }
    span->end_ns = bn_now_ns();
}

static void int8_pass(struct worker *w, struct span *span)
{
    const struct bn_probe *probe = &w->crew->probe;
    uint64_t rounds = INT8_CHUNK_MACS / probe->macs_per_round;

    span->start_ns = bn_now_ns();
    do {
        atomic_fetch_add(&w->crew->sink, probe->int8(rounds));
        span->work += rounds * probe->macs_per_round;
        span->end_ns = bn_now_ns();
    } while (span->end_ns - span->start_ns < INT8_PASS_NS);
}

static void *work(void *arg)
{
    struct worker *w = arg;
    struct crew *crew = w->crew;

    pthread_mutex_lock(&crew->gate); /* held by the maker until all threads exist */
    pthread_mutex_unlock(&crew->gate);
    if (crew->cancelled)
        return NULL;
    memset(crew->buffer + w->index * crew->share_bytes, 0x5a,
           crew->share_bytes); /* real pages, near this thread */
    if (pthread_barrier_wait(&crew->barrier) == PTHREAD_BARRIER_SERIAL_THREAD)
        atomic_store(&crew->reading_since_ns, bn_now_ns());
    for (int i = 0; i < PASSES; i++) {
        pthread_barrier_wait(&crew->barrier);
        if (i < READ_PASSES)
            read_pass(w, &w->spans[i], i % 2 ? BN_PROBE_ONE_STREAM : BN_PROBE_FOUR_STREAMS);
        else
            int8_pass(w, &w->spans[i]);
    }
    return NULL;
}

/* ---- the crew ---- */

/* Work of all threads over the time from the first start to the last end, in the best of passes [from, to).
 */
static double best_rate(const struct worker *workers, uint32_t n, int from, int to)
{
    double best = 0;

    for (int i = from; i < to; i++) {
        uint64_t start = UINT64_MAX, end = 0, done = 0;
        for (uint32_t t = 0; t < n; t++) {
            const struct span *span = &workers[t].spans[i];
            start = span->start_ns < start ? span->start_ns : start;
            end = span->end_ns > end ? span->end_ns : end;
            done += span->work;
        }
        double rate = (double)done * 1e9 / (double)(end - start);
        best = rate > best ? rate : best;
    }
    return best;
}

/* Bytes that can be had without swapping: "MemAvailable: N kB". */
static uint64_t available_bytes(void)
{
    char line[128];
    unsigned long long kib = 0;
    FILE *f = fopen("/proc/meminfo", "re");

    while (f && fgets(line, sizeof line, f))
        if (sscanf(line, "MemAvailable: %llu kB", &kib) == 1)
            break;
    if (f)
        fclose(f);
    return kib > 0 ? kib * 1024 : (uint64_t)sysconf(_SC_AVPHYS_PAGES) * (uint64_t)sysconf(_SC_PAGESIZE);
}

/* The largest cache that the system tells of: sysfs, else sysconf, else 0. */
static uint64_t last_cache_bytes(void)
{
    uint64_t largest = 0;
    char path[96];

    for (int i = 0; i < 8; i++) {
        unsigned long long kib = 0;
        snprintf(path, sizeof path, "/sys/devices/system/cpu/cpu0/cache/index%d/size", i);
        FILE *f = fopen(path, "re");
        if (!f)
            break;
        if (fscanf(f, "%lluK", &kib) == 1 && kib * 1024 > largest)
            largest = kib * 1024;
        fclose(f);
    }
#ifdef _SC_LEVEL3_CACHE_SIZE
    long level3 = sysconf(_SC_LEVEL3_CACHE_SIZE), level2 = sysconf(_SC_LEVEL2_CACHE_SIZE);
    if (largest == 0)
        largest = (uint64_t)(level3 > 0 ? level3 : level2 > 0 ? level2 : 0);
#endif
    return largest;
}

/* Start the threads, let them run together, wait for them. */
static int run(struct crew *crew, struct worker *workers, struct bn_err *err)
{
    uint32_t started = 0;
    int error = 0;

    pthread_mutex_lock(&crew->gate);
    for (; started < crew->n_threads && error == 0; started += error == 0) {
        workers[started] = (struct worker){.crew = crew, .index = started};
        error = pthread_create(&workers[started].thread, NULL, work, &workers[started]);
    }
    crew->cancelled = error != 0;
    pthread_mutex_unlock(&crew->gate);
    for (uint32_t i = 0; i < started; i++)
        pthread_join(workers[i].thread, NULL);
    return error ? bn_err_set(err, "thread %u of %u cannot be started: %s", started + 1, crew->n_threads,
                              strerror(error))
                 : 0;
}

int bn_limits_measure(struct bn_limits *limits, uint32_t threads, unsigned cpu_flags, struct bn_err *err)
{
    struct crew crew = {.n_threads = threads, .gate = PTHREAD_MUTEX_INITIALIZER};
    size_t page = (size_t)sysconf(_SC_PAGESIZE);

    *limits = (struct bn_limits){.threads = threads, .last_cache_bytes = last_cache_bytes()};
    if (threads == 0)
        return bn_err_set(err, "at least one thread is needed to measure the machine's limits");
    crew.share_bytes = bn_min_size(MAX_BUFFER_BYTES, (size_t)(available_bytes() / 4)) / threads / page * page;
    if (crew.share_bytes == 0)
        return bn_err_set(err, "not enough free memory to measure its speed with %u threads", threads);
    limits->buffer_bytes = (uint64_t)crew.share_bytes * threads;
    crew.buffer =
        mmap(NULL, limits->buffer_bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (crew.buffer == MAP_FAILED)
        return bn_err_set(err, "no memory for %llu bytes to read", (unsigned long long)limits->buffer_bytes);
    madvise(crew.buffer, limits->buffer_bytes,
            MADV_HUGEPAGE); /* a hint: address translation is not what we measure */
    bn_probe_init(&crew.probe, cpu_flags);
    pthread_barrier_init(&crew.barrier, NULL, threads);
    struct worker *workers = bn_xcalloc(threads, sizeof *workers);
    int status = run(&crew, workers, err);
    /* A buffer that the cache could hold in good part says nothing about memory. */
    if (status == 0 && limits->buffer_bytes >= 2 * limits->last_cache_bytes)
        limits->read_bytes_per_s = best_rate(workers, threads, 0, READ_PASSES);
    if (status == 0)
        limits->int8_macs_per_s = best_rate(workers, threads, READ_PASSES, PASSES);
    free(workers);
    pthread_barrier_destroy(&crew.barrier);
    munmap(crew.buffer, limits->buffer_bytes);
    return status;
}
