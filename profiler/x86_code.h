/* SPDX-License-Identifier: MIT
 * The few x86-64 instructions that the unwinder must know. */
#ifndef PROFILER_X86_CODE_H
#define PROFILER_X86_CODE_H

#include "profiler/image.h"

/* Does a call instruction end at vaddr? */
bool bn_x86_follows_call(const struct bn_image *image, uint64_t vaddr);

/* Is this the code that returns from a signal handler (rt_sigreturn)? */
bool bn_x86_is_trampoline(const struct bn_image *image, uint64_t vaddr);

/* Could this be where a function of makecontext returns to: mov %rbx, %rsp? It takes the next context from
 * there. */
bool bn_x86_is_context_start(const struct bn_image *image, uint64_t vaddr);

/* The register (DWARF number) that the instruction ending at vaddr has popped from the stack: pop, or leave
 * for rbp; -1 = it is neither. vaddr must be where an instruction begins. */
int bn_x86_popped(const struct bn_image *image, uint64_t vaddr);

/* Does the function that begins at vaddr link its frame with rbp: push %rbp and mov %rsp, %rbp among its
 * first instructions? Found by their bytes, so a rare wrong yes is possible. */
bool bn_x86_links_frame(const struct bn_image *image, uint64_t vaddr, uint64_t end);

/* In a linkage stub: how many bytes above the stack pointer does the return address lie, before the
 * instruction at vaddr is executed? -1 = that is no instruction of a stub. */
int bn_x86_stub_depth(const struct bn_image *image, uint64_t vaddr);

/* Where a function without unwind rules has its return address. */
enum bn_x86_return {
    BN_X86_RETURN_UNKNOWN,
    BN_X86_RETURN_AT_RSP,  /* on top of the stack */
    BN_X86_RETURN_IN_PUSH, /* above the caller's rbp, which is on top of the stack and still in its register
                            */
    BN_X86_RETURN_IN_LINK, /* above the caller's rbp, at which rbp points */
};
/* For a function that begins at start and links its frame with its very first instructions; vaddr is of the
 * instruction about to be executed. Unknown for any other function, and where the bytes before vaddr could be
 * the end of the frame. */
enum bn_x86_return bn_x86_find_return(const struct bn_image *image, uint64_t start, uint64_t vaddr);

#endif
