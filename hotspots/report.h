/* SPDX-License-Identifier: MIT
 * The hotspot report: quality first, top consumers with call paths, both instruments in one table,
 * opportunities, comparison. Everything in it is computed from the record. */
#ifndef HOTSPOTS_REPORT_H
#define HOTSPOTS_REPORT_H

#include "hotspots/compare.h"

enum bn_report_format { BN_REPORT_MD, BN_REPORT_JSON, BN_REPORT_TEXT };

struct bn_report_options {
    enum bn_report_format format;
    enum bn_rank_by by;
    size_t top;
    bool compare;                      /* a comparison was asked for */
    const struct bn_profile *previous; /* NULL = there is none */
};

/* Write the report of p to f. Write errors show in ferror(f). */
void bn_report_write(FILE *f, const struct bn_profile *p, const struct bn_report_options *options);

/* The record's own quality as Markdown or plain lines: asked and achieved rate, samples, what was lost or
 * cut, what could not be seen, what measuring cost, grade. Every report opens with it. */
void bn_report_quality(FILE *f, const struct bn_profile *p, bool markdown);

/* The same as an object; what is not known is null. The caller owns it. */
struct cJSON *bn_report_quality_json(const struct bn_profile *p);

#endif
