/* SPDX-License-Identifier: MIT
 * Where the stacks of running threads end, so that a dump need not carry what lies beyond: the kernel copies
 * up to the size asked for, across the end of a thread's stack into whatever is mapped above. */
#ifndef PROFILER_STACK_ENDS_H
#define PROFILER_STACK_ENDS_H

#include "core/base.h"

struct bn_stack_ends;

struct bn_stack_ends *bn_stack_ends_new(void);
void bn_stack_ends_free(struct bn_stack_ends *stacks); /* accepts NULL */

/* Bytes from `sp` to the end of the mapping it lies in, or to the program's arguments on the main stack;
 * SIZE_MAX when unknown. The first question about a thread reads /proc/TID/maps and stat, at most a few times
 * between two refills. */
size_t bn_stack_ends_room(struct bn_stack_ends *stacks, int32_t tid, uint64_t sp);

/* The thread ended; tid 0: the program was replaced, forget all. */
void bn_stack_ends_forget(struct bn_stack_ends *stacks, int32_t tid);

/* Allow a few more reads. */
void bn_stack_ends_refill(struct bn_stack_ends *stacks);

#endif
