/* SPDX-License-Identifier: MIT
 * Two levels of inlined functions inside one that is not: a sample in the loop is in inner_part, inlined into
 * middle_part, inlined into outer_part. truth_inline [rounds] */
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>

#define ALWAYS_INLINE inline __attribute__((always_inline))

static volatile uint64_t sink;

static ALWAYS_INLINE uint64_t inner_part(uint64_t x, long n)
{
    for (long i = 0; i < n; i++)
        x = x * 6364136223846793005u + 1442695040888963407u; /* line 15: inner */
    return x;
}

static ALWAYS_INLINE uint64_t middle_part(uint64_t x)
{
    x = inner_part(x, 1000000); /* line 21: call of inner */
    return x ^ (x >> 7);
}

__attribute__((noinline)) static uint64_t outer_part(uint64_t x)
{
    x = middle_part(x); /* line 27: call of middle */
    sink = x;
    return x;
}

int main(int argc, char **argv)
{
    long rounds = argc > 1 ? strtol(argv[1], NULL, 10) : 400;
    uint64_t x = 1;

    for (long i = 0; i < rounds; i++)
        x = outer_part(x);
    printf("%llu\n", (unsigned long long)x);
    return 0;
}
