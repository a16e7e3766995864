/* SPDX-License-Identifier: MIT
 * A report as text. */
#ifndef TESTS_UNIT_REPORT_TEXT_H
#define TESTS_UNIT_REPORT_TEXT_H

#include <stdio.h>

#include "hotspots/report.h"

/* The caller frees. */
static inline char *report_text(const struct bn_profile *p, const struct bn_report_options *o)
{
    char *text = NULL;
    size_t n;
    FILE *f = open_memstream(&text, &n);

    bn_report_write(f, p, o);
    fclose(f);
    return text;
}

#endif
