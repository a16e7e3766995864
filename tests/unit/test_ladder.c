/* SPDX-License-Identifier: MIT
 * The ladder on machines that this one is not: perf_event_open is replaced, counters are files. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "profiler/ladder.h"

/* What the machine answers. */
static struct {
    int cycles, clock, kernel; /* errno for this event, for kernel code; 0 = it can be opened */
    double cycles_per_ns;      /* of the counter, over 5 ms */
    uint64_t enabled, running; /* ns that the counter claims */
    bool old;                  /* knows no read_format LOST and no build ids */
    unsigned n_calls;
} machine;

static int counter(void)
{
    const uint64_t text[6] = {1000,
                              500,
                              500,
                              1000 + (uint64_t)(machine.cycles_per_ns * 5e6),
                              500 + machine.enabled,
                              500 + machine.running};
    int fd = memfd_create("counter", MFD_CLOEXEC);

    assert_true(fd >= 0 && write(fd, text, sizeof text) == (ssize_t)sizeof text);
    lseek(fd, 0, SEEK_SET);
    return fd;
}

/* Takes the place of the real one. */
int bn_ladder_open(struct perf_event_attr *attr, pid_t pid, int cpu)
{
    bool cycles = attr->type == PERF_TYPE_HARDWARE;

    (void)pid, (void)cpu;
    machine.n_calls++;
    errno = cycles ? machine.cycles : machine.clock;
    if (!errno && !attr->exclude_kernel)
        errno = machine.kernel;
    if (!errno && machine.old && (attr->read_format == PERF_FORMAT_LOST || attr->build_id))
        errno = EINVAL;
    return errno ? -1 : counter();
}

static const struct bn_ladder_options by_itself = {.rate_hz = 999, .stack_dump_bytes = 16384};

static void be(int cycles, int clock, int kernel)
{
    memset(&machine, 0, sizeof machine);
    machine.cycles = cycles;
    machine.clock = clock;
    machine.kernel = kernel;
    machine.cycles_per_ns = 3;
    machine.enabled = machine.running = 5000000;
}

/* Choose by itself; `steps` NULL: no step down, else a part of what is said about it. */
static void expect(enum bn_ladder_event event, bool kernel, const char *steps)
{
    struct bn_ladder l;
    struct bn_err err;

    assert_int_equal(bn_ladder_choose(&l, &by_itself, 0, &err), 0);
    assert_string_equal(bn_ladder_event_name(l.event), bn_ladder_event_name(event));
    assert_int_equal(l.kernel_sampled, kernel);
    if (!steps) {
        assert_string_equal(l.steps, "");
        return;
    }
    if (!strstr(l.steps, steps))
        fail_msg("%s", l.steps);
    size_t n = strlen(l.steps);
    assert_true(l.steps[n - 1] == '\n');
    char *line = strndup(l.steps, strcspn(l.steps, "\n"));
    assert_non_null(strstr(l.sentence, line)); /* the report says it too */
    free(line);
}

static void test_hardware_counter(void **state)
{
    (void)state;
    be(0, 0, 0);
    expect(BN_EVENT_CYCLES, true, NULL);
    machine.old = true;
    expect(BN_EVENT_CYCLES, true, NULL);
    be(0, 0, EACCES);
    expect(BN_EVENT_CYCLES, false, "kernel code: ");
}

/* A counter that does not count, counts nonsense, or takes turns with others is left alone. */
static void test_implausible_counter(void **state)
{
    (void)state;
    be(0, 0, 0);
    machine.cycles_per_ns = 0;
    expect(BN_EVENT_CPU_CLOCK, true, "not to be believed");
    machine.cycles_per_ns = 0.1;
    expect(BN_EVENT_CPU_CLOCK, true, "not to be believed");
    machine.cycles_per_ns = 20;
    expect(BN_EVENT_CPU_CLOCK, true, "not to be believed");
    machine.cycles_per_ns = 3;
    machine.running = 2500000;
    expect(BN_EVENT_CPU_CLOCK, true, "ran for 50 % of the time");
    machine.enabled = machine.running = 0;
    expect(BN_EVENT_CYCLES, true, NULL); /* a kernel that does not tell the times */
}

static void test_no_hardware_counter(void **state)
{
    static const int reasons[] = {ENOENT, ENODEV, EOPNOTSUPP};

    (void)state;
    for (size_t i = 0; i < BN_COUNT(reasons); i++) {
        be(reasons[i], 0, 0);
        expect(BN_EVENT_CPU_CLOCK, true, "cycles: this machine offers no hardware counter");
        be(reasons[i], 0, EACCES);
        expect(BN_EVENT_CPU_CLOCK, false, "time in the kernel is not seen");
    }
}

static void test_everything_refused(void **state)
{
    static const int reasons[] = {EACCES, EPERM, ENOSYS};

    (void)state;
    for (size_t i = 0; i < BN_COUNT(reasons); i++) {
        struct bn_ladder_options o = by_itself;
        struct bn_ladder l;
        struct bn_err err = {{0}};
        be(reasons[i], reasons[i], 0);
        expect(BN_EVENT_TIMER, false, strerror(reasons[i]));
        expect(BN_EVENT_TIMER, false, "CPU timers inside the program instead");
        o.event = BN_EVENT_CPU_CLOCK; /* forced: no step down */
        assert_int_equal(bn_ladder_choose(&l, &o, 0, &err), -1);
        assert_non_null(strstr(err.msg, strerror(reasons[i])));
    }
    struct bn_ladder_options attached = by_itself; /* nothing can be loaded into it */
    attached.attach = true;
    be(EPERM, EPERM, 0);
    struct bn_ladder running;
    struct bn_err why = {{0}};
    assert_int_equal(bn_ladder_choose(&running, &attached, 0, &why), -1);
    assert_non_null(strstr(why.msg, "perf events are refused"));
    attached.event = BN_EVENT_TIMER;
    assert_int_equal(bn_ladder_choose(&running, &attached, 0, &why), -1);
    assert_non_null(strstr(why.msg, "runs already"));
    be(EMFILE, EMFILE, 0); /* timers would hide what is really wrong */
    struct bn_ladder l;
    struct bn_err err = {{0}};
    assert_int_equal(bn_ladder_choose(&l, &by_itself, 0, &err), -1);
    assert_non_null(strstr(err.msg, "ulimit -n"));
}

static void test_forced(void **state)
{
    struct bn_ladder_options o = by_itself;
    struct bn_ladder l;
    struct bn_err err;

    (void)state;
    be(0, 0, 0);
    o.event = BN_EVENT_TIMER;
    assert_int_equal(bn_ladder_choose(&l, &o, 0, &err), 0);
    assert_int_equal(l.event, BN_EVENT_TIMER);
    assert_int_equal(machine.n_calls, 0);
    assert_string_equal(l.steps, "");
    assert_int_equal(l.attr.sample_period, 1001001);
    be(ENOENT, 0, 0);
    o.event = BN_EVENT_CYCLES;
    assert_int_equal(bn_ladder_choose(&l, &o, 0, &err), -1);
    assert_non_null(strstr(err.msg, "--event cpu-clock"));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_hardware_counter),
        cmocka_unit_test(test_implausible_counter),
        cmocka_unit_test(test_no_hardware_counter),
        cmocka_unit_test(test_everything_refused),
        cmocka_unit_test(test_forced),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
