/* SPDX-License-Identifier: MIT
 * truth_spin CPU_MS [STATUS [THREADS]]: burn so much CPU time in spin(), on each of THREADS threads, exit
 * with STATUS. */
#include <pthread.h>
#include <stdint.h>
#include <stdlib.h>
#include <time.h>

static uint64_t cpu_ns(void)
{
    struct timespec t;

    clock_gettime(CLOCK_THREAD_CPUTIME_ID, &t);
    return (uint64_t)t.tv_sec * 1000000000u + (uint64_t)t.tv_nsec;
}

__attribute__((noinline)) static uint64_t spin(uint64_t x)
{
    for (int i = 0; i < 20000; i++)
        x = x * 6364136223846793005u + 1442695040888963407u;
    return x;
}

static void *burn(void *ms)
{
    uint64_t end_ns = cpu_ns() + strtoull(ms, NULL, 10) * 1000000u;
    volatile uint64_t x = 1;

    while (cpu_ns() < end_ns)
        x = spin(x);
    return NULL;
}

int main(int argc, char **argv)
{
    int n_threads = argc > 3 ? atoi(argv[3]) : 1;
    pthread_t threads[64];

    if (argc < 2 || n_threads < 1 || n_threads > 64)
        return 2;
    for (int i = 1; i < n_threads; i++)
        if (pthread_create(&threads[i], NULL, burn, argv[1]) != 0)
            return 2;
    burn(argv[1]);
    for (int i = 1; i < n_threads; i++)
        pthread_join(threads[i], NULL);
    return argc > 2 ? atoi(argv[2]) : 0;
}
