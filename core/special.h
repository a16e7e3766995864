/* SPDX-License-Identifier: MIT
 * Tokens that are matched in the text as they are spelled, before any splitting: <|eot_id|> and the like. */
#ifndef CORE_SPECIAL_H
#define CORE_SPECIAL_H

#include "core/base.h"

struct bn_special_entry {
    struct bn_str spelling;
    uint32_t id;
    bool always; /* user-defined: matched even where special tokens are plain text */
};

struct bn_special {
    struct bn_special_entry *entries; /* sorted by spelling after bn_special_sort */
    size_t n, capacity;
    bool starts[256];
    bool any_always;
};

/* The spelling is kept by reference; an empty one is ignored. */
void bn_special_add(struct bn_special *special, struct bn_str spelling, uint32_t id, bool always);
/* Once, after the last add; of equal spellings the lowest id stays. */
void bn_special_sort(struct bn_special *special);
void bn_special_free(struct bn_special *special);

/* The first occurrence at or after `from`, the longest one there: its place, or text.n when there is none.
 * all: special tokens too; otherwise only those that always match. */
size_t bn_special_next(const struct bn_special *special, struct bn_str text, size_t from, bool all,
                       const struct bn_special_entry **hit);

/* The entry that is spelled so, or NULL. */
const struct bn_special_entry *bn_special_find(const struct bn_special *special, struct bn_str spelling);

#endif
