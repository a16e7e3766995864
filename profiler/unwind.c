/* SPDX-License-Identifier: MIT
 * libunwind over recorded stacks.
 *
 * libunwind 1.6 falls back to guesses (a return address at the stack pointer, a chain of rbp) when
 * find_proc_info says "no information". Here it says "failed" instead, which ends the step, and the few cases
 * where a frame without unwind rules can be stepped over for certain are handled below: procedure linkage
 * stubs, the signal trampoline and checked frame pointers. */
#include "profiler/unwind.h"

#include <libunwind.h>
#include <linux/perf_event.h>
#include <stdlib.h>
#include <string.h>

/* Exported by libunwind for remote unwinders, but in none of its headers. */
extern int UNW_OBJ(dwarf_search_unwind_table)(unw_addr_space_t as, unw_word_t ip, unw_dyn_info_t *di,
                                              unw_proc_info_t *pi, int need_unwind_info, void *arg);

enum {
    MAX_SPACES = 16,
    CACHE_LOG_ENTRIES = 12,
    STACK_MAX_BYTES = 8 << 20, /* a word further above the stack pointer is not taken for one of the stack */
    MAX_POPPED = 6,
};

/* Where libunwind reads the search table that find_proc_info makes for it: no address of a program can be
 * there. */
static const uint64_t table_address = 0xeeeeeeee00000000u;

/* Unwind rules that libunwind has cached for one state of one process. */
struct space {
    unw_addr_space_t as;
    uint32_t serial, generation;
    uint64_t used; /* for finding the one unused for longest */
};

struct bn_unwinder {
    struct bn_maps *maps;
    struct space spaces[MAX_SPACES];
    size_t n_spaces;
    uint64_t clock;

    /* during one bn_unwind */
    const struct bn_unwind_input *in;
    uint64_t regs[BN_UNWIND_REGS]; /* of the frame at which libunwind (re)started */
    uint32_t known;
    uint64_t stack_start;
    struct bn_place here; /* of the frame being stepped */
    uint64_t bias;
    const struct bn_fde *fde;
    uint64_t table_word;
    bool parsing;                /* libunwind reads an entry's head, not its rules */
    uint64_t popped[MAX_POPPED]; /* words just below stack_start, downwards */
    size_t n_popped;
    bool beyond_dump; /* a read hit the end of the copied stack */
};

#define BN_UNWIND_TEXT(id, text) text,
static const char *const end_texts[] = {BN_UNWIND_ENDS(BN_UNWIND_TEXT)};
#undef BN_UNWIND_TEXT

const char *bn_unwind_end_text(enum bn_unwind_end end)
{
    return end_texts[end];
}

/* ---- reading the stack ---- */

static bool in_dump(const struct bn_unwinder *u, uint64_t address, uint64_t *word)
{
    uint64_t at = address - u->stack_start;

    for (size_t i = 0; i < u->n_popped; i++)
        if (address == u->stack_start - 8 * (i + 1)) {
            *word = u->popped[i];
            return true;
        }
    if (address < u->stack_start || u->in->stack_bytes < 8 || at > u->in->stack_bytes - 8)
        return false;
    *word = bn_record_word(u->in->stack + at, 0);
    return true;
}

/* Between the pops of a function's end and its return, the rules still name the places below the stack
 * pointer from which registers have just been popped, and the copied stack begins above them. What was there
 * is what the registers hold. */
static void note_popped(struct bn_unwinder *u)
{
    static const uint8_t dwarf_number[] = {0, 2, 1, 3, BN_UNWIND_RSP, BN_UNWIND_RBP, 4, 5};
    const uint8_t *p =
        u->here.has_vaddr && u->here.vaddr > 16 ? bn_image_read(u->here.image, u->here.vaddr - 16, 16) : NULL;

    u->n_popped = 0;
    for (size_t at = 16; p && at > 1 && u->n_popped < MAX_POPPED; at--) {
        uint8_t code = p[at - 1];
        unsigned reg = code == 0xc9                   ? BN_UNWIND_RBP
                       : code >= 0x58 && code <= 0x5f ? dwarf_number[code & 7]
                                                      : BN_UNWIND_RSP;
        if (code != 0xc9 && p[at - 2] == 0x41) { /* pop %r8 … %r15 */
            reg = 8u + (code & 7);
            at--;
        }
        if (reg == BN_UNWIND_RSP || (code != 0xc9 && (code < 0x58 || code > 0x5f)) || !(u->known >> reg & 1))
            return;
        u->popped[u->n_popped++] = u->regs[reg];
        if (code == 0xc9)
            return; /* leave: what it popped before is not known */
    }
}

/* Remember that a word of the stack was wanted which had not been copied. */
static void miss(struct bn_unwinder *u, uint64_t address)
{
    if (address >= u->stack_start && address - u->stack_start < STACK_MAX_BYTES)
        u->beyond_dump = true;
}

static bool read_stack(struct bn_unwinder *u, uint64_t address, uint64_t *word)
{
    if (in_dump(u, address, word))
        return true;
    miss(u, address);
    return false;
}

/* ---- libunwind's accessors ---- */

static int access_mem(unw_addr_space_t as, unw_word_t address, unw_word_t *value, int write, void *arg)
{
    struct bn_unwinder *u = arg;
    const uint8_t *p = NULL;
    uint64_t word;

    (void)as;
    if (write)
        return -UNW_EINVAL;
    if (address == table_address) {
        *value = u->table_word;
        return 0;
    }
    if (in_dump(u, address, &word)) {
        *value = word;
        return 0;
    }
    if (u->here.has_vaddr)
        p = bn_image_read(u->here.image, address - u->bias, sizeof word);
    if (!p && u->parsing) {
        *value = 0; /* the personality routine's address, in data that the loader filled: read, but of no use
                       here */
        return 0;
    }
    if (!p) {
        miss(u, address);
        return -UNW_EINVAL;
    }
    *value = bn_record_word(p, 0);
    return 0;
}

static int access_reg(unw_addr_space_t as, unw_regnum_t reg, unw_word_t *value, int write, void *arg)
{
    struct bn_unwinder *u = arg;

    (void)as;
    if (write)
        return -UNW_EREADONLYREG;
    if (reg < 0 || reg >= BN_UNWIND_REGS || !(u->known >> reg & 1))
        return -UNW_EBADREG;
    *value = u->regs[reg];
    return 0;
}

static int access_fpreg(unw_addr_space_t as, unw_regnum_t reg, unw_fpreg_t *value, int write, void *arg)
{
    (void)as, (void)reg, (void)value, (void)write, (void)arg;
    return -UNW_EBADREG;
}

static int get_dyn_info_list_addr(unw_addr_space_t as, unw_word_t *address, void *arg)
{
    (void)as, (void)address, (void)arg;
    return -UNW_ENOINFO;
}

static int resume(unw_addr_space_t as, unw_cursor_t *cursor, void *arg)
{
    (void)as, (void)cursor, (void)arg;
    return -UNW_EINVAL;
}

static int get_proc_name(unw_addr_space_t as, unw_word_t address, char *buf, size_t n, unw_word_t *offset,
                         void *arg)
{
    (void)as, (void)address, (void)buf, (void)n, (void)offset, (void)arg;
    return -UNW_ENOINFO;
}

static void put_unwind_info(unw_addr_space_t as, unw_proc_info_t *info, void *arg)
{
    (void)as, (void)info, (void)arg;
}

/* The entry is known from our own table; libunwind gets a table with this one row, relative to the entry, and
 * parses the entry through access_mem. */
static int find_proc_info(unw_addr_space_t as, unw_word_t ip, unw_proc_info_t *info, int need_unwind_info,
                          void *arg)
{
    struct bn_unwinder *u = arg;
    const struct bn_fde *fde = u->fde;

    if (!fde || ip < fde->start + u->bias || ip >= fde->end + u->bias)
        return -UNW_EUNSPEC; /* not ENOINFO, which would start libunwind's guesses */
    int64_t from_entry = (int64_t)(fde->start - fde->at);
    if (from_entry != (int32_t)from_entry)
        return -UNW_EUNSPEC;
    u->table_word = (uint32_t)from_entry; /* start, then the entry's own distance: 0 */
    unw_dyn_info_t table = {
        .start_ip = fde->start + u->bias,
        .end_ip = fde->end + u->bias,
        .format = UNW_INFO_FORMAT_REMOTE_TABLE,
        .u.rti = {.segbase = fde->at + u->bias, .table_len = 1, .table_data = table_address},
    };
    u->parsing = true;
    int r = UNW_OBJ(dwarf_search_unwind_table)(as, ip, &table, info, need_unwind_info, arg);
    u->parsing = false;
    return r == -UNW_ENOINFO ? -UNW_EUNSPEC : r;
}

static unw_accessors_t accessors = {
    .find_proc_info = find_proc_info,
    .put_unwind_info = put_unwind_info,
    .get_dyn_info_list_addr = get_dyn_info_list_addr,
    .access_mem = access_mem,
    .access_reg = access_reg,
    .access_fpreg = access_fpreg,
    .resume = resume,
    .get_proc_name = get_proc_name,
};

/* ---- address spaces ---- */

struct bn_unwinder *bn_unwinder_new(struct bn_maps *maps)
{
    struct bn_unwinder *u = bn_xcalloc(1, sizeof *u);
    u->maps = maps;
    return u;
}

void bn_unwinder_free(struct bn_unwinder *u)
{
    if (!u)
        return;
    for (size_t i = 0; i < u->n_spaces; i++)
        unw_destroy_addr_space(u->spaces[i].as);
    free(u);
}

/* Rules are cached by address, so each state of each process needs its own cache. Returns NULL if libunwind
 * has no memory for one. */
static unw_addr_space_t space_of(struct bn_unwinder *u, const struct bn_process *p)
{
    struct space *s = NULL, *oldest = u->spaces;

    for (size_t i = 0; i < u->n_spaces && !s; i++) {
        if (u->spaces[i].serial == p->serial)
            s = &u->spaces[i];
        if (u->spaces[i].used < oldest->used)
            oldest = &u->spaces[i];
    }
    if (!s && u->n_spaces < MAX_SPACES) {
        s = &u->spaces[u->n_spaces];
        s->as = unw_create_addr_space(&accessors, 0);
        if (!s->as)
            return NULL;
        unw_set_caching_policy(s->as, UNW_CACHE_GLOBAL);
        unw_set_cache_size(s->as, (size_t)1 << CACHE_LOG_ENTRIES, 0);
        u->n_spaces++;
    } else if (!s) {
        s = oldest;
    }
    if (s->serial != p->serial || s->generation != p->generation)
        unw_flush_cache(s->as, 0, 0);
    s->serial = p->serial;
    s->generation = p->generation;
    s->used = ++u->clock;
    return s->as;
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
    if (unw_get_save_loc(cursor, UNW_X86_64_RIP, &saved) == 0 && saved.type == UNW_SLT_NONE)
        return ENDED;
    return r > 0 ? ENDED : FAILED; /* a return address of 0 marks the end as well */
}

/* Start libunwind anew in the caller's frame, keeping the registers that a callee must preserve. */
static void restart(struct bn_unwinder *u, unw_cursor_t *cursor, unw_addr_space_t as, bool at_call,
                    uint64_t ip, uint64_t sp, const uint64_t *rbp)
{
    static const uint8_t preserved[] = {3, BN_UNWIND_RBP, 12, 13, 14, 15};
    uint64_t regs[BN_UNWIND_REGS] = {0};
    uint32_t known = 1u << BN_UNWIND_RIP | 1u << BN_UNWIND_RSP;

    for (size_t i = 0; i < BN_COUNT(preserved); i++) {
        unw_word_t value;
        /* A frame pointer chain says nothing about the other registers. */
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
    regs[BN_UNWIND_RIP] = at_call ? ip - 1 : ip;
    regs[BN_UNWIND_RSP] = sp;
    memcpy(u->regs, regs, sizeof regs);
    u->known = known;
    unw_init_remote(cursor, as, u);
}

/* Does a call instruction end at this address of an executable mapping? E8 rel32, or FF /2 of 2 to 7 bytes.
 */
bool bn_unwind_follows_call(struct bn_unwinder *u, const struct bn_process *process, uint64_t address)
{
    struct bn_place at = bn_maps_find(u->maps, process, address - 1);

    if (!at.has_vaddr || !bn_image_is_code(at.image, at.vaddr))
        return false;
    const uint8_t *p = bn_image_read(at.image, at.vaddr - 6, 7);
    if (!p)
        return false;
    p += 7;
    if (p[-5] == 0xe8)
        return true;
    for (int n = 2; n <= 7; n++)
        if (p[-n] == 0xff && (p[-n + 1] & 0x38) == 0x10)
            return true;
    return false;
}

/* rt_sigreturn's trampoline: mov $15, %rax (or %eax); syscall. Old libraries have it without rules. */
static bool is_trampoline(const struct bn_place *at)
{
    static const uint8_t code[] = {0x48, 0xc7, 0xc0, 0x0f, 0x00, 0x00, 0x00, 0x0f, 0x05};
    const uint8_t *p = at->has_vaddr ? bn_image_read(at->image, at->vaddr, sizeof code) : NULL;

    return p && memcmp(p, code, sizeof code) == 0;
}

/* The kernel's frame below a signal handler: struct ucontext at the stack pointer, its registers from byte 40
 * on. */
static enum step step_signal(struct bn_unwinder *u, unw_cursor_t *cursor, unw_addr_space_t as, uint64_t sp)
{
    static const uint8_t order[] = {8, 9, 10, 11, 12, 13, 14, 15, 5, 4, 6, 3, 1, 0, 2, 7, 16};
    uint64_t regs[BN_UNWIND_REGS];

    for (size_t i = 0; i < BN_COUNT(order); i++)
        if (!read_stack(u, sp + 40 + 8 * i, &regs[order[i]]))
            return FAILED;
    memcpy(u->regs, regs, sizeof regs);
    u->known = (1u << BN_UNWIND_REGS) - 1;
    return unw_init_remote(cursor, as, u) == 0 ? STEPPED : FAILED;
}

/* A frame without rules. The dynamic linker's start code is the end of the chain; a linkage stub has pushed
 * nothing, so its return address is on top of the stack; any other code is stepped over only if rbp points to
 * a saved rbp that lies further up and to a return address behind a call. */
static enum step step_without_rules(struct bn_unwinder *u, const struct bn_process *process,
                                    unw_cursor_t *cursor, unw_addr_space_t as, uint64_t sp)
{
    enum { ENTRY_BYTES = 96 };
    uint64_t ip, saved;
    unw_word_t rbp;
    const struct bn_place *at = &u->here;

    if (at->has_vaddr && at->image->entry && at->vaddr >= at->image->entry &&
        at->vaddr - at->image->entry < ENTRY_BYTES &&
        at->vaddr < bn_fde_next_start(&at->image->fdes, at->image->entry))
        return ENDED;
    if (is_trampoline(at))
        return step_signal(u, cursor, as, sp);
    if (at->has_vaddr && bn_image_in_section(at->image, at->vaddr, ".plt")) {
        if (!read_stack(u, sp, &ip) || !bn_unwind_follows_call(u, process, ip))
            return FAILED;
        restart(u, cursor, as, true, ip, sp + 8, NULL);
        return STEPPED;
    }
    if (unw_get_reg(cursor, UNW_X86_64_RBP, &rbp) != 0 || rbp < sp || rbp % 8 != 0)
        return NO_RULES;
    if (!read_stack(u, rbp, &saved) || !read_stack(u, rbp + 8, &ip))
        return u->beyond_dump ? FAILED : NO_RULES;
    if ((saved != 0 && saved <= rbp) || !bn_unwind_follows_call(u, process, ip))
        return NO_RULES;
    restart(u, cursor, as, true, ip, rbp + 16, &saved);
    return STEPPED;
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
    return step == NO_RULES ? BN_UNWIND_NO_CFI : BN_UNWIND_BAD_CFI;
}

static enum bn_unwind_end walk(struct bn_unwinder *u, const struct bn_process *process, unw_addr_space_t as,
                               struct bn_unwind_result *result)
{
    unw_cursor_t cursor;
    unw_word_t ip = u->regs[BN_UNWIND_RIP], sp = u->stack_start;
    bool exact = true, restarted = false;

    if (unw_init_remote(&cursor, as, u) != 0)
        return BN_UNWIND_NO_REGISTERS;
    for (;;) {
        if (result->n == BN_UNWIND_MAX_FRAMES)
            return BN_UNWIND_TOO_DEEP;
        if (!enter_frame(u, process, ip, exact, &result->frames[result->n]))
            return BN_UNWIND_NO_MAP;
        if (result->n++ == 0)
            note_popped(u);
        bool signal = (u->fde && u->fde->signal) || (!u->fde && is_trampoline(&u->here));
        u->beyond_dump = false;
        enum step step = u->fde ? step_by_rules(&cursor) : step_without_rules(u, process, &cursor, as, sp);
        restarted = step == STEPPED && !u->fde;
        if (step == ENDED)
            return BN_UNWIND_COMPLETE;
        if (step != STEPPED)
            return failure(u, step);
        unw_word_t before = sp;
        if (unw_get_reg(&cursor, UNW_REG_IP, &ip) != 0 || unw_get_reg(&cursor, UNW_REG_SP, &sp) != 0)
            return failure(u, FAILED);
        if (restarted && !signal)
            ip++;                    /* see restart() */
        if (sp <= before && !signal) /* a handler may run on a stack of its own */
            return BN_UNWIND_BAD_CFI;
        exact = signal;
    }
}

void bn_unwind(struct bn_unwinder *u, const struct bn_process *process, const struct bn_unwind_input *in,
               struct bn_unwind_result *result)
{
    uint32_t needed = 1u << BN_UNWIND_RIP | 1u << BN_UNWIND_RSP;

    result->n = 0;
    result->end = BN_UNWIND_NO_REGISTERS;
    if ((in->known & needed) != needed)
        return;
    u->in = in;
    memcpy(u->regs, in->regs, sizeof u->regs);
    u->known = in->known;
    u->stack_start = in->regs[BN_UNWIND_RSP];
    u->n_popped = 0;
    unw_addr_space_t as = space_of(u, process);
    if (as)
        result->end = walk(u, process, as, result);
    if (in->stack_bytes == 0 && result->end != BN_UNWIND_COMPLETE)
        result->end = BN_UNWIND_NO_REGISTERS;
}

struct bn_unwind_input bn_unwind_input_of(const struct bn_record *r, size_t dump_bytes)
{
    /* DWARF's order: rax rdx rcx rbx rsi rdi rbp rsp r8 … r15 rip; perf's numbers for them. */
    static const uint8_t perf_number[] = {0, 3, 2, 1, 4, 5, 6, 7, 16, 17, 18, 19, 20, 21, 22, 23, 8};
    enum { RECORD_MAX_BYTES = 65528, ROUNDING_BYTES = 16 };
    struct bn_unwind_input in = {.stack = r->stack, .stack_bytes = r->stack_bytes};

    if (r->regs_abi != PERF_SAMPLE_REGS_ABI_64)
        return (struct bn_unwind_input){0};
    for (size_t i = 0; i < BN_COUNT(perf_number); i++)
        if (r->regs_mask >> perf_number[i] & 1) {
            in.regs[i] = r->regs[perf_number[i]];
            in.known |= 1u << i;
        }
    /* The kernel gives less than asked when the record would grow past 64 KiB. */
    size_t room = RECORD_MAX_BYTES - bn_min_size(r->other_bytes, RECORD_MAX_BYTES);
    in.stack_full = r->stack_bytes + ROUNDING_BYTES > bn_min_size(dump_bytes, room);
    return in;
}
