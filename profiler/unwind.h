/* SPDX-License-Identifier: MIT
 * From the registers and the copy of the stack in a sample to the chain of addresses, with libunwind.
 *
 * Nothing is guessed: every word comes from the copied stack or from an unwritable part of a mapped file,
 * every address must lie in an executable mapping and the stack pointer must grow. Where that fails the chain
 * ends, and the reason is told. */
#ifndef PROFILER_UNWIND_H
#define PROFILER_UNWIND_H

#include "profiler/maps.h"
#include "profiler/memo.h"

enum { BN_UNWIND_MAX_FRAMES = 256 };

#define BN_UNWIND_ENDS(X)                                                                                    \
    X(COMPLETE, "complete")                                                                                  \
    X(DUMP_ENDED, "the copied part of the stack ended")                                                      \
    X(TOO_DEEP, "deeper than 256 frames")                                                                    \
    X(NO_REGISTERS, "no user registers or no stack in the sample")                                           \
    X(NO_MAP, "an address outside of every executable mapping")                                              \
    X(NO_CFI, "code without unwind information")                                                             \
    X(BAD_CFI, "unwind information that does not fit the stack")                                             \
    X(OTHER_STACK, "a signal handler on a stack of its own")                                                 \
    X(NO_LINK, "code without frame pointers")                                                                \
    X(DAMAGED, "a damaged part of the recording")

#define BN_UNWIND_ENUM(id, text) BN_UNWIND_##id,
enum bn_unwind_end { BN_UNWIND_ENDS(BN_UNWIND_ENUM) BN_UNWIND_END_COUNT };
#undef BN_UNWIND_ENUM

const char *bn_unwind_end_text(enum bn_unwind_end end);

/* Name of the frame that stands at the root of a chain with this end: "[truncated]" where a larger copy of
 * the stack would have helped (or more frames), "[lost]" where its table was damaged on disk, else "[unwind
 * failed: …]" with the end's text; NULL for a complete one. */
const char *bn_unwind_mark_name(enum bn_unwind_end end);

/* Registers by their DWARF number on x86-64 (0 = rax … 7 = rsp … 15 = r15, 16 = rip). */
enum { BN_UNWIND_RBP = 6, BN_UNWIND_RSP = 7, BN_UNWIND_RIP = 16, BN_UNWIND_REGS };

struct bn_unwind_input {
    uint64_t regs[BN_UNWIND_REGS];
    uint32_t known;       /* bit i: regs[i] is known */
    const uint8_t *stack; /* what stood at rsp and above */
    size_t stack_bytes;
    const uint8_t *chain; /* the kernel's walk by frame pointers, user part: unaligned words */
    size_t n_chain;
};

struct bn_unwind_frame {
    uint64_t address;      /* return address, or the exact one; for display */
    struct bn_place place; /* of the instruction to be named: the call, or the exact address */
};

struct bn_unwind_result {
    struct bn_unwind_frame frames[BN_UNWIND_MAX_FRAMES]; /* innermost first */
    size_t n;
    enum bn_unwind_end end;
    bool dump_short; /* a word beyond the copied stack was needed; the kernel's chain may have served instead
                      */
    /* What decided the result, for a memo: equal reads give the equal result. n_reads 0: not to be
     * remembered. */
    struct bn_memo_read reads[BN_MEMO_MAX_READS];
    size_t n_reads;
};

struct bn_unwinder *bn_unwinder_new(struct bn_maps *maps);
void bn_unwinder_free(struct bn_unwinder *unwinder);

/* How many beginnings of stacks are known. When it grows, chains that broke off before may now be completed:
 * remembered results are void. */
size_t bn_unwinder_bottoms(const struct bn_unwinder *unwinder);

/* The registers, stack and chain of a decoded sample. */
struct bn_unwind_input bn_unwind_input_of(const struct bn_record *sample);

/* The word of the copied stack at `address`, word `index` of the chain; false = not there. */
bool bn_unwind_input_word(const struct bn_unwind_input *input, uint64_t address, uint64_t *word);
bool bn_unwind_input_chain(const struct bn_unwind_input *input, size_t index, uint64_t *word);

/* Does the return address lead to where makecontext lets a function return to, which nobody has called? Then
 * *place is that code, which is the outermost. */
bool bn_unwind_context_start(struct bn_maps *maps, const struct bn_process *process, uint64_t address,
                             struct bn_place *place);

/* One step: from the sampled frame to its caller, as an input of its own. */
struct bn_unwind_first {
    struct bn_unwind_frame frame; /* the sampled one */
    uint64_t return_address;
    uint64_t sp_offset; /* of the caller's stack pointer from the sampled one */
    bool whole_row;     /* equal reads give an equal step at any address of the same row, but for `frame` */
    /* Where the caller's registers are that a callee must preserve (rbx, rbp, r12 … r15). */
    struct {
        enum { BN_UNWIND_LOST, BN_UNWIND_IN_REGISTER, BN_UNWIND_ON_STACK } where;
        uint64_t at; /* its number, or its offset from the sampled stack pointer */
    } saved[6];
};

/* Take the step if plain rules serve for it; then the rest of the chain is bn_unwind_callers of
 * bn_unwind_caller_input, and both are that of bn_unwind. false: signal frames, code without rules, the end
 * of a chain and whatever fails. The reads of the step are left in *result. */
bool bn_unwind_first(struct bn_unwinder *unwinder, const struct bn_process *process,
                     const struct bn_unwind_input *input, struct bn_unwind_first *first,
                     struct bn_unwind_result *result);
/* How far behind the beginning of its row of unwind rules the sampled address is: one rule holds for the
 * whole row. 0 also if there are no rules. *result is scratch. */
uint64_t bn_unwind_row(struct bn_unwinder *unwinder, const struct bn_process *process,
                       const struct bn_unwind_input *input, struct bn_unwind_result *result);
struct bn_unwind_input bn_unwind_caller_input(const struct bn_unwind_input *input,
                                              const struct bn_unwind_first *first);
void bn_unwind_callers(struct bn_unwinder *unwinder, const struct bn_process *process,
                       const struct bn_unwind_input *caller, struct bn_unwind_result *result);

/* Unwind. Where the copied stack ends before the chain does, the kernel's chain completes it as far as it can
 * be trusted. Not for several threads at once. */
void bn_unwind(struct bn_unwinder *unwinder, const struct bn_process *process,
               const struct bn_unwind_input *input, struct bn_unwind_result *result);

#endif
