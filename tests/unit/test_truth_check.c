/* SPDX-License-Identifier: MIT
 * The verdicts of the self-test about time, on records built by hand: what is right passes, every planted
 * error is noticed, and what cannot be told is left out. */
#include "tests/unit/truth_record.h"

static void split_of(unsigned n70, unsigned n20, unsigned n10)
{
    uint32_t main_ = call(0, "main");

    in_stack(call(main_, "truth_work_70"), n70);
    in_stack(call(main_, "truth_work_20"), n20);
    in_stack(call(main_, "truth_work_10"), n10);
}

/* ---- rows ---- */

static void test_first_reason_stays(void **state)
{
    struct bn_truth_row *row = bn_truth_add(&report, "row");

    (void)state;
    assert_row(0, BN_TRUTH_PASS, "");
    bn_truth_skip(row, "too %s", "few");
    bn_truth_fail(row, "another");
    assert_row(0, BN_TRUTH_SKIPPED, "too few");
    bn_truth_fail(bn_truth_add(&report, "second"), "%0600d", 0); /* longer than its column */
    assert_int_equal(strlen(report.rows[1].why), sizeof report.rows[1].why - 1);
    assert_int_equal(bn_truth_count(&report, BN_TRUTH_SKIPPED), 1);
    assert_int_equal(bn_truth_count(&report, BN_TRUTH_FAIL), 1);
    assert_int_equal(bn_truth_count(&report, BN_TRUTH_PASS), 0);
}

/* ---- split ---- */

static void test_split(void **state)
{
    (void)state;
    split_of(690, 206, 104);
    judge(bn_truth_check_split, NULL);
    assert_row(0, BN_TRUTH_PASS, "");
    assert_non_null(strstr(report.rows[0].measured, "69.0 / 20.6 / 10.4 % of 1000"));
}

static void test_split_wrong(void **state)
{
    (void)state;
    split_of(600, 240, 160); /* 16 for 10 % is six deviations off */
    judge(bn_truth_check_split, NULL);
    assert_row(0, BN_TRUTH_FAIL, "truth_work_70 has 60.0 %");
}

/* A hundred samples of ten times the weight say no more than a hundred. */
static void test_split_heavy(void **state)
{
    uint32_t main_ = call(0, "main");

    (void)state;
    add_samples((struct bn_sample){.stack = call(main_, "truth_work_70"), .weight_ns = 10000000}, 60);
    add_samples((struct bn_sample){.stack = call(main_, "truth_work_20"), .weight_ns = 10000000}, 24);
    add_samples((struct bn_sample){.stack = call(main_, "truth_work_10"), .weight_ns = 10000000}, 16);
    judge(bn_truth_check_split, NULL);
    assert_row(0, BN_TRUTH_PASS, "");
    in_stack(call(main_, "truth_work_10"), 20); /* and twenty light ones hardly anything */
    judge(bn_truth_check_split, NULL);
    assert_row(0, BN_TRUTH_PASS, "");
}

static void test_split_missing(void **state)
{
    (void)state;
    split_of(210, 60, 30); /* the right shares of a third of what there should be */
    judge(bn_truth_check_split, NULL);
    assert_row(0, BN_TRUTH_FAIL, "300 samples for 30 % of the CPU time are too few");
    p.quality.n_lost = 650;
    judge(bn_truth_check_split, NULL);
    assert_row(0, BN_TRUTH_SKIPPED, "650 records lost");
    p.quality.n_lost = 50; /* does not explain it */
    judge(bn_truth_check_split, NULL);
    assert_row(0, BN_TRUTH_FAIL, "300 samples");
    p.quality.n_throttled = 3;
    judge(bn_truth_check_split, NULL);
    assert_row(0, BN_TRUTH_SKIPPED, "throttled 3 times");
}

static void test_split_none(void **state)
{
    (void)state;
    judge(bn_truth_check_split, NULL);
    assert_row(0, BN_TRUTH_FAIL, "0 samples");
    p.quality.user_ns = 12000000; /* the machine gave the program next to nothing */
    split_of(8, 3, 1);
    judge(bn_truth_check_split, NULL);
    assert_row(0, BN_TRUTH_SKIPPED, "12 ms of CPU time are too little for a verdict");
    p.quality.user_ns = 120000000;
    p.quality.asked_hz = 100;
    for (size_t i = 0; i < p.n_samples; i++)
        p.samples[i].weight_ns = 10000000;
    judge(bn_truth_check_split, NULL);
    assert_row(0, BN_TRUTH_SKIPPED, "12 samples are too few for a verdict");
}

/* ---- rate ---- */

static void test_rate(void **state)
{
    (void)state;
    split_of(686, 196, 98); /* 98 % */
    judge(bn_truth_check_rate, "1000 Hz");
    assert_row(0, BN_TRUTH_PASS, "");
    judge(bn_truth_check_rate, "4999 Hz"); /* could not be had */
    assert_row(0, BN_TRUTH_PASS, "");
    assert_string_equal(report.rows[0].name, "1000 Hz");
    bn_truth_check_rate(&report, "1999 Hz", &p, &expected);
    assert_row(1, BN_TRUTH_SKIPPED, "1999 Hz is beyond what can be had here, 1000 Hz");
}

static void test_rate_low(void **state)
{
    (void)state;
    split_of(644, 184, 92);
    judge(bn_truth_check_rate, NULL);
    assert_row(0, BN_TRUTH_FAIL, "stand for 92.0 % of the CPU time, allowed are 94.3");
    p.quality.n_lost = 50;
    judge(bn_truth_check_rate, NULL);
    assert_row(0, BN_TRUTH_PASS, "");
    p.quality.n_lost = 0;
    p.quality.steal_share = 0.02; /* of two CPUs: 40 ms of this second */
    judge(bn_truth_check_rate, NULL);
    assert_row(0, BN_TRUTH_PASS, "");
}

static void test_rate_high(void **state)
{
    (void)state;
    split_of(756, 216, 108); /* right shares, weights 8 % too large */
    judge(bn_truth_check_rate, NULL);
    assert_row(0, BN_TRUTH_FAIL, "stand for 108.0 %");
}

/* Kernel time counts where it can be seen: all of it is there, then a tenth of the CPU time is missing. */
static void test_rate_kernel(void **state)
{
    (void)state;
    split_of(693, 198, 99);
    p.quality.system_ns = 120000000;
    p.quality.kernel_sampled = false;
    judge(bn_truth_check_rate, NULL);
    assert_row(0, BN_TRUTH_PASS, "");
    p.quality.kernel_sampled = true;
    judge(bn_truth_check_rate, NULL);
    assert_row(0, BN_TRUTH_FAIL, "stand for 88.4 %");
}

/* The sum of cycles is made equal to the CPU time: the number of samples is judged. */
static void test_rate_cycles(void **state)
{
    (void)state;
    p.quality.event = bn_profile_str(&p, "cycles");
    split_of(462, 132, 66);
    for (size_t i = 0; i < p.n_samples; i++)
        p.samples[i].weight_ns = 1000000000 / p.n_samples;
    judge(bn_truth_check_rate, NULL);
    assert_row(0, BN_TRUTH_FAIL, "stand for 66.0 %");
}

/* ---- threads ---- */

static void add_threads(unsigned n, uint64_t cpu_ns)
{
    for (unsigned i = 0; i < n; i++)
        bn_profile_add_thread(&p, &(struct bn_profile_thread){.tid = (int32_t)(2 + i),
                                                              .pid = 1,
                                                              .name = bn_profile_str(&p, "brief"),
                                                              .cpu_ns = cpu_ns});
}

static void test_threads(void **state)
{
    (void)state;
    add_threads(3, 20000000);
    in_stack(call(0, "main"), 895);
    judge(bn_truth_check_threads, NULL);
    assert_row(0, BN_TRUTH_PASS, "");
    p.n_samples = 800; /* the main thread was not sampled each time another began */
    judge(bn_truth_check_threads, NULL);
    assert_row(0, BN_TRUTH_FAIL, "the main thread's samples stand for 88.9 %");
    p.quality.kernel_sampled = false; /* the rest may have been the kernel's */
    p.quality.system_ns = 30000000;
    judge(bn_truth_check_threads, NULL);
    assert_row(0, BN_TRUTH_PASS, "");
    p.n_samples = 700;
    judge(bn_truth_check_threads, NULL);
    assert_row(0, BN_TRUTH_FAIL, "the main thread's samples stand for 77.8 %");
}

static void test_threads_vanished(void **state)
{
    (void)state;
    add_threads(2, 30000000);
    in_stack(call(0, "main"), 895);
    judge(bn_truth_check_threads, NULL);
    assert_row(0, BN_TRUTH_FAIL, "2 short threads are listed, the program started 3");
    p.quality.n_lost = 1;
    judge(bn_truth_check_threads, NULL);
    assert_row(0, BN_TRUTH_SKIPPED, "1 records were lost");
}

static void test_threads_time(void **state)
{
    (void)state;
    add_threads(3, 0);
    in_stack(call(0, "main"), 900);
    p.quality.user_ns = 1100000000;
    judge(bn_truth_check_threads, NULL);
    assert_row(0, BN_TRUTH_FAIL, "the threads' CPU times add up to 81.8 %");
    p.threads[0].cpu_ns = 0;
    judge(bn_truth_check_threads, NULL);
    assert_row(0, BN_TRUTH_FAIL, "the main thread's CPU time is unknown");
    p.quality.event = bn_profile_str(&p, "timer"); /* which never knows it */
    judge(bn_truth_check_threads, NULL);
    assert_row(0, BN_TRUTH_PASS, "");
}

/* ---- stages ---- */

static void add_stages(unsigned differ)
{
    uint32_t generate = bn_profile_add_stage(&p, 0, bn_profile_str(&p, "generate"));
    uint32_t stage[] = {bn_profile_add_stage(&p, generate, bn_profile_str(&p, "prefill")),
                        bn_profile_add_stage(&p, generate, bn_profile_str(&p, "decode"))};
    uint32_t main_ = call(0, "main");
    uint32_t stack[] = {call(main_, "truth_in_prefill"), call(main_, "truth_in_decode")};

    for (unsigned i = 0; i < 999; i++)
        add_samples((struct bn_sample){.stack = stack[i % 2],
                                       .layer = (int32_t)(i / 333),
                                       .stage = stage[(i % 2) ^ (i < differ)]},
                    1);
    judge(bn_truth_check_stages, NULL);
}

static void test_stages(void **state)
{
    (void)state;
    add_stages(6); /* of 333 samples in stages of 50 us: less than a microsecond a change */
    assert_int_equal(report.n, 3);
    for (size_t i = 0; i < 3; i++)
        assert_row(i, BN_TRUTH_PASS, "");
    assert_non_null(strstr(report.rows[0].measured, "6 of 333 differ: 0.90 us a change"));
}

static void test_stages_wrong(void **state)
{
    (void)state;
    add_stages(340); /* all of the shortest, seven of the next */
    assert_row(0, BN_TRUTH_FAIL, "100.00 % of the samples stand under the wrong stage");
    assert_row(1, BN_TRUTH_PASS, "");
    add_stages(360); /* 27 + 7 of 666, where one in five hundred may differ */
    assert_row(1, BN_TRUTH_FAIL, "5.11 % of the samples");
    assert_row(2, BN_TRUTH_PASS, "");
}

static void test_stages_none(void **state)
{
    (void)state;
    add_stages(0);
    for (size_t i = 0; i < 20; i++)
        p.samples[i].layer = -1; /* under no stage */
    judge(bn_truth_check_stages, NULL);
    assert_row(0, BN_TRUTH_FAIL, "20 samples in the stages' functions stand under no stage");
    p.quality.scope_events_dropped = 7;
    judge(bn_truth_check_stages, NULL);
    assert_row(0, BN_TRUTH_SKIPPED, "no stage; 7 records were lost, which can be why");
}

int main(void)
{
#define T(test) cmocka_unit_test_setup_teardown(test, set_up, tear_down)
    const struct CMUnitTest tests[] = {
        T(test_first_reason_stays), T(test_split),        T(test_split_wrong), T(test_split_heavy),
        T(test_split_missing),      T(test_split_none),   T(test_rate),        T(test_rate_low),
        T(test_rate_high),          T(test_rate_kernel),  T(test_rate_cycles), T(test_threads),
        T(test_threads_vanished),   T(test_threads_time), T(test_stages),      T(test_stages_wrong),
        T(test_stages_none),
    };
#undef T

    return cmocka_run_group_tests(tests, NULL, NULL);
}
