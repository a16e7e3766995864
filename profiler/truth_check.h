/* SPDX-License-Identifier: MIT
 * From a record of a program whose profile is known to a verdict: what was expected, what is there.
 *
 * Where chance decides (which function a sample falls into), a share is wrong when it is further from the
 * truth than happens once in 1/BN_TRUTH_ALPHA records. Everything else is exact but for a share of samples
 * that is stated. CPU time is compared with CPU time, never with time on the clock. What is known to be
 * missing (lost records, throttling, time that the machine was stopped) makes a check milder, or leaves it
 * out with that reason; it never makes it fail. */
#ifndef PROFILER_TRUTH_CHECK_H
#define PROFILER_TRUTH_CHECK_H

#include "profiler/profile.h"
#include "profiler/truth.h"
#include "profiler/truth_report.h"

/* For each comparison. A self-test makes fewer than 25 of them, so that all together fail by chance less than
 * once in 10,000 runs. */
#define BN_TRUTH_ALPHA 2e-6

/* What the programs do, as far as a record does not say it. */
struct bn_truth_expected {
    double shares[3]; /* of truth_work_70, _20, _10 */
    struct bn_truth_lines lines;
    const char *file; /* base name of the source with those lines */
    uint32_t levels, most_callers;
    uint32_t n_threads; /* that the program "threads" started, by its own count */
    double length_us[BN_TRUTH_LENGTHS];
    double edge_us;  /* the error of a change of stage that is allowed */
    uint32_t n_cpus; /* of the host, for its steal */
};
/* Of the programs in truth.c on this host; dir: the folder they were given. */
struct bn_truth_expected bn_truth_expected(const char *dir);

typedef void bn_truth_check(struct bn_truth_report *report, const char *name, const struct bn_profile *p,
                            const struct bn_truth_expected *e);

/* Each adds one row, `name` where it is given (NULL = its own). */
bn_truth_check bn_truth_check_split;     /* the shares of three functions */
bn_truth_check bn_truth_check_rate;      /* the sum of the weights is the CPU time; the same shares */
bn_truth_check bn_truth_check_recursion; /* two rows: whole chains, and chains cut off and marked */
bn_truth_check bn_truth_check_inlines;   /* the inlined chain, with its lines */
bn_truth_check bn_truth_check_swap;      /* no name of the library that is not there any more */
bn_truth_check bn_truth_check_signal;    /* from the handler on to what it interrupted */
bn_truth_check bn_truth_check_threads;   /* all there, their CPU time told, the main thread's samples right */
bn_truth_check bn_truth_check_stages;    /* a row for each length: stage by the join, by the address */

#endif
