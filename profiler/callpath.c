/* SPDX-License-Identifier: MIT
 * Build the stacks of the record. Every distinct address is named once. */
#include "profiler/callpath.h"

#include <linux/perf_event.h>
#include <stdlib.h>
#include <string.h>

#include "profiler/x86_code.h"

enum { MAX_IDS = BN_PROFILE_MAX_DEPTH - 1 };

void bn_callpath_begin(struct bn_callpath *c, struct bn_profile *p, struct bn_maps *maps,
                       const struct bn_kallsyms *kallsyms, size_t dump_bytes, bool frame_pointers)
{
    *c = (struct bn_callpath){.profile = p,
                              .maps = maps,
                              .unwinder = bn_unwinder_new(maps),
                              .kallsyms = kallsyms,
                              .dump_bytes = dump_bytes,
                              .frame_pointers = frame_pointers};
    c->symbols = bn_xcalloc(1, sizeof *c->symbols);
    c->unwound = bn_xcalloc(1, sizeof *c->unwound);
}

void bn_callpath_end(struct bn_callpath *c)
{
    bn_unwinder_free(c->unwinder);
    if (c->symbols)
        bn_symbols_free(c->symbols);
    free(c->symbols);
    free(c->unwound);
    bn_idmap_free(&c->by_address);
    bn_idmap_free(&c->by_bottom);
    free(c->names);
    free(c->pool);
    free(c->ids);
    *c = (struct bn_callpath){0};
}

/* ---- names of one address ---- */

/* Keep what c->symbols holds under the key (a, b). */
static const struct bn_callpath_names *keep(struct bn_callpath *c, uint64_t a, uint64_t b)
{
    const struct bn_symbols *s = c->symbols;
    struct bn_callpath_names names = {.first = c->n_pool, .n = (uint32_t)s->n};

    names.unnamed = s->frames[0].kind == BN_FRAME_UNKNOWN ||
                    (s->frames[0].kind == BN_FRAME_KERNEL && s->frames[0].function[0] == '[');
    bn_grow(&c->pool, &c->cap_pool, c->n_pool + s->n, sizeof *c->pool);
    for (size_t i = 0; i < s->n; i++)
        c->pool[c->n_pool++] = bn_profile_add_frame(c->profile, &s->frames[i]);
    bn_grow(&c->names, &c->cap_names, c->n_names + 1, sizeof *c->names);
    bn_idmap_put(&c->by_address, a, b, (uint32_t)c->n_names);
    c->names[c->n_names] = names;
    return &c->names[c->n_names++];
}

static const struct bn_callpath_names *user_names(struct bn_callpath *c, const struct bn_place *place)
{
    uint64_t a = (uintptr_t)place->image, b = place->has_vaddr ? place->vaddr : UINT64_MAX;
    const uint32_t *known = bn_idmap_get(&c->by_address, a, b);

    if (known)
        return &c->names[*known];
    bn_symbols_find(c->symbols, place);
    return keep(c, a, b);
}

static const struct bn_callpath_names *kernel_names(struct bn_callpath *c, uint64_t address)
{
    enum { KERNEL = 1 }; /* no image has this address */
    const uint32_t *known = bn_idmap_get(&c->by_address, KERNEL, address);

    if (known)
        return &c->names[*known];
    bn_symbols_find_kernel(c->symbols, c->kallsyms, address);
    return keep(c, KERNEL, address);
}

/* ---- one sample ---- */

static void append(struct bn_callpath *c, const struct bn_callpath_names *names,
                   struct bn_callpath_found *found)
{
    if (c->n_ids == 0 && names->unnamed)
        found->flags |= BN_SAMPLE_UNNAMED;
    bn_grow(&c->ids, &c->cap_ids, c->n_ids + names->n, sizeof *c->ids);
    for (uint32_t i = 0; i < names->n && c->n_ids < MAX_IDS; i++)
        c->ids[c->n_ids++] = c->pool[names->first + i];
}

/* The part of a chain behind the marker of one context: [*first, *end). Without that marker it is empty. */
static void chain_part(const struct bn_record *r, uint64_t context, size_t *first, size_t *end)
{
    size_t i = 0;

    while (i < r->n_chain && bn_record_word(r->chain, i) != context)
        i++;
    *first = *end = i < r->n_chain ? i + 1 : i;
    while (*end < r->n_chain && bn_record_word(r->chain, *end) < (uint64_t)PERF_CONTEXT_MAX)
        ++*end;
}

/* The first address of a part is exact, the others are return addresses. */
static void add_kernel_part(struct bn_callpath *c, const struct bn_record *r, struct bn_callpath_found *found)
{
    size_t first, end;

    chain_part(r, (uint64_t)PERF_CONTEXT_KERNEL, &first, &end);
    if (first == end)
        append(c, kernel_names(c, r->ip), found);
    for (size_t i = first; i < end; i++)
        append(c, kernel_names(c, bn_record_word(r->chain, i) - (i > first)), found);
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

static bool reaches_start(const struct bn_callpath *c, size_t from)
{
    for (size_t i = c->n_ids; i-- > from;)
        if (is_start(&c->profile->frames[c->ids[i]]))
            return true;
    return false;
}

static void add_mark(struct bn_callpath *c, enum bn_unwind_end end, struct bn_callpath_found *found)
{
    bool cut = end == BN_UNWIND_DUMP_ENDED || end == BN_UNWIND_TOO_DEEP;
    struct bn_frame mark = {.function = cut ? "[truncated]" : "[unwind-failed]", .kind = BN_FRAME_MARK};

    found->flags |= BN_SAMPLE_TRUNCATED;
    bn_grow(&c->ids, &c->cap_ids, c->n_ids + 1, sizeof *c->ids);
    c->ids[c->n_ids++] = bn_profile_add_frame(c->profile, &mark);
}

/* With frame pointers the kernel has walked the chain. It cannot say how the chain ended, and the C library
 * below main has no frame pointers: a chain counts as whole when it reaches main, or the library that started
 * its thread. */
static void add_user_chain(struct bn_callpath *c, const struct bn_process *process, const struct bn_record *r,
                           struct bn_callpath_found *found)
{
    size_t first, end, from = c->n_ids;
    struct bn_place last = {0};

    chain_part(r, (uint64_t)PERF_CONTEXT_USER, &first, &end);
    if (first == end)
        return;
    for (size_t i = first; i < end; i++) {
        last = bn_maps_find(c->maps, process, bn_record_word(r->chain, i) - (i > first));
        append(c, user_names(c, &last), found);
    }
    bool in_libc =
        end - first > 1 && last.image && strncmp(last.image->name, "libc.so", 7) == 0 && r->tid != r->pid;
    if (!in_libc && !reaches_start(c, from))
        add_mark(c, BN_UNWIND_NO_CFI, found);
}

/* The frames below main, or below a thread's function, are the same in every stack of a process; they are
 * remembered by the return addresses of the outermost few, for chains that the C library's code without frame
 * pointers ends early. */
static void note_bottom(struct bn_callpath *c, const struct bn_process *process)
{
    enum { BOTTOM_FRAMES = 3 };
    const struct bn_unwind_result *u = c->unwound;

    if (u->n < 2 || bn_idmap_get(&c->by_bottom, process->serial, u->frames[u->n - 2].address))
        return;
    for (size_t i = u->n > BOTTOM_FRAMES ? u->n - BOTTOM_FRAMES : 1; i + 1 < u->n; i++) {
        struct bn_callpath_names bottom = {.first = c->n_pool};
        for (size_t k = i + 1; k < u->n; k++) {
            struct bn_callpath_names names =
                *user_names(c, &u->frames[k].place); /* known: adds nothing to the pool */
            bn_grow(&c->pool, &c->cap_pool, c->n_pool + names.n, sizeof *c->pool);
            memcpy(c->pool + c->n_pool, c->pool + names.first, names.n * sizeof *c->pool);
            c->n_pool += names.n;
            bottom.n += names.n;
        }
        bn_grow(&c->names, &c->cap_names, c->n_names + 1, sizeof *c->names);
        bn_idmap_put(&c->by_bottom, process->serial, u->frames[i].address, (uint32_t)c->n_names);
        c->names[c->n_names++] = bottom;
    }
}

/* The kernel's chain gives, behind the sampled address, the return address in each frame that rbp links: the
 * first at rbp + 8, the next at the saved rbp + 8, and so on. Which of them lies at `address`, or in the same
 * frame? -1 = none that can be told from the copied stack. */
static ptrdiff_t link_at(const struct bn_unwind_input *in, uint64_t address)
{
    uint64_t rbp = in->regs[BN_UNWIND_RBP], start = in->regs[BN_UNWIND_RSP];

    if (!(in->known >> BN_UNWIND_RBP & 1))
        return -1;
    for (ptrdiff_t i = 0;; i++) {
        if (address == rbp || address == rbp + 8)
            return i;
        uint64_t at = rbp - start;
        if (rbp < start || in->stack_bytes < 8 || at > in->stack_bytes - 8)
            return -1;
        uint64_t next = bn_record_word(in->stack + at, 0);
        if (next <= rbp)
            return -1;
        rbp = next;
    }
}

/* Is the frame of the code at this place one that rbp links? */
static bool is_linked(const struct bn_place *place)
{
    const struct bn_fde *fde = place->has_vaddr ? bn_fde_find(&place->image->fdes, place->vaddr) : NULL;
    return fde && bn_x86_links_frame(place->image, fde->start, fde->end);
}

/* The copy of the stack ended before the chain did. If the frame at which it broke off is one that rbp links,
 * the kernel's chain goes on with its very return address: the callers follow, as long as they lie behind
 * calls. */
static void splice(struct bn_callpath *c, const struct bn_process *process, const struct bn_record *r,
                   const struct bn_unwind_input *in, struct bn_callpath_found *found)
{
    size_t first, end;
    ptrdiff_t link = link_at(in, c->unwound->missed);

    chain_part(r, (uint64_t)PERF_CONTEXT_USER, &first, &end);
    if (link < 0)
        return;
    for (size_t at = first + 1 + (size_t)link; at < end; at++) {
        uint64_t address = bn_record_word(r->chain, at);
        if (!bn_unwind_follows_call(c->unwinder, process, address))
            return;
        struct bn_place place = bn_maps_find(c->maps, process, address - 1);
        append(c, user_names(c, &place), found);
        const uint32_t *bottom = bn_idmap_get(&c->by_bottom, process->serial, address);
        if (bottom) {
            append(c, &c->names[*bottom], found);
            return;
        }
        if (!is_linked(&place))
            return;
    }
}

static void add_user_stack(struct bn_callpath *c, const struct bn_process *process, const struct bn_record *r,
                           struct bn_callpath_found *found)
{
    struct bn_unwind_input in = bn_unwind_input_of(r, c->dump_bytes);
    struct bn_unwind_result *u = c->unwound;
    size_t from = c->n_ids;

    bn_unwind(c->unwinder, process, &in, u);
    if (u->n == 0 && in.stack_bytes == 0 && found->flags & BN_SAMPLE_KERNEL)
        return; /* a thread of the kernel, or a program about to be started: there is no user part */
    found->dump_full = in.stack_full;
    for (size_t i = 0; i < u->n; i++)
        append(c, user_names(c, &u->frames[i].place), found);
    if (u->n == 0)
        append(c, user_names(c, &(struct bn_place){0}), found);
    if (u->end == BN_UNWIND_COMPLETE)
        note_bottom(c, process);
    else if (u->end == BN_UNWIND_DUMP_ENDED && u->n > 0)
        splice(c, process, r, &in, found);
    bool whole = u->end == BN_UNWIND_COMPLETE || reaches_start(c, from);
    c->ends[whole ? BN_UNWIND_COMPLETE : u->end]++;
    if (!whole) {
        c->last_image[u->end] = u->n ? u->frames[u->n - 1].place.image : NULL;
        add_mark(c, u->end, found);
    }
}

struct bn_callpath_found bn_callpath_of(struct bn_callpath *c, const struct bn_process *process,
                                        const struct bn_record *r)
{
    struct bn_callpath_found found = {0};

    c->n_ids = 0;
    if ((r->misc & PERF_RECORD_MISC_CPUMODE_MASK) == PERF_RECORD_MISC_KERNEL) {
        found.flags |= BN_SAMPLE_KERNEL;
        add_kernel_part(c, r, &found);
    }
    if (c->frame_pointers)
        add_user_chain(c, process, r, &found);
    else
        add_user_stack(c, process, r, &found);
    for (size_t i = c->n_ids; i-- > 0;)
        found.stack = bn_profile_add_stack(c->profile, found.stack, c->ids[i]);
    return found;
}
