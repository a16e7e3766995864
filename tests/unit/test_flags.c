/* SPDX-License-Identifier: MIT
 * hotspots/flags: each flag is raised and cleared at its edge, chance raises nothing, and the docs name them
 * all. */
#include "hotspots/flags.h"

#include <setjmp.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "tests/unit/synthetic_profile.h"

static const struct bn_flag *flag_of(const struct bn_profile *p, const char *id)
{
    for (size_t i = 0; i < p->n_flags; i++)
        if (strcmp(p->flags[i].id, id) == 0)
            return &p->flags[i];
    fail_msg("no flag %s", id);
    return NULL;
}

static void expect(struct bn_profile *p, const char *id, enum bn_flag_state state)
{
    bn_flags_compute(p, NULL);
    const struct bn_flag *flag = flag_of(p, id);
    if (flag->state != state)
        fail_msg("%s: state %d, expected %d (value %g, %s)", id, flag->state, state, flag->value,
                 flag->evidence);
    assert_non_null(flag->evidence);
    if (state == BN_FLAG_RAISED)
        assert_true(flag->advice && *flag->advice);
}

/* A run of the engine with nothing wrong. */
static void make_good(struct synthetic *s)
{
    struct bn_profile *p = &s->p;

    synthetic_make(s, 1);
    p->run.known = true;
    p->run.threads = 1;
    p->run.cpu_used = p->run.cpu_detected = bn_profile_str(p, "c");
    p->run.load_ms = 5;
    p->run.tokenizer_ms = 3;
    p->run.decode_tokens_per_second = 100;
    p->run.decode_allocations = 0;
    p->model.arch = bn_profile_str(p, "bitnet-b1.58");
    p->model.format = bn_profile_str(p, "i2s");
    p->model.weight_bytes = 1200000000;
    p->model.bytes_per_token = 100000000;
    p->limits.last_cache_bytes = 36 << 20;
    p->limits.read_bytes_per_s = 20e9;
    p->kernels = bn_xcalloc(1, sizeof *p->kernels);
    p->kernels[0] = (struct bn_kernel_use){bn_profile_str(p, "i2s_gemv_c"), 1000};
    p->n_kernels = 1;
    p->quality.kernel_sampled = true;
}

static void test_good(void **state)
{
    struct synthetic s;

    (void)state;
    make_good(&s);
    bn_flags_compute(&s.p, NULL);
    for (size_t i = 0; i < s.p.n_flags; i++)
        if (s.p.flags[i].state != BN_FLAG_CLEAR)
            fail_msg("%s: %s", s.p.flags[i].id, s.p.flags[i].evidence);
    assert_int_equal(s.p.quality.grade, 'A');
    bn_profile_free(&s.p);
}

static void test_run_flags(void **state)
{
    struct synthetic s;
    struct bn_profile *p = &s.p;

    (void)state;
    make_good(&s);
    p->kernels[0].symbol = bn_profile_str(p, "i2s_gemv_MOCK");
    expect(p, "mock-kernel", BN_FLAG_RAISED);
    assert_int_equal(flag_of(p, "mock-kernel")->severity, BN_FLAG_CRITICAL);
    p->kernels[0].symbol = bn_profile_str(p, "i2s_gemv_c");
    uint32_t mock = synthetic_stack(p, 0, "i2s_gemv_mock", "bnprof", 0, false);
    synthetic_samples(p, mock, s.ffn, 1, 1);
    expect(p, "mock-kernel", BN_FLAG_RAISED); /* one sample is enough */
    p->n_samples--;
    synthetic_samples(p, synthetic_stack(p, 0, "mock_socket", "libfoo.so.1", 0, false), s.ffn, 1, 1);
    expect(p, "mock-kernel", BN_FLAG_CLEAR); /* somebody else's mock is no kernel of ours */
    p->run.cpu_detected = bn_profile_str(p, "avx2");
    expect(p, "scalar-fallback", BN_FLAG_RAISED);
    p->run.load_ms = 1001;
    expect(p, "slow-load", BN_FLAG_RAISED);
    p->quality.major_faults = 10000;
    expect(p, "slow-load", BN_FLAG_NOT_COMPUTED);
    p->run.load_ms = 1;
    p->run.tokenizer_ms = 101;
    p->quality.major_faults = 0;
    expect(p, "slow-load", BN_FLAG_RAISED);
    p->run.decode_tokens_per_second = 231; /* 23.1 GB/s of 20: 115.5 % */
    expect(p, "impossible-speed", BN_FLAG_RAISED);
    p->run.decode_tokens_per_second = 149;
    expect(p, "impossible-speed", BN_FLAG_CLEAR);
    p->run.decode_tokens_per_second = 151;
    expect(p, "impossible-speed", BN_FLAG_RAISED);
    assert_int_equal(flag_of(p, "impossible-speed")->severity, BN_FLAG_INFO);
    p->model.weight_bytes = 1 << 20;
    expect(p, "impossible-speed", BN_FLAG_NOT_COMPUTED);
    p->tokens[0].end_ns += 100000000;
    expect(p, "lazy-loading", BN_FLAG_CLEAR); /* slow, but nothing was read from disk */
    p->quality.major_faults = 1;
    expect(p, "lazy-loading", BN_FLAG_RAISED);
    bn_profile_free(p);
}

/* n samples of `function` more make its share what the caller wants to see raised or not. */
static void share_case(const char *id, const char *function, const char *module, unsigned n, bool decode,
                       enum bn_flag_state state)
{
    struct synthetic s;

    make_good(&s);
    uint32_t stack = synthetic_stack(&s.p, synthetic_stack(&s.p, 0, "main", "bnprof", 1, false), function,
                                     module, 0, false);
    synthetic_samples(&s.p, stack, decode ? s.decode : s.startup, 1, n);
    expect(&s.p, id, state);
    bn_profile_free(&s.p);
}

static void test_shares(void **state)
{
    (void)state;
    share_case("memcpy-share", "__memmove_avx512_unaligned_erms", "libc.so.6", 1300, true, BN_FLAG_RAISED);
    share_case("memcpy-share", "memcpy", "libc.so.6", 1130, true, BN_FLAG_CLEAR);  /* 10.2 %: may be chance */
    share_case("memcpy-share", "memcpy", "libc.so.6", 5000, false, BN_FLAG_CLEAR); /* loading may copy */
    share_case("allocator-share", "_int_malloc", "libc.so.6", 700, true, BN_FLAG_RAISED);
    share_case("allocator-share", "malloc@plt", "bnprof", 700, true, BN_FLAG_RAISED);
    share_case("allocator-share", "malloc", "libc.so.6", 530, true, BN_FLAG_CLEAR);
    share_case("allocator-share", "mallocator_of_mine", "bnprof", 5000, true, BN_FLAG_CLEAR);
    share_case("forward-share-low", "sampler", "bnprof", 3000, true, BN_FLAG_RAISED);
    share_case("forward-share-low", "sampler", "bnprof", 2450, true, BN_FLAG_CLEAR); /* 80.3 % */
    share_case("kernel-share-low", "something", "bnprof", 3000, true, BN_FLAG_CLEAR);
}

static void test_kernel_share(void **state)
{
    struct synthetic s;

    (void)state;
    make_good(&s);
    for (size_t i = 0; i < s.p.n_frames; i++)
        if (strcmp(s.p.frames[i].function, "i2s_gemv_c") == 0)
            s.p.frames[i].function = bn_profile_str(&s.p, "i2s_gemv_mock");
    expect(&s.p, "kernel-share-low", BN_FLAG_RAISED); /* a mock one does not count */
    s.p.model.format = bn_profile_str(&s.p, "f16");
    expect(&s.p, "kernel-share-low", BN_FLAG_NOT_COMPUTED);
    s.p.run.decode_allocations = 3;
    expect(&s.p, "allocator-share", BN_FLAG_RAISED);
    bn_profile_free(&s.p);
    make_good(&s);
    synthetic_samples(&s.p, 1, s.wait, 1, 1000);
    expect(&s.p, "wait-share", BN_FLAG_RAISED); /* 2000 of 11000 */
    bn_profile_free(&s.p);
    make_good(&s);
    s.p.run.threads = 3;
    bn_profile_add_fact(&s.p, "cpus", "3");
    expect(&s.p, "wait-share", BN_FLAG_CLEAR);
    bn_profile_add_fact(&s.p, "cpus", "2");
    expect(&s.p, "wait-share", BN_FLAG_RAISED);
    bn_profile_free(&s.p);
}

static void test_record_flags(void **state)
{
    struct synthetic s;
    struct bn_profile_quality *q = &s.p.quality;

    (void)state;
    make_good(&s);
    q->n_samples = 1000;
    expect(&s.p, "few-samples", BN_FLAG_CLEAR);
    q->n_samples = 999;
    expect(&s.p, "few-samples", BN_FLAG_RAISED);
    assert_int_equal(q->grade, 'B');
    q->n_samples = 300;
    bn_flags_compute(&s.p, NULL);
    assert_int_equal(q->grade, 'C'); /* more than twice under */
    q->n_samples = 100;
    bn_flags_compute(&s.p, NULL);
    assert_int_equal(q->grade, 'D');
    q->n_samples = 10000;
    q->n_lost = 102;
    expect(&s.p, "lost-samples", BN_FLAG_RAISED);
    q->n_lost = 100;
    expect(&s.p, "lost-samples", BN_FLAG_CLEAR);
    q->n_truncated = 201;
    expect(&s.p, "truncated-stacks", BN_FLAG_RAISED);
    q->n_unnamed = 201;
    expect(&s.p, "unknown-symbols", BN_FLAG_RAISED);
    assert_int_equal(q->grade, 'B');
    q->achieved_hz = 850;
    expect(&s.p, "throttled", BN_FLAG_RAISED);
    assert_int_equal(q->grade, 'C'); /* three of them */
    q->achieved_hz = 945;
    expect(&s.p, "throttled", BN_FLAG_CLEAR); /* within what counting 10,000 samples can tell */
    q->kernel_sampled = false;
    q->system_ns = q->user_ns / 10;
    expect(&s.p, "kernel-not-sampled", BN_FLAG_RAISED);
    q->steal_share = 0.021;
    expect(&s.p, "noisy-host", BN_FLAG_RAISED);
    q->steal_share = BN_UNKNOWN;
    expect(&s.p, "noisy-host", BN_FLAG_NOT_COMPUTED);
    bn_profile_free(&s.p);
}

/* What the recorder says at its end is not known of a recording that was cut off: it is neither good nor bad.
 */
static void test_cut_off(void **state)
{
    static const char *const unknown[] = {"lost-samples", "throttled", "noisy-host"};
    struct synthetic s;

    (void)state;
    make_good(&s);
    s.p.quality.partial = true;
    for (size_t i = 0; i < BN_COUNT(unknown); i++)
        expect(&s.p, unknown[i], BN_FLAG_NOT_COMPUTED);
    expect(&s.p, "kernel-not-sampled", BN_FLAG_CLEAR);
    expect(&s.p, "few-samples", BN_FLAG_CLEAR);
    assert_int_equal(s.p.quality.grade, 'B');
    s.p.quality.kernel_sampled = false;
    expect(&s.p, "kernel-not-sampled", BN_FLAG_NOT_COMPUTED);
    s.p.quality.n_lost = s.p.quality.n_samples; /* known, and enough */
    expect(&s.p, "lost-samples", BN_FLAG_RAISED);
    bn_profile_free(&s.p);
}

/* Others on the same CPUs, but for the recorder itself, and not where the program takes them from itself. */
static void test_taken_time(void **state)
{
    struct synthetic s;
    struct bn_profile_quality *q = &s.p.quality;

    (void)state;
    make_good(&s);
    bn_profile_add_fact(&s.p, "cpus", "2");
    q->steal_share = 0;
    q->duration_ns = 10000000000;
    q->cpu_ns = 9000000000;
    q->recorder_cpu_ns = 100000000;
    q->preempted_ns = 280000000; /* 180 ms of 9.28 s */
    expect(&s.p, "noisy-host", BN_FLAG_CLEAR);
    q->preempted_ns = 300000000;
    expect(&s.p, "noisy-host", BN_FLAG_RAISED);
    q->recorder_cpu_ns = 200000000;
    expect(&s.p, "noisy-host", BN_FLAG_CLEAR);
    q->steal_share = 0.011; /* both together */
    expect(&s.p, "noisy-host", BN_FLAG_RAISED);
    q->steal_share = BN_UNKNOWN;
    expect(&s.p, "noisy-host", BN_FLAG_NOT_COMPUTED);
    q->preempted_ns = 500000000;
    expect(&s.p, "noisy-host", BN_FLAG_RAISED);
    q->steal_share = 0;
    q->cpu_ns = 19000000000; /* four threads on two CPUs */
    q->preempted_ns = 19000000000;
    expect(&s.p, "noisy-host", BN_FLAG_CLEAR);
    bn_profile_free(&s.p);
}

/* Who sleeps in a wait has no samples, but the timers know. Workers that wait for work do not count. */
static void test_waits_asleep(void **state)
{
    struct synthetic s;

    (void)state;
    make_good(&s);
    for (uint32_t i = 1; i < s.p.n_stages; i++)
        s.p.stages[i].self_ns = 0;
    s.p.stages[s.ffn].self_ns = 8500;
    s.p.stages[s.wait].self_ns = 1500;
    s.p.stages[s.wait].worker_ns = 10000;
    expect(&s.p, "wait-share", BN_FLAG_CLEAR);
    s.p.stages[s.wait].self_ns = 1501;
    expect(&s.p, "wait-share", BN_FLAG_RAISED);
    bn_profile_free(&s.p);
}

/* Several functions of one stripped file outweigh one function of another. */
static void test_unnamed_module(void **state)
{
    static const char *const where[][2] = {
        {"[git+0x10]", "git"}, {"[zstd+0x10]", "zstd"}, {"[zstd+0x20]", "zstd"}, {"[zstd+0x30]", "zstd"}};
    struct bn_profile p;

    (void)state;
    bn_profile_init(&p);
    for (size_t i = 0; i < BN_COUNT(where); i++) {
        uint32_t stack = synthetic_stack(&p, 0, where[i][0], where[i][1], 0, false);
        synthetic_samples(&p, stack, 0, 0, i == 0 ? 4 : 2);
    }
    for (size_t i = 0; i < p.n_samples; i++)
        p.samples[i].flags |= BN_SAMPLE_UNNAMED;
    p.quality.n_samples = p.quality.n_unnamed = p.n_samples;
    expect(&p, "unknown-symbols", BN_FLAG_RAISED);
    assert_non_null(strstr(flag_of(&p, "unknown-symbols")->evidence, "most in: zstd"));
    bn_profile_free(&p);
}

static void test_foreign_and_empty(void **state)
{
    struct bn_profile p;

    (void)state;
    bn_profile_init(&p);
    p.quality.asked_hz = p.quality.achieved_hz = p.quality.steal_share = BN_UNKNOWN;
    bn_flags_compute(&p, NULL);
    for (size_t i = 0; i < p.n_flags; i++)
        assert_true(p.flags[i].state != BN_FLAG_RAISED || strcmp(p.flags[i].id, "few-samples") == 0);
    assert_int_equal(p.quality.grade, 'D');
    bn_profile_free(&p);
}

static void test_thresholds(void **state)
{
    struct bn_thresholds t;
    struct bn_err err;
    char path[] = "/tmp/bnprof-thresholds.XXXXXX";
    FILE *f = fdopen(mkstemp(path), "w");

    (void)state;
    fputs("# ours\n\nmemcpy-share 25\nslow-load: 2000\n", f);
    fclose(f);
    bn_thresholds_default(&t);
    assert_int_equal(bn_thresholds_read(&t, path, &err), 0);
    assert_true(t.value[2] == 25 && t.value[8] == 2000 && t.value[3] == 5);
    f = fopen(path, "w");
    fputs("memcpy-share 25\nmemcpi-share 3\n", f);
    fclose(f);
    assert_int_equal(bn_thresholds_read(&t, path, &err), -1);
    assert_non_null(strstr(err.msg, ":2: no flag is called 'memcpi-share'"));
    f = fopen(path, "w");
    fputs("memcpy-share lots\n", f);
    fclose(f);
    assert_int_equal(bn_thresholds_read(&t, path, &err), -1);
    assert_non_null(strstr(err.msg, ":1: one number"));
    unlink(path);
    assert_int_equal(bn_thresholds_read(&t, path, &err), -1);
}

/* docs/red-flags.md has a row for every id, and no other. */
static void test_docs(void **state)
{
    FILE *f = fopen("docs/red-flags.md", "r");
    char line[4096];
    size_t rows = 0, next = 0;

    (void)state;
    assert_non_null(f);
    while (fgets(line, sizeof line, f)) {
        if (strncmp(line, "| ", 2) != 0 || strncmp(line, "| id ", 5) == 0)
            continue;
        const char *id = bn_flag_id(next++);
        rows++;
        assert_non_null(id);
        assert_true(strncmp(line + 2, id, strlen(id)) == 0 && line[2 + strlen(id)] == ' ');
    }
    fclose(f);
    assert_int_equal(rows, BN_FLAG_IDS);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_good),           cmocka_unit_test(test_run_flags),
        cmocka_unit_test(test_shares),         cmocka_unit_test(test_kernel_share),
        cmocka_unit_test(test_record_flags),   cmocka_unit_test(test_cut_off),
        cmocka_unit_test(test_taken_time),     cmocka_unit_test(test_waits_asleep),
        cmocka_unit_test(test_unnamed_module), cmocka_unit_test(test_foreign_and_empty),
        cmocka_unit_test(test_thresholds),     cmocka_unit_test(test_docs),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
