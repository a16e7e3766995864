/* SPDX-License-Identifier: MIT
 * Programs whose profile is known, inside this binary: what `bnprof selftest` records. What each of them does
 * is known by arithmetic (iterations, levels, lines), not by measuring it. */
#ifndef PROFILER_TRUTH_H
#define PROFILER_TRUTH_H

#include "core/base.h"

enum {
    BN_TRUTH_LEVELS = 60,       /* of recursion, fits the default copy of the stack */
    BN_TRUTH_LEVELS_CUT = 1000, /* beyond what is copied, and what the unwinder follows */
    BN_TRUTH_LENGTHS = 3,
};

/* How long a stage lasts in the middle, by its number; it is the layer of its samples. */
extern const uint32_t bn_truth_length_us[BN_TRUTH_LENGTHS];

/* Source lines of the inlined chain. */
struct bn_truth_lines {
    uint32_t first, last; /* of the innermost function's body */
    uint32_t inner_call;  /* where it is called, and so its caller's line */
    uint32_t middle_call;
};
extern const struct bn_truth_lines bn_truth_lines;

/* The status that says "cannot be tried here", and files in the folder: why, and how many threads the program
 * "threads" has started. */
enum { BN_TRUTH_CANNOT = 77 };
#define BN_TRUTH_WHY   "why"
#define BN_TRUTH_COUNT "count"

/* How long a program works: for cpu_ms of CPU time, but no longer than wall_ms. One that hangs is ended by
 * SIGALRM about eleven seconds later. */
struct bn_truth_budget {
    uint64_t cpu_ms, wall_ms;
};

/* Run the program `name`; returns the exit status (2 = no such program). dir: a folder that allows execution;
 * files that the record needs for names stay there. Call once in a process. */
int bn_truth_run(const char *name, const struct bn_truth_budget *budget, const char *dir);

/* ---- shared by the programs ---- */

#ifdef __clang__
#define BN_TRUTH_NOINLINE __attribute__((noinline))
#else
#define BN_TRUTH_NOINLINE __attribute__((noinline, noclone))
#endif

/* What the program "threads" calls its threads. */
#define BN_TRUTH_THREAD "brief"

/* The files of the program "swap". */
#define BN_TRUTH_FIRST "first.so"
#define BN_TRUTH_OTHER "other.so"

/* n iterations, each waiting for the one before: the same time wherever the code lies. Nothing is left out
 * by the compiler. */
static inline __attribute__((always_inline)) uint64_t bn_truth_iterate(uint64_t x, uint64_t n)
{
    for (uint64_t i = 0; i < n; i++) {
        x = x * 6364136223846793005u + 1442695040888963407u;
        __asm__ volatile("" : "+r"(x));
    }
    return x;
}

#endif
