/* SPDX-License-Identifier: MIT
 * Processes and their executable mappings: replaced by overlap, copied by fork, dropped by exec. */
#include "profiler/maps.h"

#include <linux/perf_event.h>
#include <stdlib.h>
#include <string.h>

void bn_maps_init(struct bn_maps *maps)
{
    *maps = (struct bn_maps){0};
}

void bn_maps_free(struct bn_maps *maps)
{
    for (size_t i = 0; i < maps->n_processes; i++) {
        free(maps->processes[i]->mappings);
        free(maps->processes[i]);
    }
    for (size_t i = 0; i < maps->n_files; i++) {
        if (maps->files[i].image != maps->vdso)
            bn_image_free(maps->files[i].image);
        free(maps->files[i].path);
    }
    bn_image_free(maps->vdso);
    free(maps->ended);
    free(maps->processes);
    free(maps->files);
    bn_idmap_free(&maps->by_pid);
    bn_maps_init(maps);
}

void bn_maps_set_vdso(struct bn_maps *maps, const void *bytes, size_t n)
{
    if (maps->vdso || maps->n_files > 0) /* the first one counts, and before any mapping */
        return;
    maps->vdso = bn_image_from_bytes("[vdso]", bytes, n);
}

/* ---- processes ---- */

static struct bn_process *new_process(struct bn_maps *maps, int32_t pid)
{
    struct bn_process *process = bn_xcalloc(1, sizeof *process);

    process->pid = pid;
    process->n_threads = 1;
    process->serial = (uint32_t)maps->n_processes;
    bn_grow(&maps->processes, &maps->cap_processes, maps->n_processes + 1, sizeof(struct bn_process *));
    maps->processes[maps->n_processes++] = process;
    bn_idmap_put(&maps->by_pid, (uint32_t)pid, 0, process->serial);
    return process;
}

static struct bn_process *find_process(struct bn_maps *maps, int32_t pid)
{
    const uint32_t *index = bn_idmap_get(&maps->by_pid, (uint32_t)pid, 0);
    return index ? maps->processes[*index] : NULL;
}

struct bn_process *bn_maps_process(struct bn_maps *maps, int32_t pid)
{
    struct bn_process *process = find_process(maps, pid);
    return process ? process : new_process(maps, pid);
}

/* ---- mappings ---- */

static uint32_t find_file(struct bn_maps *maps, const struct bn_record *r)
{
    for (size_t i = 0; i < maps->n_files; i++) {
        const struct bn_mapped_file *f = &maps->files[i];
        if (strcmp(f->path, r->text) == 0 && f->build_id_bytes == r->build_id_bytes &&
            memcmp(f->build_id, r->build_id, r->build_id_bytes) == 0)
            return (uint32_t)i;
    }
    bn_grow(&maps->files, &maps->cap_files, maps->n_files + 1, sizeof *maps->files);
    struct bn_mapped_file *f = &maps->files[maps->n_files];
    *f = (struct bn_mapped_file){.path = bn_xstrdup(r->text), .build_id_bytes = r->build_id_bytes};
    memcpy(f->build_id, r->build_id, r->build_id_bytes);
    return (uint32_t)maps->n_files++;
}

/* Index of the first mapping that ends above the address. */
static size_t first_above(const struct bn_process *p, uint64_t address)
{
    size_t low = 0, high = p->n;

    while (low < high) {
        size_t middle = low + (high - low) / 2;
        if (p->mappings[middle].end <= address)
            low = middle + 1;
        else
            high = middle;
    }
    return low;
}

static void insert(struct bn_process *p, size_t at, struct bn_mapping m)
{
    bn_grow(&p->mappings, &p->capacity, p->n + 1, sizeof *p->mappings);
    memmove(p->mappings + at + 1, p->mappings + at, (p->n - at) * sizeof *p->mappings);
    p->mappings[at] = m;
    p->n++;
}

/* Take [start, end) out of all mappings; a mapping around it splits in two. */
static void cut(struct bn_process *p, uint64_t start, uint64_t end)
{
    for (size_t i = first_above(p, start); i < p->n && p->mappings[i].start < end;) {
        struct bn_mapping m = p->mappings[i], right = m;
        p->generation++;
        right.start = end;
        right.file_offset += end - m.start;
        bool keeps_left = m.start<start, keeps_right = m.end> end;
        if (keeps_left)
            p->mappings[i++].end = start;
        if (keeps_left && keeps_right) {
            insert(p, i, right);
        } else if (keeps_right) {
            p->mappings[i] = right;
        } else if (!keeps_left) {
            memmove(p->mappings + i, p->mappings + i + 1, (p->n - i - 1) * sizeof *p->mappings);
            p->n--;
            continue;
        }
        i += keeps_right;
    }
}

static void apply_mmap(struct bn_maps *maps, const struct bn_record *r)
{
    uint64_t end = r->start + r->length;
    struct bn_process *p;

    if (r->pid < 0 || r->length == 0 || end < r->start) /* pid -1: the kernel's own code */
        return;
    p = bn_maps_process(maps, r->pid);
    cut(p, r->start, end);
    if (!r->executable)
        return;
    insert(p, first_above(p, r->start),
           (struct bn_mapping){r->start, end, r->file_offset, find_file(maps, r), r->t_ns});
}

static void apply_fork(struct bn_maps *maps, const struct bn_record *r)
{
    if (r->pid == r->parent_pid) { /* a thread */
        bn_maps_process(maps, r->pid)->n_threads++;
        return;
    }
    struct bn_process *child = new_process(maps, r->pid), *parent = find_process(maps, r->parent_pid);
    if (!parent || parent->n == 0)
        return;
    child->mappings = bn_xmalloc(parent->n * sizeof *child->mappings);
    memcpy(child->mappings, parent->mappings, parent->n * sizeof *child->mappings);
    child->n = child->capacity = parent->n;
}

static void apply_exit(struct bn_maps *maps, const struct bn_record *r)
{
    struct bn_process *p = find_process(maps, r->pid);

    if (!p || p->ended_ns || --p->n_threads > 0)
        return;
    p->ended_ns = r->t_ns;
    bn_grow(&maps->ended, &maps->cap_ended, maps->n_ended + 1, sizeof *maps->ended);
    maps->ended[maps->n_ended++] = p->serial;
}

void bn_maps_forget(struct bn_maps *maps, uint64_t before_ns, bool (*gone)(int32_t pid))
{
    size_t n = 0;

    for (; n < maps->n_ended && maps->processes[maps->ended[n]]->ended_ns < before_ns; n++) {
        struct bn_process *p = maps->processes[maps->ended[n]];
        const struct bn_process *living = find_process(maps, p->pid);
        if (living == p && !gone(p->pid)) {
            p->ended_ns = 0; /* a thread of it was never heard of */
            p->n_threads = 1;
            continue;
        }
        free(p->mappings);
        p->mappings = NULL;
        p->n = p->capacity = 0;
    }
    if (n)
        memmove(maps->ended, maps->ended + n, (maps->n_ended - n) * sizeof *maps->ended);
    maps->n_ended -= n;
}

void bn_maps_apply(struct bn_maps *maps, const struct bn_record *r)
{
    switch (r->type) {
    case PERF_RECORD_MMAP:
    case PERF_RECORD_MMAP2:
        apply_mmap(maps, r);
        break;
    case PERF_RECORD_FORK:
        apply_fork(maps, r);
        break;
    case PERF_RECORD_EXIT:
        apply_exit(maps, r);
        break;
    case PERF_RECORD_COMM:
        if (r->misc & PERF_RECORD_MISC_COMM_EXEC) {
            struct bn_process *p = bn_maps_process(maps, r->pid);
            p->n = 0;
            p->generation++;
        }
        break;
    default:
        break;
    }
}

static struct bn_image *image_of(struct bn_maps *maps, uint32_t file)
{
    struct bn_mapped_file *f = &maps->files[file];

    if (!f->image) {
        if (maps->vdso && strcmp(f->path, "[vdso]") == 0)
            f->image = maps->vdso;
        else
            f->image = bn_image_open(f->path, f->build_id, f->build_id_bytes);
    }
    return f->image;
}

bool bn_maps_between(const struct bn_process *p, uint64_t from, uint64_t to)
{
    size_t i = first_above(p, from);

    return i < p->n && p->mappings[i].start <= to;
}

struct bn_place bn_maps_find(struct bn_maps *maps, const struct bn_process *p, uint64_t address)
{
    struct bn_place place = {0};
    uint64_t bias;
    size_t i = first_above(p, address);

    if (i >= p->n || address < p->mappings[i].start)
        return place;
    const struct bn_mapping *m = &p->mappings[i];
    place.image = image_of(maps, m->file);
    place.file = m->file;
    if (place.image->usable &&
        bn_image_bias(place.image, m->start, m->end - m->start, m->file_offset, &bias) == 0) {
        place.vaddr = address - bias;
        place.has_vaddr = true;
    }
    return place;
}
