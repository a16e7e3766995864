/* SPDX-License-Identifier: MIT
 * An executable file (or the vdso) as the profiler needs it: segments, identity, unwind table, bytes.
 * Everything is read from the file with checked bounds; addresses are the file's own ("vaddr"), before
 * loading. */
#ifndef PROFILER_IMAGE_H
#define PROFILER_IMAGE_H

#include <libelf.h>

#include "core/base.h"
#include "profiler/fde.h"

enum { BN_IMAGE_MAX_BUILD_ID = 20 };

struct bn_image_segment {
    uint64_t vaddr, vaddr_end;   /* in memory */
    uint64_t offset, offset_end; /* in the file */
    bool executable, writable;
};

struct bn_image {
    char *path;       /* as mapped, "[vdso]" */
    const char *name; /* base name, part of path */
    bool usable;      /* false: only the name is known; why says why */
    bool asked;       /* a server for its debug information */
    bool other_file;  /* not usable because the file now on disk is not the one that ran */
    struct bn_err why;

    Elf *elf, *debug_elf; /* debug_elf: separate debug file, NULL = none */
    const uint8_t *bytes; /* the whole file */
    size_t n_bytes;
    uint8_t *owned; /* bytes of an image that is no file */
    uint8_t build_id[BN_IMAGE_MAX_BUILD_ID];
    uint32_t build_id_bytes; /* 0 = none */

    struct bn_image_segment *segments;
    size_t n_segments;
    uint64_t vaddr_end; /* of the last segment, rounded up to a page */
    uint64_t entry;     /* 0 = none */
    int64_t modified_s; /* time of the file's last change, Unix; 0 = unknown */
    struct bn_fde_table fdes;

    struct bn_symtab *symtab; /* made when first asked for, see symbols.c */
    struct bn_debug *debug;

    const void *noted_in; /* see addresses.c: the record that has this image among its modules … */
    uint32_t noted_as;    /* … and where */
};

/* Open the file of a mapping. Never NULL: an image that cannot be used says why. build_id (NULL or n bytes)
 * is that of the file that ran; a file with another one is refused. The caller frees. */
struct bn_image *bn_image_open(const char *path, const uint8_t *build_id, size_t build_id_bytes);
/* The same from memory; the bytes are copied. */
struct bn_image *bn_image_from_bytes(const char *name, const void *bytes, size_t n);
void bn_image_free(struct bn_image *image);
/* Before names are looked up: get missing debug information from a server, if that was allowed
 * (debuginfod.h); asked once. */
void bn_image_ask_debug(struct bn_image *image);

/* What to subtract from addresses in a mapping (start, file offset) of this image to get vaddrs. The segment
 * that holds the file range decides, executable ones first. 0, or -1 if no segment holds it. */
int bn_image_bias(const struct bn_image *image, uint64_t start, uint64_t length, uint64_t file_offset,
                  uint64_t *bias);

/* n bytes at vaddr, from segments that the program cannot have changed; NULL if not all of them are there. */
const uint8_t *bn_image_read(const struct bn_image *image, uint64_t vaddr, size_t n);

/* Is vaddr in an executable segment? */
bool bn_image_is_code(const struct bn_image *image, uint64_t vaddr);

/* Section (not SHT_NOBITS) of that name, NULL = none. */
Elf_Scn *bn_image_section(Elf *elf, const char *name);
/* Is vaddr in a section whose name begins with `prefix`? Used for the PLT. */
bool bn_image_in_section(const struct bn_image *image, uint64_t vaddr, const char *prefix);

#endif
