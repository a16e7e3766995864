/* SPDX-License-Identifier: MIT
 * The join on recordings made by hand: every sample's stage is known, damage is survived. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "part_maker.h"
#include "profiler/join.h"

/* Nodes: 1 generate, 2 prefill, 3 decode, 4 forward_pass (below 3), 5 ffn (below 4), 6 model_load. */
static const char nodes[] =
    "\"nodes\":[{\"parent\":0,\"stage\":\"all\"},{\"parent\":0,\"stage\":\"generate\"},"
    "{\"parent\":1,\"stage\":\"prefill\"},{\"parent\":1,\"stage\":\"decode\"},{\"parent\":3,\"stage\":"
    "\"forward_pass\"},"
    "{\"parent\":4,\"stage\":\"ffn\"},{\"parent\":0,\"stage\":\"model_load\"}]";

static void put_snapshot(struct maker *m)
{
    char *text = bn_xasprintf(
        "{\"empty_scope_ns\":41.5,\"untimed_threads\":0,%s,\"stats\":[{\"node\":3,\"calls\":2,\"total_ns\":"
        "1500,"
        "\"self_ns\":100,\"worker_ns\":7,\"min_ns\":500,\"max_ns\":1000,\"p50_ns\":700,\"p95_ns\":900,\"p99_"
        "ns\":990,"
        "\"bytes\":123,\"ops\":456},{\"node\":99,\"calls\":1}],"
        "\"threads\":[{\"slot\":0,\"tid\":100,\"name\":\"main\",\"start_ns\":1000,\"end_ns\":0,\"events\":9,"
        "\"dropped\":0},{\"slot\":1,\"tid\":101,\"name\":\"worker "
        "1\",\"start_ns\":1,\"end_ns\":0,\"events\":2,"
        "\"dropped\":3}],"
        "\"info\":{\"model\":{\"path\":\"/"
        "m.gguf\",\"name\":\"M\",\"arch\":\"bitnet-b1.58\",\"format\":\"i2s\","
        "\"file_bytes\":1000,\"weight_bytes\":900,\"bytes_per_token\":800,\"n_layer\":30,\"n_embd\":2560,\"n_"
        "ff\":6912,"
        "\"n_head\":20,\"n_head_kv\":5,\"n_vocab\":128256,\"n_ctx\":4096},"
        "\"config\":{\"threads\":2,\"rounds\":1,\"max_tokens\":128,\"deterministic\":true,\"kernel\":\"i2s\","
        "\"cpu_used\":\"avx2\",\"cpu_detected\":\"avx2,avx512\"},"
        "\"kernels\":{\"i2s_gemv_avx2\":12345},\"decode_allocations\":0,"
        "\"result\":{\"prompt_tokens\":512,\"generated_tokens\":64,\"load_ms\":1.5,\"token_hash\":\"00ff\","
        "\"token_ms\":{\"p50\":20.5,\"p95\":21,\"p99\":22},\"peak_rss_bytes\":5000}}}",
        nodes);
    maker_json(m, BN_RAW_SNAPSHOT, text);
    free(text);
}

static const struct maker_event main_events[] = {
    {1000, 6, -1, 0}, /* model_load */
    {2000, 0, -1, 0}, /* in no stage */
    {3000, 1, -1, 0}, /* generate */
    {3100, 2, -1, 1}, /* prefill, step 1 */
    {4000, 1, -1, 1}, /* generate */
    {4100, 3, -1, 2}, /* decode, step 2 */
    {4200, 4, -1, 2}, /* forward_pass */
    {4300, 5, 7, 2},  /* ffn of layer 7 */
    {4600, 4, -1, 2}, {4700, 3, -1, 2}, {5000, 1, -1, 2}, {5100, 3, -1, 3},
    {5200, 5, 0, 3},  {5900, 3, -1, 3}, {6000, 1, -1, 3}, {6100, 0, -1, 3}, /* the end: shutdown */
};
static const struct maker_event worker_events[] = {
    {4350, 5, 7, 2},
    {4500, 0, -1, 2},
    {5250, 5, 0, 3},
};

struct expected {
    uint64_t t;
    int32_t tid;
    const char *stage;
    int32_t layer;
    uint32_t step;
    bool joined;
};

static const struct expected expected[] = {
    {0, 100, "startup", -1, 0, true},
    {999, 100, "startup", -1, 0, true},
    {1000, 100, "model_load", -1, 0, true},
    {1999, 100, "model_load", -1, 0, true},
    {2500, 100, "all", -1, 0, false},
    {3050, 100, "generate", -1, 0, true},
    {3100, 100, "generate;prefill", -1, 1, true},
    {4050, 100, "generate", -1, 1, true},
    {4150, 100, "generate;decode", -1, 2, true},
    {4250, 100, "generate;decode;forward_pass", -1, 2, true},
    {4299, 100, "generate;decode;forward_pass", -1, 2, true},
    {4300, 100, "generate;decode;forward_pass;ffn", 7, 2, true},
    {4340, 101, "all", -1, 0, false}, /* the worker before its first event */
    {4350, 101, "generate;decode;forward_pass;ffn", 7, 2, true},
    {4400, 102, "all", -1, 0, false}, /* never reported */
    {4510, 101, "all", -1, 2, false},
    {4650, 100, "generate;decode;forward_pass", -1, 2, true},
    {5150, 100, "generate;decode", -1, 3, true},
    {5300, 101, "generate;decode;forward_pass;ffn", 0, 3, true},
    {5950, 100, "generate;decode", -1, 3, true},
    {6050, 100, "generate", -1, 3, true},
    {6100, 100, "shutdown", -1, 3, true},
    {9999, 100, "shutdown", -1, 3, true},
};

/* The samples as two CPUs deliver them, out of order between them. */
static void put_samples(struct maker *m)
{
    maker_comm(m, MAKER_PID, MAKER_PID, "bnprof", true, 0);
    maker_task(m, PERF_RECORD_FORK, MAKER_PID, MAKER_PID, 101, MAKER_PID, 10);
    maker_task(m, PERF_RECORD_FORK, MAKER_PID, MAKER_PID, 102, MAKER_PID, 11);
    for (size_t i = 1; i < BN_COUNT(expected); i += 2)
        maker_sample(m, MAKER_PID, expected[i].tid, expected[i].t, 1000);
    for (size_t i = 0; i < BN_COUNT(expected); i += 2)
        maker_sample(m, MAKER_PID, expected[i].tid, expected[i].t, 1000);
}

static void make_whole(struct maker *m)
{
    maker_open(m, MAKER_TYPE);
    maker_header(m, "");
    put_samples(m);
    maker_scopes(m, 100, 0, 0, main_events, 5); /* in two blocks */
    maker_scopes(m, 101, 1, 0, worker_events, BN_COUNT(worker_events));
    maker_scopes(m, 100, 0, 0, main_events + 5, BN_COUNT(main_events) - 5);
    put_snapshot(m);
    maker_footer(m);
    maker_close(m);
}

static void join(struct bn_profile *p, const struct maker *m)
{
    struct bn_err err = {.msg = ""};

    bn_profile_init(p);
    if (bn_join(p, m->path, NULL, &err) != 0)
        fail_msg("%s", err.msg);
}

static void test_stages(void **unused)
{
    struct maker m;
    struct bn_profile p;
    char buf[256];

    (void)unused;
    make_whole(&m);
    join(&p, &m);
    assert_int_equal(p.n_samples, BN_COUNT(expected));
    size_t joined = 0;
    for (size_t i = 0; i < p.n_samples; i++) {
        const struct bn_sample *s = &p.samples[i];
        const struct expected *e = &expected[i];
        assert_int_equal(s->t_ns, e->t);
        assert_int_equal(p.threads[s->thread].tid, e->tid);
        assert_string_equal(bn_profile_stage_path(&p, s->stage, buf, sizeof buf), e->stage);
        assert_int_equal(s->layer, e->layer);
        assert_int_equal(s->step, e->step);
        assert_int_equal((s->flags & BN_SAMPLE_JOINED) != 0, e->joined);
        assert_int_equal(s->weight_ns, 1000);
        joined += e->joined;
    }
    assert_int_equal(p.quality.n_joined, joined);
    bn_profile_free(&p);
    unlink(m.path);
}

/* Workers without work waited where the main thread was; what nobody knows the place of stays where it is. */
static void test_idle(void **unused)
{
    struct maker m;
    struct bn_profile p;
    char buf[256];

    (void)unused;
    maker_open(&m, MAKER_TYPE);
    maker_header(&m, "");
    /* Nodes: 1 generate, 2 wait below it, 3 wait below none, 4 prefill below 1. */
    maker_json(&m, BN_RAW_SNAPSHOT,
               "{\"nodes\":[{\"parent\":0,\"stage\":\"all\"},{\"parent\":0,\"stage\":\"generate\"},"
               "{\"parent\":1,\"stage\":\"wait\"},{\"parent\":0,\"stage\":\"wait\"},"
               "{\"parent\":1,\"stage\":\"prefill\"}],\"stats\":[{\"node\":2,\"calls\":4,\"self_ns\":40,"
               "\"worker_ns\":7},{\"node\":3,\"calls\":0,\"worker_ns\":1000}],\"idle\":["
               "{\"node\":1,\"waited_ns\":100,\"asleep_ns\":90,\"preempted_ns\":3},"
               "{\"node\":2,\"waited_ns\":20,\"asleep_ns\":10,\"preempted_ns\":0},"
               "{\"node\":4,\"waited_ns\":300,\"asleep_ns\":5000,\"preempted_ns\":0},"
               "{\"node\":0,\"waited_ns\":55},{\"node\":77,\"waited_ns\":66},{}]}");
    const struct bn_raw_off_cpu off[] = {
        {.node = 3, .asleep_ns = 600, .n_asleep = 6, .preempted_ns = 4, .n_preempted = 1}};
    bn_raw_append(&m.w, BN_RAW_OFF_CPU, off, sizeof off, NULL, 0);
    maker_footer(&m);
    maker_close(&m);
    join(&p, &m);
    uint32_t generate = bn_profile_find_stage(&p, 0, "generate"), idle = bn_profile_find_stage(&p, 0, "wait");
    uint32_t prefill = bn_profile_find_stage(&p, generate, "prefill");
    const struct bn_stage_node *here = &p.stages[bn_profile_find_stage(&p, generate, "wait")],
                               *below = &p.stages[bn_profile_find_stage(&p, prefill, "wait")];
    assert_string_equal(bn_profile_stage_path(&p, (uint32_t)(below - p.stages), buf, sizeof buf),
                        "generate;prefill;wait");
    assert_int_equal(here->worker_ns, 7 + 100 + 20);
    assert_int_equal(here->calls, 4);
    assert_int_equal(here->asleep_ns, 90 + 10);
    assert_int_equal(here->preempted_ns, 3);
    assert_int_equal(below->worker_ns, 300);
    assert_int_equal(below->asleep_ns, 500); /* no more than there is */
    assert_int_equal(p.stages[idle].worker_ns, 580);
    assert_int_equal(p.stages[idle].asleep_ns, 0);
    assert_int_equal(p.stages[idle].preempted_ns, 1);
    assert_int_equal(p.quality.asleep_ns, 600); /* once */
    bn_profile_free(&p);
    unlink(m.path);
}

static void test_fields(void **unused)
{
    struct maker m;
    struct bn_profile p;

    (void)unused;
    make_whole(&m);
    join(&p, &m);
    assert_string_equal(p.run_id, "r1");
    assert_int_equal(p.exit_status, 3);
    assert_false(p.quality.partial);
    assert_int_equal(p.quality.n_lost, 4);
    assert_int_equal(p.quality.n_throttled, 5);
    assert_true(p.quality.steal_share == 0.25);
    assert_true(fabs(p.quality.achieved_hz - (double)BN_COUNT(expected) * 1e9 / 80000) < 1e-3);
    assert_int_equal(p.quality.cpu_ns, 90000);
    assert_int_equal(p.quality.unreached_ns, 10);
    assert_int_equal(p.quality.user_ns, 80000);
    assert_int_equal(p.quality.system_ns, 10000);
    assert_string_equal(bn_profile_fact(&p, "ran_on"), "1 process ran on");
    assert_string_equal(bn_profile_fact(&p, "cpu_model"), "C");
    assert_string_equal(p.model.arch, "bitnet-b1.58");
    assert_int_equal(p.model.n_vocab, 128256);
    assert_int_equal(p.run.prompt_tokens, 512);
    assert_true(p.run.deterministic);
    assert_true(p.run.token_ms_p50 == 20.5);
    assert_true(isnan(p.run.first_token_ms));
    assert_int_equal(p.run.decode_allocations, 0);
    assert_int_equal(p.n_kernels, 1);
    assert_int_equal(p.kernels[0].calls, 12345);
    assert_int_equal(p.limits.threads, 2);
    assert_string_equal(p.config_key, "sha256:0123456789abcdef|i2s|t2|p512 g64 m128 r1|run");

    uint32_t decode = bn_profile_find_stage(&p, bn_profile_find_stage(&p, 0, "generate"), "decode");
    assert_int_equal(p.stages[decode].calls, 2);
    assert_int_equal(p.stages[decode].p95_ns, 900);
    const struct bn_stage_node *startup = &p.stages[bn_profile_find_stage(&p, 0, "startup")];
    assert_int_equal(startup->calls, 1);
    assert_int_equal(startup->total_ns, 1000);
    assert_int_equal(p.stages[bn_profile_find_stage(&p, 0, "shutdown")].total_ns, 10000 - 6100);

    assert_int_equal(p.n_threads, 3);
    assert_string_equal(p.threads[0].name, "main");
    assert_string_equal(p.threads[1].name, "worker 1");
    assert_int_equal(p.threads[1].dropped, 3);
    assert_string_equal(p.threads[2].name, "bnprof"); /* inherited from the thread that made it */
    assert_int_equal(p.quality.scope_events, 11);

    assert_int_equal(p.n_tokens_total, 3);
    assert_int_equal(p.n_tokens, 3);
    static const struct bn_token tokens[] = {
        {3100, 4000, 1, true}, {4100, 5000, 2, false}, {5100, 6000, 3, false}};
    for (size_t i = 0; i < 3; i++) {
        assert_int_equal(p.tokens[i].start_ns, tokens[i].start_ns);
        assert_int_equal(p.tokens[i].end_ns, tokens[i].end_ns);
        assert_int_equal(p.tokens[i].step, tokens[i].step);
        assert_int_equal(p.tokens[i].prefill, tokens[i].prefill);
    }
    bn_profile_free(&p);
    unlink(m.path);
}

/* Without its end the recording is still one, and says so. */
static void test_partial(void **unused)
{
    struct maker m;
    struct bn_profile p;
    char buf[256];

    (void)unused;
    maker_open(&m, MAKER_TYPE);
    maker_header(&m, "");
    put_samples(&m);
    maker_scopes(&m, 100, 0, 0, main_events, 9); /* it broke off inside a decode step */
    put_snapshot(&m);
    maker_close(&m);
    join(&p, &m);
    assert_true(p.quality.partial);
    assert_int_equal(p.exit_status, -1);
    assert_int_equal(p.quality.duration_ns, 9999);
    assert_true(isnan(p.quality.achieved_hz));
    assert_int_equal(p.n_tokens_total, 1); /* the second never ended */
    /* Nothing says that the engine left forward_pass, so its last samples lie there and not in shutdown. */
    assert_string_equal(bn_profile_stage_path(&p, p.samples[p.n_samples - 1].stage, buf, sizeof buf),
                        "generate;decode;forward_pass");
    assert_int_equal(bn_profile_find_stage(&p, 0, "shutdown"), BN_NONE);
    bn_profile_free(&p);
    unlink(m.path);
}

/* A foreign program: no scopes, only the root stage; the weight comes from the header where the record has
 * none. */
static void test_foreign(void **unused)
{
    struct maker m;
    struct bn_profile p;

    (void)unused;
    maker_open(&m, MAKER_TYPE);
    maker_header(&m, "");
    maker_sample(&m, 7, 7, 100, 0);
    maker_task(&m, PERF_RECORD_FORK, 8, 7, 8, 7, 150);
    maker_comm(&m, 8, 8, "child", true, 160);
    maker_sample(&m, 8, 8, 200, 0);
    maker_task(&m, PERF_RECORD_EXIT, 8, 7, 8, 7, 300);
    maker_task(&m, PERF_RECORD_FORK, 8, 7, 8, 7, 400); /* the number again */
    maker_comm(&m, 8, 8, "other", true, 410);
    maker_sample(&m, 8, 8, 500, 0);
    maker_footer(&m);
    maker_close(&m);
    join(&p, &m);
    assert_int_equal(p.n_stages, 1);
    assert_int_equal(p.quality.n_joined, 0);
    assert_int_equal(p.n_threads, 3);
    assert_string_equal(p.threads[p.samples[1].thread].name, "child");
    assert_string_equal(p.threads[p.samples[2].thread].name, "other");
    assert_int_equal(p.samples[0].weight_ns, 1000000);
    assert_string_equal(p.config_key, "run");
    assert_int_equal(p.n_tokens_total, 0);
    bn_profile_free(&p);
    unlink(m.path);
}

/* Cycles: the CPU time that was reached is divided in proportion. */
static void test_cycles(void **unused)
{
    struct maker m;
    struct bn_profile p;

    (void)unused;
    maker_open(&m, MAKER_TYPE);
    char *header = bn_xasprintf(
        "{\"schema\":\"bnprof-part\",\"version\":2,\"t0_ns\":\"%d\",\"pid\":1,\"event\":\"cycles\","
        "\"asked_hz\":999,\"period_ns\":0,\"call_graph\":\"dwarf\",\"sample_type\":\"%d\","
        "\"regs_user\":\"0\"}",
        MAKER_T0, MAKER_TYPE);
    maker_json(&m, BN_RAW_HEADER, header);
    maker_sample(&m, 1, 1, 100, 3000000);
    maker_sample(&m, 1, 1, 200, 1000000);
    maker_footer(&m);
    maker_close(&m);
    join(&p, &m);
    assert_int_equal(p.samples[0].weight_ns, 59992);
    assert_int_equal(p.samples[1].weight_ns, 19997);
    bn_profile_free(&p);
    unlink(m.path);
    free(header);
}

/* More than ten thousand tokens: all are counted, evenly spread ones are kept. */
static void test_many_tokens(void **unused)
{
    enum { TOKENS = 25000 };
    struct maker m;
    struct bn_profile p;
    struct maker_event *events = bn_xcalloc(2 * TOKENS + 2, sizeof *events);
    size_t n = 0;

    (void)unused;
    events[n++] = (struct maker_event){1, 1, -1, 0};
    for (uint32_t i = 0; i < TOKENS; i++) {
        events[n++] = (struct maker_event){10 * (uint64_t)i + 10, 3, -1, i + 1};
        events[n++] = (struct maker_event){10 * (uint64_t)i + 17, 1, -1, i + 1};
    }
    maker_open(&m, MAKER_TYPE);
    maker_header(&m, "");
    maker_scopes(&m, 100, 0, 0, events, n);
    put_snapshot(&m);
    maker_footer(&m);
    maker_close(&m);
    join(&p, &m);
    assert_int_equal(p.n_tokens_total, TOKENS);
    assert_int_equal(p.n_tokens, 10000);
    for (size_t i = 0; i < p.n_tokens; i++) {
        assert_int_equal(p.tokens[i].end_ns - p.tokens[i].start_ns, 7);
        assert_true(i == 0 || p.tokens[i].step == p.tokens[i - 1].step + 2 ||
                    p.tokens[i].step == p.tokens[i - 1].step + 3);
    }
    bn_profile_free(&p);
    free(events);
    unlink(m.path);
}

/* ---- refused ---- */

static void refuse(struct maker *m, const char *why)
{
    struct bn_profile p;
    struct bn_err err;

    maker_close(m);
    bn_profile_init(&p);
    assert_int_equal(bn_join(&p, m->path, NULL, &err), -1);
    if (!strstr(err.msg, why) || !strstr(err.msg, m->path) || strchr(err.msg, '\n'))
        fail_msg("\"%s\" should name the file and say \"%s\"", err.msg, why);
    bn_profile_free(&p);
    unlink(m->path);
}

static void test_refused(void **unused)
{
    struct maker m;

    (void)unused;
    maker_open(&m, MAKER_TYPE);
    refuse(&m, "header");
    maker_open(&m, MAKER_TYPE);
    maker_json(&m, BN_RAW_HEADER, "[]");
    refuse(&m, "not a JSON object");
    maker_open(&m, MAKER_TYPE);
    maker_json(&m, BN_RAW_HEADER, "{\"schema\":\"bnprof-part\",\"version\":1}");
    refuse(&m, "version 1");
    maker_open(&m, MAKER_TYPE);
    maker_json(&m, BN_RAW_HEADER, "{\"schema\":\"bnprof-part\",\"version\":2,\"t0_ns\":5}");
    refuse(&m, "t0_ns");
    maker_open(&m, MAKER_TYPE);
    maker_header(&m, "");
    maker_json(&m, BN_RAW_FOOTER, "{\"exit");
    refuse(&m, "footer");

    struct bn_profile p;
    struct bn_err err;
    bn_profile_init(&p);
    assert_int_equal(bn_join(&p, "/nowhere/profile.part", NULL, &err), -1);
    bn_profile_free(&p);
}

/* ---- hostile contents, with right checksums ---- */

static uint64_t next_random(uint64_t *seed)
{
    *seed = *seed * 6364136223846793005u + 1442695040888963407u;
    return *seed >> 33;
}

/* A recording with everything in it whose blocks are changed at random. */
static void hostile(uint64_t *seed)
{
    struct maker m;
    struct bn_profile p;
    struct bn_raw_reader reader;
    struct bn_raw_block block;
    struct bn_raw_writer w;
    const uint8_t *payload;
    char path[80];

    make_whole(&m);
    snprintf(path, sizeof path, "%s.hostile", m.path);
    unlink(path);
    assert_int_equal(bn_raw_open(&reader, m.path, NULL), 0);
    assert_int_equal(bn_raw_create(&w, path, NULL), 0);
    while (bn_raw_next(&reader, &block, &payload) == 1) {
        size_t n = block.payload_bytes;
        uint8_t *copy = bn_xmalloc(n + 1);
        memcpy(copy, payload, n);
        if (block.kind != BN_RAW_HEADER || next_random(seed) % 8 == 0)
            for (uint64_t k = next_random(seed) % 12; k > 0; k--)
                copy[next_random(seed) % n] = (uint8_t)(next_random(seed) % 3 ? next_random(seed) : 0xff);
        if (next_random(seed) % 6 == 0)
            n = next_random(seed) % n;
        bn_raw_append(&w, (enum bn_raw_kind)block.kind, NULL, 0, copy, n);
        free(copy);
    }
    bn_raw_close_reader(&reader);
    assert_int_equal(bn_raw_close(&w, NULL), 0);
    bn_profile_init(&p);
    if (bn_join(&p, path, NULL, NULL) == 0)
        for (size_t i = 0; i < p.n_samples; i++) {
            assert_true(p.samples[i].stage < p.n_stages);
            assert_true(p.samples[i].stack < p.n_stacks);
            assert_true(p.samples[i].thread < p.n_threads);
        }
    bn_profile_free(&p);
    unlink(path);
    unlink(m.path);
}

static void test_hostile(void **unused)
{
    uint64_t seed = 11;

    (void)unused;
    for (int round = 0; round < 500; round++)
        hostile(&seed);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_idle),    cmocka_unit_test(test_stages),      cmocka_unit_test(test_fields),
        cmocka_unit_test(test_partial), cmocka_unit_test(test_foreign),     cmocka_unit_test(test_cycles),
        cmocka_unit_test(test_refused), cmocka_unit_test(test_many_tokens), cmocka_unit_test(test_hostile),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
