/* SPDX-License-Identifier: MIT
 * CPU timers inside programs whose profile is known: shares, totals at any rate, threads, signals, stacks,
 * mappings that change, loss. */
#include <linux/perf_event.h>
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "profiler/launch.h"
#include "profiler/symbols.h"
#include "profiler/timer.h"
#include "profiler/unwind.h"

struct run {
    struct bn_launch_end end;
    struct bn_buf records, notes;
    size_t *moments; /* where the records are, in the order in which they came */
    size_t n, capacity;
    uint64_t last_ns;
    size_t n_late;
    double latest_ms; /* by how much one of them came late */
    struct bn_maps maps;
    uint64_t n_samples, n_lost, n_damaged;
    uint32_t rate_hz;
};

/* One function and what was sampled in it, as the innermost. */
struct share {
    const char *function;
    size_t n;
    double periods_ns, squares, largest_ns;
    size_t n_complete; /* stacks that reached the start of their thread */
};

static const struct bn_record_format format = {.sample_type = BN_TIMER_SAMPLE_TYPE,
                                               .regs_user = BN_TIMER_REGS};

static char *program(const char *name)
{
    const char *build = getenv("BUILD");
    return bn_xasprintf("%s/tests/data/%s", build ? build : "build/release", name);
}

/* The recorder's rounds: in the order of time, up to the moment at which the round before looked. */
static void take_round(struct run *run, struct bn_timer *t, uint64_t horizon_ns)
{
    struct bn_ring *rings[] = {&t->ring};
    const uint8_t *record;

    bn_timer_see(t);
    while ((record = bn_rings_next(rings, 1, &format, horizon_ns)) != NULL) {
        uint64_t t_ns = bn_record_time(&format, record);
        bn_grow(&run->moments, &run->capacity, run->n + 1, sizeof *run->moments);
        run->moments[run->n++] = run->records.n;
        bn_buf_put(&run->records, record, bn_record_size(record, UINT16_MAX));
        if (t_ns < run->last_ns) {
            run->n_late++;
            run->latest_ms = fmax(run->latest_ms, (double)(run->last_ns - t_ns) / 1e6);
        }
        run->last_ns = t_ns > run->last_ns ? t_ns : run->last_ns;
    }
}

static struct bn_timer_options at_rate(uint32_t rate_hz)
{
    return (struct bn_timer_options){.rate_hz = rate_hz, .stack_dump_bytes = 16384};
}

/* argv[0] is the name of a truth program. wait_ms: how long the recorder sleeps between two rounds. */
static void record(struct run *run, const struct bn_timer_options *o, char *argv[], int wait_ms)
{
    struct bn_launch launch;
    struct bn_timer t;
    struct bn_err err = {{0}};
    char *path = program(argv[0]), *library = program("../../libbnprof-timer.so"), *env;
    struct bn_launch_command command = {.file = path, .argv = argv, .keep_fd = -1};
    uint64_t seen_ns = bn_now_ns();

    *run = (struct run){0};
    assert_int_equal(access(library, R_OK), 0);
    assert_int_equal(bn_timer_open(&t, o, &err), 0);
    env = bn_timer_environment(&t);
    setenv(BN_TIMER_ENV, env + sizeof BN_TIMER_ENV, 1);
    setenv("LD_PRELOAD", library, 1);
    argv[0] = path;
    assert_int_equal(bn_launch_start(&launch, &command, &err), 0);
    unsetenv("LD_PRELOAD");
    unsetenv(BN_TIMER_ENV);
    assert_int_equal(bn_launch_release(&launch, &command, &err), 0);
    while (!bn_launch_ended(&launch, &run->end)) {
        struct pollfd wait = {.fd = launch.pidfd, .events = POLLIN};
        poll(&wait, 1, wait_ms);
        take_round(run, &t, seen_ns);
        seen_ns = t.now_ns;
    }
    bn_timer_stop(&t);
    take_round(run, &t, UINT64_MAX);
    run->n_samples = t.n_samples;
    run->n_lost = bn_timer_lost(&t);
    run->n_damaged = t.n_damaged;
    run->rate_hz = t.rate_hz;
    bn_timer_shortcomings(&t, &run->notes);
    bn_timer_close(&t);
    bn_launch_close(&launch);
    free(env);
    free(path);
    free(library);
    assert_int_equal(run->n_damaged, 0);
    if (run->n_late > 1 + run->n / 500) /* a thread may lose the CPU in the middle of its sample */
        fail_msg("%zu of %zu records came late, by up to %.1f ms", run->n_late, run->n, run->latest_ms);
    if (run->notes.n)
        fail_msg("%s", run->notes.p);
}

static void free_run(struct run *run)
{
    bn_maps_free(&run->maps);
    bn_buf_free(&run->records);
    bn_buf_free(&run->notes);
    free(run->moments);
}

/* Replay the records; every sample's innermost function is counted in `shares`, or in the last of them, whose
 * name is "". */
static void count(struct run *run, struct share *shares, size_t n)
{
    struct bn_symbols *symbols = bn_xcalloc(1, sizeof *symbols);
    struct bn_unwind_result *stack = bn_xcalloc(1, sizeof *stack);
    struct bn_unwinder *unwinder = bn_unwinder_new(&run->maps);
    struct bn_record r;
    struct bn_err err;

    for (size_t i = 0; i < run->n; i++) {
        assert_int_equal(
            bn_record_decode(&format, (const uint8_t *)run->records.p + run->moments[i], &r, &err), 0);
        bn_maps_apply(&run->maps, &r);
        if (r.type != PERF_RECORD_SAMPLE)
            continue;
        struct bn_process *process = bn_maps_process(&run->maps, r.pid);
        struct bn_unwind_input input = bn_unwind_input_of(&r);
        struct bn_place place = bn_maps_find(&run->maps, process, r.ip);
        bn_symbols_find(symbols, &place);
        bn_unwind(unwinder, process, &input, stack);
        size_t k = 0;
        while (k + 1 < n && strcmp(symbols->frames[symbols->n - 1].function, shares[k].function) != 0)
            k++;
        if (getenv("DBG") && k + 1 == n)
            print_message("other: t %llu %s pid %d ip %llx per %llu image %s\n",
                          (unsigned long long)r.t_ns / 1000000, symbols->frames[symbols->n - 1].function,
                          r.pid, (unsigned long long)r.ip, (unsigned long long)r.period,
                          place.image ? place.image->name : "-");
        shares[k].n++;
        shares[k].periods_ns += (double)r.period;
        shares[k].squares += (double)r.period * (double)r.period;
        shares[k].largest_ns = fmax(shares[k].largest_ns, (double)r.period);
        shares[k].n_complete += stack->end == BN_UNWIND_COMPLETE;
    }
    bn_unwinder_free(unwinder);
    bn_symbols_free(symbols);
    free(symbols);
    free(stack);
}

/* The first n shares hold nearly all; each is expected[i] of them, within four standard deviations of a count
 * of that weight. */
static void assert_shares(const struct share *shares, const double *expected, size_t n)
{
    double sum = 0, squares = 0, other = shares[n].periods_ns;

    for (size_t i = 0; i < n; i++) {
        sum += shares[i].periods_ns;
        squares += shares[i].squares;
    }
    assert_true(sum > 0);
    double effective = sum * sum / squares;
    for (size_t i = 0; i < n; i++) {
        double share = shares[i].periods_ns / sum, s = expected[i];
        double room = 4 * sqrt(s * (1 - s) / effective) + 2 / effective;
        print_message("# %s: %.1f %% of %.0f samples, expected %.1f\n", shares[i].function, 100 * share,
                      effective, 100 * s);
        if (fabs(share - s) > room)
            fail_msg("%s: %.1f %%, expected %.1f +- %.1f", shares[i].function, 100 * share, 100 * s,
                     100 * room);
    }
    if (other > 0.06 * sum + 3 * shares[n].largest_ns)
        fail_msg("%.1f %% lie elsewhere", 100 * other / (sum + other));
}

static double sum_of(const struct share *shares, size_t n)
{
    double sum = 0;

    for (size_t i = 0; i < n; i++)
        sum += shares[i].periods_ns;
    return sum;
}

/* ---- shares and totals ---- */

static void test_shares(void **state)
{
    char *argv[] = {"truth_timers", "shares", NULL};
    struct share shares[] = {
        {.function = "share_70"}, {.function = "share_20"}, {.function = "share_10"}, {.function = ""}};
    struct bn_timer_options o = at_rate(999);
    struct run run;

    (void)state;
    record(&run, &o, argv, 20);
    count(&run, shares, 4);
    assert_int_equal(run.n_lost, 0);
    assert_int_equal(run.end.exit_status, 0);
    assert_shares(shares, (double[]){0.7, 0.2, 0.1}, 3);
    for (size_t i = 0; i < 3; i++)
        assert_int_equal(shares[i].n_complete, shares[i].n);
    free_run(&run);
}

/* Its rounds take as long as each other and can fall into step with the tick, so shares prove nothing here:
 * all samples lie in its functions, and all stacks are whole, also those without a frame pointer. */
static void test_split(void **state)
{
    char *argv[] = {"truth_split", "1000", NULL};
    struct share shares[] = {
        {.function = "work_70"}, {.function = "work_20"}, {.function = "work_10"}, {.function = ""}};
    struct bn_timer_options o = at_rate(999);
    struct run run;

    (void)state;
    record(&run, &o, argv, 20);
    count(&run, shares, 4);
    for (size_t i = 0; i < 3; i++)
        assert_int_equal(shares[i].n_complete, shares[i].n);
    assert_true(shares[3].periods_ns <= 0.06 * sum_of(shares, 4) + 3 * shares[3].largest_ns);
    free_run(&run);
}

/* Whatever the rate, even one that the kernel's tick cannot give, the periods add up to the CPU time. */
static void test_periods_are_time(void **state)
{
    static const uint32_t rates[] = {49, 99, 249, 499, 999};

    (void)state;
    for (size_t i = 0; i < BN_COUNT(rates); i++)
        for (int threads = 1; threads <= 2; threads++) {
            char number[2] = {(char)('0' + threads), 0}, *argv[] = {"truth_spin", "1200", "0", number, NULL};
            struct share shares[] = {{.function = ""}};
            struct bn_timer_options o = at_rate(rates[i]);
            struct run run;
            record(&run, &o, argv, 20);
            count(&run, shares, 1);
            double cpu_ns = (double)(run.end.user_ns + run.end.system_ns),
                   share = shares[0].periods_ns / cpu_ns;
            print_message(
                "# %u Hz asked, %u possible, %d threads: %.1f samples a second of CPU time, %.1f %% of "
                "it covered\n",
                rates[i], run.rate_hz, threads, (double)run.n_samples * 1e9 / cpu_ns, 100 * share);
            /* What a thread ran since its last sample dies with it: on a busy machine that can be much. */
            double room = 0.06 + 2 * shares[0].largest_ns / cpu_ns;
            if (share < 1 - room || share > 1 + room)
                fail_msg("%.1f %% of the CPU time is covered", 100 * share);
            assert_true(run.rate_hz <= rates[i]);
            free_run(&run);
        }
}

/* ---- threads ---- */

static void test_threads(void **state)
{
    char *argv[] = {"truth_threads", "200", NULL};
    struct bn_timer_options o = at_rate(999);
    struct bn_record r;
    struct bn_err err;
    struct run run;
    size_t forks = 0, exits = 0, brief = 0;
    double ms[2] = {0, 0}, largest_ms = 0;
    int32_t tids[2] = {0, 0};

    (void)state;
    record(&run, &o, argv, 20);
    for (size_t i = 0; i < run.n; i++) {
        assert_int_equal(bn_record_decode(&format, (const uint8_t *)run.records.p + run.moments[i], &r, &err),
                         0);
        forks += r.type == PERF_RECORD_FORK && r.pid == r.parent_pid && r.parent_tid == r.pid;
        exits += r.type == PERF_RECORD_EXIT;
        brief += r.type == PERF_RECORD_COMM && strcmp(r.text, "brief") == 0;
        for (size_t k = 0; k < 2; k++) {
            if (r.type == PERF_RECORD_COMM && strcmp(r.text, k ? "beta" : "alpha") == 0)
                tids[k] = r.tid;
            if (r.type == PERF_RECORD_SAMPLE && r.tid == tids[k]) {
                ms[k] += (double)r.period / 1e6;
                largest_ms = fmax(largest_ms, (double)r.period / 1e6);
            }
        }
    }
    print_message("# alpha %.0f, beta %.0f ms\n", ms[0], ms[1]);
    assert_int_equal(forks, 22);
    assert_true(exits >= 22);
    assert_int_equal(brief, 20); /* shorter than a period, and heard of all the same */
    assert_true(tids[0] && tids[1] && tids[0] != tids[1]);
    /* both do the same work; what shares a core runs at its own speed */
    assert_true(ms[0] > 50 && ms[1] > 50 && fabs(ms[0] - ms[1]) < 0.35 * (ms[0] + ms[1]) + 3 * largest_ms);
    free_run(&run);
}

/* One mode of truth_timers: undisturbed (status 0), and its functions hold what they spun; 0 ms = any time.
 */
static void run_mode(char *const mode[], const char *const *functions, const double *ms, size_t n)
{
    struct share shares[5] = {{0}};
    char *argv[] = {"truth_timers", mode[0], mode[1], mode[1] ? mode[2] : NULL, NULL};
    struct bn_timer_options o = at_rate(249);
    struct run run;

    for (size_t i = 0; i < n; i++)
        shares[i].function = functions[i];
    shares[n].function = "";
    double largest_ms = 0;
    record(&run, &o, argv, 20);
    if (run.end.exit_status != 0)
        fail_msg("truth_timers %s: status %d", mode[0], run.end.exit_status);
    count(&run, shares, n + 1);
    for (size_t i = 0; i <= n; i++) /* on a busy machine a sample can stand for much */
        largest_ms = fmax(largest_ms, shares[i].largest_ns / 1e6);
    for (size_t i = 0; i < n; i++) {
        double got_ms = shares[i].periods_ns / 1e6, room_ms = 0.08 * ms[i] + 10 + 3 * largest_ms;
        print_message("# %s: %s %.0f ms, expected %.0f\n", mode[0], functions[i], got_ms, ms[i]);
        if (ms[i] > 0 && fabs(got_ms - ms[i]) > room_ms)
            fail_msg("truth_timers %s: %s has %.0f ms, spun %.0f", mode[0], functions[i], got_ms, ms[i]);
    }
    assert_true(shares[n].periods_ns <= 0.08 * sum_of(shares, n) + 10e6 + 3e6 * largest_ms);
    free_run(&run);
}

static void test_blocked_signals(void **state)
{
    (void)state;
    run_mode((char *[]){"masked", NULL}, (const char *[]){"masked_work"}, (double[]){600}, 1);
}

static void test_own_alarms(void **state)
{
    (void)state;
    run_mode((char *[]){"alarms", NULL}, (const char *[]){"alarmed_work"}, (double[]){800}, 1);
}

static void test_signal_taken(void **state)
{
    (void)state;
    run_mode((char *[]){"taken", NULL}, (const char *[]){"taken_work"}, (double[]){600}, 1);
}

static void test_default_action(void **state)
{
    (void)state;
    run_mode((char *[]){"default", NULL}, NULL, NULL, 0);
}

static void test_fork(void **state)
{
    (void)state;
    run_mode((char *[]){"fork", NULL}, (const char *[]){"parent_work", "child_work"}, (double[]){500, 500},
             2);
}

static void test_exec(void **state)
{
    (void)state;
    run_mode((char *[]){"exec", NULL}, (const char *[]){"before_exec", "after_exec"}, (double[]){500, 500},
             2);
}

static void test_strange_stacks(void **state)
{
    (void)state;
    run_mode((char *[]){"stacks", NULL}, (const char *[]){"coroutine_work", "handler_work"},
             (double[]){400, 400}, 2);
}

static void test_swapped_libraries(void **state)
{
    char *one = program("swap_one.so"), *two = program("swap_two.so");

    (void)state;
    run_mode((char *[]){"swap", one, two}, (const char *[]){"work_of_one", "work_of_two"},
             (double[]){600, 600}, 2);
    free(one);
    free(two);
}

static void test_sudden_end(void **state)
{
    (void)state;
    run_mode((char *[]){"vanish", NULL}, (const char *[]){"child_work", "parent_work"}, (double[]){300, 0},
             2);
}

/* ---- loss ---- */

/* A ring that nobody reads holds a few samples; the rest is counted, and what it stood for too. */
static void test_full_ring(void **state)
{
    char *argv[] = {"truth_spin", "600", NULL};
    struct bn_timer_options o = at_rate(249);
    struct run run;

    (void)state;
    o.ring_bytes = 16384;
    record(&run, &o, argv, 60000);
    print_message("# %llu samples, %llu lost\n", (unsigned long long)run.n_samples,
                  (unsigned long long)run.n_lost);
    assert_true(run.n_samples > 0 && run.n_lost > 0);
    free_run(&run);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_shares),
        cmocka_unit_test(test_split),
        cmocka_unit_test(test_periods_are_time),
        cmocka_unit_test(test_threads),
        cmocka_unit_test(test_blocked_signals),
        cmocka_unit_test(test_own_alarms),
        cmocka_unit_test(test_signal_taken),
        cmocka_unit_test(test_default_action),
        cmocka_unit_test(test_fork),
        cmocka_unit_test(test_exec),
        cmocka_unit_test(test_strange_stacks),
        cmocka_unit_test(test_swapped_libraries),
        cmocka_unit_test(test_sudden_end),
        cmocka_unit_test(test_full_ring),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
