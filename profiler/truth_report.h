/* SPDX-License-Identifier: MIT
 * What the self-test found, a row for each check: expected, measured, verdict. */
#ifndef PROFILER_TRUTH_REPORT_H
#define PROFILER_TRUTH_REPORT_H

#include "core/base.h"

enum bn_truth_verdict { BN_TRUTH_PASS, BN_TRUTH_FAIL, BN_TRUTH_SKIPPED };
const char *bn_truth_verdict_name(enum bn_truth_verdict verdict); /* "pass", "FAIL", "skipped" */

struct bn_truth_row {
    char name[32], expected[96], measured[128];
    char why[512]; /* of a failure, or of leaving it out; "" for a pass */
    enum bn_truth_verdict verdict;
};

enum { BN_TRUTH_MAX_ROWS = 24 };
struct bn_truth_report {
    struct bn_truth_row rows[BN_TRUTH_MAX_ROWS];
    size_t n;
};

/* A new row at the end, a pass so far. */
struct bn_truth_row *bn_truth_add(struct bn_truth_report *report, const char *name);
/* Fill in a column; what does not fit is cut off. */
void bn_truth_expect(struct bn_truth_row *row, const char *format, ...) BN_PRINTF(2, 3);
void bn_truth_measure(struct bn_truth_row *row, const char *format, ...) BN_PRINTF(2, 3);
/* Make a pass a failure, or a check left out; of several reasons the first stays. */
void bn_truth_fail(struct bn_truth_row *row, const char *format, ...) BN_PRINTF(2, 3);
void bn_truth_skip(struct bn_truth_row *row, const char *format, ...) BN_PRINTF(2, 3);

size_t bn_truth_count(const struct bn_truth_report *report, enum bn_truth_verdict verdict);

#endif
