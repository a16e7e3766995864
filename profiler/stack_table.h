/* SPDX-License-Identifier: MIT
 * Call stacks as a tree of code addresses: an entry is an address and the entry of its caller. */
#ifndef PROFILER_STACK_TABLE_H
#define PROFILER_STACK_TABLE_H

#include "profiler/idmap.h"
#include "profiler/raw.h"

struct bn_stack_table {
    struct bn_raw_stack *entries; /* [0] is the empty stack */
    size_t n, capacity;
    size_t n_written; /* entries that the recording holds already */
    uint32_t epoch;   /* tables of this recording before this one; the owner's */
    struct bn_idmap by_content;
};

void bn_stack_table_init(struct bn_stack_table *table);
void bn_stack_table_free(struct bn_stack_table *table);

/* Find or add the entry. file: see struct bn_raw_stack. */
uint32_t bn_stack_table_add(struct bn_stack_table *table, uint32_t parent, int32_t file, uint64_t address);

/* Append the entries that are new since the last call. */
void bn_stack_table_write(struct bn_stack_table *table, struct bn_raw_writer *w);

#endif
