/* SPDX-License-Identifier: MIT
 * A library with one function, WORK. It is built twice, under names of the same length, and put into the
 * binary for the self-test, which opens the one where the other was. */
#include <stdint.h>

uint64_t WORK(uint64_t x, uint64_t n);

uint64_t WORK(uint64_t x, uint64_t n)
{
    for (uint64_t i = 0; i < n; i++) {
        x = x * 6364136223846793005u + 1442695040888963407u;
        __asm__ volatile("" : "+r"(x));
    }
    return x;
}
