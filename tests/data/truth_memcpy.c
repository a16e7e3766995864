/* SPDX-License-Identifier: MIT
 * Spends about half of its time copying. truth_memcpy [rounds] */
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define NOINLINE __attribute__((noinline))

enum { BYTES = 1 << 18 };

static char from[BYTES], to[BYTES];
static volatile uint64_t sink;

NOINLINE static void copy_too_much(size_t n)
{
    for (int i = 0; i < 16; i++) {
        memcpy(to, from, n);
        sink += (unsigned char)to[i];
    }
}

NOINLINE static void work(void)
{
    uint64_t x = sink | 1;

    for (int i = 0; i < 100000; i++)
        x = x * 6364136223846793005u + 1442695040888963407u;
    sink = x;
}

int main(int argc, char **argv)
{
    long rounds = argc > 1 ? atol(argv[1]) : 8000;
    size_t n = BYTES - (size_t)(argc > 2); /* not known when compiled: a call, not inline code */

    memset(from, 1, sizeof from);
    for (long i = 0; i < rounds; i++) {
        copy_too_much(n);
        work();
    }
    printf("%ld rounds\n", rounds);
    return 0;
}
