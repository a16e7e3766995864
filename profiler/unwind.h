/* SPDX-License-Identifier: MIT
 * From the registers and the copy of the stack in a sample to the chain of addresses, with libunwind.
 *
 * Nothing is guessed: every word comes from the copied stack or from an unwritable part of a mapped file,
 * every address must lie in an executable mapping and the stack pointer must grow. Where that fails the chain
 * ends, and the reason is told. */
#ifndef PROFILER_UNWIND_H
#define PROFILER_UNWIND_H

#include "profiler/maps.h"

enum { BN_UNWIND_MAX_FRAMES = 256 };

#define BN_UNWIND_ENDS(X)                                                                                    \
    X(COMPLETE, "complete")                                                                                  \
    X(DUMP_ENDED, "the copied part of the stack ended")                                                      \
    X(TOO_DEEP, "deeper than 256 frames")                                                                    \
    X(NO_REGISTERS, "no user registers or no stack in the sample")                                           \
    X(NO_MAP, "an address outside of every executable mapping")                                              \
    X(NO_CFI, "code without unwind information")                                                             \
    X(BAD_CFI, "unwind information that does not fit the stack")

#define BN_UNWIND_ENUM(id, text) BN_UNWIND_##id,
enum bn_unwind_end { BN_UNWIND_ENDS(BN_UNWIND_ENUM) BN_UNWIND_END_COUNT };
#undef BN_UNWIND_ENUM

const char *bn_unwind_end_text(enum bn_unwind_end end);

/* Registers by their DWARF number on x86-64 (0 = rax … 7 = rsp … 15 = r15, 16 = rip). */
enum { BN_UNWIND_RBP = 6, BN_UNWIND_RSP = 7, BN_UNWIND_RIP = 16, BN_UNWIND_REGS };

struct bn_unwind_input {
    uint64_t regs[BN_UNWIND_REGS];
    uint32_t known;       /* bit i: regs[i] is known */
    const uint8_t *stack; /* what stood at rsp and above */
    size_t stack_bytes;
    bool stack_full; /* the copy was cut off by its size limit */
};

struct bn_unwind_frame {
    uint64_t address;      /* return address, or the exact one; for display */
    struct bn_place place; /* of the instruction to be named: the call, or the exact address */
};

struct bn_unwind_result {
    struct bn_unwind_frame frames[BN_UNWIND_MAX_FRAMES]; /* innermost first */
    size_t n;
    enum bn_unwind_end end;
    uint64_t missed; /* DUMP_ENDED: the stack address that would have been needed next */
};

struct bn_unwinder *bn_unwinder_new(struct bn_maps *maps);
void bn_unwinder_free(struct bn_unwinder *unwinder);

/* Does a call instruction end at this address of an executable mapping? */
bool bn_unwind_follows_call(struct bn_unwinder *unwinder, const struct bn_process *process, uint64_t address);

/* The registers and stack of a decoded sample. dump_bytes: how much was asked for. */
struct bn_unwind_input bn_unwind_input_of(const struct bn_record *sample, size_t dump_bytes);

/* Unwind. Not for several threads at once. */
void bn_unwind(struct bn_unwinder *unwinder, const struct bn_process *process,
               const struct bn_unwind_input *input, struct bn_unwind_result *result);

#endif
