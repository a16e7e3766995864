/* SPDX-License-Identifier: MIT
 * Two named threads with their own functions, and many that live for less than a sampling period.
 * truth_threads [rounds] */
#include <pthread.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>

#define NOINLINE __attribute__((noinline))

static volatile uint64_t sinks[3];
static long rounds = 100;

NOINLINE static void spin(int which, long n)
{
    uint64_t x = sinks[which] | 1;

    for (long i = 0; i < n; i++)
        x = x * 6364136223846793005u + 1442695040888963407u;
    sinks[which] = x;
}

NOINLINE static void work_of_alpha(void)
{
    spin(0, 2000000);
    sinks[0]++;
}

NOINLINE static void work_of_beta(void)
{
    spin(1, 2000000);
    sinks[1]++;
}

static void *alpha(void *unused)
{
    pthread_setname_np(pthread_self(), "alpha");
    for (long i = 0; i < rounds; i++)
        work_of_alpha();
    return unused;
}

static void *beta(void *unused)
{
    pthread_setname_np(pthread_self(), "beta");
    for (long i = 0; i < rounds; i++)
        work_of_beta();
    return unused;
}

static void *brief(void *unused)
{
    pthread_setname_np(pthread_self(), "brief");
    return unused;
}

int main(int argc, char **argv)
{
    pthread_t a, b, c;

    if (argc > 1)
        rounds = strtol(argv[1], NULL, 10);
    pthread_create(&a, NULL, alpha, NULL);
    pthread_create(&b, NULL, beta, NULL);
    for (int i = 0; i < 20; i++)
        if (pthread_create(&c, NULL, brief, NULL) == 0)
            pthread_join(c, NULL);
    pthread_join(a, NULL);
    pthread_join(b, NULL);
    printf("%llu\n", (unsigned long long)(sinks[0] + sinks[1]));
    return 0;
}
