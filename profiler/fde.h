/* SPDX-License-Identifier: MIT
 * The frame description entries of an image, sorted: which unwind rules cover an address, and where each
 * function (or part of one) begins and ends, even in a stripped file. */
#ifndef PROFILER_FDE_H
#define PROFILER_FDE_H

#include <libelf.h>

#include "core/base.h"

struct bn_fde {
    uint64_t start, end; /* code covered, vaddr */
    uint64_t at;         /* vaddr of the entry, in .eh_frame, or past the image's end for .debug_frame */
    bool signal;         /* a signal trampoline: the frame below it was interrupted, not calling */
};

struct bn_fde_table {
    struct bn_fde *items;
    size_t n, capacity;
    /* .eh_frame, readable at its own vaddr */
    const uint8_t *eh_frame;
    uint64_t eh_frame_vaddr, eh_frame_bytes;
    /* .debug_frame turned into the form of .eh_frame, readable at a vaddr past the image's end */
    struct bn_buf debug_frame;
    uint64_t debug_frame_vaddr;
    size_t n_bad; /* entries that could not be understood or used */
};

/* Read .eh_frame of elf and, for code it does not cover, .debug_frame of elf and of debug_elf (may be NULL).
 * free_vaddr: where nothing of the image lies. A damaged section gives a shorter table. */
void bn_fde_read(struct bn_fde_table *table, Elf *elf, Elf *debug_elf, uint64_t free_vaddr);
void bn_fde_free(struct bn_fde_table *table);

/* The entry that covers vaddr, NULL = none. */
const struct bn_fde *bn_fde_find(const struct bn_fde_table *table, uint64_t vaddr);
/* Where the first entry after vaddr begins, UINT64_MAX = none. */
uint64_t bn_fde_next_start(const struct bn_fde_table *table, uint64_t vaddr);

/* n bytes of the unwind sections at vaddr, NULL if they are not all there. */
const uint8_t *bn_fde_bytes(const struct bn_fde_table *table, uint64_t vaddr, size_t n);

#endif
