/* SPDX-License-Identifier: MIT
 * The pool: every item once, whatever the number of threads, under the caller's stage. */
#include "core/pool.h"

#include <pthread.h>
#include <setjmp.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "core/cores.h"
#include "core/scope.h"

enum { MANY = 1000000000, N = 1000 };

struct seen {
    _Atomic int times[N];
    _Atomic int calls;
    _Atomic unsigned workers; /* bit set */
    size_t multiple, n_items;
    _Atomic bool bad_cut;
    uint16_t node; /* where the caller was */
    int16_t layer;
    _Atomic bool bad_place, bad_name;
};

static void visit(void *arg, size_t begin, size_t end, unsigned worker)
{
    struct seen *seen = arg;
    struct bn_scope_place here = bn_scope_here();
    char name[16] = "", expected[16];

    seen->calls++;
    seen->workers |= 1u << worker;
    if (begin % seen->multiple != 0 || (end % seen->multiple != 0 && end != seen->n_items) || begin >= end)
        seen->bad_cut = true;
    if (here.node != seen->node || here.layer != seen->layer)
        seen->bad_place = true;
    pthread_getname_np(pthread_self(), name, sizeof name);
    snprintf(expected, sizeof expected, "bn-worker-%u", worker);
    if (worker > 0 && strcmp(name, expected) != 0)
        seen->bad_name = true;
    for (size_t i = begin; i < end; i++)
        seen->times[i]++;
}

static struct bn_pool *open_pool(unsigned n_threads)
{
    struct bn_pool *pool;
    struct bn_err err;

    assert_int_equal(bn_pool_open(&pool, n_threads, &err), 0);
    assert_int_equal(bn_pool_threads(pool), n_threads);
    return pool;
}

/* The workers that took part, as a bit set. */
static unsigned run_and_check(struct bn_pool *pool, size_t n_items, size_t multiple, uint64_t cost)
{
    static struct seen seen;
    struct bn_scope_place here = bn_scope_here();

    memset(&seen, 0, sizeof seen);
    seen.multiple = multiple;
    seen.n_items = n_items;
    seen.node = here.node;
    seen.layer = here.layer;
    bn_pool_run(pool, visit, &seen, n_items, multiple, cost);
    for (size_t i = 0; i < N; i++)
        assert_int_equal(seen.times[i], i < n_items);
    assert_false(seen.bad_cut);
    assert_false(seen.bad_place);
    assert_false(seen.bad_name);
    assert_true(seen.workers < 1u << bn_pool_threads(pool));
    if (cost < BN_POOL_GRAIN) { /* not worth a second thread: one call, on the caller */
        assert_int_equal(seen.calls, n_items > 0);
        assert_int_equal(seen.workers, n_items > 0);
    }
    return seen.workers;
}

static void test_every_item_once(void **state)
{
    static const unsigned threads[] = {1, 2, 3, 5, 17};
    static const size_t items[] = {0, 1, 2, 15, 16, 17, 100, 999, 1000};
    static const size_t multiples[] = {1, 16, 64};

    (void)state;
    for (size_t t = 0; t < BN_COUNT(threads); t++) {
        struct bn_pool *pool = open_pool(threads[t]);
        for (int again = 0; again < 5; again++)
            for (size_t i = 0; i < BN_COUNT(items); i++)
                for (size_t m = 0; m < BN_COUNT(multiples); m++) {
                    run_and_check(pool, items[i], multiples[m], MANY);
                    run_and_check(pool, items[i], multiples[m], 2 * BN_POOL_GRAIN);
                    run_and_check(pool, items[i], multiples[m], BN_POOL_GRAIN - 1);
                }
        bn_pool_close(pool);
    }
}

/* Long enough pauses for all workers to fall asleep, and jobs right behind each other. */
static void test_asleep_and_awake(void **state)
{
    struct bn_pool *pool = open_pool(4);

    (void)state;
    for (int i = 0; i < 20; i++) {
        usleep(2000);
        for (int k = 0; k < 20; k++)
            run_and_check(pool, 200, 1, MANY);
    }
    bn_pool_close(pool);
}

/* Workers have the stage and the layer of the caller of each job, also when these follow closely. */
static void test_stage(void **state)
{
    struct bn_pool *pool = open_pool(4);

    (void)state;
    for (int i = 0; i < 200; i++) {
        bn_scope_layer(i % 7);
        BN_SCOPE(FFN);
        run_and_check(pool, 100, 1, MANY);
        {
            BN_SCOPE(ACTIVATION);
            run_and_check(pool, 100, 1, MANY);
        }
        run_and_check(pool, 100, 1, MANY);
    }
    bn_scope_layer(-1);
    bn_pool_close(pool);
}

static void hold_up(void *arg, size_t begin, size_t end, unsigned worker)
{
    _Atomic int *started = arg;

    (void)begin;
    (void)end;
    (void)worker;
    /* Two chunks must be worked on at the same time for either to end. */
    for (++*started; *started < 2;)
        usleep(100);
}

static uint64_t worker_ns_of(enum bn_stage stage)
{
    const struct bn_scope_shared *region = bn_scope_region();
    uint64_t sum = 0;

    for (uint32_t i = 0; i < region->n_nodes; i++) {
        if (region->nodes[i].stage == stage)
            sum += bn_scope_sum(region, i).worker_ns;
    }
    return sum;
}

static void test_workers_work_and_wait(void **state)
{
    struct bn_pool *pool;
    _Atomic int started = 0;
    uint64_t worked_ns = worker_ns_of(BN_STAGE_DOWN_PROJECTION), waited_ns = worker_ns_of(BN_STAGE_WAIT);

    (void)state;
    if (bn_cpus_count() < 2)
        skip(); /* one CPU has work for one thread */
    pool = open_pool(2);
    {
        BN_SCOPE(DOWN_PROJECTION);
        bn_pool_run(pool, hold_up, &started, 2, 1, MANY);
    }
    assert_int_equal(started, 2);
    usleep(1000);
    bn_pool_close(pool);
    assert_true(worker_ns_of(BN_STAGE_DOWN_PROJECTION) > worked_ns);
    assert_true(worker_ns_of(BN_STAGE_WAIT) > waited_ns);
}

/* ---- not alone on the machine ---- */

static _Atomic bool burning;

static void *burn(void *arg)
{
    (void)arg;
    while (burning)
        ;
    return NULL;
}

/* As many others as there are CPUs, and threads from one to three a CPU: who runs where changes all the time,
 * what is computed does not. */
static void test_beside_others(void **state)
{
    unsigned n_cpus = bn_cpus_count() < 4 ? bn_cpus_count() : 4;
    pthread_t others[4];

    (void)state;
    burning = true;
    for (unsigned i = 0; i < n_cpus; i++)
        assert_int_equal(pthread_create(&others[i], NULL, burn, NULL), 0);
    for (unsigned n = 1; n <= 3; n++) {
        struct bn_pool *pool = open_pool(n * n_cpus);
        for (int i = 0; i < 100; i++) {
            BN_SCOPE(FFN);
            run_and_check(pool, 1000, 1, MANY);
        }
        bn_pool_close(pool);
    }
    burning = false;
    for (unsigned i = 0; i < n_cpus; i++)
        pthread_join(others[i], NULL);
}

/* One chunk for each of two threads. The worker's ends when it may run on one CPU only, or after too long. */
struct held {
    _Atomic int started;
    bool until_fetched;
    struct bn_cpus worker_cpus; /* where the worker might run at last */
    _Atomic bool fetched;
};

static void hold_chunk(void *arg, size_t begin, size_t end, unsigned worker)
{
    struct held *held = arg;

    (void)begin;
    (void)end;
    for (held->started++; held->started < 2;)
        sched_yield();
    if (worker == 0)
        return;
    for (int i = 0; i < 20000; i++) {
        assert_int_equal(bn_cpus_allowed(&held->worker_cpus), 0);
        held->fetched = CPU_COUNT_S(sizeof held->worker_cpus, held->worker_cpus.sets) == 1;
        if (held->fetched || !held->until_fetched)
            return;
        usleep(1000);
    }
}

/* A worker that is late with its chunk is fetched to its caller's CPU; when it is called again it may run
 * everywhere but there. */
static void test_fetched(void **state)
{
    struct bn_pool *pool;
    struct bn_cpus all;

    (void)state;
    if (bn_cpus_count() < 2)
        skip(); /* on one CPU there is nowhere to go */
    pool = open_pool(2);
    assert_int_equal(bn_cpus_allowed(&all), 0);
    for (int tries = 0;; tries++) {
        struct held first = {.until_fetched = true}, second = {.until_fetched = false};
        bn_pool_run(pool, hold_chunk, &first, 2, 1, MANY);
        assert_true(first.fetched);
        int here = sched_getcpu();
        bn_pool_run(pool, hold_chunk, &second, 2, 1, MANY);
        /* When the caller was moved during the second run, that says nothing. */
        if (sched_getcpu() == here) {
            CPU_CLR_S((size_t)here, sizeof all, all.sets);
            assert_true(CPU_EQUAL_S(sizeof all, all.sets, second.worker_cpus.sets));
            break;
        }
        assert_true(tries < 1000);
    }
    bn_pool_close(pool);
}

/* Threads beyond the CPUs never work. */
static void test_no_more_than_cpus(void **state)
{
    struct bn_pool *pool;
    struct bn_cpus all, one;

    (void)state;
    assert_int_equal(bn_cpus_allowed(&all), 0);
    memset(&one, 0, sizeof one);
    CPU_SET_S((size_t)sched_getcpu(), sizeof one, one.sets);
    assert_int_equal(sched_setaffinity(0, sizeof one, one.sets), 0);
    pool = open_pool(3);
    for (int i = 0; i < 100; i++)
        assert_int_equal(run_and_check(pool, 1000, 1, MANY), 1);
    bn_pool_close(pool);
    assert_int_equal(sched_setaffinity(0, sizeof all, all.sets), 0);
}

static void test_cores(void **state)
{
    (void)state;
    assert_in_range(bn_pool_cores(), 1, BN_POOL_MAX_THREADS);
    bn_pool_close(NULL);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_every_item_once),
        cmocka_unit_test(test_asleep_and_awake),
        cmocka_unit_test(test_stage),
        cmocka_unit_test(test_cores),
        cmocka_unit_test(test_beside_others),
        cmocka_unit_test(test_fetched),
        cmocka_unit_test(test_no_more_than_cpus),
        cmocka_unit_test(test_workers_work_and_wait),
    };

    bn_scope_init();
    return cmocka_run_group_tests(tests, NULL, NULL);
}
