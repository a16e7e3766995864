/* SPDX-License-Identifier: MIT
 * Join adjacent symbols, the best pair first, until no pair joins: the heart of both kinds of tokenizer. */
#ifndef CORE_PAIR_MERGE_H
#define CORE_PAIR_MERGE_H

#include "core/base.h"

#define BN_MERGE_NONE UINT32_MAX

struct bn_symbol {
    uint32_t id;            /* of its token, or BN_MERGE_NONE */
    uint32_t start, length; /* bytes in the text */
    uint32_t prev, next;    /* neighbours, or BN_MERGE_NONE */
    uint32_t rank;   /* of joining it with `next`, the lower the sooner; BN_MERGE_NONE = they do not join */
    uint32_t joined; /* id of what that gives */
};

/* Scratch that is kept from text to text; start zeroed. */
struct bn_merger {
    struct bn_symbol *symbols;
    size_t n, capacity;
    uint64_t *heap; /* rank << 32 | symbol: the smallest is the best pair, the leftmost of equals */
    size_t n_heap, heap_capacity;
};

/* Set left->rank and left->joined for the pair. */
typedef void bn_merge_rule(const void *context, struct bn_symbol *left, const struct bn_symbol *right);

/* Add a symbol at the right end; fewer than 2^32 - 1 in all. */
void bn_merger_push(struct bn_merger *merger, uint32_t id, uint32_t start, uint32_t length);

/* Merge. Afterwards symbol 0 is the first of the result and `next` leads on. n symbols: O(n log n). */
void bn_merger_run(struct bn_merger *merger, bn_merge_rule *rule, const void *context);

void bn_merger_free(struct bn_merger *merger);

#endif
