/* SPDX-License-Identifier: MIT
 * The recorder's side of the scopes: every sample gets the stage of its moment, a crashed engine's
 * statistics are there, a hostile region does no harm. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <cJSON.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "profiler/scope_reader.h"
#include "tests/unit/random.h"

enum { RING = 1024, TID = 4711 };

static uint64_t random_state = 88172645463325252u;

static uint32_t below(size_t n)
{
    return (uint32_t)random_below(&random_state, n);
}

/* Nodes: 1 = generate, 2 = decode below it, 3 = forward_pass, 4 = ffn. */
static void fake_engine(struct bn_scope_shared *region)
{
    static const enum bn_stage stages[] = {BN_STAGE_ROOT, BN_STAGE_GENERATE, BN_STAGE_DECODE,
                                           BN_STAGE_FORWARD_PASS, BN_STAGE_FFN};

    for (uint16_t i = 0; i < BN_STAGE_COUNT; i++)
        snprintf(region->stages[i], sizeof region->stages[i], "%s", bn_stage_name(i));
    atomic_store(&region->n_stages, BN_STAGE_COUNT);
    for (uint16_t i = 0; i < BN_COUNT(stages); i++)
        region->nodes[i] = (struct bn_scope_node){.parent = i ? i - 1 : 0, .stage = (uint16_t)stages[i]};
    atomic_store(&region->n_nodes, BN_COUNT(stages));
    atomic_store(&region->n_threads, 1);
    atomic_store(&region->threads[0].tid, TID);
}

static void put_event(struct bn_scope_shared *region, const struct bn_scope_event *e)
{
    struct bn_scope_thread *t = &region->threads[0];
    uint64_t head = atomic_load(&t->head);

    assert_true(head - atomic_load(&t->tail) < RING);
    bn_scope_ring(region, 0)[head % RING] = *e;
    atomic_store(&t->head, head + 1);
}

/* All scope events of a profile.part of ours, in the file's order. */
static size_t read_events(const char *path, struct bn_scope_event *out, size_t max)
{
    struct bn_raw_reader r;
    struct bn_raw_block block;
    const uint8_t *payload;
    struct bn_err err;
    size_t n = 0;

    assert_int_equal(bn_raw_open(&r, path, &err), 0);
    while (bn_raw_next(&r, &block, &payload) == 1) {
        struct bn_raw_scopes head;
        assert_int_equal(block.kind, BN_RAW_SCOPES);
        memcpy(&head, payload, sizeof head);
        assert_int_equal(head.tid, TID);
        assert_int_equal(head.slot, 0);
        size_t count = (block.payload_bytes - sizeof head) / sizeof *out;
        assert_true(n + count <= max);
        memcpy(out + n, payload + sizeof head, count * sizeof *out);
        n += count;
    }
    assert_false(r.cut_off || r.skipped_bytes);
    bn_raw_close_reader(&r);
    return n;
}

/* Index of the last event at or before t, -1 if there is none. */
static long last_before(const struct bn_scope_event *events, size_t n, uint64_t t_ns)
{
    long at = -1;

    for (size_t i = 0; i < n && events[i].t_ns <= t_ns; i++)
        at = (long)i;
    return at;
}

/* A sample lies in the last event at or before it. */
static void assert_placed(const struct bn_raw_sample *s, uint64_t t_ns, const struct bn_scope_event *all,
                          size_t n)
{
    long want = last_before(all, n, t_ns);

    if (want < 0) {
        assert_int_equal(s->node, BN_RAW_BEFORE_SCOPES);
        return;
    }
    assert_int_equal(s->node, all[want].node);
    assert_int_equal(s->layer, all[want].layer);
    assert_int_equal(s->step, all[want].step);
    bool near = t_ns - all[want].t_ns < 30 || ((size_t)want + 1 < n && all[want + 1].t_ns - t_ns < 30);
    assert_int_equal((s->flags & BN_RAW_SAMPLE_EDGE) != 0, near);
}

/* Samples are told once the horizon has passed them, out of order, as several CPUs give them. */
static void test_placing(void **state)
{
    enum { EVENTS = 20000, SAMPLES = 600 };
    struct bn_scope_event *all = bn_xcalloc(EVENTS, sizeof *all), *kept = bn_xcalloc(EVENTS, sizeof *kept);
    static struct bn_raw_sample samples[SAMPLES], other;
    uint64_t times[SAMPLES], t_ns = 1000000, before_ns = 0;
    char path[] = "/tmp/bnprof-scopes.XXXXXX";
    struct bn_scope_reader r;
    struct bn_raw_writer w;
    struct bn_err err;
    size_t n = 0, n_samples = 0, told = 0;
    uint32_t step = 0;

    (void)state;
    assert_int_equal(bn_scope_reader_create(&r, RING, &err), 0);
    fake_engine(r.region);
    r.region->empty_scope_ns = 30;
    close(mkstemp(path));
    unlink(path);
    assert_int_equal(bn_raw_create(&w, path, &err), 0);
    times[n_samples++] = 5; /* before the first event */
    while (n < EVENTS) {
        for (uint32_t burst = below(RING / 2 - 1) + 1; burst > 0 && n < EVENTS; burst--, n++) {
            t_ns += below(3) * 50; /* several events at one instant, too */
            step += below(400) == 0;
            uint16_t node = (uint16_t)(below(100) == 0 ? 1 + below(2) : 3 + below(2));
            all[n] = (struct bn_scope_event){.t_ns = t_ns, .node = node, .layer = (int16_t)n, .step = step};
            put_event(r.region, &all[n]);
            if (below(40) == 0 && n_samples < SAMPLES)
                times[n_samples++] = t_ns + below(2) * 20;
        }
        size_t end = told;
        while (end < n_samples && times[end] <= before_ns)
            end++;
        for (size_t i = end; i > told; i--)
            bn_scope_reader_mark(&r, TID, times[i - 1], &samples[i - 1]);
        told = end;
        bn_scope_reader_mark(&r, TID + 1, t_ns, &other);
        assert_true(bn_scope_reader_fill(&r) > 0);
        bn_scope_reader_emit(&r, before_ns, &w);
        before_ns = t_ns - 30;
    }
    for (; told < n_samples; told++)
        bn_scope_reader_mark(&r, TID, times[told], &samples[told]);
    bn_scope_reader_emit(&r, UINT64_MAX, &w);
    assert_int_equal(bn_raw_close(&w, &err), 0);
    assert_int_equal(r.n_late, 0);
    assert_true(n_samples > SAMPLES / 2);
    for (size_t i = 0; i < n_samples; i++)
        assert_placed(&samples[i], times[i], all, n);
    size_t n_kept = read_events(path, kept, EVENTS);
    assert_true(n_kept < EVENTS / 10);
    for (size_t i = 0, k = 0; i < n; i++) /* first of each step, and all coarse ones, in order */
        if (i == 0 || all[i].step != all[i - 1].step || all[i].node <= 2) {
            assert_true(k < n_kept);
            assert_memory_equal(&kept[k++], &all[i], sizeof *all);
        }
    bn_scope_reader_close(&r);
    free(all);
    free(kept);
    unlink(path);
}

/* Where events were dropped the stage is not known; it comes back with later events. */
static void test_dropped(void **state)
{
    char path[] = "/tmp/bnprof-scopes.XXXXXX";
    struct bn_raw_sample samples[12] = {{0}};
    struct bn_scope_reader r;
    struct bn_raw_writer w;
    struct bn_err err;

    (void)state;
    assert_int_equal(bn_scope_reader_create(&r, RING, &err), 0);
    fake_engine(r.region);
    close(mkstemp(path));
    unlink(path);
    assert_int_equal(bn_raw_create(&w, path, &err), 0);
    for (uint64_t round = 0; round < BN_COUNT(samples); round++) {
        put_event(r.region, &(struct bn_scope_event){.t_ns = round * 100 + 10, .node = 3});
        if (round == 4)
            atomic_store(&r.region->threads[0].dropped, 7);
        bn_scope_reader_mark(&r, TID, round * 100 + 50, &samples[round]);
        bn_scope_reader_emit(&r, round * 100 + 99, &w);
    }
    for (size_t i = 0; i < BN_COUNT(samples); i++)
        assert_int_equal(samples[i].node, i < 4 || i > 6 ? 3 : BN_RAW_SCOPES_LOST);
    assert_int_equal(bn_raw_close(&w, &err), 0);
    bn_scope_reader_close(&r);
    unlink(path);
}

/* The statistics of a node; the others are left out. */
static cJSON *stat_of(const cJSON *stats, int node)
{
    cJSON *item;

    cJSON_ArrayForEach(item, stats)
    {
        cJSON *number = cJSON_GetObjectItem(item, "node");
        if (number && number->valueint == node)
            return item;
    }
    fail_msg("no statistics of node %d", node);
    return NULL;
}

/* A real engine in another process, killed in the middle of a scope. */
static void test_killed_engine(void **state)
{
    struct bn_scope_reader r;
    struct bn_err err;
    int status;
    static uint64_t until_ns[BN_SCOPE_MAX_THREADS];

    (void)state;
    assert_int_equal(bn_scope_reader_create(&r, BN_SCOPE_RING_EVENTS, &err), 0);
    assert_false(bn_scope_reader_active(&r));
    assert_null(bn_scope_reader_info(&r));
    pid_t pid = fork();
    if (pid == 0) {
        char number[16];
        snprintf(number, sizeof number, "%d", r.fd);
        setenv("BNPROF_SCOPE_FD", number, 1);
        bn_scope_init();
        bn_scope_publish("{\"model\":{\"format\":\"i2s\"}}", 26);
        for (int i = 0; i < 7; i++) {
            BN_SCOPE(GENERATE);
            bn_scope_step();
            BN_SCOPE(DECODE);
            bn_scope_count(100, 10);
        }
        bn_scope_enter(BN_STAGE_SHUTDOWN);
        raise(SIGKILL);
    }
    assert_int_equal(waitpid(pid, &status, 0), pid);
    assert_true(WIFSIGNALED(status));
    until_ns[0] = bn_now_ns();
    assert_true(bn_scope_reader_active(&r));
    assert_true(bn_scope_reader_fill(&r) > 0);
    char *info = bn_scope_reader_info(&r), *text = bn_scope_reader_snapshot(&r, 0, until_ns[0], until_ns);
    assert_string_equal(info, "{\"model\":{\"format\":\"i2s\"}}");
    cJSON *json = cJSON_Parse(text), *nodes = cJSON_GetObjectItem(json, "nodes");
    cJSON *stats = cJSON_GetObjectItem(json, "stats"), *threads = cJSON_GetObjectItem(json, "threads");
    assert_int_equal(cJSON_GetArraySize(nodes), 4);
    cJSON *decode = cJSON_GetArrayItem(nodes, 2);
    assert_string_equal(cJSON_GetObjectItem(decode, "stage")->valuestring, "decode");
    assert_int_equal(cJSON_GetObjectItem(decode, "parent")->valueint, 1);
    assert_int_equal(cJSON_GetObjectItem(stat_of(stats, 2), "calls")->valueint, 7);
    assert_int_equal(cJSON_GetObjectItem(stat_of(stats, 2), "bytes")->valueint, 700);
    assert_null(cJSON_GetObjectItem(stat_of(stats, 2), "open_calls"));
    cJSON *shutdown = stat_of(stats, 3); /* up to the end, not to when somebody looked */
    assert_int_equal(cJSON_GetObjectItem(shutdown, "open_calls")->valueint, 1);
    assert_int_equal(cJSON_GetObjectItem(shutdown, "calls")->valueint, 1);
    double open_ns = (double)(until_ns[0] - r.region->threads[0].stack[0].start_ns);
    assert_true(open_ns - cJSON_GetObjectItem(shutdown, "total_ns")->valuedouble <=
                r.region->empty_scope_ns + 1);
    assert_int_equal(cJSON_GetArraySize(threads), 1);
    assert_string_equal(cJSON_GetObjectItem(cJSON_GetArrayItem(threads, 0), "name")->valuestring, "main");
    assert_int_equal(cJSON_GetObjectItem(cJSON_GetArrayItem(threads, 0), "tid")->valueint, pid);
    assert_string_equal(
        cJSON_GetObjectItem(cJSON_GetObjectItem(cJSON_GetObjectItem(json, "info"), "model"), "format")
            ->valuestring,
        "i2s");
    cJSON_Delete(json);
    free(info);
    free(text);
    bn_scope_reader_close(&r);
}

/* Whatever the program writes into its region, the recorder stays within it. */
static void test_hostile_region(void **state)
{
    char path[] = "/tmp/bnprof-scopes.XXXXXX";
    struct bn_scope_reader r;
    struct bn_raw_sample sample;
    struct bn_raw_writer w;
    struct bn_err err;

    (void)state;
    assert_int_equal(bn_scope_reader_create(&r, RING, &err), 0);
    close(mkstemp(path));
    unlink(path);
    assert_int_equal(bn_raw_create(&w, path, &err), 0);
    for (int round = 0; round < 20; round++) {
        uint32_t *words = (uint32_t *)(void *)r.region;
        for (size_t i = 0; i < offsetof(struct bn_scope_shared, threads) / 4; i++)
            words[i] = (uint32_t)random_state + below(UINT32_MAX);
        memset(&r.region->threads[0], 0xff, offsetof(struct bn_scope_thread, stats));
        if (round % 2)
            atomic_store(&r.region->info_n, 60000);
        bn_scope_reader_mark(&r, -1, 5, &sample);
        bn_scope_reader_fill(&r);
        bn_scope_reader_emit(&r, round, &w);
        static uint64_t until_ns[BN_SCOPE_MAX_THREADS];
        for (size_t i = 0; i < BN_COUNT(until_ns); i++)
            until_ns[i] = below(2) ? UINT64_MAX : below(UINT32_MAX);
        free(bn_scope_reader_snapshot(&r, 1, UINT64_MAX, until_ns));
    }
    bn_scope_reader_emit(&r, UINT64_MAX, &w);
    assert_int_equal(bn_raw_close(&w, &err), 0);
    bn_scope_reader_close(&r);
    unlink(path);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_placing),
        cmocka_unit_test(test_dropped),
        cmocka_unit_test(test_killed_engine),
        cmocka_unit_test(test_hostile_region),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
