/* SPDX-License-Identifier: MIT
 * The call stack of a sample as an entry of the record: kernel part, user part, and a mark where it broke
 * off. */
#ifndef PROFILER_CALLPATH_H
#define PROFILER_CALLPATH_H

#include "profiler/kallsyms.h"
#include "profiler/profile.h"
#include "profiler/symbols.h"
#include "profiler/unwind.h"

/* What one address became: indices into the record's frames, innermost first, in callpath's pool. */
struct bn_callpath_names {
    size_t first;
    uint32_t n;
    bool unnamed; /* the innermost has no symbol */
};

struct bn_callpath {
    struct bn_profile *profile;
    struct bn_maps *maps;
    struct bn_unwinder *unwinder;
    const struct bn_kallsyms *kallsyms; /* may be empty */
    size_t dump_bytes;
    bool frame_pointers; /* the kernel's chain holds the user part too */

    struct bn_symbols *symbols;
    struct bn_unwind_result *unwound;
    struct bn_idmap by_address; /* image and vaddr -> names */
    struct bn_callpath_names *names;
    size_t n_names, cap_names;
    struct bn_idmap
        by_bottom; /* process and return address -> names: the frames from there to the thread's start */
    uint32_t *pool;
    size_t n_pool, cap_pool;
    uint32_t *ids; /* of the sample in work */
    size_t n_ids, cap_ids;

    uint64_t ends[BN_UNWIND_END_COUNT];                     /* how the user stacks ended */
    const struct bn_image *last_image[BN_UNWIND_END_COUNT]; /* where the latest one did */
};

void bn_callpath_begin(struct bn_callpath *c, struct bn_profile *p, struct bn_maps *maps,
                       const struct bn_kallsyms *kallsyms, size_t dump_bytes, bool frame_pointers);
void bn_callpath_end(struct bn_callpath *c);

struct bn_callpath_found {
    uint32_t stack; /* leaf entry in the record */
    uint32_t flags; /* BN_SAMPLE_TRUNCATED, _KERNEL, _UNNAMED */
    bool dump_full;
};

struct bn_callpath_found bn_callpath_of(struct bn_callpath *c, const struct bn_process *process,
                                        const struct bn_record *sample);

#endif
