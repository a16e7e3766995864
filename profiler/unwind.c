/* SPDX-License-Identifier: MIT
 * Walk the chain of a recorded stack with libunwind, and step by hand over the few kinds of frames without
 * unwind rules for which that can be done for certain: linkage stubs, the signal trampoline and checked frame
 * pointers. */
#include "profiler/unwind.h"

#include <linux/perf_event.h>
#include <stdlib.h>
#include <string.h>

#include "profiler/symtab.h"
#include "profiler/unwind_private.h"
#include "profiler/x86_code.h"

#define BN_UNWIND_TEXT(id, text) text,
static const char *const end_texts[] = {BN_UNWIND_ENDS(BN_UNWIND_TEXT)};
#undef BN_UNWIND_TEXT

const char *bn_unwind_end_text(enum bn_unwind_end end)
{
    return end_texts[end];
}

#define BN_UNWIND_MARK(id, text) "[unwind failed: " text "]",
static const char *const mark_names[] = {BN_UNWIND_ENDS(BN_UNWIND_MARK)};
#undef BN_UNWIND_MARK

const char *bn_unwind_mark_name(enum bn_unwind_end end)
{
    if (end == BN_UNWIND_COMPLETE)
        return NULL;
    if (end == BN_UNWIND_DAMAGED)
        return "[lost]";
    return end == BN_UNWIND_DUMP_ENDED || end == BN_UNWIND_TOO_DEEP ? "[truncated]" : mark_names[end];
}

/* ---- one step ---- */

enum step { STEPPED, ENDED, FAILED, NO_RULES };

/* libunwind's step; the return address tells whether the chain ended: its rule is "undefined" in the
 * outermost frame. */
static enum step step_by_rules(unw_cursor_t *cursor)
{
    unw_save_loc_t saved;
    unw_word_t ip;
    int r = unw_step(cursor);

    if (r < 0 || unw_get_reg(cursor, UNW_REG_IP, &ip) != 0)
        return FAILED;
    if (ip != 0)
        return r > 0 ? STEPPED : FAILED;
    if (unw_get_save_loc(cursor, BN_UNWIND_RIP, &saved) == 0 && saved.type == UNW_SLT_NONE)
        return ENDED;
    return r > 0 ? ENDED : FAILED; /* a return address of 0 marks the end as well */
}

/* What a callee must preserve: rbx, rbp, r12 … r15. */
static const uint8_t preserved[] = {3, BN_UNWIND_RBP, 12, 13, 14, 15};

/* Start libunwind anew in the caller's frame, keeping the registers that a callee must preserve; rbp: as read
 * from the link of the frame, after which nothing is known of the others, NULL = kept too. */
static void restart(struct bn_unwinder *u, unw_cursor_t *cursor, unw_addr_space_t as, uint64_t ip,
                    uint64_t sp, const uint64_t *rbp)
{
    uint64_t regs[BN_UNWIND_REGS] = {0};
    uint32_t known = 1u << BN_UNWIND_RIP | 1u << BN_UNWIND_RSP;

    for (size_t i = 0; i < BN_COUNT(preserved); i++) {
        unw_word_t value;
        if (!rbp && unw_get_reg(cursor, preserved[i], &value) == 0) {
            regs[preserved[i]] = value;
            known |= 1u << preserved[i];
        }
    }
    if (rbp) {
        regs[BN_UNWIND_RBP] = *rbp;
        known |= 1u << BN_UNWIND_RBP;
    }
    /* A fresh cursor takes its address as exact, so a return address becomes one of the call. */
    regs[BN_UNWIND_RIP] = ip - 1;
    regs[BN_UNWIND_RSP] = sp;
    memcpy(u->regs, regs, sizeof regs);
    u->known = known;
    u->derived = true;
    unw_init_remote(cursor, as, u);
}

/* The cursor has stepped over a signal frame: start anew with all its registers, so that the address counts
 * as exact. */
static enum step restart_interrupted(struct bn_unwinder *u, unw_cursor_t *cursor, unw_addr_space_t as)
{
    uint64_t regs[BN_UNWIND_REGS] = {0};
    uint32_t known = 0;
    unw_word_t value;

    for (int i = 0; i < BN_UNWIND_REGS; i++)
        if (unw_get_reg(cursor, i, &value) == 0) {
            regs[i] = value;
            known |= 1u << i;
        }
    memcpy(u->regs, regs, sizeof regs);
    u->known = known;
    u->derived = true;
    return unw_init_remote(cursor, as, u) == 0 ? STEPPED : FAILED;
}

bool bn_unwind_follows_call(struct bn_unwinder *u, const struct bn_process *process, uint64_t address)
{
    struct bn_place at = bn_maps_find(u->maps, process, address - 1);
    return at.has_vaddr && bn_x86_follows_call(at.image, at.vaddr + 1);
}

static bool is_trampoline(const struct bn_place *at)
{
    return at->has_vaddr && bn_x86_is_trampoline(at->image, at->vaddr);
}

/* The kernel's frame below a signal handler: struct ucontext at the stack pointer, its registers from byte 40
 * on. */
static enum step step_signal(struct bn_unwinder *u, unw_cursor_t *cursor, unw_addr_space_t as, uint64_t sp)
{
    static const uint8_t order[] = {8, 9, 10, 11, 12, 13, 14, 15, 5, 4, 6, 3, 1, 0, 2, 7, 16};
    uint64_t regs[BN_UNWIND_REGS];

    for (size_t i = 0; i < BN_COUNT(order); i++)
        if (!bn_unwind_read_stack(u, sp + 40 + 8 * i, &regs[order[i]]))
            return FAILED;
    memcpy(u->regs, regs, sizeof regs);
    u->known = (1u << BN_UNWIND_REGS) - 1;
    u->derived = true;
    return unw_init_remote(cursor, as, u) == 0 ? STEPPED : FAILED;
}

/* Is this the code at which the program (or the dynamic linker) was entered? It was not called. */
static bool is_entry(const struct bn_place *at)
{
    enum { ENTRY_BYTES = 96 };
    const struct bn_image *image = at->image;

    return at->has_vaddr && image->entry && at->vaddr >= image->entry &&
           at->vaddr - image->entry < ENTRY_BYTES && !bn_fde_find(&image->fdes, image->entry) &&
           at->vaddr < bn_fde_next_start(&image->fdes, image->entry);
}

/* A frame without rules. The dynamic linker's start code is the end of the chain; in a linkage stub the
 * instruction tells what has been pushed; any other code is stepped over only if its symbol tells where it
 * begins and its first instructions link the frame with rbp. Return addresses must lie behind calls. */
static enum step step_without_rules(struct bn_unwinder *u, const struct bn_process *process,
                                    unw_cursor_t *cursor, unw_addr_space_t as, uint64_t sp)
{
    uint64_t ip, saved = 0, start, slot = sp;
    unw_word_t rbp;
    const struct bn_place *at = &u->here;
    enum bn_x86_return where = BN_X86_RETURN_UNKNOWN;

    if (is_entry(at))
        return ENDED;
    if (is_trampoline(at))
        return step_signal(u, cursor, as, sp);
    if (at->has_vaddr && bn_image_in_section(at->image, at->vaddr, ".plt")) {
        int depth = bn_x86_stub_depth(at->image, at->vaddr);
        where = depth >= 0 ? BN_X86_RETURN_AT_RSP : BN_X86_RETURN_UNKNOWN;
        slot = sp + (uint64_t)(depth > 0 ? depth : 0);
    } else if (at->has_vaddr && bn_symtab_start(at->image, at->vaddr, &start)) {
        where = bn_x86_find_return(at->image, start, at->vaddr);
    }
    if (where == BN_X86_RETURN_IN_PUSH)
        slot = sp + 8;
    if (where == BN_X86_RETURN_IN_LINK) {
        if (unw_get_reg(cursor, BN_UNWIND_RBP, &rbp) != 0 || rbp < sp || rbp % 8 != 0)
            return NO_RULES;
        slot = rbp + 8;
        if (!bn_unwind_read_stack(u, rbp, &saved) || (saved != 0 && saved <= rbp))
            return u->beyond_dump ? FAILED : NO_RULES;
    }
    if (where == BN_X86_RETURN_UNKNOWN)
        return NO_RULES;
    if (!bn_unwind_read_stack(u, slot, &ip))
        return FAILED;
    if (!bn_unwind_follows_call(u, process, ip))
        return NO_RULES;
    restart(u, cursor, as, ip, slot + 8, where == BN_X86_RETURN_IN_LINK ? &saved : NULL);
    return STEPPED;
}

/* makecontext puts the address of code into the stack that was not called, so what the unwind table says of
 * it does not hold, and before it stands another function. */
bool bn_unwind_context_start(struct bn_maps *maps, const struct bn_process *process, uint64_t address,
                             struct bn_place *place)
{
    struct bn_place at = bn_maps_find(maps, process, address);

    if (!at.has_vaddr || !bn_x86_is_context_start(at.image, at.vaddr))
        return false;
    const struct bn_fde *fde = bn_fde_find(&at.image->fdes, at.vaddr);
    if (!fde || fde->start != at.vaddr)
        return false;
    *place = at;
    return true;
}

/* ---- the whole chain ---- */

/* Look the frame's code up and remember it for the accessors. Returns false outside of every executable
 * mapping. */
static bool enter_frame(struct bn_unwinder *u, const struct bn_process *process, uint64_t ip, bool exact,
                        struct bn_unwind_frame *frame)
{
    uint64_t address = exact ? ip : ip - 1;
    struct bn_place at = bn_maps_find(u->maps, process, address);

    u->here = at;
    u->fde = NULL;
    u->at_start = false;
    if (!at.image)
        return false;
    if (at.has_vaddr) {
        u->bias = address - at.vaddr;
        u->fde = bn_fde_find(&at.image->fdes, at.vaddr);
    }
    frame->address = ip;
    frame->place = at;
    if (exact)
        return true;
    u->at_start = bn_unwind_context_start(u->maps, process, ip, &frame->place);
    if (u->at_start)
        return true;
    /* The trampoline is returned into without having called: its address is exact, the one before is another
     * function's. */
    struct bn_place itself = bn_maps_find(u->maps, process, ip);
    bool signal = u->fde && u->fde->signal;
    if (signal || is_trampoline(&itself)) {
        frame->place = u->here = itself;
        u->fde = signal ? u->fde : NULL;
    }
    return true;
}

static enum bn_unwind_end failure(const struct bn_unwinder *u, enum step step)
{
    if (u->beyond_dump)
        return BN_UNWIND_DUMP_ENDED;
    if (u->off_stack && step == FAILED)
        return BN_UNWIND_OTHER_STACK;
    return step == NO_RULES ? BN_UNWIND_NO_CFI : BN_UNWIND_BAD_CFI;
}

/* exact: the chain begins at a sampled instruction, else at a return address. */
static enum bn_unwind_end walk(struct bn_unwinder *u, const struct bn_process *process, unw_addr_space_t as,
                               bool exact, struct bn_unwind_result *result)
{
    unw_cursor_t cursor;
    unw_word_t ip = u->regs[BN_UNWIND_RIP], sp = u->stack_start;
    bool restarted = false, innermost = exact;

    u->regs[BN_UNWIND_RIP] -= !exact; /* as in restart() */
    if (unw_init_remote(&cursor, as, u) != 0)
        return BN_UNWIND_NO_REGISTERS;
    for (;;) {
        if (result->n == BN_UNWIND_MAX_FRAMES)
            return BN_UNWIND_TOO_DEEP;
        if (!enter_frame(u, process, ip, exact, &result->frames[result->n]))
            return BN_UNWIND_NO_MAP;
        result->n++;
        if (innermost)
            bn_unwind_note_popped(u, as);
        bool signal = (u->fde && u->fde->signal) || (!u->fde && is_trampoline(&u->here));
        u->beyond_dump = false;
        if (u->at_start)
            return BN_UNWIND_COMPLETE;
        enum step step = u->fde ? step_by_rules(&cursor) : step_without_rules(u, process, &cursor, as, sp);
        restarted = step == STEPPED && !u->fde;
        if (step == ENDED)
            return BN_UNWIND_COMPLETE;
        if (step != STEPPED)
            return failure(u, step);
        unw_word_t before = sp;
        if (signal && u->fde)
            step = restart_interrupted(u, &cursor, as);
        if (step != STEPPED || unw_get_reg(&cursor, UNW_REG_IP, &ip) != 0 ||
            unw_get_reg(&cursor, UNW_REG_SP, &sp) != 0)
            return failure(u, FAILED);
        ip &= ~BN_UNWIND_EXACT;
        if (restarted && !signal)
            ip++; /* see restart() */
        /* A handler may run on a stack of its own; what it interrupted is right above it if not. The
         * innermost function may have taken its return address off the stack, into a register. */
        if (signal)
            u->off_stack = sp < u->stack_start || sp - u->stack_start >= BN_UNWIND_NEAR;
        else if (sp < before || (sp == before && !innermost))
            return BN_UNWIND_BAD_CFI;
        exact = signal;
        innermost = false;
    }
}

static void begin(struct bn_unwinder *u, const struct bn_process *process, const struct bn_unwind_input *in,
                  struct bn_unwind_result *result)
{
    u->in = in;
    u->process = process;
    memcpy(u->regs, in->regs, sizeof u->regs);
    u->known = in->known;
    u->stack_start = in->regs[BN_UNWIND_RSP];
    u->reads_left = BN_UNWIND_MAX_READS;
    u->n_popped = 0;
    u->derived = u->unlogged = u->beyond_dump = u->off_stack = false;
    u->result = result;
}

static void unwind_from(struct bn_unwinder *u, const struct bn_process *process,
                        const struct bn_unwind_input *in, bool exact, struct bn_unwind_result *result)
{
    uint32_t needed = 1u << BN_UNWIND_RIP | 1u << BN_UNWIND_RSP;

    result->n = result->n_reads = 0;
    result->end = BN_UNWIND_NO_REGISTERS;
    result->dump_short = false;
    if ((in->known & needed) != needed)
        return;
    begin(u, process, in, result);
    unw_addr_space_t as = bn_unwind_space_of(u, process);
    if (as)
        result->end = walk(u, process, as, exact, result);
    result->dump_short = result->end == BN_UNWIND_DUMP_ENDED;
    if (result->end == BN_UNWIND_COMPLETE)
        bn_unwind_note_bottom(u, process, exact, result);
    else if (result->end == BN_UNWIND_DUMP_ENDED && result->n > 0)
        result->end = bn_unwind_splice(u, process, result);
    if (u->unlogged || !as)
        result->n_reads = 0;
}

void bn_unwind(struct bn_unwinder *u, const struct bn_process *process, const struct bn_unwind_input *in,
               struct bn_unwind_result *result)
{
    unwind_from(u, process, in, true, result);
    if (in->stack_bytes == 0 && result->end != BN_UNWIND_COMPLETE)
        result->end = BN_UNWIND_NO_REGISTERS;
    if (in->stack_bytes == 0)
        result->n_reads = 0;
}

/* ---- in two parts ---- */

/* Where the caller's registers are. What was popped already is below the stack pointer by libunwind's rules,
 * and in its register in truth. Returns false if one is at no place that holds for every sample. */
static bool find_saved(const struct bn_unwinder *u, unw_cursor_t *cursor, struct bn_unwind_first *first)
{
    enum { NEAR_BYTES = 1 << 20 };
    unw_save_loc_t loc;

    for (size_t i = 0; i < BN_COUNT(preserved); i++) {
        first->saved[i].where = BN_UNWIND_LOST;
        if (unw_get_save_loc(cursor, preserved[i], &loc) != 0 || loc.type == UNW_SLT_NONE)
            continue;
        if (loc.type == UNW_SLT_REG && (loc.u.regnum < 0 || loc.u.regnum >= BN_UNWIND_REGS))
            return false;
        uint64_t below = loc.type == UNW_SLT_MEMORY ? u->stack_start - loc.u.addr : 0;
        if (loc.type == UNW_SLT_MEMORY && (below > 8 * u->n_popped && -below > NEAR_BYTES))
            return false;
        first->saved[i].where = BN_UNWIND_IN_REGISTER;
        first->saved[i].at = (uint64_t)loc.u.regnum;
        if (loc.type == UNW_SLT_MEMORY && below - 1 < 8 * u->n_popped) {
            first->saved[i].at = preserved[i];
        } else if (loc.type == UNW_SLT_MEMORY) {
            first->saved[i].where = BN_UNWIND_ON_STACK;
            first->saved[i].at = loc.u.addr - u->stack_start;
        }
    }
    return true;
}

bool bn_unwind_first(struct bn_unwinder *u, const struct bn_process *process,
                     const struct bn_unwind_input *in, struct bn_unwind_first *first,
                     struct bn_unwind_result *result)
{
    uint32_t needed = 1u << BN_UNWIND_RIP | 1u << BN_UNWIND_RSP;
    unw_word_t ip = in->regs[BN_UNWIND_RIP], sp;
    unw_cursor_t cursor;

    result->n_reads = 0;
    if ((in->known & needed) != needed || in->stack_bytes == 0)
        return false;
    begin(u, process, in, result);
    unw_addr_space_t as = bn_unwind_space_of(u, process);
    if (!as || unw_init_remote(&cursor, as, u) != 0 || !enter_frame(u, process, ip, true, &first->frame) ||
        !u->fde || u->fde->signal)
        return false;
    bn_unwind_note_popped(u, as);
    u->ip_read = false;
    if (step_by_rules(&cursor) != STEPPED || unw_get_reg(&cursor, UNW_REG_IP, &ip) != 0 ||
        unw_get_reg(&cursor, UNW_REG_SP, &sp) != 0 || sp <= u->stack_start || !find_saved(u, &cursor, first))
        return false;
    first->return_address = ip;
    first->sp_offset = sp - u->stack_start;
    first->whole_row = !u->ip_read;
    return !u->unlogged && result->n_reads > 0;
}

uint64_t bn_unwind_row(struct bn_unwinder *u, const struct bn_process *process,
                       const struct bn_unwind_input *in, struct bn_unwind_result *result)
{
    uint32_t needed = 1u << BN_UNWIND_RIP | 1u << BN_UNWIND_RSP;
    struct bn_unwind_frame frame;

    if ((in->known & needed) != needed)
        return 0;
    begin(u, process, in, result);
    unw_addr_space_t as = bn_unwind_space_of(u, process);
    if (!as || !enter_frame(u, process, in->regs[BN_UNWIND_RIP], true, &frame) || !u->fde || u->fde->signal)
        return 0;
    return bn_unwind_row_offset(u, as);
}

/* The kernel's chain as it would have been in the caller: its links begin at the caller's rbp. That is the
 * sampled one, or, where the sampled frame has a link of its own, the one that this link holds. */
static void caller_chain(struct bn_unwind_input *caller, const struct bn_unwind_input *in,
                         const struct bn_unwind_first *first)
{
    enum { RBP = 1 }; /* in `saved` */
    uint64_t sp = in->regs[BN_UNWIND_RSP], rbp = in->regs[BN_UNWIND_RBP];
    bool known = caller->known >> BN_UNWIND_RBP & in->known >> BN_UNWIND_RBP & 1;
    bool kept = known && caller->regs[BN_UNWIND_RBP] == rbp;
    bool linked = first->saved[RBP].where == BN_UNWIND_ON_STACK && sp + first->saved[RBP].at == rbp;

    caller->chain = in->chain;
    caller->n_chain = kept ? in->n_chain : 0;
    if (!kept && linked && in->n_chain > 0) {
        caller->chain = in->chain + sizeof(uint64_t);
        caller->n_chain = in->n_chain - 1;
    }
}

struct bn_unwind_input bn_unwind_caller_input(const struct bn_unwind_input *in,
                                              const struct bn_unwind_first *first)
{
    uint64_t sp = in->regs[BN_UNWIND_RSP], skip = bn_min_size(first->sp_offset, in->stack_bytes);
    struct bn_unwind_input caller = {.known = 1u << BN_UNWIND_RIP | 1u << BN_UNWIND_RSP,
                                     .stack = in->stack + skip,
                                     .stack_bytes = in->stack_bytes - skip};

    caller.regs[BN_UNWIND_RIP] = first->return_address;
    caller.regs[BN_UNWIND_RSP] = sp + first->sp_offset;
    for (size_t i = 0; i < BN_COUNT(preserved); i++) {
        uint64_t at = first->saved[i].at, value;
        bool known = false;
        if (first->saved[i].where == BN_UNWIND_IN_REGISTER) {
            known = in->known >> at & 1;
            value = in->regs[at];
        } else if (first->saved[i].where == BN_UNWIND_ON_STACK) {
            known = bn_unwind_input_word(in, sp + at, &value);
        }
        if (!known)
            continue;
        caller.regs[preserved[i]] = value;
        caller.known |= 1u << preserved[i];
    }
    caller_chain(&caller, in, first);
    return caller;
}

void bn_unwind_callers(struct bn_unwinder *u, const struct bn_process *process,
                       const struct bn_unwind_input *caller, struct bn_unwind_result *result)
{
    unwind_from(u, process, caller, false, result);
}

/* The part of the kernel's chain behind the marker of user addresses. */
static void user_chain(const struct bn_record *r, struct bn_unwind_input *in)
{
    size_t i = 0, end;

    while (i < r->n_chain && bn_record_word(r->chain, i) != (uint64_t)PERF_CONTEXT_USER)
        i++;
    if (i == r->n_chain)
        return;
    end = ++i;
    while (end < r->n_chain && bn_record_word(r->chain, end) < (uint64_t)PERF_CONTEXT_MAX)
        end++;
    in->chain = r->chain + 8 * i;
    in->n_chain = end - i;
}

struct bn_unwind_input bn_unwind_input_of(const struct bn_record *r)
{
    /* DWARF's order: rax rdx rcx rbx rsi rdi rbp rsp r8 … r15 rip; perf's numbers for them. */
    static const uint8_t perf_number[] = {0, 3, 2, 1, 4, 5, 6, 7, 16, 17, 18, 19, 20, 21, 22, 23, 8};
    struct bn_unwind_input in = {0};

    user_chain(r, &in);
    if (r->regs_abi != PERF_SAMPLE_REGS_ABI_64)
        return in;
    in.stack = r->stack;
    in.stack_bytes = r->stack_bytes;
    for (size_t i = 0; i < BN_COUNT(perf_number); i++)
        if (r->regs_mask >> perf_number[i] & 1) {
            in.regs[i] = r->regs[perf_number[i]];
            in.known |= 1u << i;
        }
    return in;
}
