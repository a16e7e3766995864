/* SPDX-License-Identifier: MIT
 * The verdicts of the self-test about stacks and names, on records built by hand. */
#include "tests/unit/truth_record.h"

static uint32_t descend(const char *function, unsigned levels, bool from_main)
{
    uint32_t at = from_main ? call(call(0, "main"), "recursion")
                            : frame_at(0, "[truncated]", NULL, 0, false, BN_FRAME_MARK);

    while (levels--)
        at = call(at, function);
    at = call(at, "truth_bottom");
    return frame_at(at, "bn_truth_iterate", "bnprof", 0, true, BN_FRAME_USER);
}

static void add_recursion(uint32_t near, uint32_t far, uint32_t far_flags)
{
    in_stack(near, 500);
    add_samples((struct bn_sample){.stack = far, .flags = far_flags}, 500);
    judge(bn_truth_check_recursion, NULL);
}

static void test_recursion(void **state)
{
    (void)state;
    add_recursion(descend("truth_descend", 5, true), descend("truth_descend_far", 8, false),
                  BN_SAMPLE_TRUNCATED);
    assert_row(0, BN_TRUTH_PASS, "");
    assert_row(1, BN_TRUTH_PASS, "");
    in_stack(descend("truth_descend", 4, true), 5); /* a stray one may be */
    judge(bn_truth_check_recursion, NULL);
    assert_row(0, BN_TRUTH_PASS, "");
}

static void test_recursion_short(void **state)
{
    (void)state;
    add_recursion(descend("truth_descend", 4, true), descend("truth_descend_far", 9, false),
                  BN_SAMPLE_TRUNCATED);
    assert_row(0, BN_TRUTH_FAIL, "500 of 500 chains are not what the program did");
    assert_row(1, BN_TRUTH_FAIL, "500 of 500 chains"); /* more callers than can be */
}

static void test_recursion_unmarked(void **state)
{
    (void)state;
    add_recursion(descend("truth_descend", 5, false), descend("truth_descend_far", 7, false), 0);
    assert_row(0, BN_TRUTH_FAIL, "500 of 500 chains"); /* does not reach main */
    assert_row(1, BN_TRUTH_FAIL, "500 of 500 chains");
}

static void test_recursion_stitched(void **state)
{
    uint32_t at = call(0, "main");

    (void)state;
    for (int i = 0; i < 4; i++)
        at = call(at, "truth_descend_far");
    add_recursion(descend("truth_descend", 5, true), call(at, "truth_bottom"), 0); /* levels left out */
    assert_row(0, BN_TRUTH_PASS, "");
    assert_row(1, BN_TRUTH_FAIL, "500 of 500 chains");
}

static void test_recursion_gone(void **state)
{
    (void)state;
    in_stack(descend("truth_descend", 5, true), 990);
    judge(bn_truth_check_recursion, NULL);
    assert_row(0, BN_TRUTH_PASS, "");
    assert_row(1, BN_TRUTH_FAIL, "0 of 990 samples are too few: 20 % of the time or more was spent there");
}

static uint32_t inlined(uint32_t inner_line, uint32_t middle_line, uint32_t outer_line, bool marked)
{
    uint32_t outer = frame_at(call(0, "main"), "truth_outer", "bnprof", outer_line, false, BN_FRAME_USER);
    uint32_t middle = frame_at(outer, "truth_middle", "bnprof", middle_line, marked, BN_FRAME_USER);

    return frame_at(middle, "truth_inner", "bnprof", inner_line, marked, BN_FRAME_USER);
}

static void test_inlines(void **state)
{
    (void)state;
    in_stack(inlined(12, 22, 30, true), 990);
    in_stack(frame_at(call(0, "main"), "truth_outer", "bnprof", 31, false, BN_FRAME_USER), 9);
    judge(bn_truth_check_inlines, NULL);
    assert_row(0, BN_TRUTH_PASS, "");
}

static void test_inlines_wrong(void **state)
{
    const uint32_t outer = frame_at(call(0, "main"), "truth_outer", "bnprof", 30, false, BN_FRAME_USER);
    const uint32_t stacks[] = {
        outer,                                                              /* dropped */
        frame_at(outer, "truth_inner", "bnprof", 12, true, BN_FRAME_USER),  /* one dropped */
        inlined(12, 23, 30, true),                                          /* the line of a call */
        inlined(12, 22, 29, true),                                          /* the outer one's */
        inlined(18, 22, 30, true),                                          /* outside of the body */
        frame_at(outer, "truth_middle", "bnprof", 22, true, BN_FRAME_USER), /* the innermost dropped */
    };

    (void)state;
    for (size_t i = 0; i < BN_COUNT(stacks); i++) {
        p.n_samples = 0;
        in_stack(stacks[i], 999);
        judge(bn_truth_check_inlines, NULL);
        assert_row(0, BN_TRUTH_FAIL, "999 of 999 chains");
    }
    p.n_samples = 0;
    in_stack(inlined(12, 22, 30, false), 999); /* not marked as inlined: calls that were not made */
    judge(bn_truth_check_inlines, NULL);
    assert_int_equal(report.rows[0].verdict, BN_TRUTH_FAIL);
}

static uint32_t in_library(const char *through, const char *function, const char *module)
{
    return frame_at(call(call(0, "main"), through), function, module, 0, false, BN_FRAME_USER);
}

static void test_swap(void **state)
{
    (void)state;
    in_stack(in_library("truth_through_first", "truth_in_first", "first.so"), 480);
    in_stack(in_library("truth_through_other", "truth_in_other", "other.so"), 500);
    judge(bn_truth_check_swap, NULL);
    assert_row(0, BN_TRUTH_PASS, "");
    in_stack(in_library("truth_through_other", "truth_in_first", "first.so"), 1);
    judge(bn_truth_check_swap, NULL);
    assert_row(0, BN_TRUTH_FAIL, "1 of 981 samples are named after code that was not there");
    p.quality.n_lost = 1;
    judge(bn_truth_check_swap, NULL);
    assert_row(0, BN_TRUTH_SKIPPED, "not there; 1 records were lost, which can be why");
    in_stack(in_library("truth_through_other", "truth_in_first", "first.so"), 10); /* not of one mapping */
    judge(bn_truth_check_swap, NULL);
    assert_row(0, BN_TRUTH_FAIL, "11 of 991");
}

static void test_swap_unnamed(void **state)
{
    (void)state;
    in_stack(in_library("truth_through_first", "truth_in_first", "first.so"), 480);
    in_stack(in_library("truth_through_other", "[other.so]", "other.so"), 500);
    judge(bn_truth_check_swap, NULL);
    assert_row(0, BN_TRUTH_FAIL, "500 of 980");
    p.n_samples = 480;
    judge(bn_truth_check_swap, NULL);
    assert_row(0, BN_TRUTH_FAIL, "0 of 480 samples are too few");
    p.quality.user_ns = 120000000; /* hardly any CPU time: chance */
    p.n_samples = 12;
    for (size_t i = 0; i < p.n_samples; i++)
        p.samples[i].weight_ns = 10000000;
    judge(bn_truth_check_swap, NULL);
    assert_row(0, BN_TRUTH_SKIPPED, "12 samples are too few for a verdict");
}

static uint32_t in_handler(const char *loop, bool handler)
{
    uint32_t at = call(call(call(0, "main"), "signal_frame"), loop);

    at = frame_at(at, "bn_truth_iterate", "bnprof", 0, true, BN_FRAME_USER);
    at = call(at, "__restore_rt");
    if (handler)
        at = call(at, "truth_on_signal");
    at = call(at, "truth_in_handler");
    at = frame_at(at, "bn_truth_iterate", "bnprof", 0, true, BN_FRAME_USER);
    return frame_at(at, "timer_interrupt", "[kernel]", 0, false, BN_FRAME_KERNEL);
}

static void test_signal(void **state)
{
    (void)state;
    in_stack(in_handler("truth_interrupted", true), 700);
    judge(bn_truth_check_signal, NULL);
    assert_row(0, BN_TRUTH_PASS, "");
    in_stack(in_handler("truth_interrupted", false), 9); /* a frame left out, in more than one of a hundred */
    judge(bn_truth_check_signal, NULL);
    assert_row(0, BN_TRUTH_FAIL, "9 of 709 chains");
}

static void test_signal_wrong(void **state)
{
    (void)state;
    in_stack(in_handler("signal_frame", true), 700);
    judge(bn_truth_check_signal, NULL);
    assert_row(0, BN_TRUTH_FAIL, "700 of 700");
    p.n_samples = 0;
    add_samples(
        (struct bn_sample){.stack = in_handler("truth_interrupted", true), .flags = BN_SAMPLE_TRUNCATED},
        700);
    judge(bn_truth_check_signal, NULL);
    assert_row(0, BN_TRUTH_FAIL, "700 of 700");
}

int main(void)
{
#define T(test) cmocka_unit_test_setup_teardown(test, set_up, tear_down)
    const struct CMUnitTest tests[] = {
        T(test_recursion),          T(test_recursion_short),
        T(test_recursion_unmarked), T(test_recursion_stitched),
        T(test_recursion_gone),     T(test_inlines),
        T(test_inlines_wrong),      T(test_swap),
        T(test_swap_unnamed),       T(test_signal),
        T(test_signal_wrong),
    };
#undef T

    return cmocka_run_group_tests(tests, NULL, NULL);
}
