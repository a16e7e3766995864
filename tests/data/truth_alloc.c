/* SPDX-License-Identifier: MIT
 * Spends well over a third of its time in malloc and free. truth_alloc [rounds] */
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>

#define NOINLINE __attribute__((noinline))

static volatile uint64_t sink;
static void *volatile pin;

NOINLINE static uint64_t allocate_too_much(uint64_t seed)
{
    enum { BLOCKS = 256 };
    static char *blocks[BLOCKS];

    for (int i = 0; i < BLOCKS; i++) {
        seed = seed * 6364136223846793005u + 1442695040888963407u;
        blocks[i] = malloc(1200 + (seed >> 40) % 4000); /* beyond the thread cache: the real work */
        if (blocks[i])
            *(volatile char *)blocks[i] = 1;
    }
    if (!pin)
        pin = malloc(1200); /* above all blocks: the heap's end stays, no system call a round */
    for (int i = 0; i < BLOCKS; i++)
        free(blocks[(i * 67) % BLOCKS]); /* 67 is odd: every block once, out of order */
    return seed;
}

NOINLINE static void work(void)
{
    uint64_t x = sink | 1;

    for (int i = 0; i < 2000; i++)
        x = x * 6364136223846793005u + 1442695040888963407u;
    sink = x;
}

int main(int argc, char **argv)
{
    long rounds = argc > 1 ? atol(argv[1]) : 40000;
    uint64_t seed = 1;

    for (long i = 0; i < rounds; i++) {
        seed = allocate_too_much(seed);
        work();
    }
    printf("%ld rounds\n", rounds);
    return seed == 0;
}
