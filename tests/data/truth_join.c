/* SPDX-License-Identifier: MIT
 * truth_join SECONDS: two threads that work all the time, while the first one sleeps until both have ended.
 */
#include <pthread.h>
#include <stdint.h>
#include <stdlib.h>
#include <time.h>

static uint64_t end_ns;

static uint64_t now_ns(void)
{
    struct timespec t;

    clock_gettime(CLOCK_MONOTONIC, &t);
    return (uint64_t)t.tv_sec * 1000000000u + (uint64_t)t.tv_nsec;
}

__attribute__((noinline)) static uint64_t spin(uint64_t x)
{
    for (int i = 0; i < 20000; i++)
        x = x * 6364136223846793005u + 1442695040888963407u;
    return x;
}

static void *work(void *unused)
{
    volatile uint64_t x = 1;

    while (now_ns() < end_ns)
        x = spin(x);
    return unused;
}

int main(int argc, char **argv)
{
    pthread_t threads[2];

    if (argc != 2)
        return 2;
    end_ns = now_ns() + strtoull(argv[1], NULL, 10) * 1000000000u;
    for (int i = 0; i < 2; i++)
        if (pthread_create(&threads[i], NULL, work, NULL) != 0)
            return 2;
    for (int i = 0; i < 2; i++)
        pthread_join(threads[i], NULL);
    return 0;
}
