/* SPDX-License-Identifier: MIT
 * The call stack of a sample as an entry of the stack table, from code addresses alone: kernel part, user
 * part, and a mark where it broke off. Runs while the program is recorded: stacks that were seen before are
 * known again without being unwound. The step from the sampled address to its caller and the chain of callers
 * are remembered apart: a loop has many addresses, and all of them one chain of callers. */
#ifndef PROFILER_CALLSTACK_H
#define PROFILER_CALLSTACK_H

#include "profiler/memo.h"
#include "profiler/stack_table.h"
#include "profiler/unwind.h"

struct bn_callstack {
    struct bn_maps *maps;
    bool frame_pointers; /* the kernel's chain holds the user part too */
    struct bn_stack_table table;

    struct bn_unwinder *unwinder;
    struct bn_unwind_result *unwound;
    struct bn_memo
        memo; /* by row of rules or address: index into firsts; by return address: the callers' entry */
    struct bn_idmap row_of; /* state and address -> its distance from the beginning of its row */
    struct bn_unwind_first *firsts;
    size_t n_firsts, cap_firsts;
    size_t n_bottoms;
    uint64_t n_known, n_unwound; /* samples by how their user part was found */
};

void bn_callstack_begin(struct bn_callstack *c, struct bn_maps *maps, bool frame_pointers);
void bn_callstack_end(struct bn_callstack *c);

struct bn_callstack_found {
    uint32_t stack; /* leaf entry in the table */
    uint32_t flags; /* BN_RAW_SAMPLE_KERNEL, _DUMP_SHORT, and the table's epoch */
};
struct bn_callstack_found bn_callstack_of(struct bn_callstack *c, const struct bn_process *process,
                                          const struct bn_record *sample);

/* Write new entries. When the tables have reached their bound (BN_CALLSTACK_MAX_ENTRIES), they begin anew:
 * entry numbers handed out before are void then. */
enum { BN_CALLSTACK_MAX_ENTRIES = 1 << 17 };
void bn_callstack_write(struct bn_callstack *c, struct bn_raw_writer *w);

#endif
