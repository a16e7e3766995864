/* SPDX-License-Identifier: MIT
 * Launch and sampler on a program whose CPU time is known: as many samples as its time asks for, at any rate;
 * loss is counted; refusals say why. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <errno.h>
#include <fcntl.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "profiler/launch.h"
#include "profiler/sampler.h"

static char spin_path[256], stop_path[256];
static bool refused;

static int find_programs(void **state)
{
    const char *build = getenv("BUILD");
    struct bn_ladder ladder;
    struct bn_ladder_options options = {.event = BN_EVENT_CPU_CLOCK, .rate_hz = 99, .stack_dump_bytes = 4096};
    struct bn_err err;

    (void)state;
    build = build ? build : "build/release";
    snprintf(spin_path, sizeof spin_path, "%s/tests/data/truth_spin", build);
    snprintf(stop_path, sizeof stop_path, "%s/tests/data/truth_stop", build);
    refused = bn_ladder_choose(&ladder, &options, 0, &err) != 0;
    if (refused)
        printf("# skipped: %s\n", err.msg);
    return access(spin_path, X_OK);
}

struct outcome {
    struct bn_launch_end end;
    struct bn_buf records;
    uint64_t n_samples, n_lost, n_throttled, n_damaged, period_ns;
    size_t ring_bytes;
    uint32_t n_records, rate_hz;
    bool kernel_sampled;
    struct perf_event_attr attr;
};

static struct bn_perf_options default_options(uint32_t rate_hz)
{
    return (struct bn_perf_options){.ladder = {.event = BN_EVENT_CPU_CLOCK,
                                               .rate_hz = rate_hz,
                                               .stack_dump_bytes = BN_STACK_DUMP_DEFAULT}};
}

/* All that the rings hold, in the order of time, copied to out->records. */
static void drain(struct bn_perf *s, struct outcome *out)
{
    struct bn_record_format format = {s->ladder.attr.sample_type, s->ladder.attr.sample_regs_user};
    struct bn_ring **rings = bn_xcalloc(s->n_rings, sizeof(struct bn_ring *));
    const uint8_t *record;
    struct bn_record r;

    for (size_t i = 0; i < s->n_rings; i++)
        rings[i] = &s->rings[i].ring;
    bn_perf_see(s);
    while ((record = bn_rings_next(rings, s->n_rings, &format, UINT64_MAX)) != NULL) {
        assert_int_equal(bn_record_decode(&format, record, &r, NULL), 0);
        out->n_records++;
        out->n_samples += r.type == PERF_RECORD_SAMPLE;
        out->n_throttled += r.type == PERF_RECORD_THROTTLE;
        bn_buf_put(&out->records, record, bn_record_size(record, UINT16_MAX));
    }
    bn_perf_release(s);
    free(rings);
}

/* Record argv; reads the rings while it runs, or only at the end. The caller frees out->records. */
static void record(struct outcome *out, const struct bn_perf_options *o, char *const argv[],
                   bool read_on_time)
{
    struct bn_launch_command command = {.file = argv[0], .argv = argv, .keep_fd = -1};
    struct bn_launch launch;
    struct bn_perf s;
    struct bn_err err = {{0}};

    *out = (struct outcome){0};
    assert_int_equal(bn_launch_start(&launch, &command, &err), 0);
    if (bn_perf_open(&s, o, launch.pid, &err) != 0)
        fail_msg("%s", err.msg);
    assert_int_equal(bn_launch_release(&launch, &command, &err), 0);
    while (!bn_launch_ended(&launch, &out->end)) {
        struct pollfd wait = {.fd = launch.pidfd, .events = POLLIN};
        poll(&wait, 1, 10);
        if (read_on_time)
            drain(&s, out);
    }
    bn_perf_stop(&s);
    drain(&s, out);
    out->n_lost = bn_perf_lost(&s);
    for (size_t i = 0; i < s.n_rings; i++)
        out->n_damaged += s.rings[i].ring.n_damaged;
    out->period_ns = s.ladder.attr.sample_period;
    out->ring_bytes = s.ring_bytes;
    out->rate_hz = s.rate_hz;
    out->kernel_sampled = s.ladder.kernel_sampled;
    out->attr = s.ladder.attr;
    bn_perf_close(&s);
    bn_launch_close(&launch);
}

static uint64_t seen_cpu_ns(const struct outcome *out)
{
    return out->end.user_ns + (out->kernel_sampled ? out->end.system_ns : 0);
}

/* Samples stand for the program's CPU time, whatever the rate and the number of threads. On a machine too
   busy to read in time some are lost, and those are counted. */
static void test_count_is_time_times_rate(void **state)
{
    static const uint32_t rates[] = {99, 499, 999, 4999};

    (void)state;
    if (refused)
        skip();
    for (size_t i = 0; i < BN_COUNT(rates); i++) {
        for (int threads = 1; threads <= 2; threads++) {
            char number[2] = {(char)('0' + threads), 0};
            char *argv[] = {spin_path, "500", "7", number, NULL};
            struct bn_perf_options o = default_options(rates[i]);
            struct outcome out;
            record(&out, &o, argv, true);
            double taken_ns = (double)(out.n_samples + out.n_lost) * (double)out.period_ns;
            double share = taken_ns / (double)seen_cpu_ns(&out);
            if (share < 0.75 || share > 1.25 || out.n_damaged)
                fail_msg("%u Hz, %d threads: %llu samples and %llu lost stand for %.0f %% of the CPU time",
                         rates[i], threads, (unsigned long long)out.n_samples, (unsigned long long)out.n_lost,
                         100 * share);
            assert_int_equal(out.end.exit_status, 7);
            assert_int_equal(out.rate_hz, rates[i]);
            bn_buf_free(&out.records);
        }
    }
}

static uint64_t load_u64(const char *p)
{
    uint64_t v;

    memcpy(&v, p, sizeof v);
    return v;
}

/* Every record is a valid perf record, and so is its dump. */
static void test_records_stay_valid(void **state)
{
    char *argv[] = {spin_path, "300", "0", "2", NULL};
    struct bn_perf_options o = default_options(999);
    struct outcome out;
    size_t at = 0;
    uint64_t samples = 0, mmaps = 0, comms = 0;
    uint32_t n = 0;

    (void)state;
    if (refused)
        skip();
    record(&out, &o, argv, true);
    for (; at < out.records.n; n++) {
        struct perf_event_header head;
        const char *record = out.records.p + at;
        memcpy(&head, record, sizeof head);
        assert_true(head.size >= sizeof head && head.size % 8 == 0 && head.size <= out.records.n - at);
        at += head.size;
        mmaps += head.type == PERF_RECORD_MMAP2;
        comms += head.type == PERF_RECORD_COMM && (head.misc & PERF_RECORD_MISC_COMM_EXEC);
        if (head.type != PERF_RECORD_SAMPLE)
            continue;
        samples++;
        size_t dump = 48;
        if (out.attr.sample_type & PERF_SAMPLE_CALLCHAIN)
            dump += 8 + 8 * load_u64(record + dump);
        dump += load_u64(record + dump) ? 8 + 8 * (size_t)__builtin_popcountll(out.attr.sample_regs_user) : 8;
        uint64_t size = load_u64(record + dump);
        assert_int_equal(head.size, dump + 8 + (size ? size + 8 : 0));
        if (size == 0)
            continue;
        uint64_t copied = load_u64(record + dump + 8 + size);
        assert_true(copied <= size);
        assert_true(size <= BN_STACK_DUMP_DEFAULT);
    }
    assert_int_equal(n, out.n_records);
    assert_int_equal(samples, out.n_samples);
    assert_true(samples > 100);
    assert_true(mmaps >= 3); /* program, libc, loader */
    assert_int_equal(comms, 1);
    bn_buf_free(&out.records);
}

static double switches_of_children(void)
{
    struct rusage usage;

    getrusage(RUSAGE_CHILDREN, &usage);
    return (double)usage.ru_nvcsw + (double)usage.ru_nivcsw;
}

/* A ring of 16 pages that nobody reads holds three dumps; all others are lost, and counted, and so are the
 * two records of each context switch. */
static void test_starved_ring_counts_its_loss(void **state)
{
    char *argv[] = {spin_path, "400", NULL};
    struct bn_perf_options o = default_options(999);
    struct outcome out;

    (void)state;
    if (refused)
        skip();
    o.ring_bytes = 16 * (size_t)sysconf(_SC_PAGESIZE);
    double switches = switches_of_children();
    record(&out, &o, argv, false);
    double expected = (double)seen_cpu_ns(&out) / (double)out.period_ns;
    double at_most = 1.3 * expected + 2 * (switches_of_children() - switches);
    assert_true(out.n_samples < 20);
    assert_true((double)out.n_lost > 0.6 * expected && (double)out.n_lost < at_most);
    assert_int_equal(out.n_damaged, 0);
    bn_buf_free(&out.records);
}

/* Rings wrap: a small one, which holds 28 samples, delivers more than that, across its end too. */
static void test_small_ring_wraps(void **state)
{
    char *argv[] = {spin_path, "400", NULL};
    struct bn_perf_options o = default_options(199);
    struct outcome out;

    (void)state;
    if (refused)
        skip();
    o.ring_bytes = 16 * (size_t)sysconf(_SC_PAGESIZE);
    o.ladder.stack_dump_bytes = 2048;
    record(&out, &o, argv, true);
    assert_int_equal(out.n_damaged, 0);
    assert_true(out.n_samples > 35 && out.n_samples + out.n_lost > 50);
    bn_buf_free(&out.records);
}

static void test_exec_failure(void **state)
{
    char *argv[] = {"/nonexistent/program", NULL};
    struct bn_launch_command command = {.file = argv[0], .argv = argv, .keep_fd = -1};
    struct bn_launch launch;
    struct bn_launch_end end;
    struct bn_err err;

    (void)state;
    assert_int_equal(bn_launch_start(&launch, &command, &err), 0);
    assert_int_equal(bn_launch_release(&launch, &command, &err), -1);
    assert_string_equal(err.msg, "/nonexistent/program: No such file or directory");
    assert_false(bn_launch_ended(&launch, &end));
    assert_int_equal(waitpid(-1, NULL, WNOHANG), -1); /* no child is left */
    bn_launch_close(&launch);
}

static void test_held_child_ends_with_us(void **state)
{
    char *argv[] = {spin_path, "10000", NULL};
    struct bn_launch_command command = {.file = argv[0], .argv = argv, .keep_fd = -1};
    struct bn_launch launch;
    struct bn_err err;

    (void)state;
    assert_int_equal(bn_launch_start(&launch, &command, &err), 0);
    bn_launch_close(&launch);
    assert_int_equal(kill(launch.pid, 0), -1);
    assert_int_equal(waitpid(-1, NULL, WNOHANG), -1);
}

static void test_ended_by_a_signal(void **state)
{
    char *argv[] = {stop_path, "1", "11", NULL};
    struct bn_launch_command command = {.file = argv[0], .argv = argv, .keep_fd = -1};
    struct bn_launch launch;
    struct bn_launch_end end;
    struct bn_err err;
    int saved = dup(1), null = open("/dev/null", O_WRONLY);

    (void)state;
    fflush(stdout);
    dup2(null, 1);
    assert_int_equal(bn_launch_start(&launch, &command, &err), 0);
    assert_int_equal(bn_launch_release(&launch, &command, &err), 0);
    dup2(saved, 1);
    close(saved);
    close(null);
    while (!bn_launch_ended(&launch, &end))
        usleep(1000);
    assert_int_equal(end.exit_status, 128 + SIGSEGV);
    bn_launch_close(&launch);
}

/* The attributes are part of what a recording means: any change is deliberate. */
static void test_attributes(void **state)
{
    struct bn_ladder_options o = {.rate_hz = 999, .stack_dump_bytes = 16384};
    struct perf_event_attr a;

    (void)state;
    bn_ladder_attr(&a, &o, false, true);
    assert_int_equal(a.type, PERF_TYPE_SOFTWARE);
    assert_int_equal(a.config, PERF_COUNT_SW_CPU_CLOCK);
    assert_int_equal(a.freq, 0);
    assert_int_equal(a.sample_period, 1001001);
    assert_int_equal(a.sample_type & ~(uint64_t)(PERF_SAMPLE_REGS_USER | PERF_SAMPLE_STACK_USER),
                     PERF_SAMPLE_IP | PERF_SAMPLE_TID | PERF_SAMPLE_TIME | PERF_SAMPLE_CPU |
                         PERF_SAMPLE_PERIOD | PERF_SAMPLE_CALLCHAIN);
    assert_int_equal(a.exclude_kernel, 0);
    assert_int_equal(a.exclude_callchain_kernel, 0);
    assert_int_equal(a.exclude_callchain_user, 0); /* finishes stacks that the copy cut off */
    assert_int_equal(a.sample_stack_user, 16384);
    assert_true(a.disabled && a.enable_on_exec && a.inherit && a.exclude_hv && a.sample_id_all && a.mmap &&
                a.mmap2 && a.build_id && a.comm && a.comm_exec && a.task && a.use_clockid);
    assert_int_equal(a.clockid, 1); /* CLOCK_MONOTONIC */
    assert_int_equal(a.read_format, PERF_FORMAT_TOTAL_TIME_RUNNING | PERF_FORMAT_LOST);

    o.copy_only = true;
    bn_ladder_attr(&a, &o, false, true);
    assert_int_equal(a.exclude_callchain_user, 1); /* nothing is cut off */
    assert_int_equal(a.exclude_callchain_kernel, 0);

    bn_ladder_attr(&a, &o, true, false);
    assert_int_equal(a.type, PERF_TYPE_HARDWARE);
    assert_int_equal(a.freq, 1);
    assert_int_equal(a.sample_freq, 999);
    assert_int_equal(a.exclude_kernel, 1);
    assert_int_equal(a.sample_type & PERF_SAMPLE_CALLCHAIN, PERF_SAMPLE_CALLCHAIN);

    o.frame_pointers = true;
    bn_ladder_attr(&a, &o, false, false);
    assert_int_equal(a.sample_type & (PERF_SAMPLE_REGS_USER | PERF_SAMPLE_STACK_USER | PERF_SAMPLE_CALLCHAIN),
                     PERF_SAMPLE_CALLCHAIN);
    assert_int_equal(a.exclude_callchain_user, 0);
    assert_int_equal(a.exclude_callchain_kernel, 1);
    assert_int_equal(a.sample_stack_user, 0);
}

static void test_refusals_say_why(void **state)
{
    struct bn_ladder_host host = {.paranoid = 3, .seccomp = 0};
    struct bn_err err;

    (void)state;
    assert_int_equal(bn_ladder_refuse(&err, EACCES, false, &host), -1);
    assert_non_null(strstr(err.msg, "kernel.perf_event_paranoid=2"));
    assert_non_null(strstr(err.msg, "Permission denied"));
    host.paranoid = 2;
    host.seccomp = 2;
    bn_ladder_refuse(&err, EPERM, false, &host);
    assert_non_null(strstr(err.msg, "--cap-add PERFMON"));
    assert_non_null(strstr(err.msg, "seccomp active"));
    bn_ladder_refuse(&err, ENOSYS, false, &host);
    assert_non_null(strstr(err.msg, "seccomp filter hides"));
    host.seccomp = 0;
    bn_ladder_refuse(&err, ENOSYS, false, &host);
    assert_non_null(strstr(err.msg, "CONFIG_PERF_EVENTS"));
    bn_ladder_refuse(&err, EPERM, false, &host);
    assert_non_null(strstr(err.msg, "security module"));
    bn_ladder_refuse(&err, ENOENT, true, &host);
    assert_non_null(strstr(err.msg, "--event cpu-clock"));
    bn_ladder_refuse(&err, EMFILE, false, &host);
    assert_non_null(strstr(err.msg, "ulimit -n"));
}

/* In a process of its own: forbid the call as a container's filter does, and see the sentence. */
static void test_blocked_by_seccomp(void **state)
{
    struct sock_filter code[] = {
        BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr)),
        BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_perf_event_open, 0, 1),
        BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ERRNO | EPERM),
        BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
    };
    struct sock_fprog program = {.len = BN_COUNT(code), .filter = code};
    struct bn_ladder_options o = {.rate_hz = 99, .stack_dump_bytes = 4096};
    int status;

    (void)state;
    pid_t pid = fork();
    if (pid == 0) {
        struct bn_ladder ladder;
        struct bn_err err;
        if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) != 0 ||
            prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &program) != 0)
            _exit(77);
        bool good = bn_ladder_choose(&ladder, &o, 0, &err) == 0 && ladder.event == BN_EVENT_TIMER &&
                    strstr(ladder.steps, "seccomp active") && strstr(ladder.steps, "Operation not permitted");
        o.event = BN_EVENT_CPU_CLOCK;
        good = good && bn_ladder_choose(&ladder, &o, 0, &err) == -1 && strstr(err.msg, "seccomp active");
        _exit(good ? 0 : 1);
    }
    assert_int_equal(waitpid(pid, &status, 0), pid);
    if (status == 77 << 8) {
        printf("# skipped: seccomp filters are not available here\n");
        skip();
    }
    assert_int_equal(status, 0);
}

/* An ordinary user gets the step below, and is told what it does not see. */
static void test_ordinary_user(void **state)
{
    struct bn_ladder_host host;
    int status;

    (void)state;
    bn_ladder_read_host(&host);
    if (refused || geteuid() != 0 || host.paranoid != 2) {
        printf("# skipped: needs root, to become an ordinary user, and kernel.perf_event_paranoid=2\n");
        skip();
    }
    pid_t pid = fork();
    if (pid == 0) {
        struct bn_ladder_options o = {.rate_hz = 99, .stack_dump_bytes = 4096};
        struct bn_ladder ladder;
        struct bn_err err;
        if (setgid(65534) != 0 || setuid(65534) != 0)
            _exit(1);
        bool good = bn_ladder_choose(&ladder, &o, 0, &err) == 0 && !ladder.kernel_sampled &&
                    ladder.attr.exclude_kernel && strstr(ladder.sentence, "time in the kernel is not seen");
        _exit(good ? 0 : 1);
    }
    assert_int_equal(waitpid(pid, &status, 0), pid);
    assert_int_equal(status, 0);
}

static void test_rate_is_clamped(void **state)
{
    char *argv[] = {spin_path, "20", NULL};
    struct bn_ladder_host host;
    struct outcome out;

    (void)state;
    bn_ladder_read_host(&host);
    if (refused || host.max_rate_hz == 0)
        skip();
    struct bn_perf_options o = default_options(host.max_rate_hz + 1);
    o.ladder.stack_dump_bytes = 1024;
    record(&out, &o, argv, true);
    assert_int_equal(out.rate_hz, host.max_rate_hz);
    bn_buf_free(&out.records);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_count_is_time_times_rate),
        cmocka_unit_test(test_records_stay_valid),
        cmocka_unit_test(test_starved_ring_counts_its_loss),
        cmocka_unit_test(test_small_ring_wraps),
        cmocka_unit_test(test_exec_failure),
        cmocka_unit_test(test_held_child_ends_with_us),
        cmocka_unit_test(test_ended_by_a_signal),
        cmocka_unit_test(test_attributes),
        cmocka_unit_test(test_refusals_say_why),
        cmocka_unit_test(test_blocked_by_seccomp),
        cmocka_unit_test(test_ordinary_user),
        cmocka_unit_test(test_rate_is_clamped),
    };

    return cmocka_run_group_tests(tests, find_programs, NULL);
}
