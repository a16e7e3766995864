/* SPDX-License-Identifier: MIT
 * Three functions with 70, 20 and 10 per cent of the work. truth_split [rounds] */
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>

#ifdef __clang__
#define NOINLINE         __attribute__((noinline))
#define NO_FRAME_POINTER /* clang has no such attribute */
#else
#define NOINLINE         __attribute__((noinline, noclone))
#define NO_FRAME_POINTER __attribute__((optimize("omit-frame-pointer")))
#endif

static volatile uint64_t sink;

#define WORK(name, n)                                                                                        \
    NOINLINE static void name(void)                                                                          \
    {                                                                                                        \
        uint64_t x = sink | 1;                                                                               \
        for (long i = 0; i < (n); i++)                                                                       \
            x = x * 6364136223846793005u + 1442695040888963407u;                                             \
        sink = x;                                                                                            \
    }

WORK(work_70, 700000)
WORK(work_20, 200000)

/* Without a frame pointer: only the unwind rules lead out of it. */
NO_FRAME_POINTER WORK(work_10, 100000)

    NOINLINE static void all_work(void)
{
    work_70();
    work_20();
    work_10();
    sink++; /* no tail call above */
}

int main(int argc, char **argv)
{
    long rounds = argc > 1 ? strtol(argv[1], NULL, 10) : 400;

    for (long i = 0; i < rounds; i++)
        all_work();
    printf("%llu\n", (unsigned long long)sink);
    return 0;
}
