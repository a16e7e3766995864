/* SPDX-License-Identifier: MIT
 * hotspots/report_stages: the interval beside a row is the one that its verdict uses, and a gap's cause is
 * named only where it was measured. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <stdlib.h>
#include <string.h>

#include "hotspots/report.h"
#include "tests/unit/report_text.h"
#include "tests/unit/synthetic_profile.h"

static __attribute__((noinline)) char *report(const struct bn_profile *p)
{
    const struct bn_report_options o = {.by = BN_RANK_FUNCTION, .top = 3};

    return report_text(p, &o);
}

/* The table's row of a stage, without the line's end; the caller frees. */
static char *row_of(const struct bn_profile *p, uint32_t stage)
{
    char path[256], *text = report(p), *head;

    bn_profile_stage_path(p, stage, path, sizeof path);
    head = bn_xasprintf("| %s | ", path);
    char *row = strstr(text, head);
    assert_non_null(row);
    row = bn_xasprintf("%.*s", (int)strcspn(row, "\n"), row);
    free(text);
    free(head);
    return row;
}

static void assert_row(const struct bn_profile *p, uint32_t stage, const char *part, bool there)
{
    char *row = row_of(p, stage);

    if ((strstr(row, part) != NULL) != there)
        fail_msg("'%s' %s '%s'", row, there ? "lacks" : "has", part);
    free(row);
}

/* A time as the report prints it, in ns. */
static double time_at(const char *text, char **end)
{
    double value = strtod(text, end);
    static const struct {
        const char *unit;
        double ns;
    } units[] = {{" ns", 1}, {" µs", 1e3}, {" us", 1e3}, {" ms", 1e6}, {" s", 1e9}};

    for (size_t i = 0; i < BN_COUNT(units); i++)
        if (strncmp(*end, units[i].unit, strlen(units[i].unit)) == 0) {
            *end += strlen(units[i].unit);
            return value * units[i].ns;
        }
    fail_msg("no time: %s", text);
    return 0;
}

/* From far below to far above what the samples say: on every line the verdict is what the printed numbers
 * say, but for their rounding. */
static void test_one_rule(void **state)
{
    struct synthetic s;
    unsigned within = 0, outside = 0;

    (void)state;
    synthetic_make(&s, 1);
    for (uint64_t exact_ns = 1500000000; exact_ns < 2500000000; exact_ns += 7000000) {
        s.p.stages[s.lm_head].calls = 1000;
        s.p.stages[s.lm_head].self_ns = s.p.stages[s.lm_head].total_ns = exact_ns;
        char *row = row_of(&s.p, s.lm_head), *open = strchr(row, '('), *at;
        double low = time_at(open + 1, &at), high = time_at(strstr(at, "… ") + strlen("… "), &at);
        bool said = strstr(row, "within the interval") != NULL;
        double slack = 0.006 * high; /* three digits */
        assert_true(low > 1.7e9 && low < 1.9e9 && high > 2.1e9 && high < 2.3e9);
        if ((double)exact_ns > low + slack && (double)exact_ns < high - slack)
            assert_true(said);
        if ((double)exact_ns < low - slack || (double)exact_ns > high + slack)
            assert_false(said);
        within += said;
        outside += !said;
        free(row);
    }
    assert_true(within > 20 && outside > 20);
    char *text = report(&s.p);
    assert_non_null(strstr(text, "with its interval (99.95 %"));
    free(text);
    bn_profile_free(&s.p);
}

/* 5 s in a stage that has 1 s of samples. */
static void test_causes(void **state)
{
    struct synthetic s;

    (void)state;
    synthetic_make(&s, 1);
    struct bn_profile *p = &s.p;
    struct bn_stage_node *wait = &p->stages[s.wait];
    wait->calls = 1000;
    wait->self_ns = wait->total_ns = 5000000000;
    bn_profile_add_fact(p, "cpus", "2");

    p->quality.event = bn_profile_str(p, "timer");
    p->quality.steal_share = 0.0007;
    assert_row(p, s.wait, "cause unknown (CPU timers do not tell of switches", true);
    assert_row(p, s.wait, "steal", false);
    p->quality.steal_share = 0.9; /* whatever the host took: the thread may have slept */
    assert_row(p, s.wait, "steal", false);
    char *text = report(p);
    assert_non_null(strstr(text, "is not known: CPU timers tell of no switches"));
    assert_null(strstr(text, "records of switches.\n"));
    free(text);

    p->quality.event = bn_profile_str(p, "cpu-clock");
    p->quality.kernel_sampled = true;
    p->threads[0].cpu_ns = 10000000000; /* switches were told */
    p->quality.steal_share = 0.0007;
    assert_row(p, s.wait, "steal", false);
    assert_row(p, s.wait, "unexplained", true);
    p->quality.steal_share = 0.25; /* 5 s of 2 CPUs in 10 s */
    assert_row(p, s.wait, "possibly time that the host took (steal: 5.0", true);
    p->quality.steal_share = 0.15;
    assert_row(p, s.wait, "steal", false);
    p->quality.n_lost = 1;
    assert_row(p, s.wait, "lost samples", true);
    p->quality.kernel_sampled = false;
    assert_row(p, s.wait, "kernel time not seen", true);

    wait->asleep_ns = 4000000000;
    assert_row(p, s.wait, "+4.00 s: asleep 4.00 s |", true);
    wait->asleep_ns = 4900000000;
    assert_row(p, s.wait, "asleep 4.90 s, which is more than the gap", true);
    wait->self_ns = wait->total_ns = 100;
    wait->asleep_ns = 0;
    assert_row(p, s.wait, "more samples than timer", true);
    bn_profile_free(p);
}

/* By self time, inlined code as its function's; small parts are left out. */
static void test_top_functions(void **state)
{
    struct bn_profile p;
    uint32_t at[5];

    (void)state;
    bn_profile_init(&p);
    bn_profile_add_thread(&p, &(struct bn_profile_thread){.tid = 1, .pid = 1});
    uint32_t stage = bn_profile_add_stage(&p, 0, bn_profile_str(&p, "a|b")), other;
    other = bn_profile_add_stage(&p, stage, bn_profile_str(&p, "below"));
    p.stages[stage].calls = p.stages[other].calls = 1;
    at[0] = synthetic_stack(&p, 0, "second", "program", 1, false);
    at[1] = synthetic_stack(&p, at[0], "first", "program", 2, false);
    at[2] = synthetic_stack(&p, at[1], "in_first", "program", 3, true);
    at[3] = synthetic_stack(&p, 0, "x|y", "program", 4, false);
    synthetic_samples(&p, at[0], stage, 0, 30);
    synthetic_samples(&p, at[1], stage, 0, 20);
    synthetic_samples(&p, at[2], stage, 0, 35);
    synthetic_samples(&p, at[3], stage, 0, 15);
    synthetic_samples(&p, at[3], other, 0, 91);
    synthetic_samples(&p, at[0], other, 0, 9);
    char *text = report(&p);
    assert_non_null(strstr(text, "| a\\|b | 1 | 0 ns | 100 ms ("));
    assert_non_null(strstr(text, ") | `first` 55 %, `second` 30 % | "));
    assert_non_null(strstr(text, "| a\\|b;below | 1 | 0 ns | 100 ms ("));
    assert_non_null(strstr(text, ") | `x'y` 91 % | "));
    free(text);
    bn_profile_free(&p);
}

/* What has no stages is told by the files that the code is from. */
static void test_classes_without_stages(void **state)
{
    struct bn_profile p;
    uint32_t stack[4];

    (void)state;
    bn_profile_init(&p);
    bn_profile_add_thread(&p, &(struct bn_profile_thread){.tid = 1, .pid = 1});
    stack[0] = synthetic_stack(&p, 0, "main", "program", 1, false);
    stack[1] = synthetic_stack(&p, stack[0], "compress", "libz.so.1.2", 0, false);
    stack[2] = synthetic_stack(&p, stack[0], "__memmove_avx_unaligned", "libc.so.6", 0, false);
    struct bn_frame nameless = {.function = bn_profile_str(&p, "[program+0x10]"),
                                .module = bn_profile_str(&p, "program"),
                                .kind = BN_FRAME_UNKNOWN};
    stack[3] = bn_profile_add_stack(&p, stack[0], bn_profile_add_frame(&p, &nameless));
    for (unsigned i = 0; i < 4; i++)
        synthetic_samples(&p, stack[i], 0, 0, 4 - i);
    char *text = report(&p);
    assert_non_null(strstr(text, "- Program: 40.0 %\n"));
    assert_non_null(strstr(text, "- Libraries: 30.0 %\n"));
    assert_non_null(strstr(text, "- Memory operations (copy, allocate): 20.0 %\n"));
    assert_non_null(strstr(text, "- No symbol: 10.0 %\n"));
    assert_null(strstr(text, "stage:"));
    free(text);
    for (int c = 0; c < BN_CLASS_COUNT; c++) {
        bool kind = c >= BN_CLASS_PROGRAM, both = c == BN_CLASS_KERNEL || c == BN_CLASS_MEMORY;
        assert_int_equal(bn_class_applies(&p, c), kind || both);
    }
    uint32_t stage = bn_profile_add_stage(&p, 0, bn_profile_str(&p, "work"));
    synthetic_samples(&p, stack[0], stage, 0, 10);
    text = report(&p);
    assert_non_null(strstr(text, "- In the program's stages: 50.0 %\n"));
    assert_non_null(strstr(text, "- Outside every stage: 40.0 %\n"));
    assert_null(strstr(text, "- Program:"));
    free(text);
    bn_profile_free(&p);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_one_rule),
        cmocka_unit_test(test_causes),
        cmocka_unit_test(test_top_functions),
        cmocka_unit_test(test_classes_without_stages),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
