/* SPDX-License-Identifier: MIT
 * core/scope: exact counts and consistent times, worker time, events through a shared region. */
#include "core/base.h"
#include "core/scope.h"

#include <math.h>
#include <pthread.h>
#include <setjmp.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include <cmocka.h>

static uint32_t child(const struct bn_scope_shared *r, uint32_t parent, enum bn_stage stage)
{
    return atomic_load(&r->child[parent][stage]);
}

static void spin_ns(uint64_t ns)
{
    uint64_t end_ns = bn_now_ns() + ns;

    while (bn_now_ns() < end_ns)
        ;
}

static void test_buckets(void **state)
{
    (void)state;
    for (uint64_t ns = 0; ns < 16; ns++)
        assert_int_equal(bn_scope_bucket_ns(bn_scope_bucket(ns)), ns);
    for (uint64_t ns = 16; ns < 1ull << 39; ns += ns / 7) {
        uint64_t middle = bn_scope_bucket_ns(bn_scope_bucket(ns));
        double error = (double)middle / (double)ns - 1;
        assert_true(error <= 0.0625 && error >= -0.0625);
        assert_true(bn_scope_bucket(ns) <= bn_scope_bucket(ns + 1));
    }
    assert_int_equal(bn_scope_bucket(UINT64_MAX), BN_SCOPE_BUCKETS - 1);
}

static void one_token(int layers)
{
    BN_SCOPE(DECODE);
    bn_scope_step();
    for (int i = 0; i < layers; i++) {
        BN_SCOPE(TRANSFORMER_BLOCK);
        bn_scope_layer(i);
        {
            BN_SCOPE(FFN);
            bn_scope_count(100, 200);
            bn_scope_demand(60, 40);
            spin_ns(20000);
        }
        spin_ns(10000);
    }
}

static void test_counts(void **state)
{
    struct bn_scope_shared *r = bn_scope_region();

    (void)state;
    for (int i = 0; i < 10; i++)
        one_token(3);
    uint32_t decode = child(r, 0, BN_STAGE_DECODE);
    uint32_t block = child(r, decode, BN_STAGE_TRANSFORMER_BLOCK);
    uint32_t ffn = child(r, block, BN_STAGE_FFN);
    struct bn_scope_total d = bn_scope_sum(r, decode), b = bn_scope_sum(r, block), f = bn_scope_sum(r, ffn);
    assert_int_equal(d.calls, 10);
    assert_int_equal(b.calls, 30);
    assert_int_equal(f.calls, 30);
    assert_int_equal(f.bytes, 3000);
    assert_int_equal(f.ops, 6000);
    assert_int_equal(f.memory_bytes, 1800);
    assert_int_equal(f.int8_macs, 1200);
    assert_int_equal(b.memory_bytes, 0);
    assert_int_equal(b.total_ns, b.self_ns + f.total_ns); /* self is what no child took */
    assert_int_equal(d.total_ns, d.self_ns + b.total_ns);
    assert_true(f.self_ns == f.total_ns && f.total_ns >= 30 * 20000);
    assert_true(f.min_ns <= f.p50_ns && f.p50_ns <= f.p95_ns && f.p95_ns <= f.p99_ns && f.p99_ns <= f.max_ns);
    assert_int_equal(bn_scope_here().node, 0);
    assert_int_equal(bn_scope_here().layer, -1); /* the layer ends with its scope */
    assert_int_equal(bn_scope_here().step, 10);
    assert_true(r->empty_scope_ns > 0 && r->empty_scope_ns < 100000);
}

static void *work_for(void *arg)
{
    const struct bn_scope_place *place = arg;

    bn_scope_thread_begin("worker");
    bn_scope_adopt(*place);
    spin_ns(2000000);
    bn_scope_enter(BN_STAGE_WAIT);
    spin_ns(1000000);
    bn_scope_leave();
    bn_scope_release();
    bn_scope_thread_end();
    return NULL;
}

/* Fused calls are counted, in a node of their own, and have no time; both kinds of calls add up. */
static void test_fused(void **state)
{
    const struct bn_scope_shared *r = bn_scope_region();
    uint64_t into = 1ull << BN_STAGE_ATTN_NORM | 1ull << BN_STAGE_FFN_NORM;
    char names[64];

    (void)state;
    bn_scope_enter(BN_STAGE_ATTENTION);
    uint32_t around = bn_scope_here().node;
    bn_scope_fused(BN_STAGE_QUANTIZE_ACTIVATIONS, BN_STAGE_ATTN_NORM, 3);
    bn_scope_fused(BN_STAGE_QUANTIZE_ACTIVATIONS, BN_STAGE_FFN_NORM, 1);
    struct bn_scope_total sum = bn_scope_sum(r, child(r, around, BN_STAGE_QUANTIZE_ACTIVATIONS));
    assert_int_equal(sum.calls, 4);
    assert_int_equal(sum.total_ns + sum.self_ns + sum.p50_ns + sum.max_ns, 0);
    assert_int_equal(sum.fused_into, into);
    assert_string_equal(bn_stage_names(sum.fused_into, names, sizeof names), "attn_norm, ffn_norm");
    assert_string_equal(bn_stage_names(0, names, sizeof names), "");
    assert_string_equal(bn_stage_names(into, names, 8), "attn_no");
    bn_scope_enter(BN_STAGE_QUANTIZE_ACTIVATIONS);
    spin_ns(1000);
    bn_scope_leave();
    sum = bn_scope_sum(r, child(r, around, BN_STAGE_QUANTIZE_ACTIVATIONS));
    assert_int_equal(sum.calls, 5);
    assert_true(sum.min_ns >= 1000 && sum.min_ns == sum.max_ns && sum.total_ns == sum.max_ns);
    bn_scope_leave();
}

static void test_workers(void **state)
{
    struct bn_scope_shared *r = bn_scope_region();
    pthread_t thread;

    (void)state;
    bn_scope_enter(BN_STAGE_LM_HEAD);
    struct bn_scope_place place = bn_scope_here();
    assert_int_equal(pthread_create(&thread, NULL, work_for, &place), 0);
    pthread_join(thread, NULL);
    bn_scope_leave();
    uint32_t head = child(r, 0, BN_STAGE_LM_HEAD), wait = child(r, head, BN_STAGE_WAIT);
    struct bn_scope_total h = bn_scope_sum(r, head), w = bn_scope_sum(r, wait);
    assert_int_equal(h.calls, 1); /* the worker adds time, never calls */
    assert_true(h.worker_ns >= 2000000 && h.worker_ns < h.total_ns);
    assert_int_equal(w.calls, 0);
    assert_true(w.worker_ns >= 1000000);
    assert_true(h.worker_ns + w.worker_ns <= h.total_ns);
    assert_int_equal(h.self_ns, h.total_ns); /* the worker's wait is not the caller's child */
}

static void set_open(struct bn_scope_thread *t, uint32_t depth, uint64_t start_ns, uint64_t child_ns,
                     uint16_t node, enum bn_scope_adopted adopted)
{
    t->stack[depth] = (struct bn_scope_frame){
        .start_ns = start_ns, .child_ns = child_ns, .node = node, .layer = -1, .adopted = adopted};
    t->depth = depth + 1;
}

/* Scopes that nobody has left: what each would have if it ended now, and nothing from a stack that cannot be.
 * Nodes: 1, 2 below it, 3 wait below 2. */
static void test_open(void **state)
{
    struct bn_scope_shared *r = bn_xcalloc(1, sizeof *r);
    struct bn_scope_total *sums = bn_xcalloc(BN_SCOPE_MAX_NODES, sizeof *sums);
    uint64_t *until_ns = bn_xcalloc(BN_SCOPE_MAX_THREADS, sizeof *until_ns);
    struct bn_scope_thread *t = r->threads;

    (void)state;
    for (uint16_t i = 1; i < 4; i++)
        r->nodes[i].parent = i - 1;
    atomic_store(&r->n_nodes, 4);
    atomic_store(&r->n_threads, 4);
    for (int32_t i = 0; i < 4; i++) {
        atomic_store(&t[i].tid, i + 1);
        until_ns[i] = 10000;
    }
    t[0].stats[2] = (struct bn_scope_stat){.calls = 3, .total_ns = 600, .min_ns = 100, .max_ns = 300};
    set_open(&t[0], 0, 1000, 600, 1, BN_SCOPE_OWN); /* the three calls were in here */
    set_open(&t[0], 1, 7000, 50, 2, BN_SCOPE_OWN);
    set_open(&t[1], 0, 4000, 0, 2, BN_SCOPE_ADOPTED); /* a worker that waits */
    set_open(&t[1], 1, 9000, 0, 3, BN_SCOPE_OWN);
    set_open(&t[2], 0, 5000, 0, 1, BN_SCOPE_OWN); /* has ended */
    atomic_store(&t[2].end_ns, 6000);
    set_open(&t[3], 0, 9000, 0, 1, BN_SCOPE_OWN); /* inner before outer: cannot be */
    set_open(&t[3], 1, 8000, 0, 2, BN_SCOPE_OWN);
    assert_int_equal(bn_scope_sums_until(r, until_ns, sums), 4);
    assert_int_equal(sums[1].calls, 2);
    assert_int_equal(sums[1].open_calls, 2);
    assert_int_equal(sums[1].total_ns, 9000 + 1000);
    assert_int_equal(sums[1].self_ns, 9000 - 600 - 3000 + 1000);
    assert_int_equal(sums[2].calls, 4);
    assert_int_equal(sums[2].open_calls, 1);
    assert_int_equal(sums[2].total_ns, 600 + 3000);
    assert_int_equal(sums[2].self_ns, 600 + 2950);
    assert_int_equal(sums[2].max_ns, 300);
    assert_int_equal(sums[2].worker_ns, 5000);
    assert_int_equal(sums[3].worker_ns, 1000);
    assert_int_equal(sums[3].calls, 0);
    until_ns[0] = 6500; /* before the inner one began */
    until_ns[1] = until_ns[3] = 0;
    bn_scope_sums_until(r, until_ns, sums);
    assert_int_equal(sums[1].total_ns, 5500);
    assert_int_equal(sums[1].self_ns, 4900);
    assert_int_equal(sums[2].open_calls + sums[2].worker_ns + sums[3].worker_ns, 0);
    bn_scope_sums(r, sums);
    assert_int_equal(sums[1].calls + sums[1].total_ns, 0);
    t[0].stack[0].child_ns = UINT64_MAX - 5; /* more than there was */
    t[0].depth = UINT32_MAX;
    until_ns[0] = 10000;
    bn_scope_sums_until(r, until_ns, sums);
    assert_int_equal(sums[1].total_ns, 9000);
    assert_int_equal(sums[1].self_ns, 0);
    free(r);
    free(sums);
    free(until_ns);
}

static void test_depth(void **state)
{
    struct bn_scope_shared *r = bn_scope_region();

    (void)state;
    for (int i = 0; i < BN_SCOPE_MAX_DEPTH + 10; i++)
        bn_scope_enter(BN_STAGE_ATTENTION);
    for (int i = 0; i < BN_SCOPE_MAX_DEPTH + 10; i++)
        bn_scope_leave();
    bn_scope_leave(); /* one too many is no crash */
    assert_int_equal(bn_scope_here().node, 0);
    assert_int_equal(bn_scope_sum(r, child(r, 0, BN_STAGE_ATTENTION)).calls, 1);
    assert_int_equal(r->too_deep, 10);
}

/* The nearest rank: of few calls the slowest is the tail. */
static void test_percentiles(void **state)
{
    static const struct {
        unsigned fast, slow;
        uint64_t p50, p95, p99;
    } cases[] = {{9, 1, 100, 4000, 4000}, {1, 1, 100, 4000, 4000}, {95, 5, 100, 100, 4000},
                 {1, 0, 100, 100, 100},   {99, 1, 100, 100, 100},  {0, 3, 4000, 4000, 4000}};
    static struct bn_scope_shared r;
    struct bn_scope_stat *stat = &r.threads[0].stats[1];

    (void)state;
    r.n_threads = 1;
    for (size_t i = 0; i < BN_COUNT(cases); i++) {
        memset(stat, 0, sizeof *stat);
        stat->calls = cases[i].fast + cases[i].slow;
        stat->min_ns = cases[i].fast ? 100 : 4000;
        stat->max_ns = cases[i].slow ? 4000 : 100;
        stat->hist[bn_scope_bucket(100)] = cases[i].fast;
        stat->hist[bn_scope_bucket(4000)] = cases[i].slow;
        struct bn_scope_total sum = bn_scope_sum(&r, 1);
        assert_true(fabs((double)sum.p50_ns / (double)cases[i].p50 - 1) < 0.0625);
        assert_true(fabs((double)sum.p95_ns / (double)cases[i].p95 - 1) < 0.0625);
        assert_true(fabs((double)sum.p99_ns / (double)cases[i].p99 - 1) < 0.0625);
    }
}

/* In a child process, because a process attaches once. */
static int recorded_child(int fd)
{
    char text[16];

    snprintf(text, sizeof text, "%d", fd);
    setenv("BNPROF_SCOPE_FD", text, 1);
    bn_scope_init();
    if (getenv("BNPROF_SCOPE_FD"))
        return 2;
    for (int i = 0; i < 100; i++)
        one_token(1);
    return bn_scope_publish("{\"a\":1}", 7) == 0 ? 0 : 3;
}

static struct bn_scope_shared *new_region(int *fd, uint32_t ring_events)
{
    size_t size = bn_scope_region_bytes(ring_events);

    *fd = memfd_create("scope", 0);
    assert_true(*fd >= 0);
    assert_int_equal(ftruncate(*fd, (off_t)size), 0);
    struct bn_scope_shared *r = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_SHARED, *fd, 0);
    assert_true(r != MAP_FAILED);
    r->magic = BN_SCOPE_MAGIC;
    r->version = BN_SCOPE_VERSION;
    r->size_bytes = size;
    r->ring_events = ring_events;
    return r;
}

static void test_events(void **state)
{
    const char *self = *state;
    int fd;
    struct bn_scope_shared *r = new_region(&fd, 256);
    char *command = bn_xasprintf("%s recorded %d", self, fd);

    assert_int_equal(system(command), 0);
    free(command);
    const struct bn_scope_thread *t = &r->threads[0];
    assert_string_equal(t->name, "main");
    assert_int_equal(atomic_load(&t->head), 256); /* 600 events did not fit a ring that nobody empties */
    assert_int_equal(atomic_load(&t->dropped), 600 - 256);
    assert_int_equal(atomic_load(&t->events), 600);
    const struct bn_scope_event *e = bn_scope_ring(r, 0);
    uint32_t decode = child(r, 0, BN_STAGE_DECODE);
    uint32_t block = child(r, decode, BN_STAGE_TRANSFORMER_BLOCK), ffn = child(r, block, BN_STAGE_FFN);
    const uint32_t path[] = {decode, block, ffn, block, decode, 0};
    for (int i = 0; i < 256; i++) {
        assert_int_equal(e[i].node, path[i % 6]);
        assert_true(i == 0 || e[i].t_ns >= e[i - 1].t_ns);
        if (e[i].node == ffn) {
            assert_int_equal(e[i].layer, 0);
            assert_int_equal(e[i].step, i / 6 + 1);
        }
    }
    assert_int_equal(atomic_load(&r->info_n), 14);
    assert_string_equal(r->info, "{\"a\":1}");
    munmap(r, r->size_bytes);
    close(fd);
}

/* A region that is not what it should be is not written to: the engine runs unrecorded. */
static void test_bad_region(void **state)
{
    const char *self = *state;
    int fd;
    struct bn_scope_shared *r = new_region(&fd, 256);

    r->magic++;
    char *command = bn_xasprintf("%s recorded %d", self, fd);
    assert_int_equal(system(command), 0);
    assert_int_equal(atomic_load(&r->n_threads), 0);
    r->magic--;
    r->ring_events = 1 << 20; /* larger than the file */
    assert_int_equal(system(command), 0);
    assert_int_equal(atomic_load(&r->n_threads), 0);
    free(command);
    munmap(r, bn_scope_region_bytes(256));
    close(fd);
}

int main(int argc, char **argv)
{
    if (argc == 3 && strcmp(argv[1], "recorded") == 0)
        return recorded_child(atoi(argv[2]));
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_buckets),
        cmocka_unit_test(test_counts),
        cmocka_unit_test(test_workers),
        cmocka_unit_test(test_open),
        cmocka_unit_test(test_depth),
        cmocka_unit_test(test_percentiles),
        cmocka_unit_test(test_fused),
        {"test_events", test_events, NULL, NULL, argv[0]},
        {"test_bad_region", test_bad_region, NULL, NULL, argv[0]},
    };
    bn_scope_init();
    return cmocka_run_group_tests(tests, NULL, NULL);
}
