/* SPDX-License-Identifier: MIT
 * Attributes for each step of the permission ladder, the climb, and the sentence when it leads nowhere. */
#include "profiler/ladder.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

/* The user registers that an unwinder can need. x86-64: all general ones; the segment registers DS to GS,
 * bits 12 to 15, are refused by the kernel. */
#if defined __x86_64__
#define REGS_USER 0xff0fffull
#elif defined __aarch64__
#define REGS_USER 0x1ffffffffull
#else
#error "bnprof records on x86-64 and aarch64"
#endif

int bn_ladder_open(struct perf_event_attr *attr, pid_t pid, int cpu)
{
    return (int)syscall(SYS_perf_event_open, attr, pid, cpu, -1, PERF_FLAG_FD_CLOEXEC);
}

void bn_ladder_attr(struct perf_event_attr *attr, const struct bn_ladder_options *o, bool cycles, bool kernel)
{
    *attr = (struct perf_event_attr){
        .size = sizeof *attr,
        .type = cycles ? PERF_TYPE_HARDWARE : PERF_TYPE_SOFTWARE,
        .config = cycles ? (uint64_t)PERF_COUNT_HW_CPU_CYCLES : (uint64_t)PERF_COUNT_SW_CPU_CLOCK,
        .sample_type =
            PERF_SAMPLE_IP | PERF_SAMPLE_TID | PERF_SAMPLE_TIME | PERF_SAMPLE_CPU | PERF_SAMPLE_PERIOD,
        .read_format = PERF_FORMAT_LOST,
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
     * frames that lie behind the end of the copied stack. */
    attr->sample_type |= PERF_SAMPLE_CALLCHAIN;
    attr->exclude_callchain_kernel = !kernel;
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
        if (attr->read_format)
            attr->read_format = 0; /* 6.0 */
        else if (attr->build_id)
            attr->build_id = 0; /* 5.12 */
        else
            return errno;
    }
}

/* With kernel code if that is allowed, else without. Returns 0 or the errno that counts. */
static int try_event(struct bn_ladder *l, const struct bn_ladder_options *o, pid_t pid, bool cycles)
{
    int why = 0;

    for (int kernel = 1; kernel >= 0; kernel--) {
        bn_ladder_attr(&l->attr, o, cycles, kernel);
        why = try_step(&l->attr, pid);
        if (why == 0) {
            l->cycles = cycles;
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

/* Some virtual machines offer a counter that does not count. 5 ms of work must show 0.2 to 10 cycles a ns. */
static bool cycles_are_plausible(void)
{
    struct perf_event_attr attr = {.size = sizeof attr,
                                   .type = PERF_TYPE_HARDWARE,
                                   .config = PERF_COUNT_HW_CPU_CYCLES,
                                   .exclude_kernel = 1,
                                   .exclude_hv = 1};
    int fd = bn_ladder_open(&attr, 0, -1);
    uint64_t first = 0, last = 0, start_ns = thread_ns(), end_ns;

    if (fd < 0)
        return false;
    bool counted = read(fd, &first, sizeof first) == (ssize_t)sizeof first;
    do
        end_ns = thread_ns();
    while (end_ns - start_ns < 5000000);
    counted = counted && read(fd, &last, sizeof last) == (ssize_t)sizeof last;
    close(fd);
    double per_ns = (double)(last - first) / (double)(end_ns - start_ns);
    return counted && per_ns > 0.2 && per_ns < 10;
}

static void describe(struct bn_ladder *l, const struct bn_ladder_host *host)
{
    const char *event = l->cycles ? "cycles" : "cpu-clock";

    if (l->kernel_sampled)
        snprintf(l->sentence, sizeof l->sentence, "%s in user and kernel code, %s", event,
                 host->root      ? "as root"
                 : host->capable ? "by CAP_PERFMON"
                                 : "allowed to every user by kernel.perf_event_paranoid");
    else
        snprintf(l->sentence, sizeof l->sentence,
                 "%s in user code only: time in the kernel is not seen (%s, kernel.perf_event_paranoid %d)",
                 event, host->root ? "root without CAP_PERFMON" : "as an ordinary user", host->paranoid);
}

int bn_ladder_choose(struct bn_ladder *l, const struct bn_ladder_options *o, pid_t pid, struct bn_err *err)
{
    struct bn_ladder_host host;
    bool cycles = o->event == BN_EVENT_CYCLES || (o->event == BN_EVENT_AUTO && cycles_are_plausible());

    *l = (struct bn_ladder){0};
    bn_ladder_read_host(&host);
    int why = try_event(l, o, pid, cycles);
    if (why != 0 && cycles && o->event == BN_EVENT_AUTO) {
        cycles = false;
        why = try_event(l, o, pid, cycles);
    }
    if (why != 0)
        return bn_ladder_refuse(err, why, cycles, &host);
    describe(l, &host);
    return 0;
}
