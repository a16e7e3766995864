/* SPDX-License-Identifier: MIT
 * Stacks that were unwound before.
 *
 * An unwind is a function of what it reads: a few registers, a few words of the copied stack, perhaps words
 * of the kernel's chain; which one comes next depends on those before. So all unwinds from one code address
 * form a decision tree: a node names the next thing to read, its value leads to the child, a leaf holds the
 * answer. Walking it reads what the unwind would have read, and no more; equal values give the equal answer.
 * Words that point into the stack count by their distance from the stack pointer, so that a stack is known
 * again on another thread. */
#ifndef PROFILER_MEMO_H
#define PROFILER_MEMO_H

#include "core/base.h"
#include "profiler/idmap.h"

struct bn_unwind_input;

/* One thing that was read: made by the unwinder, valid for any sample. */
struct bn_memo_read {
    uint64_t where; /* bn_memo_register … */
    uint64_t tag, value;
};

/* Names of things to read. `sp` is the sample's stack pointer. bn_memo_stack gives 0 for an address that no
 * sample can hold: such a read needs no remembering. */
uint64_t bn_memo_register(unsigned reg);
uint64_t bn_memo_chain(size_t index);
uint64_t bn_memo_stack(uint64_t address, uint64_t sp);

/* What was found there; value NULL: nothing. */
struct bn_memo_read bn_memo_found(uint64_t where, const uint64_t *value, uint64_t sp);

struct bn_memo {
    struct bn_memo_node *nodes;
    size_t n, capacity;
    struct bn_idmap roots, children;
};

enum { BN_MEMO_MAX_NODES = 1 << 18, BN_MEMO_MAX_READS = 1024 };

/* The answer for this input, BN_MEMO_UNKNOWN if it has not been given yet. (a, b): what else decides, the
 * state of the process and the code address. */
#define BN_MEMO_UNKNOWN UINT32_MAX
uint32_t bn_memo_find(const struct bn_memo *memo, uint64_t a, uint64_t b, const struct bn_unwind_input *in);

/* Remember it, with the reads in their order. */
void bn_memo_add(struct bn_memo *memo, uint64_t a, uint64_t b, const struct bn_memo_read *reads, size_t n,
                 uint32_t answer);

/* Forget everything. */
void bn_memo_free(struct bn_memo *memo);

#endif
