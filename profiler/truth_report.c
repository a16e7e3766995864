/* SPDX-License-Identifier: MIT
 * The rows of the self-test. */
#include "profiler/truth_report.h"

#include <assert.h>
#include <stdarg.h>

const char *bn_truth_verdict_name(enum bn_truth_verdict verdict)
{
    return verdict == BN_TRUTH_PASS ? "pass" : verdict == BN_TRUTH_FAIL ? "FAIL" : "skipped";
}

struct bn_truth_row *bn_truth_add(struct bn_truth_report *report, const char *name)
{
    assert(report->n < BN_TRUTH_MAX_ROWS);
    struct bn_truth_row *row = &report->rows[report->n++];

    *row = (struct bn_truth_row){.verdict = BN_TRUTH_PASS};
    snprintf(row->name, sizeof row->name, "%s", name);
    return row;
}

void bn_truth_expect(struct bn_truth_row *row, const char *format, ...)
{
    va_list args;

    va_start(args, format);
    vsnprintf(row->expected, sizeof row->expected, format, args);
    va_end(args);
}

void bn_truth_measure(struct bn_truth_row *row, const char *format, ...)
{
    va_list args;

    va_start(args, format);
    vsnprintf(row->measured, sizeof row->measured, format, args);
    va_end(args);
}

static void set_why(struct bn_truth_row *row, enum bn_truth_verdict verdict, const char *format, va_list args)
{
    if (row->verdict != BN_TRUTH_PASS)
        return;
    row->verdict = verdict;
    vsnprintf(row->why, sizeof row->why, format, args);
}

void bn_truth_fail(struct bn_truth_row *row, const char *format, ...)
{
    va_list args;

    va_start(args, format);
    set_why(row, BN_TRUTH_FAIL, format, args);
    va_end(args);
}

void bn_truth_skip(struct bn_truth_row *row, const char *format, ...)
{
    va_list args;

    va_start(args, format);
    set_why(row, BN_TRUTH_SKIPPED, format, args);
    va_end(args);
}

size_t bn_truth_count(const struct bn_truth_report *report, enum bn_truth_verdict verdict)
{
    size_t n = 0;

    for (size_t i = 0; i < report->n; i++)
        n += report->rows[i].verdict == verdict;
    return n;
}
