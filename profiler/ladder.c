/* SPDX-License-Identifier: MIT
 * Attributes for each step of the permission ladder, the way down, and the sentence when it leads nowhere. */
#include "profiler/ladder.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#include "profiler/timer_region.h"

/* The user registers that an unwinder can need. x86-64: all general ones; the segment registers DS to GS,
 * bits 12 to 15, are refused by the kernel. */
#if defined __x86_64__
#define REGS_USER 0xff0fffull
#elif defined __aarch64__
#define REGS_USER 0x1ffffffffull
#else
#error "bnprof records on x86-64 and aarch64"
#endif

__attribute__((weak)) int bn_ladder_open(struct perf_event_attr *attr, pid_t pid, int cpu)
{
    return (int)syscall(SYS_perf_event_open, attr, pid, cpu, -1, PERF_FLAG_FD_CLOEXEC);
}

const char *bn_ladder_event_name(enum bn_ladder_event event)
{
    static const char *const names[] = {[BN_EVENT_AUTO] = "auto",
                                        [BN_EVENT_CYCLES] = "cycles",
                                        [BN_EVENT_CPU_CLOCK] = "cpu-clock",
                                        [BN_EVENT_TIMER] = "timer"};
    return names[event];
}

bool bn_ladder_event_find(const char *name, enum bn_ladder_event *event)
{
    for (enum bn_ladder_event e = BN_EVENT_AUTO; e <= BN_EVENT_TIMER; e++)
        if (strcmp(name, bn_ladder_event_name(e)) == 0) {
            *event = e;
            return true;
        }
    return false;
}

void bn_ladder_attr(struct perf_event_attr *attr, const struct bn_ladder_options *o, bool cycles, bool kernel)
{
    *attr = (struct perf_event_attr){
        .size = sizeof *attr,
        .type = cycles ? PERF_TYPE_HARDWARE : PERF_TYPE_SOFTWARE,
        .config = cycles ? (uint64_t)PERF_COUNT_HW_CPU_CYCLES : (uint64_t)PERF_COUNT_SW_CPU_CLOCK,
        .sample_type =
            PERF_SAMPLE_IP | PERF_SAMPLE_TID | PERF_SAMPLE_TIME | PERF_SAMPLE_CPU | PERF_SAMPLE_PERIOD,
        .read_format = PERF_FORMAT_TOTAL_TIME_RUNNING | PERF_FORMAT_LOST,
        .disabled = !o->attach,
        .enable_on_exec = !o->attach,
        .inherit = 1,
        .exclude_kernel = !kernel,
        .exclude_hv = 1,
        .sample_id_all = 1,
        .mmap = 1,
        .mmap2 = 1,
        .build_id = 1,
        .comm = 1,
        .comm_exec = 1,
        .task = 1,
        .context_switch = 1,
        .use_clockid = 1,
        .clockid = CLOCK_MONOTONIC,
        .watermark = 1, /* with 0 bytes: wake the reader when half of the ring is full */
    };
    if (cycles) {
        attr->freq = 1;
        attr->sample_freq = o->rate_hz;
    } else { /* a timer: the kernel would turn a frequency into this period, rounded down */
        attr->sample_period = (1000000000u + o->rate_hz / 2) / o->rate_hz;
    }
    /* The kernel's walk by frame pointers: the whole stack in that mode; else kernel frames, and the user
     * frames that lie behind the end of the copied stack, if there can be any. */
    attr->sample_type |= PERF_SAMPLE_CALLCHAIN;
    attr->exclude_callchain_kernel = !kernel;
    attr->exclude_callchain_user = o->copy_only && !o->frame_pointers;
    if (!o->frame_pointers) {
        attr->sample_type |= PERF_SAMPLE_REGS_USER | PERF_SAMPLE_STACK_USER;
        attr->sample_regs_user = REGS_USER;
        attr->sample_stack_user = o->stack_dump_bytes;
    }
}

/* ---- the host ---- */

static long read_number(const char *path, long unknown)
{
    FILE *f = fopen(path, "re");
    long value;

    if (!f)
        return unknown;
    if (fscanf(f, "%ld", &value) != 1)
        value = unknown;
    fclose(f);
    return value;
}

void bn_ladder_read_host(struct bn_ladder_host *host)
{
    enum { CAPABILITY_SYS_ADMIN = 21, CAPABILITY_PERFMON = 38 };
    char line[256];
    unsigned long long bits;

    *host = (struct bn_ladder_host){.seccomp = -1, .root = geteuid() == 0};
    host->paranoid = (int)read_number("/proc/sys/kernel/perf_event_paranoid", -1);
    long rate = read_number("/proc/sys/kernel/perf_event_max_sample_rate", 0);
    host->max_rate_hz = rate > 0 && rate <= UINT32_MAX ? (uint32_t)rate : 0;
    FILE *f = fopen("/proc/self/status", "re");
    while (f && fgets(line, sizeof line, f)) {
        if (sscanf(line, "CapEff: %llx", &bits) == 1)
            host->capable = (bits >> CAPABILITY_PERFMON & 1) || (bits >> CAPABILITY_SYS_ADMIN & 1);
        else if (strncmp(line, "Seccomp:", 8) == 0)
            host->seccomp = atoi(line + 8);
    }
    if (f)
        fclose(f);
}

/* ---- refused ---- */

static const char *remedy(int why, const struct bn_ladder_host *host)
{
    switch (why) {
    case ENOSYS:
        return host->seccomp > 0
                   ? "a seccomp filter hides the call: start the container with --cap-add PERFMON or a "
                     "--security-opt seccomp=FILE that allows perf_event_open"
                   : "this kernel has no perf events: it needs CONFIG_PERF_EVENTS=y";
    case EACCES:
    case EPERM:
        if (host->paranoid > 2 && !host->capable)
            return "ordinary users are shut out: run `sudo sysctl kernel.perf_event_paranoid=2`, or give "
                   "bnprof "
                   "CAP_PERFMON (in a container --cap-add PERFMON)";
        if (host->seccomp > 0)
            return "a seccomp filter forbids the call (a container's default): start it with --cap-add "
                   "PERFMON or a "
                   "--security-opt seccomp=FILE that allows perf_event_open";
        return "neither the paranoid level nor a seccomp filter explains it: a security module (SELinux, "
               "AppArmor, "
               "lockdown) forbids it, ask for CAP_PERFMON";
    case EMFILE:
    case ENFILE:
        return "too few file descriptors, one is needed for each CPU: raise `ulimit -n`";
    case ENOENT:
    case ENODEV:
    case EOPNOTSUPP:
        return "the event does not exist on this machine";
    default:
        return "the kernel does not accept this event; kernels from 4.1 on should";
    }
}

int bn_ladder_refuse(struct bn_err *err, int why, bool cycles, const struct bn_ladder_host *host)
{
    char paranoid[16] = "unknown";

    if (cycles && (why == ENOENT || why == ENODEV || why == EOPNOTSUPP))
        return bn_err_set(
            err,
            "cycles: %s: this machine has no hardware counters (a virtual machine without them?); "
            "use --event cpu-clock",
            strerror(why));
    if (host->paranoid != -1)
        snprintf(paranoid, sizeof paranoid, "%d", host->paranoid);
    return bn_err_set(err, "perf events are refused (%s; kernel.perf_event_paranoid %s, seccomp %s): %s",
                      strerror(why), paranoid,
                      host->seccomp > 0    ? "active"
                      : host->seccomp == 0 ? "off"
                                           : "unknown",
                      remedy(why, host));
}

/* ---- the climb ---- */

/* Open and close once. Kernels that lack a newer extra refuse the whole: drop the extras, newest first. */
static int try_step(struct perf_event_attr *attr, pid_t pid)
{
    for (;;) {
        int fd = bn_ladder_open(attr, pid, -1);
        if (fd >= 0) {
            close(fd);
            return 0;
        }
        if (errno != EINVAL && errno != E2BIG)
            return errno;
        if (attr->read_format & PERF_FORMAT_LOST)
            attr->read_format &= ~(uint64_t)PERF_FORMAT_LOST; /* 6.0 */
        else if (attr->build_id)
            attr->build_id = 0; /* 5.12 */
        else
            return errno;
    }
}

/* With kernel code if that is allowed, else without. Returns 0 or the errno that counts. */
static int try_event(struct bn_ladder *l, const struct bn_ladder_options *o, pid_t pid,
                     enum bn_ladder_event event)
{
    int why = 0;

    for (int kernel = 1; kernel >= 0; kernel--) {
        bn_ladder_attr(&l->attr, o, event == BN_EVENT_CYCLES, kernel);
        why = try_step(&l->attr, pid);
        if (why == 0) {
            l->event = event;
            l->kernel_sampled = kernel;
            return 0;
        }
        if (why != EACCES && why != EPERM)
            return why;
    }
    return why;
}

static uint64_t thread_ns(void)
{
    struct timespec t;

    clock_gettime(CLOCK_THREAD_CPUTIME_ID, &t);
    return (uint64_t)t.tv_sec * 1000000000u + (uint64_t)t.tv_nsec;
}

/* What a counter says of 5 ms of work: cycles, and for how long it was wanted and did run. */
struct cycles {
    uint64_t count, enabled_ns, running_ns;
};

static int count_cycles(struct cycles *first, struct cycles *last, uint64_t *cpu_ns)
{
    struct perf_event_attr attr = {.size = sizeof attr,
                                   .type = PERF_TYPE_HARDWARE,
                                   .config = PERF_COUNT_HW_CPU_CYCLES,
                                   .read_format =
                                       PERF_FORMAT_TOTAL_TIME_ENABLED | PERF_FORMAT_TOTAL_TIME_RUNNING,
                                   .exclude_kernel = 1,
                                   .exclude_hv = 1};
    int fd = bn_ladder_open(&attr, 0, -1);
    uint64_t start_ns = thread_ns(), end_ns;

    if (fd < 0)
        return errno;
    bool counted = read(fd, first, sizeof *first) == (ssize_t)sizeof *first;
    do
        end_ns = thread_ns();
    while (end_ns - start_ns < 5000000);
    counted = counted && read(fd, last, sizeof *last) == (ssize_t)sizeof *last;
    close(fd);
    *cpu_ns = end_ns - start_ns;
    return counted ? 0 : EIO;
}

/* Some virtual machines offer a counter that does not count. 5 ms of work must show 0.2 to 6 cycles a ns, by
 * a counter that had them all. Returns false with the reason. */
static bool cycles_are_plausible(char *why, size_t size)
{
    struct cycles first = {0}, last = {0};
    uint64_t cpu_ns = 0;
    int error = count_cycles(&first, &last, &cpu_ns);

    if (error == ENOENT || error == ENODEV || error == EOPNOTSUPP) {
        snprintf(why, size, "this machine offers no hardware counter (%s)", strerror(error));
        return false;
    }
    if (error) {
        snprintf(why, size, "the hardware counter cannot be opened or read (%s)", strerror(error));
        return false;
    }
    uint64_t enabled_ns = last.enabled_ns - first.enabled_ns, running_ns = last.running_ns - first.running_ns;
    double per_ns = (double)(last.count - first.count) / (double)cpu_ns;
    if (last.count <= first.count || per_ns < 0.2 || per_ns > 6)
        snprintf(why, size, "the hardware counter is not to be believed: %.3g cycles a nanosecond", per_ns);
    else if (enabled_ns != running_ns)
        snprintf(why, size, "the hardware counter is shared: it ran for %.0f %% of the time",
                 enabled_ns ? 100.0 * (double)running_ns / (double)enabled_ns : 0.0);
    else
        return true;
    return false;
}

/* ---- what was chosen, in words ---- */

static void step_down(struct bn_ladder *l, const char *from, const char *why, const char *to)
{
    size_t n = strlen(l->steps);

    snprintf(l->steps + n, sizeof l->steps - n, "%s: %s; %s instead\n", from, why, to);
}

static void describe(struct bn_ladder *l, const struct bn_ladder_host *host)
{
    const char *event = bn_ladder_event_name(l->event);
    size_t n;

    if (l->event == BN_EVENT_TIMER)
        snprintf(l->sentence, sizeof l->sentence,
                 "CPU timers inside the program: kernel code is not shown, its time counts for the user code "
                 "that called it");
    else if (l->kernel_sampled)
        snprintf(l->sentence, sizeof l->sentence, "%s in user and kernel code, %s", event,
                 host->root      ? "as root"
                 : host->capable ? "by CAP_PERFMON"
                                 : "allowed to every user by kernel.perf_event_paranoid");
    else
        snprintf(l->sentence, sizeof l->sentence, "%s in user code only", event);
    n = strlen(l->sentence);
    for (const char *line = l->steps; *line; line = strchr(line, '\n') + 1)
        n += (size_t)snprintf(l->sentence + n, sizeof l->sentence - n, ". %.*s", (int)strcspn(line, "\n"),
                              line);
}

/* The records that timers write: never opened, only decoded. */
static void choose_timer(struct bn_ladder *l, const struct bn_ladder_options *o)
{
    l->event = BN_EVENT_TIMER;
    l->attr = (struct perf_event_attr){.size = sizeof l->attr,
                                       .sample_type = BN_TIMER_SAMPLE_TYPE,
                                       .sample_regs_user = BN_TIMER_REGS,
                                       .sample_stack_user = o->stack_dump_bytes,
                                       .sample_period = (1000000000u + o->rate_hz / 2) / o->rate_hz,
                                       .exclude_kernel = 1};
}

/* Too few descriptors, or a process that is gone: timers would not mend that. */
static bool is_refusal(int why)
{
    return why != EMFILE && why != ENFILE && why != ESRCH && why != ENOMEM;
}

/* --event auto: from cycles to cpu-clock to timers. Returns 0 or the errno that ends it. */
static int go_down(struct bn_ladder *l, const struct bn_ladder_options *o, pid_t pid,
                   const struct bn_ladder_host *host)
{
    char reason[256];
    struct bn_err refusal;
    int why;

    if (cycles_are_plausible(reason, sizeof reason)) {
        why = try_event(l, o, pid, BN_EVENT_CYCLES);
        if (why == 0)
            return 0;
        snprintf(reason, sizeof reason, "the hardware counter can count, but not sample (%s)", strerror(why));
    }
    why = try_event(l, o, pid, BN_EVENT_CPU_CLOCK);
    if (why == 0) {
        step_down(l, "cycles", reason, "sampling cpu-clock");
        return 0;
    }
    if (!is_refusal(why) || o->attach) /* timers cannot be brought into a program that runs already */
        return why;
    bn_ladder_refuse(&refusal, why, false, host);
    step_down(l, "perf_event_open", refusal.msg, "sampling by CPU timers inside the program");
    choose_timer(l, o);
    return 0;
}

int bn_ladder_choose(struct bn_ladder *l, const struct bn_ladder_options *o, pid_t pid, struct bn_err *err)
{
    struct bn_ladder_host host;
    char reason[128];
    int why = 0;

    *l = (struct bn_ladder){0};
    bn_ladder_read_host(&host);
    if (o->event == BN_EVENT_AUTO)
        why = go_down(l, o, pid, &host);
    else if (o->event == BN_EVENT_TIMER && o->attach)
        return bn_err_set(err,
                          "CPU timers cannot be brought into a program that runs already: start it under "
                          "bnprof record");
    else if (o->event == BN_EVENT_TIMER)
        choose_timer(l, o);
    else
        why = try_event(l, o, pid, o->event);
    if (why != 0)
        return bn_ladder_refuse(err, why, o->event == BN_EVENT_CYCLES, &host);
    if (l->event != BN_EVENT_TIMER && !l->kernel_sampled) {
        snprintf(reason, sizeof reason, "%s may not sample it (kernel.perf_event_paranoid %d)",
                 host.root ? "root without CAP_PERFMON" : "an ordinary user", host.paranoid);
        step_down(l, "kernel code", reason, "user code only, time in the kernel is not seen");
    }
    describe(l, &host);
    return 0;
}
