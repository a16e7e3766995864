/* SPDX-License-Identifier: MIT
 * Reading a record, for the checks of the self-test. */
#ifndef PROFILER_TRUTH_PRIVATE_H
#define PROFILER_TRUTH_PRIVATE_H

#include "profiler/truth_check.h"

/* Is this entry's function called so? The empty stack has none. */
bool bn_truth_is(const struct bn_profile *p, uint32_t stack, const char *function);
/* From there on outwards the first function of the program: not kernel code, nor what the programs share and
 * have inlined everywhere. */
uint32_t bn_truth_own(const struct bn_profile *p, uint32_t stack);

/* Part of the program's CPU time that samples may miss or stand for too much, for reasons that the record
 * tells: lost records, throttling, time stolen from this machine. */
double bn_truth_excused(const struct bn_profile *p, const struct bn_truth_expected *e);

/* Are the record's samples, or these of them, too few for a verdict that means something? The program spent
 * `part` of its time or more where these are. If so, the row has its verdict. */
bool bn_truth_too_few(struct bn_truth_row *row, const struct bn_profile *p, const struct bn_truth_expected *e,
                      const struct bn_sampled *w, double part);

/* n samples, of which `right` are as they should be: the row's verdict. Lets a hundredth and one pass. */
void bn_truth_judge(struct bn_truth_row *row, size_t n, size_t right, const char *what);

/* Wrong, unless records of mappings, threads or stages can be among the lost ones and so be why: then it is
 * left out. */
void bn_truth_fail_unless(struct bn_truth_row *row, uint64_t n_lost, const char *format, ...) BN_PRINTF(3, 4);

struct bn_truth_row *bn_truth_named(struct bn_truth_report *report, const char *name, const char *own);

#endif
