/* SPDX-License-Identifier: MIT
 * From the stack table of profile.part to the stacks of the record: every address gets its names. */
#ifndef PROFILER_CALLPATH_H
#define PROFILER_CALLPATH_H

#include "profiler/kallsyms.h"
#include "profiler/profile.h"
#include "profiler/raw.h"
#include "profiler/symbols.h"
#include "profiler/unwind.h"

/* A file of the recording; opened when its first address is to be named. */
struct bn_callpath_file {
    char *path;
    uint8_t build_id[BN_IMAGE_MAX_BUILD_ID];
    uint32_t build_id_bytes;
    struct bn_image *image;
};

/* What one address became: indices into the record's frames, innermost first, in callpath's pool. */
struct bn_callpath_names {
    size_t first;
    uint32_t n;
    bool unnamed; /* the innermost has no symbol */
    struct bn_place place;
};

/* What one stack became. */
struct bn_callpath_found {
    uint32_t stack; /* leaf entry in the record */
    uint32_t flags; /* BN_SAMPLE_TRUNCATED, _UNNAMED */
    uint32_t end;   /* enum bn_unwind_end */
    int32_t file;   /* where it broke off */
    uint32_t leaf;  /* names of the leaf; BN_NONE = the stack is empty */
};

struct bn_callpath {
    struct bn_profile *profile;
    const struct bn_kallsyms *kallsyms; /* may be empty */
    bool frame_pointers;                /* the kernel walked the user part too */
    struct bn_image *vdso;              /* owned; NULL = not known */
    struct bn_callpath_file *files;
    size_t n_files, cap_files;

    struct bn_raw_stack *table; /* of this stretch of the recording; [0] is the empty stack */
    size_t n_table, cap_table;
    uint32_t epoch;
    uint64_t lost_bytes;      /* of the recording, for which gaps in the tables may still be filled */
    bool lost;                /* there were such */
    struct bn_idmap by_entry; /* entry and kind of thread -> found */
    struct bn_callpath_found *found;
    size_t n_found, cap_found;

    struct bn_symbols *symbols;
    struct bn_idmap by_address; /* file and address -> names */
    struct bn_callpath_names *names;
    size_t n_names, cap_names;
    uint32_t *pool;
    size_t n_pool, cap_pool;
    uint32_t *ids; /* of the stack in work */
    size_t n_ids, cap_ids;

    uint64_t ends[BN_UNWIND_END_COUNT];     /* samples whose user stack broke off, by reason */
    int32_t last_file[BN_UNWIND_END_COUNT]; /* where the latest one did */
};

void bn_callpath_begin(struct bn_callpath *c, struct bn_profile *p, const struct bn_kallsyms *kallsyms,
                       bool frame_pointers);
void bn_callpath_end(struct bn_callpath *c);

/* The image of the vdso, from its bytes; the first one counts. */
void bn_callpath_set_vdso(struct bn_callpath *c, const void *bytes, size_t n);

/* So many bytes of the recording are damaged here: tables may have gaps from now on. */
void bn_callpath_lose(struct bn_callpath *c, uint64_t bytes);

/* Take in a BN_RAW_FILE or BN_RAW_STACKS block, in the file's order. -1: it does not fit what came before. */
int bn_callpath_add_file(struct bn_callpath *c, const uint8_t *payload, size_t n);
int bn_callpath_add_stacks(struct bn_callpath *c, const uint8_t *payload, size_t n);

/* The stack of one sample that stands for weight_ns: entry `stack` of the table. main_thread: of the thread
 * that began the process. An entry that is not there gives the mark "[lost]". */
struct bn_callpath_found bn_callpath_of(struct bn_callpath *c, uint32_t stack, bool main_thread,
                                        uint64_t weight_ns);

/* Base name of a file, NULL for the numbers that are none. */
const char *bn_callpath_file_name(const struct bn_callpath *c, int32_t file);

#endif
