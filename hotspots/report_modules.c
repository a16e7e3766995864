/* SPDX-License-Identifier: MIT
 * Modules that could not be named in full: each once, with its share of the samples and what to do. */
#include <stdlib.h>
#include <string.h>

#include "hotspots/coverage.h"
#include "hotspots/report_text.h"

enum { LISTED = 8 };
#define LISTED_SHARE 0.005 /* what is below is told in one line */

/* The vdso comes from the kernel: nobody can do anything about it. */
static bool is_complaint(const struct bn_profile_module *m)
{
    return m->samples > 0 && m->name[0] != '[' &&
           (m->state != BN_MODULE_READ || !m->symbols || !m->debug_info);
}

static bool is_system(const char *path)
{
    return strncmp(path, "/usr/", 5) == 0 || strncmp(path, "/lib", 4) == 0;
}

const char *bn_report_module_fault(const struct bn_profile_module *m)
{
    if (!is_complaint(m))
        return NULL;
    if (m->state != BN_MODULE_READ)
        return m->why ? m->why : "could not be read";
    if (m->debug_info)
        return "no symbol table";
    return m->symbols
               ? "no debug information"
               : "no debug information and no symbol table: only functions that other files call have names";
}

const char *bn_report_module_advice(const struct bn_profile_module *m)
{
    if (!is_complaint(m) || m->state == BN_MODULE_UNREADABLE)
        return NULL;
    if (m->state == BN_MODULE_OTHER_FILE)
        return "record again, and leave the file alone meanwhile";
    return is_system(m->path) ? "install its debug symbols, or record with --debuginfod"
                              : "build it with -g and do not strip it";
}

static int by_weight(const void *a, const void *b)
{
    const struct bn_profile_module *x = *(const struct bn_profile_module *const *)a,
                                   *y = *(const struct bn_profile_module *const *)b;

    struct bn_sampled of_x = bn_coverage_module(x), of_y = bn_coverage_module(y);
    int order = bn_sampled_compare(&of_y, &of_x);

    if (order == 0)
        order = strcmp(x->name, y->name);
    return order ? order : (x > y) - (x < y);
}

/* Complaints, the module with most time first; the caller frees. */
static const struct bn_profile_module **complaints(const struct bn_profile *p, size_t *n)
{
    const struct bn_profile_module **list = bn_xcalloc(p->n_modules + 1, sizeof *list);

    *n = 0;
    for (size_t i = 0; i < p->n_modules; i++)
        if (is_complaint(&p->modules[i]))
            list[(*n)++] = &p->modules[i];
    qsort(list, *n, sizeof *list, by_weight);
    return list;
}

void bn_report_modules(FILE *f, const struct bn_profile *p, bool md)
{
    size_t n, i = 0;
    const struct bn_profile_module **list = complaints(p, &n);
    struct bn_sampled all = bn_coverage_modules(p), rest = {0}, own;
    const char *of = bn_sampled_equal(&all) ? "samples" : "sampled CPU time";

    for (; i < n && i < LISTED; i++) {
        const char *advice = bn_report_module_advice(list[i]);
        own = bn_coverage_module(list[i]);
        if (bn_sampled_share(&own, &all) < LISTED_SHARE)
            break;
        fprintf(f, md ? "- **Module %s**: " : "  Module %-15s ", list[i]->name);
        fprintf(f, "%s, %s of the %s", bn_report_module_fault(list[i]),
                bn_text_percent(bn_sampled_share(&own, &all)), of);
        fprintf(f, advice ? "; %s\n" : "\n", advice);
    }
    for (size_t k = i; k < n; k++) {
        own = bn_coverage_module(list[k]);
        bn_sampled_join(&rest, &own);
    }
    if (i < n)
        fprintf(f,
                md ? "- **Other modules**: %zu without debug information, %s of the %s together\n"
                   : "  Other modules          %zu without debug information, %s of the %s together\n",
                n - i, bn_text_percent(bn_sampled_share(&rest, &all)), of);
    free(list);
}
