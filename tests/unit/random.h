/* SPDX-License-Identifier: MIT
 * Numbers for tests that try much. */
#ifndef TESTS_UNIT_RANDOM_H
#define TESTS_UNIT_RANDOM_H

#include <stddef.h>
#include <stdint.h>

/* xorshift: the same numbers everywhere. */
static inline uint64_t next_random(uint64_t *state)
{
    *state ^= *state << 13;
    *state ^= *state >> 7;
    *state ^= *state << 17;
    return *state;
}

static inline size_t random_below(uint64_t *state, size_t n)
{
    return (size_t)(next_random(state) >> 11) % n;
}

#endif
