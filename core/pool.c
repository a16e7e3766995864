/* SPDX-License-Identifier: MIT
 * The pool: each worker has a ticket number of its own; the caller raises it to hand out a job.
 *
 * Both sides wait alike: a short spin, because the next job or the last worker is often microseconds away,
 * then a futex, so that a waiting thread never takes the core from a working one. With more threads than
 * cores nobody spins. Waiting is marked as the stage `wait`. */
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

#include "core/scope.h"

enum { SPIN_NS = 30 * 1000, SPINS_A_CLOCK_READ = 16, CACHE_LINE = 64 };

struct part {
    bn_pool_fn *fn; /* NULL ends the worker */
    void *arg;
    size_t begin, end;
    struct bn_scope_place place;
};

struct worker {
    _Alignas(CACHE_LINE) _Atomic uint32_t ticket; /* raised by the caller: `part` is ready */
    _Atomic uint32_t asleep;
    struct part part;
    struct bn_scope_place start_place;
    struct bn_pool *pool;
    unsigned index;
    pthread_t thread;
};

struct bn_pool {
    _Alignas(CACHE_LINE) _Atomic uint32_t pending; /* workers that have not finished the current job */
    _Atomic uint32_t caller_asleep;
    unsigned n_threads;
    uint64_t spin_ns;
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

static void futex_wait(_Atomic uint32_t *word, uint32_t seen)
{
    syscall(SYS_futex, (void *)word, FUTEX_WAIT_PRIVATE, seen, NULL, NULL, 0);
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

/* Wait until *word is not `seen`. The sleeper's flag is set before the last look at the word, and the other
 * side changes the word before it looks at the flag (both sequentially consistent): no wake-up is lost. */
static uint32_t wait_while(_Atomic uint32_t *word, uint32_t seen, _Atomic uint32_t *asleep, uint64_t spin_ns)
{
    uint32_t value = spin(word, seen, spin_ns);

    if (value != seen)
        return value;
    atomic_store(asleep, 1);
    while ((value = atomic_load(word)) == seen)
        futex_wait(word, seen);
    atomic_store(asleep, 0);
    return value;
}

static void *worker_main(void *arg)
{
    struct worker *w = arg;
    struct bn_pool *pool = w->pool;
    struct bn_scope_place place = w->start_place;
    uint32_t seen = 0;
    char name[16];

    snprintf(name, sizeof name, "bn-worker-%u", w->index);
    pthread_setname_np(pthread_self(), name);
    bn_scope_thread_begin(name);
    for (;;) {
        bn_scope_adopt(place); /* the stage worked in last is the one waited in */
        bn_scope_enter(BN_STAGE_WAIT);
        seen = wait_while(&w->ticket, seen, &w->asleep, pool->spin_ns);
        bn_scope_leave();
        bn_scope_release();
        const struct part *part = &w->part;
        if (!part->fn)
            break;
        place = part->place;
        bn_scope_adopt(place);
        part->fn(part->arg, part->begin, part->end, w->index);
        bn_scope_release();
        if (atomic_fetch_sub(&pool->pending, 1) == 1 && atomic_load(&pool->caller_asleep))
            futex_wake(&pool->pending);
    }
    bn_scope_thread_end();
    return NULL;
}

static void hand_out(struct worker *w, struct part part)
{
    w->part = part;
    atomic_fetch_add(&w->ticket, 1);
    if (atomic_load(&w->asleep))
        futex_wake(&w->ticket);
}

static void wait_for_workers(struct bn_pool *pool)
{
    uint32_t pending = atomic_load(&pool->pending);

    if (pending == 0)
        return;
    BN_SCOPE(WAIT);
    while (pending != 0)
        pending = wait_while(&pool->pending, pending, &pool->caller_asleep, pool->spin_ns);
}

void bn_pool_run(struct bn_pool *pool, bn_pool_fn *fn, void *arg, size_t n_items, size_t multiple,
                 uint64_t cost)
{
    size_t n_cuts = (n_items + multiple - 1) / multiple;
    size_t n_parts = bn_min_size(bn_min_size(pool->n_threads, n_cuts), cost / BN_POOL_GRAIN);

    assert(multiple > 0);
    if (n_parts <= 1) {
        if (n_items)
            fn(arg, 0, n_items, 0);
        return;
    }
    struct part part = {.fn = fn, .arg = arg, .place = bn_scope_here()};
    atomic_store(&pool->pending, (uint32_t)(n_parts - 1));
    for (size_t i = 1; i < n_parts; i++) {
        part.begin = n_cuts * i / n_parts * multiple;
        part.end = bn_min_size(n_cuts * (i + 1) / n_parts * multiple, n_items);
        hand_out(&pool->workers[i], part);
    }
    fn(arg, 0, n_cuts / n_parts * multiple, 0);
    wait_for_workers(pool);
}

unsigned bn_pool_cores(void)
{
    cpu_set_t set;
    long n = sched_getaffinity(0, sizeof set, &set) == 0 ? CPU_COUNT(&set) : sysconf(_SC_NPROCESSORS_ONLN);

    return n < 1 ? 1 : n > BN_POOL_MAX_THREADS ? BN_POOL_MAX_THREADS : (unsigned)n;
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
    pool->spin_ns = n_threads <= bn_pool_cores() ? SPIN_NS : 0;
    for (unsigned i = 1; i < n_threads; i++) {
        struct worker *w = &pool->workers[i];
        w->pool = pool;
        w->index = i;
        w->start_place = bn_scope_here();
        int error = pthread_create(&w->thread, NULL, worker_main, w);
        if (error) {
            bn_pool_close(pool);
            return bn_err_set(err, "cannot start thread %u of %u: %s", i + 1, n_threads, strerror(error));
        }
        pool->n_threads++;
    }
    *out = pool;
    return 0;
}

void bn_pool_close(struct bn_pool *pool)
{
    if (!pool)
        return;
    for (unsigned i = 1; i < pool->n_threads; i++)
        hand_out(&pool->workers[i], (struct part){.fn = NULL});
    for (unsigned i = 1; i < pool->n_threads; i++)
        pthread_join(pool->workers[i].thread, NULL);
    free(pool);
}

unsigned bn_pool_threads(const struct bn_pool *pool)
{
    return pool->n_threads;
}
