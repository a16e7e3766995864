/* SPDX-License-Identifier: MIT
 * From an address to the functions, files and lines that a user knows. */
#ifndef PROFILER_SYMBOLS_H
#define PROFILER_SYMBOLS_H

#include "profiler/image.h"
#include "profiler/kallsyms.h"
#include "profiler/maps.h"
#include "profiler/profile.h"

enum { BN_SYMBOLS_MAX_FRAMES = 64 };

/* Names for one place: frames innermost first, at least one. */
struct bn_symbols {
    struct bn_frame frames[BN_SYMBOLS_MAX_FRAMES];
    size_t n;
    struct bn_arena names; /* folded names made here */
};

/* Fill s->frames: inlined functions and source lines where there is debug information, else the symbol's
 * name, else "[module+0xSTART]" with the function's start (the file's own address) by the unwind table, else
 * "[module]", else "[unknown]"; a signal trampoline without a name is "[signal frame]". A vector intrinsic
 * counts as the line that used it (see debug.h). Names of C++ and Rust are demangled, suffixes that compilers
 * add are folded into the base name; raw keeps what the symbol table says. The strings live until
 * bn_symbols_free and as long as the image. */
void bn_symbols_find(struct bn_symbols *s, const struct bn_place *place);

/* The same for a kernel address; an empty table gives "[kernel]". */
void bn_symbols_find_kernel(struct bn_symbols *s, const struct bn_kallsyms *kallsyms, uint64_t address);

void bn_symbols_free(struct bn_symbols *s);

#endif
