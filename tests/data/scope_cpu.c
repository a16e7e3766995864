/* SPDX-License-Identifier: MIT
 * Marks its stages and measures them itself, by the thread's CPU clock and the wall clock, inside each scope.
 * Prints "STAGE CPU_NS WALL_NS" summed over threads. Built by tests/cli/test_scopes.sh with the installed
 * library. */
#include <bnprof/scope.h>
#include <pthread.h>
#include <stdint.h>
#include <stdio.h>
#include <time.h>

enum { STAGES = 3, ROUNDS = 60 };

static struct bnprof_stage stages[STAGES] = {BNPROF_STAGE("large"), BNPROF_STAGE("middle"),
                                             BNPROF_STAGE("small")};
static const uint64_t cpu_wanted_ns[STAGES] = {3500000, 1000000, 500000};
static uint64_t cpu_ns[STAGES], wall_ns[STAGES];

static uint64_t clock_ns(clockid_t clock)
{
    struct timespec t;

    clock_gettime(clock, &t);
    return (uint64_t)t.tv_sec * 1000000000u + (uint64_t)t.tv_nsec;
}

static void burn(int stage)
{
    BNPROF_SCOPE_OF(&stages[stage]);
    uint64_t wall0 = clock_ns(CLOCK_MONOTONIC), cpu0 = clock_ns(CLOCK_THREAD_CPUTIME_ID), cpu1;
    volatile double x = 1;

    do {
        for (int i = 0; i < 2000; i++)
            x = x * 0.5 + 1;
        cpu1 = clock_ns(CLOCK_THREAD_CPUTIME_ID);
    } while (cpu1 - cpu0 < cpu_wanted_ns[stage]);
    __atomic_fetch_add(&cpu_ns[stage], cpu1 - cpu0, __ATOMIC_RELAXED);
    __atomic_fetch_add(&wall_ns[stage], clock_ns(CLOCK_MONOTONIC) - wall0, __ATOMIC_RELAXED);
}

static void *work(void *unused)
{
    (void)unused;
    for (int round = 0; round < ROUNDS; round++) {
        BNPROF_SCOPE("round");
        for (int stage = 0; stage < STAGES; stage++)
            burn(stage);
    }
    return NULL;
}

int main(void)
{
    pthread_t thread;

    if (pthread_create(&thread, NULL, work, NULL) != 0)
        return 1;
    work(NULL);
    pthread_join(thread, NULL);
    for (int i = 0; i < STAGES; i++)
        printf("%s %llu %llu\n", stages[i].name, (unsigned long long)cpu_ns[i],
               (unsigned long long)wall_ns[i]);
    return 0;
}
