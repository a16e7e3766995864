/* SPDX-License-Identifier: MIT
 * profiler/cpu_time: what was covered and what was accounted, brought together; never more parts than whole.
 */
#include "profiler/cpu_time.h"

#include <setjmp.h>
#include <stdlib.h>

#include <cmocka.h>

static void expect(const struct bn_cpu_counts *counts, uint64_t cpu, uint64_t unreached, uint64_t user,
                   uint64_t system)
{
    struct bn_cpu_time t = bn_cpu_time_settle(counts);

    assert_int_equal(t.cpu_ns, cpu);
    assert_int_equal(t.unreached_ns, unreached);
    assert_int_equal(t.user_ns, user);
    assert_int_equal(t.system_ns, system);
}

static void test_settle(void **state)
{
    (void)state;
    /* Both agree to within the slack: the exact one counts, divided as the accounting says. */
    expect(&(struct bn_cpu_counts){.covered_ns = 1000, .user_ns = 600, .system_ns = 404, .slack_ns = 10},
           1000, 0, 598, 402);
    expect(&(struct bn_cpu_counts){.covered_ns = 1000, .user_ns = 720, .system_ns = 240, .slack_ns = 0}, 1000,
           0, 750, 250);
    /* A setuid child: accounted, not covered. */
    expect(&(struct bn_cpu_counts){.covered_ns = 200, .user_ns = 400, .system_ns = 100, .slack_ns = 10}, 500,
           300, 400, 100);
    expect(&(struct bn_cpu_counts){.user_ns = 300, .slack_ns = 10}, 300, 300, 300, 0);
    /* The same sums for a process that was attached to are of another interval. */
    expect(&(struct bn_cpu_counts){.covered_ns = 200, .user_ns = 400, .system_ns = 100, .all_covered = true},
           200, 0, 160, 40);
    /* A child that nobody could ask: its part is not told apart. */
    expect(&(struct bn_cpu_counts){.covered_ns = 1000, .user_ns = 600, .system_ns = 100, .slack_ns = 10},
           1000, 0, 600, 100);
    /* Ticks say nothing of a short time. */
    expect(&(struct bn_cpu_counts){.covered_ns = 1000, .slack_ns = 2000}, 1000, 0, 0, 0);
    expect(&(struct bn_cpu_counts){0}, 0, 0, 0, 0);
}

/* Whatever comes in. */
static void test_parts(void **state)
{
    (void)state;
    srandom(7);
    for (int i = 0; i < 100000; i++) {
        struct bn_cpu_counts c = {.covered_ns = (uint64_t)random() << (random() % 20),
                                  .user_ns = (uint64_t)random() << (random() % 20),
                                  .system_ns = (uint64_t)random() << (random() % 20),
                                  .slack_ns = (uint64_t)random() % 30000000,
                                  .all_covered = random() % 2};
        struct bn_cpu_time t = bn_cpu_time_settle(&c);
        assert_true(t.cpu_ns >= c.covered_ns);
        assert_true(t.user_ns + t.system_ns <= t.cpu_ns);
        assert_int_equal(t.cpu_ns - t.unreached_ns, c.covered_ns);
        bn_cpu_time_correct(&t, (uint64_t)random() << (random() % 20));
        assert_true(t.user_ns + t.system_ns <= t.cpu_ns);
    }
}

static void test_correct(void **state)
{
    struct bn_cpu_time t = {.cpu_ns = 1000, .user_ns = 600, .system_ns = 400};

    (void)state;
    bn_cpu_time_correct(&t, 500);
    assert_int_equal(t.user_ns, 600);
    bn_cpu_time_correct(&t, 700);
    assert_int_equal(t.user_ns, 700);
    assert_int_equal(t.system_ns, 300);
    bn_cpu_time_correct(&t, 2000); /* more than there was cannot be */
    assert_int_equal(t.user_ns, 1000);
    t = (struct bn_cpu_time){.cpu_ns = 1000, .unreached_ns = 300, .user_ns = 600, .system_ns = 400};
    bn_cpu_time_correct(&t, 900); /* nor samples of what was not reached */
    assert_int_equal(t.user_ns, 700);
    t = (struct bn_cpu_time){.cpu_ns = 1000}; /* not divided */
    bn_cpu_time_correct(&t, 700);
    assert_int_equal(t.user_ns + t.system_ns, 0);
}

static void test_divided(void **state)
{
    (void)state;
    assert_true(bn_cpu_time_divided(100, 85, 5));
    assert_false(bn_cpu_time_divided(100, 85, 4));
    assert_false(bn_cpu_time_divided(0, 0, 0));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_settle),
        cmocka_unit_test(test_parts),
        cmocka_unit_test(test_correct),
        cmocka_unit_test(test_divided),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
