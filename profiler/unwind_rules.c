/* SPDX-License-Identifier: MIT
 * What libunwind asks for: registers, memory, unwind entries.
 *
 * libunwind 1.6 falls back to guesses (a return address at the stack pointer, a chain of rbp) when
 * find_proc_info says "no information". Here it says "failed" instead, which ends the step. */
#include <stdlib.h>
#include <string.h>

#include "profiler/unwind_private.h"
#include "profiler/x86_code.h"

/* Exported by libunwind for remote unwinders, but in none of its headers. */
extern int UNW_OBJ(dwarf_search_unwind_table)(unw_addr_space_t as, unw_word_t ip, unw_dyn_info_t *di,
                                              unw_proc_info_t *pi, int need_unwind_info, void *arg);

enum { CACHE_LOG_ENTRIES = 12 };

/* Where libunwind reads the search table that find_proc_info makes for it: no address of a program can be
 * there. */
static const uint64_t table_address = 0xeeeeeeee00000000u;

/* ---- reading the sample ---- */

bool bn_unwind_input_word(const struct bn_unwind_input *in, uint64_t address, uint64_t *word)
{
    uint64_t start = in->regs[BN_UNWIND_RSP], at = address - start;

    if (address < start || in->stack_bytes < 8 || at > in->stack_bytes - 8)
        return false;
    *word = bn_record_word(in->stack + at, 0);
    return true;
}

bool bn_unwind_input_chain(const struct bn_unwind_input *in, size_t index, uint64_t *word)
{
    if (index >= in->n_chain)
        return false;
    *word = bn_record_word(in->chain, index);
    return true;
}

/* value NULL: it was not there. */
static void log_read(struct bn_unwinder *u, uint64_t where, const uint64_t *value)
{
    enum { LOOK_BACK = 16 };
    struct bn_unwind_result *r = u->result;

    if (where == 0)
        return;
    for (size_t i = r->n_reads; i > 0 && r->n_reads - i < LOOK_BACK; i--)
        if (r->reads[i - 1].where == where)
            return;
    if (r->n_reads == BN_COUNT(r->reads))
        u->unlogged = true;
    else
        r->reads[r->n_reads++] = bn_memo_found(where, value, u->stack_start);
}

/* A word of the copied stack, logged if it is there. */
static bool in_dump(struct bn_unwinder *u, uint64_t address, uint64_t *word)
{
    for (size_t i = 0; i < u->n_popped; i++)
        if (address == u->stack_start - 8 * (i + 1)) {
            *word = u->popped[i]; /* a register, logged when it was noted */
            return true;
        }
    bool there = bn_unwind_input_word(u->in, address, word);
    if (there)
        log_read(u, bn_memo_stack(address, u->stack_start), word);
    return there;
}

bool bn_unwind_read_register(struct bn_unwinder *u, unsigned reg, uint64_t *value)
{
    bool known = u->known >> reg & 1;

    *value = u->regs[reg];
    if (!u->derived && reg != BN_UNWIND_RSP && reg != BN_UNWIND_RIP)
        log_read(u, bn_memo_register(reg), known ? value : NULL);
    return known;
}

bool bn_unwind_read_chain(struct bn_unwinder *u, size_t index, uint64_t *word)
{
    bool there = bn_unwind_input_chain(u->in, index, word);

    log_read(u, bn_memo_chain(index), there ? word : NULL);
    return there;
}

/* Nobody tells the profiler how large a stack is. What lies near is taken for a part of it; what lies far
 * away, if no code is mapped between. */
static bool is_same_stack(const struct bn_unwinder *u, uint64_t address)
{
    const uint64_t user_end = 1ull << 47;

    if (u->off_stack || address < u->stack_start || address >= user_end)
        return false;
    return address - u->stack_start < BN_UNWIND_NEAR || !bn_maps_between(u->process, u->stack_start, address);
}

/* Remember that a word of the stack was wanted which had not been copied. */
static void miss(struct bn_unwinder *u, uint64_t address)
{
    log_read(u, bn_memo_stack(address, u->stack_start), NULL);
    if (u->beyond_dump || !is_same_stack(u, address))
        return;
    u->beyond_dump = true;
    u->missed = address;
}

bool bn_unwind_read_stack(struct bn_unwinder *u, uint64_t address, uint64_t *word)
{
    if (in_dump(u, address, word))
        return true;
    miss(u, address);
    return false;
}

/* ---- libunwind's accessors ---- */

/* Every byte of a rule that libunwind executes comes from here. It knows no end of an expression that jumps
 * backwards, nor of a list of states to be remembered: here is where that ends. */
static int access_mem(unw_addr_space_t as, unw_word_t address, unw_word_t *value, int write, void *arg)
{
    struct bn_unwinder *u = arg;
    const uint8_t *p = NULL;
    uint64_t word;

    (void)as;
    if (write || u->reads_left == 0)
        return -UNW_EINVAL;
    u->reads_left--;
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
    uint64_t word;

    (void)as;
    if (write)
        return -UNW_EREADONLYREG;
    if (reg < 0 || reg >= BN_UNWIND_REGS || !bn_unwind_read_register(u, (unsigned)reg, &word))
        return -UNW_EBADREG;
    u->ip_read = u->ip_read || reg == BN_UNWIND_RIP;
    *value = word | (reg == BN_UNWIND_RIP ? BN_UNWIND_EXACT : 0);
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
    uint64_t exact = ip & BN_UNWIND_EXACT, at = ip - exact;

    if (!fde || at < fde->start + u->bias || at >= fde->end + u->bias)
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
    int r = UNW_OBJ(dwarf_search_unwind_table)(as, at, &table, info, need_unwind_info, arg);
    u->parsing = false;
    info->start_ip += exact;
    info->end_ip += exact;
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
    bn_idmap_free(&u->rows_at);
    free(u->row_sets);
    free(u->rows);
    bn_idmap_free(&u->bottom_at);
    free(u->bottoms);
    free(u);
}

/* Rules are cached by address, so each state of each process needs its own cache. Returns NULL if libunwind
 * has no memory for one. */
unw_addr_space_t bn_unwind_space_of(struct bn_unwinder *u, const struct bn_process *p)
{
    struct bn_unwind_space *s = NULL, *oldest = u->spaces;

    for (size_t i = 0; i < u->n_spaces && !s; i++) {
        if (u->spaces[i].serial == p->serial)
            s = &u->spaces[i];
        if (u->spaces[i].used < oldest->used)
            oldest = &u->spaces[i];
    }
    if (!s && u->n_spaces < BN_UNWIND_MAX_SPACES) {
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

/* ---- registers popped at a function's end ----
 *
 * Between the pops of a function's end and its return, compilers let the rules go on naming the places, now
 * below the stack pointer, from which registers have been popped; the copied stack begins above them. What
 * was there is what the registers hold. A row of the rules begins behind each pop, which tells where
 * instructions begin. */

struct row_list {
    struct bn_unwinder *u;
    size_t n; /* of this entry */
};

static int add_row(void *token, void *rules, size_t rules_bytes, unw_word_t start, unw_word_t end)
{
    struct row_list *list = token;
    struct bn_unwinder *u = list->u;

    (void)rules, (void)rules_bytes, (void)end;
    bn_grow(&u->rows, &u->cap_rows, u->n_rows + 1, sizeof *u->rows);
    u->rows[u->n_rows++] = start - BN_UNWIND_EXACT - u->bias;
    list->n++;
    return 0;
}

/* The rows of the entry u->fde, which begin with the address of the sample: read once for each entry. */
static struct bn_unwind_rows rows_of(struct bn_unwinder *u, unw_addr_space_t as)
{
    uint64_t image = (uintptr_t)u->here.image;
    const uint32_t *known = bn_idmap_get(&u->rows_at, image, u->fde->start);
    struct row_list list = {.u = u};
    unw_cursor_t cursor;

    if (known)
        return u->row_sets[*known];
    struct bn_unwind_rows set = {.first = u->n_rows};
    if (unw_init_remote(&cursor, as, u) == 0)
        unw_reg_states_iterate(&cursor, add_row, &list);
    set.n = list.n;
    bn_grow(&u->row_sets, &u->cap_row_sets, u->n_row_sets + 1, sizeof *u->row_sets);
    bn_idmap_put(&u->rows_at, image, u->fde->start, (uint32_t)u->n_row_sets);
    u->row_sets[u->n_row_sets++] = set;
    return set;
}

/* The number of the row that holds u->here.vaddr, among those of its entry; SIZE_MAX = none does. */
static size_t row_here(const struct bn_unwinder *u, const struct bn_unwind_rows *set)
{
    const uint64_t *starts = u->rows + set->first;
    size_t low = 0, high = set->n;

    while (low < high) {
        size_t middle = (low + high) / 2;
        if (starts[middle] <= u->here.vaddr)
            low = middle + 1;
        else
            high = middle;
    }
    return low - 1;
}

uint64_t bn_unwind_row_offset(struct bn_unwinder *u, unw_addr_space_t as)
{
    struct bn_unwind_rows set = rows_of(u, as);
    size_t row = row_here(u, &set);

    return row == SIZE_MAX ? 0 : u->here.vaddr - u->rows[set.first + row];
}

/* Find the registers that the instructions before the current row have popped, the latest first. */
static uint32_t find_popped(struct bn_unwinder *u, unw_addr_space_t as)
{
    struct bn_unwind_rows set = rows_of(u, as);
    size_t here = row_here(u, &set), n = 0;
    uint32_t packed = 0;

    for (size_t row = here; row != SIZE_MAX && row > 0 && here - row < BN_UNWIND_MAX_POPPED; row--) {
        int reg = bn_x86_popped(u->here.image, u->rows[set.first + row]);
        if (reg < 0)
            break;
        packed |= (uint32_t)(reg + 1) << (5 * n++);
    }
    return packed;
}

/* For the innermost frame: the words just below the stack pointer, as far as they are known. */
void bn_unwind_note_popped(struct bn_unwinder *u, unw_addr_space_t as)
{
    if (!u->fde)
        return;
    uint32_t packed = find_popped(u, as);
    for (; packed; packed >>= 5) {
        uint64_t value;
        if (!bn_unwind_read_register(u, (packed & 31) - 1, &value))
            return;
        u->popped[u->n_popped++] = value;
    }
}
