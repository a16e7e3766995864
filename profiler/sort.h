/* SPDX-License-Identifier: MIT
 * Sorting what is nearly in order. */
#ifndef PROFILER_SORT_H
#define PROFILER_SORT_H

#include <assert.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>

/* As qsort, but quick where few items lie far from their place: by insertion, as long as that moves little.
 * item_bytes: 64 at most. Inline, so that the size is a constant and the comparison no call. */
static inline __attribute__((always_inline)) void
bn_sort_nearly_sorted(void *items, size_t n, size_t item_bytes, int (*compare)(const void *, const void *))
{
    char *all = items, one[64];
    size_t moves = 0;

    assert(item_bytes <= sizeof one);
    for (size_t i = 1; i < n; i++) {
        char *end = all + i * item_bytes, *at = end;
        while (at > all && moves <= 8 * n && compare(at - item_bytes, end) > 0) {
            at -= item_bytes;
            moves++;
        }
        if (moves > 8 * n) {
            qsort(items, n, item_bytes, compare);
            return;
        }
        if (at == end)
            continue;
        memcpy(one, end, item_bytes);
        memmove(at + item_bytes, at, (size_t)(end - at));
        memcpy(at, one, item_bytes);
    }
}

#endif
