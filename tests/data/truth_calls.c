/* SPDX-License-Identifier: MIT
 * Functions that call each other on many ways, with known shares of the work: what unwinders are compared on.
 * truth_calls [rounds] always does the same work, but in an order without a period, in pieces much
 * shorter than the time between two samples. */
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>

#ifdef __clang__
#define NOINLINE __attribute__((noinline))
#else
#define NOINLINE __attribute__((noinline, noclone))
#endif

static volatile uint64_t sink;

#define WORK(n)                                                                                              \
    do {                                                                                                     \
        uint64_t x = sink | 1;                                                                               \
        for (uint64_t i = 0; i < (n); i++)                                                                   \
            x = x * 6364136223846793005u + 1442695040888963407u;                                             \
        sink = x;                                                                                            \
    } while (0)

/* A leaf has a frame pointer only if it needs one, and must have one for a walk by frame pointers to find its
 * caller. */
NOINLINE static void shared(uint64_t n)
{
    sink += __builtin_frame_address(0) == NULL;
    WORK(n);
}

NOINLINE static void alpha(uint64_t n)
{
    WORK(2 * n);
    shared(n);
    sink++; /* no tail call above */
}

NOINLINE static void beta(uint64_t n)
{
    shared(2 * n);
    WORK(n);
}

NOINLINE static void gamma_(uint64_t n)
{
    alpha(n / 2);
    WORK(n / 2);
    beta(n / 2);
    sink++;
}

NOINLINE static void deeper(uint64_t n, int levels)
{
    WORK(n / 4);
    if (levels > 0)
        deeper(n, levels - 1);
    else
        shared(n);
    sink++;
}

static uint64_t next(uint64_t *state)
{
    *state = *state * 6364136223846793005u + 1442695040888963407u;
    return *state >> 33;
}

int main(int argc, char **argv)
{
    long rounds = argc > 1 ? strtol(argv[1], NULL, 10) : 1000;
    uint64_t state = 1;

    for (long i = 0; i < rounds; i++) {
        uint64_t which = next(&state) % 4, n = 10000 + next(&state) % 30000;
        if (which == 0)
            alpha(n);
        else if (which == 1)
            beta(n);
        else if (which == 2)
            gamma_(n);
        else
            deeper(n, 5);
    }
    printf("%llu\n", (unsigned long long)sink);
    return 0;
}
