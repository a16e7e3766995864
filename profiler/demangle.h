/* SPDX-License-Identifier: MIT
 * C++ and Rust symbols as people write them. */
#ifndef PROFILER_DEMANGLE_H
#define PROFILER_DEMANGLE_H

#include "core/base.h"

/* Longest name shown, in bytes. */
enum { BN_DEMANGLE_SHOWN = 200 };

/* The readable form of the first n bytes of a linkage name: "std::vector<int, std::allocator<int> >::resize",
 * "core::fmt::write". Parameters of functions and Rust's hashes are left out; what is longer than
 * BN_DEMANGLE_SHOWN loses its innermost template arguments ("f<A<…>>") and at last its end. NULL = neither
 * C++ (Itanium ABI) nor Rust (legacy, v0), or damaged, or more than 1,024 bytes of C++. The name may be
 * hostile: time and memory are bounded. Lives in the arena. Threads: any. */
const char *bn_demangle(struct bn_arena *arena, const char *name, size_t n);

/* Cut a name to BN_DEMANGLE_SHOWN bytes in the same way; one that is short enough is returned itself. */
const char *bn_demangle_shorten(struct bn_arena *arena, const char *name);

#endif
