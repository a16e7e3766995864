/* SPDX-License-Identifier: MIT
 * Best-pair-first merging with a linked list and a binary heap.
 *
 * Every symbol carries the rank of joining it with its right neighbour; the heap holds (rank, symbol) for
 * each rank ever set. An entry that no longer agrees with its symbol is stale and is dropped when it comes
 * up, so nothing has to be searched for in the heap. */
#include "core/pair_merge.h"

#include <assert.h>
#include <stdlib.h>

void bn_merger_push(struct bn_merger *merger, uint32_t id, uint32_t start, uint32_t length)
{
    uint32_t i = (uint32_t)merger->n;

    assert(merger->n < BN_MERGE_NONE);
    bn_grow(&merger->symbols, &merger->capacity, merger->n + 1, sizeof *merger->symbols);
    merger->symbols[i] =
        (struct bn_symbol){id, start, length, BN_MERGE_NONE, BN_MERGE_NONE, BN_MERGE_NONE, BN_MERGE_NONE};
    if (i > 0) {
        merger->symbols[i].prev = i - 1;
        merger->symbols[i - 1].next = i;
    }
    merger->n++;
}

static void heap_push(struct bn_merger *merger, uint64_t entry)
{
    bn_grow(&merger->heap, &merger->heap_capacity, merger->n_heap + 1, sizeof *merger->heap);
    uint64_t *heap = merger->heap;
    size_t i = merger->n_heap++;

    for (; i > 0 && heap[(i - 1) / 2] > entry; i = (i - 1) / 2)
        heap[i] = heap[(i - 1) / 2];
    heap[i] = entry;
}

static uint64_t heap_pop(struct bn_merger *merger)
{
    uint64_t *heap = merger->heap, best = heap[0], last = heap[--merger->n_heap];
    size_t i = 0, n = merger->n_heap;

    for (size_t child = 1; child < n; child = 2 * i + 1) {
        if (child + 1 < n && heap[child + 1] < heap[child])
            child++;
        if (heap[child] >= last)
            break;
        heap[i] = heap[child];
        i = child;
    }
    heap[i] = last;
    return best;
}

/* Find out how symbol i joins with its right neighbour. */
static void update(struct bn_merger *merger, uint32_t i, bn_merge_rule *rule, const void *context)
{
    struct bn_symbol *left = &merger->symbols[i];

    left->rank = BN_MERGE_NONE;
    if (left->next == BN_MERGE_NONE)
        return;
    rule(context, left, &merger->symbols[left->next]);
    if (left->rank != BN_MERGE_NONE)
        heap_push(merger, (uint64_t)left->rank << 32 | i);
}

void bn_merger_run(struct bn_merger *merger, bn_merge_rule *rule, const void *context)
{
    merger->n_heap = 0;
    for (size_t i = 0; i < merger->n; i++)
        update(merger, (uint32_t)i, rule, context);
    while (merger->n_heap > 0) {
        uint64_t entry = heap_pop(merger);
        uint32_t i = (uint32_t)entry;
        struct bn_symbol *left = &merger->symbols[i];
        if (left->rank != (uint32_t)(entry >> 32))
            continue;
        struct bn_symbol *right = &merger->symbols[left->next];
        left->id = left->joined;
        left->length += right->length;
        left->next = right->next;
        right->rank = BN_MERGE_NONE; /* gone: whatever the heap still says of it is stale */
        if (left->next != BN_MERGE_NONE)
            merger->symbols[left->next].prev = i;
        update(merger, i, rule, context);
        if (left->prev != BN_MERGE_NONE)
            update(merger, left->prev, rule, context);
    }
}

void bn_merger_free(struct bn_merger *merger)
{
    free(merger->symbols);
    free(merger->heap);
    *merger = (struct bn_merger){0};
}
