/* SPDX-License-Identifier: MIT
 * Private to kernels/: the prototype of every kernel of every instruction set, and what they are marked with.
 * A prototype without a function is harmless: only bn_kernels_init_<isa> says which exist. */
#ifndef KERNELS_ISA_H
#define KERNELS_ISA_H

#include "kernels/kernels.h"

/* A kernel stays one function with one symbol, so that a profiler can name it: never inlined, cloned or
 * merged with an equal one. What it is made of is inlined into it. */
#ifdef __clang__
#define BN_KERNEL __attribute__((noinline))
#define BN_UNROLL /* clang unrolls short loops of known length by itself */
#else
#define BN_KERNEL __attribute__((noinline, noclone, no_icf))
#define BN_UNROLL _Pragma("GCC unroll 16")
#endif
#define BN_INLINE static inline __attribute__((always_inline))

#define BN_KERNEL_PROTOTYPES(slot, ret, args)                                                                \
    BN_KERNEL ret slot##_c args;                                                                             \
    BN_KERNEL ret slot##_avx2 args;                                                                          \
    BN_KERNEL ret slot##_avx512 args;                                                                        \
    BN_KERNEL ret slot##_avx512vnni args;                                                                    \
    BN_KERNEL ret slot##_neon args;                                                                          \
    BN_KERNEL ret slot##_dotprod args;                                                                       \
    BN_KERNEL ret slot##_mock args;
BN_KERNEL_SLOTS(BN_KERNEL_PROTOTYPES)
#undef BN_KERNEL_PROTOTYPES

/* Put <slot>_<isa> and its name into the table `kernels`. */
#define BN_USE(slot, isa) (kernels->slot = slot##_##isa, kernels->symbol[BN_KERNEL_##slot] = #slot "_" #isa)

#endif
