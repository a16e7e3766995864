/* SPDX-License-Identifier: MIT
 * truth_stop CPU_MS [SIGNAL]: spin for so much CPU time, then raise SIGNAL. SIGINT ends it with status 42,
 * SIGTERM with 43, after it has said so on stdout; a second signal is not needed. */
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>
#include <unistd.h>

static volatile sig_atomic_t got;

static void on_signal(int sig)
{
    got = sig;
}

static uint64_t cpu_ns(void)
{
    struct timespec t;

    clock_gettime(CLOCK_THREAD_CPUTIME_ID, &t);
    return (uint64_t)t.tv_sec * 1000000000u + (uint64_t)t.tv_nsec;
}

int main(int argc, char **argv)
{
    volatile uint64_t x = 1;

    if (argc < 2)
        return 2;
    signal(SIGINT, on_signal);
    signal(SIGTERM, on_signal);
    printf("ready %d\n", (int)getpid());
    fflush(stdout);
    for (uint64_t end_ns = cpu_ns() + strtoull(argv[1], NULL, 10) * 1000000u; !got && cpu_ns() < end_ns;)
        for (int i = 0; i < 20000; i++)
            x = x * 6364136223846793005u + 1;
    if (got) {
        printf("signal %d\n", (int)got);
        return got == SIGINT ? 42 : 43;
    }
    if (argc > 2)
        raise(atoi(argv[2]));
    return 0;
}
