/* SPDX-License-Identifier: MIT
 * CPU flags: what this CPU can do, what the user lets us use, and their names. */
#ifndef KERNELS_CPU_H
#define KERNELS_CPU_H

#include <stddef.h>

/* A flag means: present, enabled by the operating system, and worth using. avx2 implies FMA and F16C;
 * avx512 implies F, BW, DQ, VL; avx512vnni implies avx512. On ARM64 neon is Advanced SIMD, dotprod implies
 * it. Each architecture has its own ladder; a machine's flags are of one only. */
enum bn_cpu_flag {
    BN_CPU_AVX2 = 1 << 0,
    BN_CPU_AVX512 = 1 << 1,
    BN_CPU_AVX512VNNI = 1 << 2,
    BN_CPU_NEON = 1 << 3,
    BN_CPU_DOTPROD = 1 << 4,
};

/* The flags of this machine. */
unsigned bn_cpu_detect(void);

/* Apply a --cpu list ("avx2", "-avx512vnni", "c", comma separated) to `detected`. A list whose first word is
 * a plain name starts from nothing and adds what the named flags imply below them ("avx512vnni" means all
 * three); a list of "-name" words starts from `detected` and drops the named flags and all that need them.
 * "c" is no flag at all.
 * Returns 0, or -1 with the unknown or absent word copied to bad[bad_size]. A flag that the machine lacks is
 * an error, never silently ignored. */
int bn_cpu_parse(const char *list, unsigned detected, unsigned *out, char *bad, size_t bad_size);

/* "avx2,avx512,avx512vnni" or "neon,dotprod", or "c" for none; the answer lives in buf. */
const char *bn_cpu_names(unsigned flags, char *buf, size_t size);

#endif
