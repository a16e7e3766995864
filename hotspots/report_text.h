/* SPDX-License-Identifier: MIT
 * Numbers as the reports print them: unknown is "unknown", never an invented zero. */
#ifndef HOTSPOTS_REPORT_TEXT_H
#define HOTSPOTS_REPORT_TEXT_H

#include <inttypes.h>

#include "hotspots/report.h"

/* The answers live in a ring of 16 static buffers: enough for one fprintf. One thread. */
const char *bn_text_number(double value, int decimals); /* NaN: "unknown" */
const char *bn_text_percent(double share);              /* 0.123 -> "12.3 %" */
const char *bn_text_count(uint64_t n);                  /* 12,345 */
const char *bn_text_time(double ns);                    /* "1.23 ms" */
/* What shares of these are shares of: "all samples", or "all sampled CPU time" where they weigh differently.
 */
const char *bn_text_whole(const struct bn_sampled *all);
/* "3 of 20 samples", or "752 ms of 1.48 s (8 of 190 samples)". noun: what they are called, "samples". */
const char *bn_text_part(const struct bn_sampled *part, const struct bn_sampled *whole, const char *noun);

/* `name` as inline code, safe in a Markdown table. */
const char *bn_text_code(const char *name);

/* A text of another program's as it is, in Markdown, also in a table. */
const char *bn_text_cell(const char *text);

/* What of a module could not be named, and what to do about it; NULL = nothing. */
const char *bn_report_module_fault(const struct bn_profile_module *module);
const char *bn_report_module_advice(const struct bn_profile_module *module);
/* A line for each such module with its share of the samples; those with few of them together. */
void bn_report_modules(FILE *f, const struct bn_profile *p, bool markdown);

/* Sections of the two formats, each in a file of its own. */
void bn_report_json(FILE *f, const struct bn_profile *p, const struct bn_report_options *o,
                    const struct bn_ranking *r, const struct bn_comparison *c);
void bn_report_stages(FILE *f, const struct bn_profile *p);
void bn_report_sections(FILE *f, const struct bn_profile *p, const struct bn_report_options *o,
                        const struct bn_ranking *r, const struct bn_comparison *c);

#endif
