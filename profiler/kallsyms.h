/* SPDX-License-Identifier: MIT
 * Names of kernel code, as the running kernel tells them. */
#ifndef PROFILER_KALLSYMS_H
#define PROFILER_KALLSYMS_H

#include "profiler/profile.h"

struct bn_kallsyms {
    struct bn_arena arena;
    struct bn_kallsym *items; /* by address */
    size_t n, capacity;
};

/* Read a file in the form of /proc/kallsyms. Returns 0, or -1 with a message if it cannot be read or hides
 * its addresses (all zero, see kernel.kptr_restrict); then the table is empty. Freed with bn_kallsyms_free in
 * any case. */
int bn_kallsyms_read(struct bn_kallsyms *k, const char *path, struct bn_err *err);
/* The running kernel's, if it is that of the recording: addresses mean something only in the boot that was
 * recorded. The record's fact "kernel_names" says why there are none. */
void bn_kallsyms_read_for(struct bn_kallsyms *k, struct bn_profile *p);
void bn_kallsyms_free(struct bn_kallsyms *k);

/* Function at the address, NULL = none. Owned by the table. */
const char *bn_kallsyms_find(const struct bn_kallsyms *k, uint64_t address);

#endif
