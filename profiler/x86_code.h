/* SPDX-License-Identifier: MIT
 * The few x86-64 instructions that the unwinder must know. */
#ifndef PROFILER_X86_CODE_H
#define PROFILER_X86_CODE_H

#include "profiler/image.h"

/* Does a call instruction end at vaddr? */
bool bn_x86_follows_call(const struct bn_image *image, uint64_t vaddr);

/* Is this the code that returns from a signal handler (rt_sigreturn)? */
bool bn_x86_is_trampoline(const struct bn_image *image, uint64_t vaddr);

/* The register (DWARF number) that the instruction ending at vaddr has popped from the stack: pop, or leave
 * for rbp; -1 = it is neither. vaddr must be where an instruction begins. */
int bn_x86_popped(const struct bn_image *image, uint64_t vaddr);

/* Does the function that begins at vaddr link its frame with rbp: push %rbp and mov %rsp, %rbp among its
 * first instructions? Found by their bytes, so a rare wrong yes is possible. */
bool bn_x86_links_frame(const struct bn_image *image, uint64_t vaddr, uint64_t end);

#endif
