/* SPDX-License-Identifier: MIT
 * Loaded before bnprof by tests/cli/test_quality.sh, for what a test cannot bring about on the machine
 * itself: REPLACED_PERIOD=N   every perf event samples N times less often than it is asked to
 *   REPLACED_STEAL=PCT  /proc/stat tells that this share of the time went to other guests; 0 = none at all
 * It stays out of the programs that bnprof starts. */
#include <dlfcn.h>
#include <linux/perf_event.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

__attribute__((constructor)) static void stay_out_of_children(void)
{
    unsetenv("LD_PRELOAD");
}

long syscall(long number, ...)
{
    static long (*real)(long, ...);
    const char *factor = getenv("REPLACED_PERIOD");
    struct perf_event_attr attr;
    long a[6];
    va_list args;

    va_start(args, number);
    for (int i = 0; i < 6; i++)
        a[i] = va_arg(args, long);
    va_end(args);
    if (!real)
        *(void **)&real = dlsym(RTLD_NEXT, "syscall");
    if (number == SYS_perf_event_open && factor) {
        memcpy(&attr, (void *)a[0], sizeof attr);
        attr.sample_period *= strtoull(factor, NULL, 10);
        return real(number, &attr, a[1], a[2], a[3], a[4], a[5]);
    }
    return real(number, a[0], a[1], a[2], a[3], a[4], a[5]);
}

/* The first line of /proc/stat: user nice system idle iowait irq softirq steal. Time passes by 10,000 ticks
 * from one look to the next. */
FILE *fopen(const char *path, const char *mode)
{
    static FILE *(*real)(const char *, const char *);
    static unsigned long looks;
    static char text[256];
    const char *steal = getenv("REPLACED_STEAL");

    if (!real)
        *(void **)&real = dlsym(RTLD_NEXT, "fopen");
    if (!steal || strcmp(path, "/proc/stat") != 0)
        return real(path, mode);
    unsigned long share = strtoul(steal, NULL, 10) * 100, n = ++looks;
    int length =
        snprintf(text, sizeof text, "cpu  %lu 0 0 0 0 0 0 %lu 0 0\n", (10000 - share) * n, share * n);
    return fmemopen(text, (size_t)length, "r");
}
