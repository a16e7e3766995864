/* SPDX-License-Identifier: MIT
 * Stacks that are longer than the copy of them: the kernel's chain of frame pointers serves from there on. */
#include <stdlib.h>

#include "profiler/unwind_private.h"
#include "profiler/x86_code.h"

/* The frames below main, or below a thread's function, are the same in every stack of a process; they are
 * remembered by the return addresses of the outermost few, for chains that the C library's code without frame
 * pointers ends early. */
void bn_unwind_note_bottom(struct bn_unwinder *u, const struct bn_process *process, bool exact,
                           const struct bn_unwind_result *r)
{
    size_t most = BN_UNWIND_BOTTOM_FRAMES, first = exact;

    if (r->n < 2 || bn_idmap_get(&u->bottom_at, process->serial, r->frames[r->n - 2].address))
        return;
    for (size_t i = r->n >= most + first ? r->n - most : first; i + 1 < r->n; i++) {
        struct bn_unwind_bottom bottom = {0};
        for (size_t k = i + 1; k < r->n; k++)
            bottom.frames[bottom.n++] = r->frames[k];
        bn_grow(&u->bottoms, &u->cap_bottoms, u->n_bottoms + 1, sizeof *u->bottoms);
        bn_idmap_put(&u->bottom_at, process->serial, r->frames[i].address, (uint32_t)u->n_bottoms);
        u->bottoms[u->n_bottoms++] = bottom;
    }
}

/* The kernel's chain gives, behind the sampled address, the return address in each frame that rbp links: the
 * first at rbp + 8, the next at the saved rbp + 8, and so on. Which of them lies at `address`, or in the same
 * frame? -1 = none that can be told from the copied stack. */
static ptrdiff_t link_at(struct bn_unwinder *u, uint64_t address)
{
    uint64_t rbp, next;

    if (!(u->in->known >> BN_UNWIND_RBP & 1))
        return -1;
    u->derived = false; /* the sample's registers again */
    u->known = u->in->known;
    u->regs[BN_UNWIND_RBP] = u->in->regs[BN_UNWIND_RBP];
    bn_unwind_read_register(u, BN_UNWIND_RBP, &rbp);
    for (ptrdiff_t i = 0;; i++) {
        if (address == rbp || address == rbp + 8)
            return i;
        if (!bn_unwind_read_stack(u, rbp, &next) || next <= rbp)
            return -1;
        rbp = next;
    }
}

size_t bn_unwinder_bottoms(const struct bn_unwinder *u)
{
    return u->n_bottoms;
}

/* Is the frame of the code at this place one that rbp links? */
static bool is_linked(const struct bn_place *place)
{
    const struct bn_fde *fde = place->has_vaddr ? bn_fde_find(&place->image->fdes, place->vaddr) : NULL;
    return fde && bn_x86_links_frame(place->image, fde->start, fde->end);
}

static void append(struct bn_unwind_result *r, const struct bn_unwind_frame *frame)
{
    if (r->n < BN_UNWIND_MAX_FRAMES)
        r->frames[r->n++] = *frame;
}

/* If the frame at which the walk broke off is one that rbp links, the kernel's chain goes on with its very
 * return address: the callers follow, as long as they lie behind calls. */
enum bn_unwind_end bn_unwind_splice(struct bn_unwinder *u, const struct bn_process *process,
                                    struct bn_unwind_result *r)
{
    ptrdiff_t link = link_at(u, u->missed);
    uint64_t address;

    for (size_t at = 1 + (size_t)link; link >= 0 && bn_unwind_read_chain(u, at, &address); at++) {
        if (!bn_unwind_follows_call(u, process, address))
            break;
        struct bn_unwind_frame frame = {.address = address,
                                        .place = bn_maps_find(u->maps, process, address - 1)};
        append(r, &frame);
        const uint32_t *bottom = bn_idmap_get(&u->bottom_at, process->serial, address);
        for (size_t i = 0; bottom && i < u->bottoms[*bottom].n; i++)
            append(r, &u->bottoms[*bottom].frames[i]);
        if (bottom)
            return BN_UNWIND_COMPLETE;
        if (!is_linked(&frame.place))
            break;
    }
    return BN_UNWIND_DUMP_ENDED;
}
