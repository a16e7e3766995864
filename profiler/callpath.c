/* SPDX-License-Identifier: MIT
 * Build the stacks of the record. Every distinct address is named once, every distinct stack built once. */
#include "profiler/callpath.h"

#include <stdlib.h>
#include <string.h>

#include "profiler/addresses.h"

enum { MAX_IDS = BN_PROFILE_MAX_DEPTH - 1 };

void bn_callpath_begin(struct bn_callpath *c, struct bn_profile *p, const struct bn_kallsyms *kallsyms,
                       bool frame_pointers)
{
    *c = (struct bn_callpath){.profile = p, .kallsyms = kallsyms, .frame_pointers = frame_pointers};
    c->symbols = bn_xcalloc(1, sizeof *c->symbols);
    for (size_t i = 0; i < BN_COUNT(c->last_file); i++)
        c->last_file[i] = BN_RAW_NOWHERE;
}

void bn_callpath_end(struct bn_callpath *c)
{
    for (size_t i = 0; i < c->n_files; i++) {
        if (c->files[i].image != c->vdso)
            bn_image_free(c->files[i].image);
        free(c->files[i].path);
    }
    bn_image_free(c->vdso);
    if (c->symbols)
        bn_symbols_free(c->symbols);
    free(c->symbols);
    bn_idmap_free(&c->by_address);
    bn_idmap_free(&c->by_entry);
    free(c->files);
    free(c->table);
    free(c->found);
    free(c->names);
    free(c->pool);
    free(c->ids);
    *c = (struct bn_callpath){0};
}

/* ---- tables ---- */

void bn_callpath_set_vdso(struct bn_callpath *c, const void *bytes, size_t n)
{
    if (!c->vdso)
        c->vdso = bn_image_from_bytes("[vdso]", bytes, n);
}

void bn_callpath_lose(struct bn_callpath *c, uint64_t bytes)
{
    c->lost = true;
    c->lost_bytes += bytes;
}

/* Can n entries of that size have stood in what was lost? */
static bool were_lost(struct bn_callpath *c, uint64_t n, size_t entry_bytes)
{
    if (n > c->lost_bytes / entry_bytes)
        return false;
    c->lost_bytes -= n * entry_bytes;
    return true;
}

/* Up to, but without, number `index`. */
static int fill_files(struct bn_callpath *c, uint32_t index)
{
    if (index < c->n_files || !were_lost(c, index - c->n_files, sizeof(struct bn_raw_file)))
        return -1;
    bn_grow(&c->files, &c->cap_files, index, sizeof *c->files);
    while (c->n_files < index)
        c->files[c->n_files++] = (struct bn_callpath_file){.path = bn_xstrdup("[lost]")};
    return 0;
}

static int fill_stacks(struct bn_callpath *c, uint32_t first)
{
    if (first < c->n_table || !were_lost(c, first - c->n_table, sizeof *c->table))
        return -1;
    bn_grow(&c->table, &c->cap_table, first, sizeof *c->table);
    while (c->n_table < first)
        c->table[c->n_table++] = (struct bn_raw_stack){.file = BN_RAW_MARK, .address = BN_UNWIND_DAMAGED};
    return 0;
}

int bn_callpath_add_file(struct bn_callpath *c, const uint8_t *payload, size_t n)
{
    struct bn_raw_file head;

    if (n < sizeof head)
        return -1;
    memcpy(&head, payload, sizeof head);
    if (head.build_id_bytes > sizeof head.build_id || fill_files(c, head.index) != 0)
        return -1;
    bn_grow(&c->files, &c->cap_files, c->n_files + 1, sizeof *c->files);
    struct bn_callpath_file *f = &c->files[c->n_files++];
    *f = (struct bn_callpath_file){.build_id_bytes = head.build_id_bytes};
    memcpy(f->build_id, head.build_id, head.build_id_bytes);
    f->path = bn_xmalloc(n - sizeof head + 1);
    memcpy(f->path, payload + sizeof head, n - sizeof head);
    f->path[n - sizeof head] = '\0';
    return 0;
}

int bn_callpath_add_stacks(struct bn_callpath *c, const uint8_t *payload, size_t n)
{
    struct bn_raw_stacks head;
    size_t n_new = n < sizeof head ? 0 : (n - sizeof head) / sizeof *c->table;

    if (n_new == 0)
        return -1;
    memcpy(&head, payload, sizeof head);
    if (head.first == 1 || head.epoch != c->epoch) {
        bn_grow(&c->table, &c->cap_table, 1, sizeof *c->table);
        c->table[0] = (struct bn_raw_stack){.file = BN_RAW_NOWHERE};
        c->n_table = 1;
        c->n_found = 0;
        c->epoch = head.epoch;
        bn_idmap_free(&c->by_entry);
    }
    if (fill_stacks(c, head.first) != 0)
        return -1;
    bn_grow(&c->table, &c->cap_table, c->n_table + n_new, sizeof *c->table);
    memcpy(c->table + c->n_table, payload + sizeof head, n_new * sizeof *c->table);
    for (size_t i = c->n_table; i < c->n_table + n_new; i++) {
        struct bn_raw_stack *e = &c->table[i];
        bool mark = e->file == BN_RAW_MARK;
        if (c->lost && e->file >= (int64_t)c->n_files)
            e->file = BN_RAW_NOWHERE;
        if (e->parent >= i || e->file < BN_RAW_MARK || e->file >= (int64_t)c->n_files ||
            (mark && (e->parent != 0 || e->address >= BN_UNWIND_END_COUNT)))
            return -1;
    }
    c->n_table += n_new;
    return 0;
}

const char *bn_callpath_file_name(const struct bn_callpath *c, int32_t file)
{
    return file >= 0 && (size_t)file < c->n_files && c->files[file].image ? c->files[file].image->name : NULL;
}

/* ---- names of one address ---- */

static struct bn_image *image_of(struct bn_callpath *c, int32_t file)
{
    struct bn_callpath_file *f = &c->files[file];

    if (!f->image)
        f->image = c->vdso && strcmp(f->path, "[vdso]") == 0
                       ? c->vdso
                       : bn_image_open(f->path, f->build_id, f->build_id_bytes);
    return f->image;
}

static struct bn_place place_of(struct bn_callpath *c, const struct bn_raw_stack *e)
{
    struct bn_place place = {0};

    if (e->file >= 0) {
        place.image = image_of(c, e->file);
        place.vaddr = e->address;
        place.has_vaddr = e->address != UINT64_MAX && place.image->usable;
    }
    return place;
}

static const struct bn_callpath_names *names_of(struct bn_callpath *c, const struct bn_raw_stack *e)
{
    uint64_t file = (uint64_t)(int64_t)e->file, address = e->file == BN_RAW_NOWHERE ? 0 : e->address;
    const uint32_t *known = bn_idmap_get(&c->by_address, file, address);
    const struct bn_symbols *s = c->symbols;

    if (known)
        return &c->names[*known];
    struct bn_callpath_names names = {.first = c->n_pool, .place = place_of(c, e)};
    if (e->file == BN_RAW_KERNEL)
        bn_symbols_find_kernel(c->symbols, c->kallsyms, e->address);
    else
        bn_symbols_find(c->symbols, &names.place);
    names.n = (uint32_t)s->n;
    names.unnamed = s->frames[0].kind == BN_FRAME_UNKNOWN ||
                    (s->frames[0].kind == BN_FRAME_KERNEL && s->frames[0].function[0] == '[');
    bn_grow(&c->pool, &c->cap_pool, c->n_pool + s->n, sizeof *c->pool);
    for (size_t i = 0; i < s->n; i++)
        c->pool[c->n_pool++] = bn_profile_add_frame(c->profile, &s->frames[i]);
    bn_addresses_note(c->profile, &names.place, c->pool[c->n_pool - 1], 0, 0);
    bn_grow(&c->names, &c->cap_names, c->n_names + 1, sizeof *c->names);
    bn_idmap_put(&c->by_address, file, address, (uint32_t)c->n_names);
    c->names[c->n_names] = names;
    return &c->names[c->n_names++];
}

/* ---- one stack ---- */

static void append(struct bn_callpath *c, const struct bn_callpath_names *names,
                   struct bn_callpath_found *found)
{
    if (c->n_ids == 0 && names->unnamed)
        found->flags |= BN_SAMPLE_UNNAMED;
    bn_grow(&c->ids, &c->cap_ids, c->n_ids + names->n, sizeof *c->ids);
    for (uint32_t i = 0; i < names->n && c->n_ids < MAX_IDS; i++)
        c->ids[c->n_ids++] = c->pool[names->first + i];
}

static bool is_start(const struct bn_frame *frame)
{
    static const char *const names[] = {"main",   "_start",  "start_thread", "clone",
                                        "clone3", "__clone", "__clone3",     "thread_start"};

    for (size_t i = 0; i < BN_COUNT(names); i++)
        if (frame->kind == BN_FRAME_USER && strcmp(frame->function, names[i]) == 0)
            return true;
    return false;
}

static bool reaches_start(const struct bn_callpath *c)
{
    for (size_t i = c->n_ids; i-- > 0;)
        if (is_start(&c->profile->frames[c->ids[i]]))
            return true;
    return false;
}

/* The kernel's walk by frame pointers cannot say how the chain ended, and the C library below a thread's
 * function has none: a chain that goes into that library is whole. */
static bool ends_in_libc(const struct bn_callpath *c, int32_t outermost, size_t n_user)
{
    const char *name = bn_callpath_file_name(c, outermost);

    return n_user > 1 && name && strncmp(name, "libc.so", 7) == 0;
}

static void add_mark(struct bn_callpath *c, struct bn_callpath_found *found)
{
    struct bn_frame mark = {.function = bn_unwind_mark_name((enum bn_unwind_end)found->end),
                            .kind = BN_FRAME_MARK};

    found->flags |= BN_SAMPLE_TRUNCATED;
    bn_grow(&c->ids, &c->cap_ids, c->n_ids + 1, sizeof *c->ids);
    c->ids[c->n_ids++] = bn_profile_add_frame(c->profile, &mark);
}

static struct bn_callpath_found build(struct bn_callpath *c, uint32_t stack, bool main_thread)
{
    struct bn_callpath_found found = {.end = BN_UNWIND_COMPLETE, .file = BN_RAW_NOWHERE, .leaf = BN_NONE};
    const struct bn_raw_stack *e;
    size_t n_user = 0;

    c->n_ids = 0;
    for (; stack != 0; stack = e->parent) {
        e = &c->table[stack];
        if (e->file == BN_RAW_MARK) {
            found.end = (uint32_t)e->address;
            break;
        }
        found.file = e->file;
        n_user += e->file != BN_RAW_KERNEL;
        const struct bn_callpath_names *names = names_of(c, e);
        if (c->n_ids == 0)
            found.leaf = (uint32_t)(names - c->names);
        append(c, names, &found);
    }
    bool by_library = c->frame_pointers && !main_thread && ends_in_libc(c, found.file, n_user);
    if (found.end != BN_UNWIND_COMPLETE && (by_library || reaches_start(c)))
        found.end = BN_UNWIND_COMPLETE;
    if (found.end != BN_UNWIND_COMPLETE)
        add_mark(c, &found);
    for (size_t i = c->n_ids; i-- > 0;)
        found.stack = bn_profile_add_stack(c->profile, found.stack, c->ids[i]);
    return found;
}

/* Not remembered: the entry may still come. */
static struct bn_callpath_found lost_stack(struct bn_callpath *c)
{
    struct bn_callpath_found found = {.end = BN_UNWIND_DAMAGED, .file = BN_RAW_NOWHERE, .leaf = BN_NONE};

    c->n_ids = 0;
    add_mark(c, &found);
    found.stack = bn_profile_add_stack(c->profile, 0, c->ids[0]);
    return found;
}

struct bn_callpath_found bn_callpath_of(struct bn_callpath *c, uint32_t stack, bool main_thread,
                                        uint64_t weight_ns)
{
    const uint32_t *known = bn_idmap_get(&c->by_entry, stack, main_thread);
    struct bn_callpath_found found = {.leaf = BN_NONE};

    if (known)
        found = c->found[*known];
    else if (stack != 0 && stack >= c->n_table) {
        found = lost_stack(c);
    } else if (stack < c->n_table) {
        found = build(c, stack, main_thread);
        bn_idmap_put(&c->by_entry, stack, main_thread, (uint32_t)c->n_found);
        bn_grow(&c->found, &c->cap_found, c->n_found + 1, sizeof *c->found);
        c->found[c->n_found++] = found;
    }
    if (found.leaf != BN_NONE) {
        const struct bn_callpath_names *leaf = &c->names[found.leaf];
        bn_addresses_note(c->profile, &leaf->place, c->pool[leaf->first + leaf->n - 1], 1, weight_ns);
    }
    c->ends[found.end]++;
    if (found.end != BN_UNWIND_COMPLETE)
        c->last_file[found.end] = found.file;
    return found;
}
