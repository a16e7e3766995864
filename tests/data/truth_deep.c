/* SPDX-License-Identifier: MIT
 * Stacks larger than any copy of them: ten thousand levels of recursion, then a frame of 256 KiB.
 * truth_deep [rounds] */
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define NOINLINE __attribute__((noinline))

static volatile uint64_t sink;

NOINLINE static void spin(long n)
{
    uint64_t x = sink | 1;

    for (long i = 0; i < n; i++)
        x = x * 6364136223846793005u + 1442695040888963407u;
    sink = x;
}

NOINLINE static void descend(int levels)
{
    volatile char room[48];

    room[levels % 48] = 1;
    if (levels > 0)
        descend(levels - 1);
    else
        spin(2000000);
    sink += (uint64_t)room[levels % 48]; /* no tail call above */
}

NOINLINE static void large_frame(void)
{
    volatile char room[256 << 10];

    memset((char *)room, 1, sizeof room);
    spin(2000000);
    sink += (uint64_t)room[sink % sizeof room];
}

int main(int argc, char **argv)
{
    long rounds = argc > 1 ? strtol(argv[1], NULL, 10) : 100;

    for (long i = 0; i < rounds; i++) {
        descend(10000);
        large_frame();
    }
    printf("%llu\n", (unsigned long long)sink);
    return 0;
}
