/* SPDX-License-Identifier: MIT
 * A library that spins in swap_work(), by way of a function whose name is the build's: SWAP_NAME. */
#include <stdint.h>
#include <time.h>

static uint64_t cpu_ns(void)
{
    struct timespec t;

    clock_gettime(CLOCK_THREAD_CPUTIME_ID, &t);
    return (uint64_t)t.tv_sec * 1000000000u + (uint64_t)t.tv_nsec;
}

__attribute__((noinline)) static uint64_t SWAP_NAME(uint64_t x)
{
    for (int i = 0; i < 50000; i++)
        x = x * 6364136223846793005u + 1442695040888963407u;
    return x;
}

void swap_work(unsigned ms);

void swap_work(unsigned ms)
{
    uint64_t end_ns = cpu_ns() + ms * 1000000ull;
    volatile uint64_t x = 1;

    do
        x = SWAP_NAME(x);
    while (cpu_ns() < end_ns);
}
