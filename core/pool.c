/* SPDX-License-Identifier: MIT
 * The pool: a job is cut into chunks, and whoever is awake takes the next one, the caller too. A worker that
 * the system has not scheduled holds nobody up; only a chunk that was taken is waited for.
 *
 * Both sides wait alike: a short spin, because the next job or the last chunk is often microseconds away,
 * then a futex, so that a waiting thread never takes the core from a working one. Threads beyond the number
 * of CPUs would only take turns with the others: they are never called. Waiting is marked as the stage
 * `wait`.
 *
 * Another program on one of the cores costs what it takes, not the slowest worker's wait at every join:
 * a worker that found itself on its caller's CPU is sent to another one when it is called again, and a worker
 * that was pushed aside with a chunk in its hands is fetched to the caller's CPU, which is idle by then. Both
 * change the worker's affinity, within the caller's; both are rare on a machine that is not shared. */
#include "core/pool.h"

#include <assert.h>
#include <errno.h>
#include <limits.h>
#include <linux/futex.h>
#include <pthread.h>
#include <sched.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "core/cores.h"
#include "core/scope.h"

enum {
    SPIN_NS = 60 * 1000,
    SPINS_A_CLOCK_READ = 16,
    CHUNKS_A_THREAD = 8,
    CHUNK_COST = BN_POOL_GRAIN / 2, /* a chunk is no smaller: memory is read faster in long runs */
    CACHE_LINE = 64,
    /* A chunk is late after LATE_CHUNKS times as long as the caller needs for one, and LATE_NS more. */
    LATE_CHUNKS = 3,
    LATE_NS = 50 * 1000,
};

struct worker {
    _Alignas(CACHE_LINE) _Atomic uint32_t ticket; /* raised by the caller: look for chunks */
    _Atomic uint32_t asleep;
    _Atomic int cpu;           /* where it began to wait; -1: not known */
    _Atomic uint64_t since_ns; /* when it began its chunk; 0: it has none */
    bool fetched;              /* it may run only where the caller was; the caller's */
    struct bn_scope_place start_place;
    struct bn_pool *pool;
    unsigned index;
    pthread_t thread;
};

/* Written by the caller while no chunk is left or unfinished, read only by those who hold one: never both. */
struct job {
    bn_pool_fn *fn;
    void *arg;
    size_t n_items, multiple, n_cuts;
    uint32_t n_chunks;
    struct bn_scope_place place;
};

struct bn_pool {
    _Alignas(CACHE_LINE) _Atomic uint32_t left; /* chunks of the job that nobody has taken */
    _Alignas(CACHE_LINE) _Atomic uint32_t unfinished;
    _Atomic uint32_t caller_asleep;
    _Atomic bool closing;
    _Atomic int caller_cpu;
    unsigned n_threads, n_called; /* n_called: that take part, the caller too; at most one a CPU */
    struct job job;
    struct worker workers[]; /* [n_threads]; 0 stands for the caller and is not used */
};

static inline void cpu_pause(void)
{
#if defined(__x86_64__)
    __builtin_ia32_pause();
#elif defined(__aarch64__)
    __asm__ volatile("yield");
#endif
}

/* limit_ns 0: no limit. */
static void futex_wait(_Atomic uint32_t *word, uint32_t seen, uint64_t limit_ns)
{
    struct timespec limit = {(time_t)(limit_ns / 1000000000), (long)(limit_ns % 1000000000)};

    syscall(SYS_futex, (void *)word, FUTEX_WAIT_PRIVATE, seen, limit_ns ? &limit : NULL, NULL, 0);
}

static void futex_wake(_Atomic uint32_t *word)
{
    syscall(SYS_futex, (void *)word, FUTEX_WAKE_PRIVATE, 1, NULL, NULL, 0);
}

/* Spin until *word is not `seen` or the time is over; the value last read. */
static uint32_t spin(_Atomic uint32_t *word, uint32_t seen, uint64_t spin_ns)
{
    uint32_t value = atomic_load(word);

    if (value != seen || spin_ns == 0)
        return value;
    uint64_t until_ns = bn_now_ns() + spin_ns;
    do {
        for (int i = 0; i < SPINS_A_CLOCK_READ; i++) {
            value = atomic_load(word);
            if (value != seen)
                return value;
            cpu_pause();
        }
    } while (bn_now_ns() < until_ns);
    return value;
}

/* Sleep until *word is not `seen`, at most limit_ns (0: no limit); the value last read. The sleeper's flag is
 * set before the last look at the word, and the other side changes the word before it looks at the flag (both
 * sequentially consistent): no wake-up is lost. */
static uint32_t sleep_while(_Atomic uint32_t *word, uint32_t seen, _Atomic uint32_t *asleep,
                            uint64_t limit_ns)
{
    uint32_t value;

    atomic_store(asleep, 1);
    while ((value = atomic_load(word)) == seen) {
        futex_wait(word, seen, limit_ns);
        if (limit_ns)
            break;
    }
    atomic_store(asleep, 0);
    return atomic_load(word);
}

/* Take a chunk of the current job, whichever that is by now. */
static bool take(struct bn_pool *pool, uint32_t *chunk)
{
    uint32_t left = atomic_load(&pool->left);

    while (left) {
        if (atomic_compare_exchange_weak(&pool->left, &left, left - 1)) {
            *chunk = pool->job.n_chunks - left;
            return true;
        }
    }
    return false;
}

/* Chunks become smaller towards the end, down to one cut: long runs of memory at first, and at last little to
 * wait for. */
static size_t cuts_before(const struct job *job, uint32_t chunk)
{
    uint64_t left = job->n_chunks - chunk, all = job->n_chunks, more = job->n_cuts - all;

    return chunk + more - more * left * left / (all * all);
}

static void work(struct bn_pool *pool, uint32_t chunk, unsigned worker)
{
    const struct job *job = &pool->job;
    size_t begin = cuts_before(job, chunk) * job->multiple;
    size_t end = bn_min_size(cuts_before(job, chunk + 1) * job->multiple, job->n_items);

    job->fn(job->arg, begin, end, worker);
    if (atomic_fetch_sub(&pool->unfinished, 1) == 1 && atomic_load(&pool->caller_asleep))
        futex_wake(&pool->unfinished);
}

static bool same_place(struct bn_scope_place a, struct bn_scope_place b)
{
    return a.node == b.node && a.layer == b.layer && a.step == b.step;
}

static void note_time(struct worker *w, uint64_t since_ns)
{
    atomic_store_explicit(&w->since_ns, since_ns, memory_order_relaxed);
}

/* Chunks until there are none, under the stage of their job. *place: the stage worked in last. */
static void work_as_worker(struct worker *w, struct bn_scope_place *place)
{
    struct bn_pool *pool = w->pool;
    bool adopted = false;
    uint32_t chunk;

    for (note_time(w, bn_now_ns()); take(pool, &chunk); note_time(w, bn_now_ns())) {
        if (adopted && !same_place(*place, pool->job.place)) {
            bn_scope_release();
            adopted = false;
        }
        *place = pool->job.place;
        if (!adopted)
            bn_scope_adopt(*place);
        adopted = true;
        work(pool, chunk, w->index);
    }
    note_time(w, 0);
    if (adopted)
        bn_scope_release();
}

static void wait_at(struct bn_scope_place place)
{
    bn_scope_adopt(place);
    bn_scope_enter(BN_STAGE_WAIT);
}

static void wait_over(void)
{
    bn_scope_leave();
    bn_scope_release();
}

/* The ticket after `seen`. Where the caller wants to run, nobody spins. The stage worked in last is the one
 * waited in for as long as a spin lasts; who sleeps may do so through many stages, which only a recorder can
 * tell (profiler/scope_follow): that is `wait` in none of them. */
static uint32_t wait_for_call(struct worker *w, uint32_t seen, struct bn_scope_place place)
{
    struct bn_pool *pool = w->pool;
    int cpu = sched_getcpu();
    uint32_t ticket = seen;

    atomic_store_explicit(&w->cpu, cpu, memory_order_relaxed);
    if (cpu != atomic_load_explicit(&pool->caller_cpu, memory_order_relaxed)) {
        wait_at(place);
        ticket = spin(&w->ticket, seen, SPIN_NS);
        wait_over();
    }
    if (ticket == seen) {
        wait_at((struct bn_scope_place){.node = 0, .layer = -1});
        ticket = sleep_while(&w->ticket, seen, &w->asleep, 0);
        wait_over();
    }
    return ticket;
}

static void *worker_main(void *arg)
{
    struct worker *w = arg;
    struct bn_scope_place place = w->start_place;
    uint32_t seen = 0;
    char name[16];

    snprintf(name, sizeof name, "bn-worker-%u", w->index);
    pthread_setname_np(pthread_self(), name);
    bn_scope_thread_begin(name);
    while (!atomic_load(&w->pool->closing)) {
        seen = wait_for_call(w, seen, place);
        work_as_worker(w, &place);
    }
    bn_scope_thread_end();
    return NULL;
}

/* ---- where workers run ---- */

/* To any CPU of the caller's but the one it is on. A refusal changes nothing. */
static void send_away(struct worker *w, int here)
{
    struct bn_cpus cpus;

    if (bn_cpus_allowed(&cpus) != 0)
        return;
    CPU_CLR_S((size_t)here, sizeof cpus, cpus.sets);
    pthread_setaffinity_np(w->thread, sizeof cpus, cpus.sets);
    atomic_store_explicit(&w->cpu, -1, memory_order_relaxed);
    w->fetched = false;
}

/* To the CPU of the caller, which is about to sleep. One that waits to run elsewhere moves at once. */
static void fetch(struct worker *w, int here)
{
    struct bn_cpus cpus;

    CPU_ZERO_S(sizeof cpus, cpus.sets);
    CPU_SET_S((size_t)here, sizeof cpus, cpus.sets);
    pthread_setaffinity_np(w->thread, sizeof cpus, cpus.sets);
    w->fetched = true;
}

/* Fetch the workers whose chunks are late; the time until the next one will be. */
static uint64_t fetch_late(struct bn_pool *pool, uint64_t late_ns)
{
    uint64_t now_ns = bn_now_ns(), next_ns = late_ns;
    int here = sched_getcpu();

    for (unsigned i = 1; i < pool->n_called; i++) {
        struct worker *w = &pool->workers[i];
        uint64_t since_ns = atomic_load_explicit(&w->since_ns, memory_order_relaxed);
        if (!since_ns || w->fetched || here < 0)
            continue;
        if (since_ns + late_ns <= now_ns)
            fetch(w, here);
        else if (since_ns + late_ns - now_ns < next_ns)
            next_ns = since_ns + late_ns - now_ns;
    }
    return next_ns;
}

/* ---- the caller ---- */

static void call(struct worker *w, int here)
{
    bool together = atomic_load_explicit(&w->cpu, memory_order_relaxed) == here;

    if (here >= 0 && (together || w->fetched))
        send_away(w, here);
    atomic_fetch_add(&w->ticket, 1);
    if (atomic_load(&w->asleep))
        futex_wake(&w->ticket);
}

/* n_own chunks took the caller since start_ns. */
static void wait_for_workers(struct bn_pool *pool, uint64_t start_ns, uint32_t n_own)
{
    uint32_t unfinished = atomic_load(&pool->unfinished), seen;
    uint64_t spin_ns = SPIN_NS, late_ns = 0;

    if (unfinished == 0)
        return;
    BN_SCOPE(WAIT);
    while ((seen = unfinished) != 0) {
        unfinished = spin(&pool->unfinished, seen, spin_ns);
        if (unfinished != seen)
            continue;
        if (!late_ns)
            late_ns = LATE_NS + LATE_CHUNKS * (bn_now_ns() - start_ns) / (n_own + 1);
        unfinished = sleep_while(&pool->unfinished, seen, &pool->caller_asleep, fetch_late(pool, late_ns));
        spin_ns = 0; /* a fetched worker needs this CPU */
    }
}

void bn_pool_run(struct bn_pool *pool, bn_pool_fn *fn, void *arg, size_t n_items, size_t multiple,
                 uint64_t cost)
{
    assert(multiple > 0);
    size_t n_cuts = (n_items + multiple - 1) / multiple;
    size_t n_threads = bn_min_size(bn_min_size(pool->n_called, n_cuts), cost / BN_POOL_GRAIN);
    size_t n_chunks = bn_min_size(bn_min_size(n_threads * CHUNKS_A_THREAD, n_cuts), cost / CHUNK_COST);
    uint32_t chunk, n_own = 0;

    if (n_threads <= 1) {
        if (n_items)
            fn(arg, 0, n_items, 0);
        return;
    }
    pool->job = (struct job){fn, arg, n_items, multiple, n_cuts, (uint32_t)n_chunks, bn_scope_here()};
    int here = sched_getcpu();
    uint64_t start_ns = bn_now_ns();
    atomic_store_explicit(&pool->caller_cpu, here, memory_order_relaxed);
    atomic_store(&pool->unfinished, (uint32_t)n_chunks);
    atomic_store(&pool->left, (uint32_t)n_chunks);
    for (size_t i = 1; i < n_threads; i++)
        call(&pool->workers[i], here);
    for (; take(pool, &chunk); n_own++)
        work(pool, chunk, 0);
    wait_for_workers(pool, start_ns, n_own);
}

unsigned bn_pool_cores(void)
{
    unsigned n = bn_cores_usable();

    return n < BN_POOL_MAX_THREADS ? n : BN_POOL_MAX_THREADS;
}

int bn_pool_open(struct bn_pool **out, unsigned n_threads, struct bn_err *err)
{
    assert(n_threads >= 1 && n_threads <= BN_POOL_MAX_THREADS);
    size_t size = bn_round_up(sizeof(struct bn_pool) + n_threads * sizeof(struct worker), CACHE_LINE);
    struct bn_pool *pool = aligned_alloc(CACHE_LINE, size);

    *out = NULL;
    if (!pool)
        return bn_err_set(err, "no memory for %u threads", n_threads);
    memset(pool, 0, size);
    pool->n_threads = 1; /* those that run, for bn_pool_close */
    for (unsigned i = 1; i < n_threads; i++) {
        struct worker *w = &pool->workers[i];
        w->pool = pool;
        w->index = i;
        w->cpu = -1;
        w->start_place = bn_scope_here();
        int error = pthread_create(&w->thread, NULL, worker_main, w);
        if (error) {
            bn_pool_close(pool);
            return bn_err_set(err, "cannot start thread %u of %u: %s", i + 1, n_threads, strerror(error));
        }
        pool->n_threads++;
    }
    pool->n_called = n_threads < bn_cpus_count() ? n_threads : bn_cpus_count();
    *out = pool;
    return 0;
}

void bn_pool_close(struct bn_pool *pool)
{
    if (!pool)
        return;
    atomic_store(&pool->closing, true);
    for (unsigned i = 1; i < pool->n_threads; i++)
        call(&pool->workers[i], -1);
    for (unsigned i = 1; i < pool->n_threads; i++)
        pthread_join(pool->workers[i].thread, NULL);
    free(pool);
}

unsigned bn_pool_threads(const struct bn_pool *pool)
{
    return pool->n_threads;
}
