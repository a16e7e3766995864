/* SPDX-License-Identifier: MIT
 * What the self-test found, as a table and as JSON. */
#include <cJSON.h>
#include <stdlib.h>
#include <string.h>

#include "tools/selftest.h"

enum { WIDTH_NAME = 18, WIDTH_EXPECTED = 40, WIDTH_MEASURED = 46 };

/* Text in a column; a character of several bytes is one wide. */
static void print_column(FILE *f, const char *text, size_t width)
{
    size_t n = 0;

    for (const char *p = text; *p; p++)
        n += ((unsigned char)*p & 0xc0) != 0x80;
    fprintf(f, "%s%*s", text, n < width ? (int)(width - n) : 1, "");
}

static void print_line(FILE *f, const char *name, const char *expected, const char *measured,
                       const char *verdict)
{
    print_column(f, name, WIDTH_NAME);
    print_column(f, expected, WIDTH_EXPECTED);
    print_column(f, measured, WIDTH_MEASURED);
    fprintf(f, "%s\n", verdict);
}

void bn_selftest_print_rows(FILE *f, const struct bn_selftest *t, size_t *n_printed)
{
    if (*n_printed == 0 && t->report.n > 0) {
        if (t->ladder)
            fprintf(f, "samples: %s\n\n", t->ladder);
        print_line(f, "check", "expected", "measured", "verdict");
    }
    for (; *n_printed < t->report.n; ++*n_printed) {
        const struct bn_truth_row *row = &t->report.rows[*n_printed];
        print_line(f, row->name, row->expected, row->measured, bn_truth_verdict_name(row->verdict));
        if (row->why[0])
            fprintf(f, "    %s: %s\n", row->verdict == BN_TRUTH_FAIL ? "wrong" : "skipped", row->why);
    }
    fflush(f);
}

void bn_selftest_print_sum(FILE *f, const struct bn_truth_report *report)
{
    fprintf(f, "\n%zu passed, %zu failed, %zu skipped\n", bn_truth_count(report, BN_TRUTH_PASS),
            bn_truth_count(report, BN_TRUTH_FAIL), bn_truth_count(report, BN_TRUTH_SKIPPED));
}

static cJSON *row_json(const struct bn_truth_row *row)
{
    cJSON *json = cJSON_CreateObject();

    cJSON_AddStringToObject(json, "name", row->name);
    cJSON_AddStringToObject(json, "expected", row->expected);
    cJSON_AddStringToObject(json, "measured", row->measured);
    cJSON_AddStringToObject(json, "verdict", bn_truth_verdict_name(row->verdict));
    if (row->why[0])
        cJSON_AddStringToObject(json, "why", row->why);
    return json;
}

void bn_selftest_print_json(FILE *f, const struct bn_selftest *t)
{
    cJSON *json = cJSON_CreateObject(), *checks = cJSON_AddArrayToObject(json, "checks");

    for (size_t i = 0; i < t->report.n; i++)
        cJSON_AddItemToArray(checks, row_json(&t->report.rows[i]));
    if (t->ladder)
        cJSON_AddStringToObject(json, "samples", t->ladder);
    cJSON_AddNumberToObject(json, "passed", (double)bn_truth_count(&t->report, BN_TRUTH_PASS));
    cJSON_AddNumberToObject(json, "failed", (double)bn_truth_count(&t->report, BN_TRUTH_FAIL));
    cJSON_AddNumberToObject(json, "skipped", (double)bn_truth_count(&t->report, BN_TRUTH_SKIPPED));
    char *text = cJSON_Print(json);
    fprintf(f, "%s\n", text);
    free(text);
    cJSON_Delete(json);
}
