/* SPDX-License-Identifier: MIT
 * Spread and share of the machine's limits, and results that cannot be true; the limits are given, not
 * measured. */
#include "tools/bench_run.h"

#include <math.h>
#include <setjmp.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

static bool near(double a, double b)
{
    return fabs(a - b) <= 1e-9 * fabs(b);
}

static const struct bn_limits limits = {.threads = 2,
                                        .read_bytes_per_s = 40e9,
                                        .int8_macs_per_s = 400e9,
                                        .buffer_bytes = 512 << 20,
                                        .last_cache_bytes = 32 << 20};

static struct bn_bench_work work_of(double bytes, double macs)
{
    return (struct bn_bench_work){bytes, macs, bytes};
}

static void test_spread(void **state)
{
    double odd[] = {5, 1, 3}, even[] = {4, 1, 2, 9}, one[] = {7};
    struct bn_bench_spread s = bn_bench_spread(odd, 3);

    (void)state;
    assert_true(s.median == 3 && s.min == 1 && s.max == 5);
    s = bn_bench_spread(even, 4);
    assert_true(s.median == 3 && s.min == 1 && s.max == 9);
    s = bn_bench_spread(one, 1);
    assert_true(s.median == 7 && s.min == 7 && s.max == 7);
}

/* A token of the 2B-4T shape: 1.18 GB, 2.08 GMAC; the same for 512 tokens at once in 4 batches. */
static void test_which_binds(void **state)
{
    struct bn_bench_work token = work_of(1.18e9, 2.08e9), prompt = work_of(4 * 1.18e9, 512 * 2.08e9);

    (void)state;
    struct bn_bench_share s = bn_bench_share(&token, 0.04, &limits);
    assert_int_equal(s.bound, BN_BENCH_MEMORY);
    assert_string_equal(bn_bench_bound_name(s.bound), "memory");
    assert_true(near(s.gbytes_per_s, 29.5) && near(s.gmacs_per_s, 52) && near(s.limit, 40));
    assert_true(near(s.share, 29.5 / 40));
    s = bn_bench_share(&prompt, 5.0, &limits);
    assert_int_equal(s.bound, BN_BENCH_INT8);
    assert_true(near(s.limit, 400) && near(s.share, 512 * 2.08 / 5 / 400));
    /* between them: the limit is where both take equally long */
    struct bn_bench_work below = work_of(1e9, 9.9e9), above = work_of(1e9, 10.1e9);
    assert_int_equal(bn_bench_share(&below, 1, &limits).bound, BN_BENCH_MEMORY);
    assert_int_equal(bn_bench_share(&above, 1, &limits).bound, BN_BENCH_INT8);
}

static void test_no_limit(void **state)
{
    struct bn_limits unknown = {.threads = 1, .int8_macs_per_s = 400e9}, no_cache = limits;
    struct bn_bench_work nothing = work_of(0, 0), reads = work_of(1e9, 0), multiplies = work_of(0, 1e9);
    struct bn_bench_work small = work_of(1e8, 1e8), small_gemm = work_of(1e8, 1e10);

    (void)state;
    struct bn_bench_share s = bn_bench_share(&nothing, 1, &limits);
    assert_true(s.bound == BN_BENCH_NOT_COUNTED && isnan(s.share) && isnan(s.limit));
    s = bn_bench_share(&reads, 1, &unknown);
    assert_true(s.bound == BN_BENCH_NOT_MEASURED && isnan(s.share) && near(s.gbytes_per_s, 1));
    s = bn_bench_share(&multiplies, 1, &unknown);
    assert_true(s.bound == BN_BENCH_INT8 && near(s.share, 1.0 / 400));
    /* 100 MB stay in good part in a cache of 32 MiB: no share of the memory's bandwidth, but one of the int8
     * peak */
    s = bn_bench_share(&small, 1e-3, &limits);
    assert_true(s.bound == BN_BENCH_IN_CACHE && isnan(s.share) && near(s.gbytes_per_s, 100));
    assert_string_equal(bn_bench_bound_name(s.bound), "in cache");
    s = bn_bench_share(&small_gemm, 0.1, &limits);
    assert_true(s.bound == BN_BENCH_INT8 && near(s.share, 0.25));
    /* what counts is all that a pass reads before the same byte comes again */
    small.pass_bytes = 1.18e9;
    assert_int_equal(bn_bench_share(&small, 1, &limits).bound, BN_BENCH_MEMORY);
    no_cache.last_cache_bytes = 0; /* then a large one is assumed */
    small.pass_bytes = 200e6;
    assert_int_equal(bn_bench_share(&small, 1, &no_cache).bound, BN_BENCH_IN_CACHE);
    assert_int_equal(bn_bench_share(&reads, 1, &no_cache).bound, BN_BENCH_MEMORY);
}

static void test_above_the_limit(void **state)
{
    struct bn_bench_work reads = work_of(1e9, 0), multiplies = work_of(1e9, 100e9);
    struct bn_err err = {""};

    (void)state;
    struct bn_bench_share s = bn_bench_share(&reads, 1.0 / 40, &limits); /* just at it */
    s.share = 1.0;
    assert_int_equal(bn_bench_share_check(&s, "tg128", &err), 0);
    s = bn_bench_share(&reads, 1.0 / 41, &limits);
    assert_true(s.share > 1);
    assert_int_equal(bn_bench_share_check(&s, "tg128, 2 threads", &err), -1);
    assert_string_equal(err.msg,
                        "tg128, 2 threads: 41.0 GB/s is more than the 40.0 that this machine was measured to "
                        "reach (102 %): the probe or the count is wrong");
    s = bn_bench_share(&multiplies, 0.2, &limits);
    assert_int_equal(bn_bench_share_check(&s, "pp512", &err), -1);
    assert_non_null(strstr(err.msg, "pp512: 500.0 int8 GMAC/s is more than the 400.0"));
    struct bn_bench_work in_cache = work_of(1e6, 0); /* a thousand times the limit is no error there */
    s = bn_bench_share(&in_cache, 1e-9, &limits);
    assert_int_equal(bn_bench_share_check(&s, "tg128", &err), 0);
}

/* ---- whole results ---- */

/* 2 repetitions of 2 runs of 4 tokens: a stage that reads 1 GB a token and one that only computes. */
struct example {
    struct bn_bench_result r;
    double speeds[2];
    struct bn_bench_around around[2];
    struct bn_bench_stage stages[2];
};

static void make_example(struct example *e)
{
    const double tokens = 2 * 2 * 4;

    *e = (struct example){
        .r = {.test = "tg4",
              .decode = true,
              .n = 4,
              .threads = 2,
              .kernel = "i2s",
              .lm_head = "f16",
              .runs = 2,
              .n_passes = 4,
              .n_repetitions = 2,
              .n_stages = 2,
              .seconds = tokens * 0.05},
        .speeds = {16, 24},
        .stages = {{.name = "lm_head", .seconds = tokens * 0.03, .work = {.memory_bytes = tokens * 1e9}},
                   {.name = "activation", .seconds = tokens * 0.02}}};
    for (int i = 0; i < 2; i++)
        e->around[i] = (struct bn_bench_around){limits, limits};
    e->around[0].before.read_bytes_per_s = 20e9; /* a slow moment of the host: 16 of 20 */
    e->around[0].after.read_bytes_per_s = 10e9;
    e->r.tokens_per_second = e->speeds;
    e->r.around = e->around;
    e->r.stages = e->stages;
}

static void test_settle(void **state)
{
    struct bn_err err = {""};
    struct example e;

    (void)state;
    make_example(&e);
    bn_bench_settle(&e.r, &limits);
    assert_true(e.r.speed.median == 20 && e.r.speed.min == 16 && e.r.speed.max == 24);
    assert_int_equal(e.r.share.bound, BN_BENCH_MEMORY);
    assert_true(near(e.r.share.gbytes_per_s, 20) && near(e.r.share.share, 0.5));
    assert_true(near(e.r.nearby, (16.0 / 20 + 24.0 / 40) / 2));
    assert_true(near(e.stages[0].share.share, 1 / 0.03 / 40));
    assert_int_equal(e.stages[1].share.bound, BN_BENCH_NOT_COUNTED);
    assert_int_equal(bn_bench_check(&e.r, &err), 0);
    bn_bench_settle(&e.r, &limits); /* once more, behind another look */
    assert_true(near(e.r.nearby, (16.0 / 20 + 24.0 / 40) / 2));
    e.around[0].before.read_bytes_per_s = 12e9; /* both looks of a repetition slower than itself: no answer */
    e.around[1].before.read_bytes_per_s = e.around[1].after.read_bytes_per_s = 12e9;
    bn_bench_settle(&e.r, &limits);
    assert_true(isnan(e.r.nearby));
    e.r.n_repetitions = 0;
    bn_bench_settle(&e.r, &limits);
    assert_int_equal(bn_bench_check(&e.r, &err), 0);
}

static void test_impossible(void **state)
{
    struct bn_limits slow = limits;
    struct bn_err err = {""};
    struct example e;

    (void)state;
    make_example(&e);
    slow.read_bytes_per_s = 19e9; /* the test itself is above it */
    bn_bench_settle(&e.r, &slow);
    assert_int_equal(bn_bench_check(&e.r, &err), -1);
    assert_non_null(strstr(err.msg, "tg4, 2 threads, i2s, lm_head f16: 20.0 GB/s is more than the 19.0"));
    slow.read_bytes_per_s = 30e9; /* the test is not, but a stage of it: 33 GB/s */
    bn_bench_settle(&e.r, &slow);
    assert_int_equal(bn_bench_check(&e.r, &err), -1);
    assert_non_null(
        strstr(err.msg, "tg4, 2 threads, i2s, lm_head f16: lm_head: 33.3 GB/s is more than the 30.0"));
    e.stages[0].work.memory_bytes *= 0.001 * 0.999; /* in less than 0.2 % of the test nobody is accused */
    e.stages[0].seconds *= 0.001;
    e.stages[1].work.memory_bytes = 16e9 * 0.5;
    bn_bench_settle(&e.r, &slow);
    assert_true(e.stages[0].share.share > 1);
    assert_int_equal(bn_bench_check(&e.r, &err), 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_spread),   cmocka_unit_test(test_which_binds),
        cmocka_unit_test(test_no_limit), cmocka_unit_test(test_above_the_limit),
        cmocka_unit_test(test_settle),   cmocka_unit_test(test_impossible),
    };
    return cmocka_run_group_tests_name("bench_share", tests, NULL, NULL);
}
