/* SPDX-License-Identifier: MIT
 * Between unwind.c, which walks a chain, and unwind_rules.c, which serves libunwind. */
#ifndef PROFILER_UNWIND_PRIVATE_H
#define PROFILER_UNWIND_PRIVATE_H

#include <libunwind.h>

#include "profiler/unwind.h"

enum {
    BN_UNWIND_MAX_SPACES = 16,
    BN_UNWIND_MAX_POPPED = 6,
    BN_UNWIND_BOTTOM_FRAMES = 3,
    BN_UNWIND_MAX_READS = 1 << 18, /* words that libunwind may ask for in one chain: its rules may loop */
    BN_UNWIND_NEAR = 8 << 20,      /* a stack is longer than that only if no code is mapped up to its end */
};

/* libunwind remembers rules by the address it was given, be that a return address (the rules are those of the
 * call before it) or an exact one. Behind a call that is a function's last instruction the two differ:
 * another function begins there. So it is given exact addresses with this bit, which no address of a program
 * has. */
#define BN_UNWIND_EXACT ((uint64_t)1 << 62)

/* Unwind rules that libunwind has cached for one state of one process. */
struct bn_unwind_space {
    unw_addr_space_t as;
    uint32_t serial, generation;
    uint64_t used; /* for finding the one unused for longest */
};

/* The outermost frames of a chain that came to its end. */
struct bn_unwind_bottom {
    struct bn_unwind_frame frames[BN_UNWIND_BOTTOM_FRAMES];
    size_t n;
};

/* Rows of one entry: a part of bn_unwinder.rows. */
struct bn_unwind_rows {
    size_t first, n;
};

struct bn_unwinder {
    struct bn_maps *maps;
    struct bn_unwind_space spaces[BN_UNWIND_MAX_SPACES];
    size_t n_spaces;
    uint64_t clock;

    /* during one bn_unwind */
    const struct bn_unwind_input *in;
    const struct bn_process *process;
    uint64_t regs[BN_UNWIND_REGS]; /* of the frame at which libunwind (re)started */
    uint32_t known;
    uint64_t stack_start;
    uint32_t reads_left;
    struct bn_place here; /* of the frame being stepped */
    uint64_t bias;
    const struct bn_fde *fde;
    bool at_start; /* of a context: nobody has called it */
    uint64_t table_word;
    bool parsing;                          /* libunwind reads an entry's head, not its rules */
    uint64_t popped[BN_UNWIND_MAX_POPPED]; /* words just below stack_start, downwards */
    size_t n_popped;
    bool ip_read;                    /* a rule asked for the address itself */
    bool beyond_dump;                /* a read hit the end of the copied stack */
    uint64_t missed;                 /* the first such address */
    bool off_stack;                  /* a signal struck on another stack than the one copied */
    bool derived;                    /* regs come from a restart, not from the sample */
    struct bn_unwind_result *result; /* takes the log of what was read */
    bool unlogged;                   /* more was read than the log holds, or what it cannot express */

    /* Where the rows of rules begin, vaddrs, for each entry that was met. */
    struct bn_idmap rows_at; /* image and the entry's start -> row_sets */
    struct bn_unwind_rows *row_sets;
    size_t n_row_sets, cap_row_sets;
    uint64_t *rows;
    size_t n_rows, cap_rows;

    struct bn_idmap bottom_at; /* process and return address -> bottoms: see splice in unwind_chain.c */
    struct bn_unwind_bottom *bottoms;
    size_t n_bottoms, cap_bottoms;
};

/* All reading of a sample goes through these three, which log it for the memo. */

/* A word of the recorded stack; false, and the miss remembered, if it was not copied. */
bool bn_unwind_read_stack(struct bn_unwinder *u, uint64_t address, uint64_t *word);
/* A register of the frame at which libunwind (re)started; false = not known. */
bool bn_unwind_read_register(struct bn_unwinder *u, unsigned reg, uint64_t *value);
/* A word of the kernel's chain; false = beyond its end. */
bool bn_unwind_read_chain(struct bn_unwinder *u, size_t index, uint64_t *word);

/* Does a call instruction end at this address of an executable mapping? */
bool bn_unwind_follows_call(struct bn_unwinder *u, const struct bn_process *process, uint64_t address);

/* After a whole chain: remember how stacks of this process begin. exact: its first address is no return
 * address. */
void bn_unwind_note_bottom(struct bn_unwinder *u, const struct bn_process *process, bool exact,
                           const struct bn_unwind_result *result);
/* The copy of the stack ended before the chain did: go on with the kernel's chain. Returns how the chain ends
 * now. */
enum bn_unwind_end bn_unwind_splice(struct bn_unwinder *u, const struct bn_process *process,
                                    struct bn_unwind_result *result);

/* The address space for this state of the process; NULL if libunwind has no memory for one. */
unw_addr_space_t bn_unwind_space_of(struct bn_unwinder *u, const struct bn_process *p);

/* For the innermost frame, which u->here and u->fde describe: fill u->popped. */
void bn_unwind_note_popped(struct bn_unwinder *u, unw_addr_space_t as);
/* For the same frame, which must have an entry: how far behind the beginning of its row of rules. */
uint64_t bn_unwind_row_offset(struct bn_unwinder *u, unw_addr_space_t as);

#endif
