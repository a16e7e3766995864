/* SPDX-License-Identifier: MIT
 * The machine's limits: threads that run the probes of kernels/ at the same time, the best pass counts. */
#include "core/limits.h"

#include <assert.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "core/cores.h"
#include "kernels/limits_probe.h"

enum {
    MAX_BUFFER_BYTES = 512 << 20,
    HUGE_PAGE_BYTES = 2 << 20,
    CHUNK_BYTES = 256 << 10, /* between two looks at the clock */
    INT8_CHUNK_MACS = 1 << 20,
    PASS_NS = 3 * 1000 * 1000, /* longer ones are more often disturbed */
    ROUNDS = 3,                /* of all passes, in a look */
    LOOKS = 4,                 /* of bn_limits_measure */
};

/* Ways to read; which is fastest depends on the machine. */
static const struct way {
    enum bn_probe_order order;
    uint32_t ahead; /* bytes that are prefetched before they are loaded, 0 = none */
    bool shared;    /* the threads take turns in one sequence of chunks, not each in its own part */
} ways[] = {
    {BN_PROBE_ONE_STREAM, 0, false},      {BN_PROBE_FOUR_STREAMS, 0, false},
    {BN_PROBE_ONE_STREAM, 4096, false},   {BN_PROBE_ONE_STREAM, 16384, false},
    {BN_PROBE_FOUR_STREAMS, 1024, false}, {BN_PROBE_ONE_STREAM, 4096, true},
    {BN_PROBE_FOUR_STREAMS, 0, true},
};
enum { READ_PASSES = BN_COUNT(ways), INT8_PASSES = 2, PASSES = READ_PASSES + INT8_PASSES };

/* The buffer is read round and round: a pass goes on where the last one of its kind ended, so that nothing is
 * in a cache. */
struct bn_limits_probe {
    struct bn_probe kernels;
    uint32_t max_threads;
    uint8_t *memory, *buffer; /* the mapping, and the huge page it begins with */
    size_t memory_bytes, n_chunks;
    uint64_t last_cache_bytes;
    size_t *own_place;           /* [max_threads] chunks that each thread has read in its part */
    _Atomic size_t shared_place; /* chunks that have been handed out */
    _Atomic uint64_t sink;
};

/* One thread's share of one pass. */
struct span {
    uint64_t start_ns, end_ns, work; /* bytes or MACs */
};

/* The threads of one look. */
struct crew {
    struct bn_limits_probe *probe;
    uint32_t n_threads;
    bool fill; /* not a look: write to every page, near the thread that will read it */
    pthread_mutex_t gate;
    bool cancelled; /* written before the gate opens */
    pthread_barrier_t barrier;
};

struct worker {
    struct crew *crew;
    uint32_t index;
    pthread_t thread;
    struct span spans[ROUNDS * PASSES];
};

/* ---- what a thread does ---- */

/* First chunk of a thread's own part. */
static size_t part_of(const struct crew *crew, uint32_t index)
{
    return crew->probe->n_chunks * index / crew->n_threads;
}

static const uint8_t *next_chunk(struct worker *w, bool shared)
{
    struct bn_limits_probe *probe = w->crew->probe;
    size_t first = part_of(w->crew, w->index), end = part_of(w->crew, w->index + 1);
    size_t at = shared ? atomic_fetch_add(&probe->shared_place, 1) % probe->n_chunks
                       : first + probe->own_place[w->index]++ % (end - first);

    return probe->buffer + at * CHUNK_BYTES;
}

static void read_pass(struct worker *w, struct span *span, const struct way *way)
{
    struct bn_limits_probe *probe = w->crew->probe;
    uint64_t sum = 0;

    span->start_ns = bn_now_ns();
    do {
        sum +=
            bn_probe_read(&probe->kernels, next_chunk(w, way->shared), CHUNK_BYTES, way->order, way->ahead);
        span->work += CHUNK_BYTES;
        span->end_ns = bn_now_ns();
    } while (span->end_ns - span->start_ns < PASS_NS);
    atomic_fetch_add(&probe->sink, sum);
}

static void int8_pass(struct worker *w, struct span *span)
{
    const struct bn_probe *kernels = &w->crew->probe->kernels;
    uint64_t rounds = INT8_CHUNK_MACS / kernels->macs_per_round, sum = 0;

    span->start_ns = bn_now_ns();
    do {
        sum += kernels->int8(rounds);
        span->work += rounds * kernels->macs_per_round;
        span->end_ns = bn_now_ns();
    } while (span->end_ns - span->start_ns < PASS_NS);
    atomic_fetch_add(&w->crew->probe->sink, sum);
}

static void *work(void *arg)
{
    struct worker *w = arg;
    struct crew *crew = w->crew;

    pthread_mutex_lock(&crew->gate); /* held by the maker until all threads exist */
    pthread_mutex_unlock(&crew->gate);
    if (crew->cancelled)
        return NULL;
    if (crew->fill) {
        size_t first = part_of(crew, w->index), end = part_of(crew, w->index + 1);
        memset(crew->probe->buffer + first * CHUNK_BYTES, 0x5a, (end - first) * CHUNK_BYTES);
        return NULL;
    }
    for (int i = 0; i < ROUNDS * PASSES; i++) {
        pthread_barrier_wait(&crew->barrier);
        if (i % PASSES < READ_PASSES)
            read_pass(w, &w->spans[i], &ways[i % PASSES]);
        else
            int8_pass(w, &w->spans[i]);
    }
    return NULL;
}

/* ---- the crew ---- */

/* What all threads did a second in one pass. If they worked at the same time, but for the moments in which
 * the barrier woke them, that is the sum of their own rates; else (the system let them take turns) their work
 * over the time from the first start to the last end. */
static double pass_rate(const struct worker *workers, uint32_t n, int pass)
{
    const struct span *first = &workers[0].spans[pass];
    uint64_t start = first->start_ns, end = first->end_ns, last_start = start, first_end = end, done = 0;
    double sum = 0;

    for (uint32_t t = 0; t < n; t++) {
        const struct span *span = &workers[t].spans[pass];
        start = span->start_ns < start ? span->start_ns : start;
        last_start = span->start_ns > last_start ? span->start_ns : last_start;
        first_end = span->end_ns < first_end ? span->end_ns : first_end;
        end = span->end_ns > end ? span->end_ns : end;
        done += span->work;
        sum += (double)span->work * 1e9 / (double)(span->end_ns - span->start_ns);
    }
    bool together = first_end > last_start && (first_end - last_start) * 10 > (end - start) * 9;
    return together ? sum : (double)done * 1e9 / (double)(end - start);
}

/* The best of passes [from, to) of every round. */
static double best_rate(const struct worker *workers, uint32_t n, int from, int to)
{
    double best = 0;

    for (int i = 0; i < ROUNDS * PASSES; i++) {
        if (i % PASSES < from || i % PASSES >= to)
            continue;
        double rate = pass_rate(workers, n, i);
        best = rate > best ? rate : best;
    }
    return best;
}

/* Start the threads, let them run together, wait for them. */
static int run(struct bn_limits_probe *probe, uint32_t threads, struct worker *workers, bool fill,
               struct bn_err *err)
{
    struct crew crew = {
        .probe = probe, .n_threads = threads, .fill = fill, .gate = PTHREAD_MUTEX_INITIALIZER};
    uint32_t started = 0;
    int error = 0;

    pthread_barrier_init(&crew.barrier, NULL, threads);
    pthread_mutex_lock(&crew.gate);
    for (; started < threads && error == 0; started += error == 0) {
        workers[started] = (struct worker){.crew = &crew, .index = started};
        error = pthread_create(&workers[started].thread, NULL, work, &workers[started]);
    }
    crew.cancelled = error != 0;
    pthread_mutex_unlock(&crew.gate);
    for (uint32_t i = 0; i < started; i++)
        pthread_join(workers[i].thread, NULL);
    pthread_barrier_destroy(&crew.barrier);
    return error ? bn_err_set(err, "thread %u of %u cannot be started: %s", started + 1, threads,
                              strerror(error))
                 : 0;
}

/* ---- the system ---- */

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

/* ---- open, look, close ---- */

static int open_buffer(struct bn_limits_probe *probe, struct bn_err *err)
{
    size_t bytes = bn_min_size(MAX_BUFFER_BYTES, (size_t)(available_bytes() / 4));

    probe->n_chunks = bytes / CHUNK_BYTES;
    if (probe->n_chunks < probe->max_threads)
        return bn_err_set(err, "not enough free memory to measure its speed with %u threads",
                          probe->max_threads);
    bytes = probe->n_chunks * CHUNK_BYTES + HUGE_PAGE_BYTES;
    probe->memory = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (probe->memory == MAP_FAILED) {
        probe->memory = NULL;
        return bn_err_set(err, "no memory for %zu bytes to read", bytes);
    }
    probe->memory_bytes = bytes;
    madvise(probe->memory, bytes, MADV_HUGEPAGE); /* a hint: address translation is not what we measure */
    probe->buffer = probe->memory + (HUGE_PAGE_BYTES - (uintptr_t)probe->memory % HUGE_PAGE_BYTES);
    return 0;
}

int bn_limits_open(struct bn_limits_probe **out, uint32_t max_threads, unsigned cpu_flags, struct bn_err *err)
{
    *out = NULL;
    if (max_threads == 0)
        return bn_err_set(err, "at least one thread is needed to measure the machine's limits");
    struct bn_limits_probe *probe = bn_xcalloc(1, sizeof *probe);
    probe->max_threads = max_threads;
    probe->last_cache_bytes = last_cache_bytes();
    probe->own_place = bn_xcalloc(max_threads, sizeof *probe->own_place);
    bn_probe_init(&probe->kernels, cpu_flags);
    struct worker *workers = bn_xcalloc(max_threads, sizeof *workers);
    int status = open_buffer(probe, err);
    if (status == 0)
        status = run(probe, max_threads, workers, true, err);
    free(workers);
    if (status == 0)
        *out = probe;
    else
        bn_limits_close(probe);
    return status;
}

void bn_limits_close(struct bn_limits_probe *probe)
{
    if (!probe)
        return;
    if (probe->memory)
        munmap(probe->memory, probe->memory_bytes);
    free(probe->own_place);
    free(probe);
}

int bn_limits_look(struct bn_limits_probe *probe, uint32_t threads, struct bn_limits *limits,
                   struct bn_err *err)
{
    assert(threads >= 1 && threads <= probe->max_threads);
    uint32_t n = threads < bn_cpus_count() ? threads : bn_cpus_count(); /* more would only take turns */
    struct worker *workers = bn_xcalloc(n, sizeof *workers);
    int status = run(probe, n, workers, false, err);

    limits->threads = threads;
    limits->last_cache_bytes = probe->last_cache_bytes;
    limits->buffer_bytes = probe->n_chunks * CHUNK_BYTES;
    if (status == 0) {
        double read = best_rate(workers, n, 0, READ_PASSES);
        double int8 = best_rate(workers, n, READ_PASSES, PASSES);
        /* A buffer that the cache could hold in good part says nothing about memory. */
        if (limits->buffer_bytes >= 2 * limits->last_cache_bytes && read > limits->read_bytes_per_s)
            limits->read_bytes_per_s = read;
        if (int8 > limits->int8_macs_per_s)
            limits->int8_macs_per_s = int8;
    }
    free(workers);
    return status;
}

int bn_limits_measure(struct bn_limits *limits, uint32_t threads, unsigned cpu_flags, struct bn_err *err)
{
    struct bn_limits_probe *probe;

    *limits = (struct bn_limits){.threads = threads};
    int status = bn_limits_open(&probe, threads, cpu_flags, err);
    for (int i = 0; i < LOOKS && status == 0; i++)
        status = bn_limits_look(probe, threads, limits, err);
    bn_limits_close(probe);
    return status;
}
