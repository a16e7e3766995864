/* SPDX-License-Identifier: MIT
 * profiler/off_cpu: times on and off the CPUs, exact to the nanosecond, and never more than the records say:
 * lost halves, equal and turned-back times, threads that end in the middle, exec by any thread. */
#include "profiler/off_cpu.h"

#include <linux/perf_event.h>
#include <setjmp.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "profiler/intake.h"

enum { START_NS = 1000 };

struct story {
    struct bn_off_cpu o;
    struct bn_off_cpu_thread t;
};

static void switches(struct story *s, bool out, bool preempted, uint64_t t_ns)
{
    const struct bn_record r = {.type = PERF_RECORD_SWITCH,
                                .misc = (uint16_t)((out ? PERF_RECORD_MISC_SWITCH_OUT : 0) |
                                                   (preempted ? PERF_RECORD_MISC_SWITCH_OUT_PREEMPT : 0)),
                                .pid = 7,
                                .tid = 7,
                                .t_ns = t_ns};

    bn_off_cpu_switch(&s->o, &s->t, &r, START_NS);
}

static void in(struct story *s, uint64_t t_ns)
{
    switches(s, false, false, t_ns);
}

static void out(struct story *s, uint64_t t_ns)
{
    switches(s, true, false, t_ns);
}

static void pushed_out(struct story *s, uint64_t t_ns)
{
    switches(s, true, true, t_ns);
}

static struct story *begin(bool born)
{
    static struct story s;

    bn_off_cpu_free(&s.o);
    memset(&s, 0, sizeof s);
    s.t.born = born;
    return &s;
}

static void expect(struct story *s, uint64_t on_ns, uint64_t asleep_ns, uint64_t n_asleep,
                   uint64_t preempted_ns, uint64_t n_preempted)
{
    bn_off_cpu_settle(&s->o);
    assert_int_equal(s->o.n_gaps, 0);
    assert_int_equal(s->t.on_ns, on_ns);
    assert_int_equal(s->o.nodes[0].asleep_ns, asleep_ns);
    assert_int_equal(s->o.nodes[0].n_asleep, n_asleep);
    assert_int_equal(s->o.nodes[0].preempted_ns, preempted_ns);
    assert_int_equal(s->o.nodes[0].n_preempted, n_preempted);
}

static void test_pairs(void **state)
{
    struct story *s = begin(true);

    (void)state;
    in(s, 2000);
    out(s, 2500);
    in(s, 2600);
    pushed_out(s, 3600);
    in(s, 3605);
    out(s, 3606);
    expect(s, 500 + 1000 + 1, 100, 1, 5, 1);
    in(s, 4000); /* a gap that began before the sums were settled */
    bn_off_cpu_ends(&s->t, 4100);
    expect(s, 1501 + 100, 100 + 394, 2, 5, 1);
}

/* A thread of which nothing was heard ran since the start, unless its birth was told. */
static void test_first_record(void **state)
{
    struct story *s = begin(false);

    (void)state;
    out(s, 1700);
    expect(s, 700, 0, 0, 0, 0);
    s = begin(false);
    in(s, 1700); /* when it had left the CPU is not known */
    out(s, 1800);
    expect(s, 100, 0, 0, 0, 0);
    s = begin(true);
    out(s, 1700); /* its first switch was lost */
    in(s, 1750);
    out(s, 1760);
    expect(s, 10, 50, 1, 0, 0);
}

static void test_lost_halves(void **state)
{
    struct story *s = begin(true);

    (void)state;
    in(s, 2000);
    in(s, 3000); /* a switch out is missing: neither how long it ran nor how long it was away is known */
    out(s, 3100);
    expect(s, 100, 0, 0, 0, 0);
    s = begin(true);
    in(s, 2000);
    out(s, 2100);
    pushed_out(s, 2900); /* a switch in is missing */
    in(s, 3000);
    expect(s, 100, 0, 0, 100, 1);
    out(s, 3001);
    expect(s, 101, 0, 0, 100, 1);
}

/* Records of two CPUs can bear one time, or turn back by a little: nothing is negative, nothing wraps. */
static void test_edges(void **state)
{
    struct story *s = begin(true);

    (void)state;
    in(s, 2000);
    out(s, 2000);
    in(s, 2000);
    expect(s, 0, 0, 0, 0, 0);
    out(s, 1990);
    expect(s, 0, 0, 0, 0, 0);
    in(s, 1980);
    out(s, 2080);
    expect(s, 100, 0, 0, 0, 0);
    s = begin(false);
    out(s, START_NS - 1);
    expect(s, 0, 0, 0, 0, 0);
}

static void test_exec_and_end(void **state)
{
    struct story *s = begin(false);

    (void)state;
    bn_off_cpu_runs(&s->t, 5000); /* the program begins */
    pushed_out(s, 5300);
    bn_off_cpu_runs(&s->t,
                    5400); /* whoever calls exec runs: a switch was lost, and how long it was away with it */
    out(s, 5500);
    expect(s, 300 + 100, 0, 0, 0, 0);
    bn_off_cpu_ends(&s->t, 9000);
    bn_off_cpu_ends(&s->t, 9900);
    expect(s, 400, 0, 0, 0, 0);
    in(s, 9950);
    bn_off_cpu_ends(&s->t, 9940);
    expect(s, 400, 0, 0, 0, 0);
}

/* A thread that is older than the recording, or that outlives it, was off its CPU in the recording too. */
static void test_before_and_after(void **state)
{
    struct story *s = begin(false);

    (void)state;
    s->t.at_start = BN_OFF_CPU_ASLEEP;
    in(s, START_NS + 700); /* it woke up */
    out(s, START_NS + 900);
    bn_off_cpu_left(&s->o, &s->t, 7, START_NS, START_NS + 950);
    expect(s, 200, 700 + 50, 2, 0, 0);
    s = begin(false);
    s->t.at_start = BN_OFF_CPU_READY;
    in(s, START_NS + 700); /* it had waited for a CPU */
    bn_off_cpu_left(&s->o, &s->t, 7, START_NS, START_NS + 950);
    expect(s, 250, 0, 0, 700, 1);
    s = begin(false);
    s->t.at_start = BN_OFF_CPU_ASLEEP; /* seen a moment too late: it did run */
    out(s, START_NS + 10);
    in(s, START_NS + 30);
    bn_off_cpu_left(&s->o, &s->t, 7, START_NS, START_NS + 40);
    expect(s, 10 + 10, 20, 1, 0, 0);
    s = begin(false);
    s->t.at_start = BN_OFF_CPU_ASLEEP; /* nothing is ever heard of it */
    bn_off_cpu_left(&s->o, &s->t, 7, START_NS, START_NS + 5000);
    expect(s, 0, 5000, 1, 0, 0);
    s = begin(false); /* nothing is known of it */
    in(s, START_NS + 700);
    bn_off_cpu_left(&s->o, &s->t, 7, START_NS, START_NS + 800);
    expect(s, 100, 0, 0, 0, 0);
    s = begin(true);
    s->t.at_start = BN_OFF_CPU_ASLEEP; /* no more than born */
    bn_off_cpu_left(&s->o, &s->t, 7, START_NS, START_NS + 5000);
    expect(s, 0, 0, 0, 0, 0);
}

/* Gaps count for the node in which they were placed; what no node can have counts for the root. */
static void test_places(void **state)
{
    struct story *s = begin(true);
    const uint32_t nodes[] = {3, BN_SCOPE_MAX_NODES - 1, BN_SCOPE_MAX_NODES, BN_RAW_NO_SCOPES};

    (void)state;
    in(s, 2000);
    for (uint64_t i = 0; i < BN_COUNT(nodes); i++) {
        out(s, 3000 + 100 * i);
        in(s, 3010 + 100 * i + i);
    }
    assert_int_equal(s->o.n_gaps, BN_COUNT(nodes));
    for (size_t i = 0; i < BN_COUNT(nodes); i++) {
        assert_int_equal(s->o.gaps[i].t_ns, 3000 + 100 * i);
        s->o.gaps[i].place.node = (uint16_t)nodes[i];
    }
    bn_off_cpu_settle(&s->o);
    assert_int_equal(s->o.nodes[3].asleep_ns, 10);
    assert_int_equal(s->o.nodes[BN_SCOPE_MAX_NODES - 1].asleep_ns, 11);
    assert_int_equal(s->o.nodes[0].asleep_ns, 12 + 13);
    assert_int_equal(s->o.nodes[0].n_asleep, 2);
    begin(true);
}

/* A long time off is told in parts: together as long, counted once, never what lies ahead. */
static void test_parts(void **state)
{
    struct story *s = begin(true);

    (void)state;
    in(s, 2000);
    bn_off_cpu_so_far(&s->o, &s->t, 7, 2400); /* it runs */
    out(s, 2500);
    bn_off_cpu_so_far(&s->o, &s->t, 7, 2500);
    bn_off_cpu_so_far(&s->o, &s->t, 7, 2450);
    assert_int_equal(s->o.n_gaps, 0);
    bn_off_cpu_so_far(&s->o, &s->t, 7, 2600);
    expect(s, 500, 100, 1, 0, 0);
    bn_off_cpu_so_far(&s->o, &s->t, 7, 2900);
    expect(s, 500, 400, 1, 0, 0);
    in(s, 3000);
    expect(s, 500, 500, 1, 0, 0);
    pushed_out(s, 3100);
    bn_off_cpu_so_far(&s->o, &s->t, 7, 3110);
    in(s, 3120);
    expect(s, 600, 500, 1, 20, 1);
    out(s, 3200); /* and never comes back */
    bn_off_cpu_so_far(&s->o, &s->t, 7, 4000);
    expect(s, 680, 1300, 2, 20, 1);
    begin(true);
}

/* ---- the threads of a process ---- */

struct told {
    struct bn_raw_on_cpu on[16];
    size_t n;
};

/* What the recorder would write about the threads now. */
static struct told totals(struct bn_intake *intake)
{
    char path[] = "/tmp/bnprof-off-cpu.XXXXXX";
    struct bn_raw_writer w;
    struct bn_raw_reader r;
    struct bn_raw_block block;
    const uint8_t *payload;
    struct told told = {.n = 0};
    struct bn_err err;

    close(mkstemp(path));
    unlink(path);
    assert_int_equal(bn_raw_create(&w, path, &err), 0);
    bn_intake_write_totals(intake, &w);
    assert_int_equal(bn_raw_close(&w, &err), 0);
    assert_int_equal(bn_raw_open(&r, path, &err), 0);
    while (bn_raw_next(&r, &block, &payload) == 1)
        if (block.kind == BN_RAW_ON_CPU) {
            told.n = block.payload_bytes / sizeof *told.on;
            assert_true(told.n <= BN_COUNT(told.on));
            memcpy(told.on, payload, told.n * sizeof *told.on);
        }
    bn_raw_close_reader(&r);
    unlink(path);
    return told;
}

static void tell(struct bn_intake *intake, struct bn_record r)
{
    intake->last_ns = r.t_ns > intake->last_ns ? r.t_ns : intake->last_ns;
    bn_intake_apply(intake, &r);
}

static void tell_switch(struct bn_intake *intake, int32_t tid, bool leaves, uint64_t t_ns)
{
    tell(intake, (struct bn_record){.type = PERF_RECORD_SWITCH,
                                    .misc = leaves ? PERF_RECORD_MISC_SWITCH_OUT : 0,
                                    .pid = 100,
                                    .tid = tid,
                                    .t_ns = t_ns});
}

static void tell_task(struct bn_intake *intake, uint32_t type, int32_t tid, uint64_t t_ns)
{
    tell(intake,
         (struct bn_record){
             .type = type, .pid = 100, .tid = tid, .parent_pid = 100, .parent_tid = 100, .t_ns = t_ns});
}

static void tell_exec(struct bn_intake *intake, const char *name, uint64_t t_ns)
{
    tell(intake, (struct bn_record){.type = PERF_RECORD_COMM,
                                    .misc = PERF_RECORD_MISC_COMM_EXEC,
                                    .pid = 100,
                                    .tid = 100,
                                    .text = name,
                                    .t_ns = t_ns});
}

static void begin_intake(struct bn_intake *intake)
{
    const struct bn_record_format format = {.sample_type =
                                                PERF_SAMPLE_IP | PERF_SAMPLE_TID | PERF_SAMPLE_TIME};

    bn_intake_begin(intake, &format, false);
    intake->start_ns = START_NS;
    tell_exec(intake, "first", START_NS);
}

/* The kernel ends the first thread, and the one that called exec goes on under its number. */
static void test_exec_by_a_second_thread(void **state)
{
    struct bn_intake intake;

    (void)state;
    begin_intake(&intake);
    tell_task(&intake, PERF_RECORD_FORK, 101, 1500);
    tell_switch(&intake, 101, false, 1600);
    tell_switch(&intake, 100, true, 2000);
    tell_switch(&intake, 100, false, 2100);
    tell_task(&intake, PERF_RECORD_EXIT, 100, 2400);
    tell_switch(&intake, 100, true, 2410); /* its last breath */
    tell_exec(&intake, "second", 2500);
    tell_switch(&intake, 100, true, 3500);
    tell_switch(&intake, 100, false, 4000);
    tell_task(&intake, PERF_RECORD_EXIT, 100, 4100);
    tell_switch(&intake, 100, true, 9000);
    struct told told = totals(&intake);
    assert_int_equal(told.n, 3);
    assert_int_equal(told.on[0].ns, 1000 + 300);
    assert_int_equal(told.on[1].ns, 900);
    assert_int_equal(told.on[2].ns, 1000 + 100);
    bn_intake_end(&intake);
}

static void test_exec_by_the_first_thread(void **state)
{
    struct bn_intake intake;

    (void)state;
    begin_intake(&intake);
    tell_switch(&intake, 100, true, 1100);
    tell_switch(&intake, 100, false, 1200);
    tell_exec(&intake, "second", 1300);
    tell_switch(&intake, 100, true, 1400);
    struct told told = totals(&intake);
    assert_int_equal(told.n, 1);
    assert_int_equal(told.on[0].ns, 100 + 200);
    bn_intake_end(&intake);
}

/* A number is given again; a thread that lives has run up to the latest record. */
static void test_numbers_again(void **state)
{
    struct bn_intake intake;

    (void)state;
    begin_intake(&intake);
    for (uint64_t turn = 0; turn < 3; turn++) {
        tell_task(&intake, PERF_RECORD_FORK, 101, 2000 + 100 * turn);
        tell_switch(&intake, 101, false, 2010 + 100 * turn);
        tell_task(&intake, PERF_RECORD_EXIT, 101, 2020 + 100 * turn + turn);
        tell_switch(&intake, 101, true, 2030 + 100 * turn);
    }
    tell_task(&intake, PERF_RECORD_FORK, 102, 2900);
    tell_switch(&intake, 102, false, 2950);
    tell_switch(&intake, 100, true, 3000);
    struct told told = totals(&intake);
    assert_int_equal(told.n, 5);
    assert_int_equal(told.on[0].ns, 2000);
    for (uint64_t turn = 0; turn < 3; turn++)
        assert_int_equal(told.on[1 + turn].ns, 10 + turn);
    assert_int_equal(told.on[4].ns, 50);
    told = totals(&intake); /* asking changes nothing */
    assert_int_equal(told.on[4].ns, 50);
    bn_intake_end(&intake);
}

/* A switch back was lost: what has been told in parts stands, but the sleep does not go on for ever. */
static void test_lost_in_parts(void **state)
{
    struct story *s = begin(true);

    (void)state;
    in(s, 2000);
    out(s, 3000);
    bn_off_cpu_so_far(&s->o, &s->t, 7, 5000);
    bn_off_cpu_sampled(&s->t, 6000); /* it runs */
    bn_off_cpu_so_far(&s->o, &s->t, 7, 9000);
    out(s, 9500);
    expect(s, 1000 + 3500, 2000, 1, 0, 0);
    bn_off_cpu_so_far(&s->o, &s->t, 7, 9600);
    bn_off_cpu_lost(&s->t);
    bn_off_cpu_so_far(&s->o, &s->t, 7, 20000);
    out(s, 30000); /* nobody knows since when it ran */
    in(s, 30500);
    expect(s, 1000 + 3500, 2000 + 100 + 500, 3, 0, 0);
    s = begin(true);
    in(s, 2000);
    bn_off_cpu_lost(&s->t);
    bn_off_cpu_sampled(&s->t, 2500);
    out(s, 3000);
    expect(s, 1000, 0, 0, 0, 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_pairs),
        cmocka_unit_test(test_first_record),
        cmocka_unit_test(test_lost_halves),
        cmocka_unit_test(test_edges),
        cmocka_unit_test(test_exec_and_end),
        cmocka_unit_test(test_before_and_after),
        cmocka_unit_test(test_places),
        cmocka_unit_test(test_exec_by_a_second_thread),
        cmocka_unit_test(test_exec_by_the_first_thread),
        cmocka_unit_test(test_parts),
        cmocka_unit_test(test_lost_in_parts),
        cmocka_unit_test(test_numbers_again),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
