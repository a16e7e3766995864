/* SPDX-License-Identifier: MIT
 * profiler/scope_follow against the plainest reference, which looks at every nanosecond; and in the reader:
 * what a worker slept through stands where the main thread was. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "profiler/scope_reader.h"
#include "tests/unit/random.h"

static uint64_t random_state = 88172645463325252u;

static uint32_t below(size_t n)
{
    return (uint32_t)random_below(&random_state, n);
}

/* Several workers with intervals that touch, overlap and reach beyond the round. */
static void test_reference(void **state)
{
    enum { ROUND_NS = 300, NODES = 7, ROUNDS = 200 };
    struct bn_scope_follow *f = bn_xcalloc(1, sizeof *f);
    static uint64_t want[BN_FOLLOW_KINDS][NODES];
    uint64_t from_ns = 0;

    (void)state;
    for (int round = 0; round < ROUNDS; round++) {
        uint64_t to_ns = from_ns + below(ROUND_NS);
        uint32_t active[BN_FOLLOW_KINDS][ROUND_NS] = {{0}}, node = below(NODES);
        bn_scope_follow_begin(f, to_ns);
        for (uint32_t i = below(12); i > 0; i--) {
            enum bn_follow_kind kind = below(BN_FOLLOW_KINDS);
            uint64_t begin = from_ns + below(ROUND_NS), end = begin + below(100);
            begin -= begin > 50 ? below(50) : 0;
            bn_scope_follow_add(f, kind, begin, end);
            for (uint64_t t = begin > from_ns ? begin : from_ns; t < end && t < to_ns; t++)
                active[kind][t - from_ns]++;
        }
        bn_scope_follow_sort(f);
        for (uint64_t t = from_ns; t < to_ns; t++) {
            if (below(20) == 0) {
                bn_scope_follow_main(f, t, node);
                node = below(NODES);
            }
            for (int kind = 0; kind < BN_FOLLOW_KINDS; kind++)
                want[kind][node] += active[kind][t - from_ns];
        }
        bn_scope_follow_main(f, UINT64_MAX, node);
        from_ns = to_ns;
    }
    for (int kind = 0; kind < BN_FOLLOW_KINDS; kind++)
        for (int node = 0; node < NODES; node++) {
            assert_true(want[kind][node] > 0);
            assert_int_equal(f->ns[node][kind], want[kind][node]);
        }
    bn_scope_follow_free(f);
    free(f);
}

enum { RING = 64, MAIN_TID = 100, WORKER_TID = 101, WAIT_NODE = 3 };

static void put(struct bn_scope_shared *region, uint32_t slot, uint64_t t_ns, uint16_t node, uint32_t step)
{
    uint64_t head = atomic_load(&region->threads[slot].head);

    bn_scope_ring(region, slot)[head % RING] =
        (struct bn_scope_event){.t_ns = t_ns, .node = node, .layer = 5, .step = step};
    atomic_store(&region->threads[slot].head, head + 1);
}

/* Nodes: 1 prefill, 2 decode, 3 wait below no stage, 4 wait below prefill. */
static void fake_engine(struct bn_scope_shared *region)
{
    static const enum bn_stage stages[] = {BN_STAGE_ROOT, BN_STAGE_PREFILL, BN_STAGE_DECODE, BN_STAGE_WAIT,
                                           BN_STAGE_WAIT};

    for (uint16_t i = 0; i < BN_COUNT(stages); i++)
        region->nodes[i] = (struct bn_scope_node){.parent = i == 4 ? 1 : 0, .stage = (uint16_t)stages[i]};
    atomic_store(&region->n_nodes, BN_COUNT(stages));
    atomic_store(&region->n_threads, 2);
    atomic_store(&region->pid, MAIN_TID);
    atomic_store(&region->threads[0].tid, MAIN_TID);
    atomic_store(&region->threads[1].tid, WORKER_TID);
}

static void sleeps(struct bn_scope_reader *r, uint64_t t_ns, uint64_t dt_ns, struct bn_raw_sample *place)
{
    const struct bn_off_cpu_gap gap = {.tid = WORKER_TID, .t_ns = t_ns, .dt_ns = dt_ns};

    bn_scope_reader_mark_gap(r, WORKER_TID, &gap, place);
}

/* A worker that falls asleep in prefill and wakes up two rounds later, in decode. */
static void test_rounds(void **state)
{
    char path[] = "/tmp/bnprof-follow.XXXXXX";
    struct bn_raw_sample places[3] = {{0}}, sample = {0}, own = {0};
    struct bn_scope_reader r;
    struct bn_raw_writer w;
    struct bn_err err;

    (void)state;
    assert_int_equal(bn_scope_reader_create(&r, RING, &err), 0);
    r.engine = true;
    fake_engine(r.region);
    close(mkstemp(path));
    unlink(path);
    assert_int_equal(bn_raw_create(&w, path, &err), 0);
    put(r.region, 0, 1000, 1, 1);
    put(r.region, 1, 1100, 4, 1); /* spins: that is a wait in prefill */
    put(r.region, 1, 1200, WAIT_NODE, 0);
    sleeps(&r, 1210, 790, &places[0]);
    bn_scope_reader_mark(&r, WORKER_TID, 1150, &own);
    bn_scope_reader_emit(&r, 2000, &w);
    put(r.region, 0, 2300, 2, 2);
    sleeps(&r, 2000, 1000, &places[1]);
    bn_scope_reader_emit(&r, 3000, &w);
    put(r.region, 1, 3600, 2, 2); /* works */
    put(r.region, 0, 3700, 0, 2);
    sleeps(&r, 3000, 550, &places[2]);
    bn_scope_reader_mark(&r, WORKER_TID, 3580, &sample);
    r.end_ns = 5000;
    bn_scope_reader_emit(&r, UINT64_MAX, &w);

    assert_int_equal(r.follow->ns[1][BN_FOLLOW_WAITED], 2300 - 1200);
    assert_int_equal(r.follow->ns[2][BN_FOLLOW_WAITED], 3600 - 2300);
    assert_int_equal(r.follow->ns[1][BN_FOLLOW_ASLEEP], 2300 - 1210);
    assert_int_equal(r.follow->ns[2][BN_FOLLOW_ASLEEP], 3550 - 2300);
    for (int i = 0; i < 3; i++) /* what they are in all; the division takes it from there */
        assert_int_equal(places[i].node, WAIT_NODE);
    assert_int_equal(sample.node, 2);
    assert_int_equal(sample.step, 2);
    assert_true(sample.flags & BN_RAW_SAMPLE_IDLE);
    assert_int_equal(own.node, 4);
    assert_false(own.flags & BN_RAW_SAMPLE_IDLE);
    assert_int_equal(r.n_late, 0);
    assert_int_equal(bn_raw_close(&w, &err), 0);
    bn_scope_reader_close(&r);
    unlink(path);
}

/* Where the main thread's events were lost, or in a program that is not the engine, nothing is divided. */
static void test_not_known(void **state)
{
    (void)state;
    for (int engine = 0; engine < 2; engine++) {
        char path[] = "/tmp/bnprof-follow.XXXXXX";
        struct bn_raw_sample place = {0}, sample = {0};
        struct bn_scope_reader r;
        struct bn_raw_writer w;
        struct bn_err err;
        assert_int_equal(bn_scope_reader_create(&r, RING, &err), 0);
        r.engine = engine;
        fake_engine(r.region);
        close(mkstemp(path));
        unlink(path);
        assert_int_equal(bn_raw_create(&w, path, &err), 0);
        atomic_store(&r.region->threads[0].dropped, 1);
        put(r.region, 0, 1000, 1, 1);
        put(r.region, 1, 1200, WAIT_NODE, 0);
        sleeps(&r, 1210, 790, &place);
        bn_scope_reader_mark(&r, WORKER_TID, 1205, &sample);
        bn_scope_reader_emit(&r, 2000, &w);
        for (int node = 1; node < BN_SCOPE_MAX_NODES; node++)
            assert_int_equal(r.follow->ns[node][BN_FOLLOW_WAITED] + r.follow->ns[node][BN_FOLLOW_ASLEEP], 0);
        assert_int_equal(place.node, WAIT_NODE);
        assert_int_equal(sample.node, WAIT_NODE);
        assert_false(sample.flags & BN_RAW_SAMPLE_IDLE);
        assert_int_equal(bn_raw_close(&w, &err), 0);
        bn_scope_reader_close(&r);
        unlink(path);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_reference),
        cmocka_unit_test(test_rounds),
        cmocka_unit_test(test_not_known),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
