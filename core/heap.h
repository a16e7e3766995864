/* SPDX-License-Identifier: MIT
 * How often this program asked for heap memory, so that "the decode loop allocates nothing" is measured, not
 * claimed. */
#ifndef CORE_HEAP_H
#define CORE_HEAP_H

#include <stdint.h>

/* Calls of malloc, calloc, realloc, aligned_alloc, posix_memalign and memalign so far, by all threads, those
 * of libraries included. UINT64_MAX where they cannot be counted. A difference of two readings is what is of
 * use. */
uint64_t bn_heap_allocations(void);

#endif
