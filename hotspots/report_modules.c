/* SPDX-License-Identifier: MIT
 * Modules that could not be named in full: each once, with its share of the samples and what to do. */
#include <stdlib.h>
#include <string.h>

#include "hotspots/report_text.h"

enum { LISTED = 8 };
#define LISTED_SHARE 0.005 /* of the samples; what is below is told in one line */

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

static int by_samples(const void *a, const void *b)
{
    const struct bn_profile_module *x = *(const struct bn_profile_module *const *)a,
                                   *y = *(const struct bn_profile_module *const *)b;

    if (x->samples != y->samples)
        return x->samples > y->samples ? -1 : 1;
    int order = strcmp(x->name, y->name);
    return order ? order : (x > y) - (x < y);
}

/* Complaints, the module with most samples first; the caller frees. */
static const struct bn_profile_module **complaints(const struct bn_profile *p, size_t *n)
{
    const struct bn_profile_module **list = bn_xcalloc(p->n_modules + 1, sizeof *list);

    *n = 0;
    for (size_t i = 0; i < p->n_modules; i++)
        if (is_complaint(&p->modules[i]))
            list[(*n)++] = &p->modules[i];
    qsort(list, *n, sizeof *list, by_samples);
    return list;
}

void bn_report_modules(FILE *f, const struct bn_profile *p, bool md)
{
    size_t n, i = 0;
    const struct bn_profile_module **list = complaints(p, &n);
    uint64_t rest = 0;
    double total = p->n_samples ? (double)p->n_samples : 1;

    for (; i < n && i < LISTED && (double)list[i]->samples >= LISTED_SHARE * total; i++) {
        const char *advice = bn_report_module_advice(list[i]);
        fprintf(f, md ? "- **Module %s**: " : "  Module %-15s ", list[i]->name);
        fprintf(f, "%s, %s of the samples", bn_report_module_fault(list[i]),
                bn_text_percent((double)list[i]->samples / total));
        fprintf(f, advice ? "; %s\n" : "\n", advice);
    }
    for (size_t k = i; k < n; k++)
        rest += list[k]->samples;
    if (i < n)
        fprintf(f,
                md ? "- **Other modules**: %zu without debug information, %s of the samples together\n"
                   : "  Other modules          %zu without debug information, %s of the samples together\n",
                n - i, bn_text_percent((double)rest / total));
    free(list);
}
