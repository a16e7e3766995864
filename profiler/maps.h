/* SPDX-License-Identifier: MIT
 * Which file was mapped where, in which process, at this moment of the recording: fed with records in time
 * order. */
#ifndef PROFILER_MAPS_H
#define PROFILER_MAPS_H

#include "core/base.h"
#include "profiler/idmap.h"
#include "profiler/image.h"
#include "profiler/records.h"

/* An executable mapping. */
struct bn_mapping {
    uint64_t start, end, file_offset;
    uint32_t file;     /* index into bn_maps.files */
    uint64_t since_ns; /* of the record that told it last */
};

struct bn_process {
    int32_t pid;
    uint32_t serial; /* never used twice, unlike the pid */
    uint32_t
        generation; /* grows when a mapping was replaced or the process called exec: cached rules are void */
    struct bn_mapping *mappings; /* disjoint, by start */
    size_t n, capacity;
    int32_t n_threads; /* that are known to live */
    uint64_t ended_ns; /* when the last one of them ended; 0 = it has not */
};

/* A mapped file by name and build id; opened when an address in it is first asked for. */
struct bn_mapped_file {
    char *path;
    uint8_t build_id[BN_RECORD_MAX_BUILD_ID];
    uint32_t build_id_bytes;
    struct bn_image *image;
};

struct bn_maps {
    struct bn_process **processes; /* in order of appearance; the last one of a pid is the living one */
    size_t n_processes, cap_processes;
    struct bn_mapped_file *files;
    size_t n_files, cap_files;
    struct bn_image *vdso;  /* owned; NULL = not known */
    struct bn_idmap by_pid; /* the living process of a pid */
    uint32_t *ended;        /* processes whose mappings wait for bn_maps_forget, by time */
    size_t n_ended, cap_ended;
};

/* Where an address lies. */
struct bn_place {
    struct bn_image *image; /* NULL = no executable mapping there */
    uint32_t file;          /* index into bn_maps.files; valid if there is an image */
    uint64_t vaddr;         /* the address in the image's file; valid if has_vaddr */
    bool has_vaddr;         /* false: the image is unusable or does not hold the range */
};

void bn_maps_init(struct bn_maps *maps);
void bn_maps_free(struct bn_maps *maps);

/* The image of the vdso, from its bytes. */
void bn_maps_set_vdso(struct bn_maps *maps, const void *bytes, size_t n);

/* Take in an MMAP, MMAP2, FORK, COMM or EXIT record; others are ignored. */
void bn_maps_apply(struct bn_maps *maps, const struct bn_record *record);

/* Drop the mappings of processes that ended before before_ns and that `gone` (pid) confirms: records of
 * threads can be lost. */
void bn_maps_forget(struct bn_maps *maps, uint64_t before_ns, bool (*gone)(int32_t pid));

/* The living process of that pid; made empty if it was never heard of. Never NULL, valid until bn_maps_free.
 */
struct bn_process *bn_maps_process(struct bn_maps *maps, int32_t pid);

/* Does an executable mapping begin above `from` and not above `to`? */
bool bn_maps_between(const struct bn_process *process, uint64_t from, uint64_t to);

/* Find the file behind an address. */
struct bn_place bn_maps_find(struct bn_maps *maps, const struct bn_process *process, uint64_t address);

#endif
