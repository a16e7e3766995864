/* SPDX-License-Identifier: MIT
 * Rewrite .debug_frame entry by entry: heads change their form, the rules themselves are copied. */
#include "profiler/debug_frame.h"

#include <dwarf.h>
#include <elfutils/libdw.h>
#include <string.h>

#include "profiler/idmap.h"

enum { ADDRESS_BYTES = 8, NONE = UINT32_MAX };

struct conversion {
    const unsigned char *e_ident;
    Elf_Data *section;
    uint64_t vaddr;
    struct bn_buf *out;
    struct bn_idmap cies; /* offset in the section -> offset in out, NONE = unusable */
    size_t n_bad;
};

/* ---- which rules can be carried over ---- */

static bool skip_leb(const uint8_t **p, const uint8_t *end)
{
    while (*p < end)
        if (!(*(*p)++ & 0x80))
            return true;
    return false;
}

static bool skip_block(const uint8_t **p, const uint8_t *end)
{
    uint64_t n = 0;

    for (unsigned shift = 0; *p < end && shift < 63; shift += 7) {
        uint8_t byte = *(*p)++;
        n |= (uint64_t)(byte & 0x7f) << shift;
        if (byte & 0x80)
            continue;
        if (n > (uint64_t)(end - *p))
            return false;
        *p += n;
        return true;
    }
    return false;
}

/* What follows an operation: l = a number of variable length, b = a block with its length, 1 2 4 = bytes;
 * NULL = not known, or an address whose form would change. */
static const char *operands(uint8_t op)
{
    static const char *const extended[] = {
        [DW_CFA_nop] = "",
        [DW_CFA_advance_loc1] = "1",
        [DW_CFA_advance_loc2] = "2",
        [DW_CFA_advance_loc4] = "4",
        [DW_CFA_offset_extended] = "ll",
        [DW_CFA_restore_extended] = "l",
        [DW_CFA_undefined] = "l",
        [DW_CFA_same_value] = "l",
        [DW_CFA_register] = "ll",
        [DW_CFA_remember_state] = "",
        [DW_CFA_restore_state] = "",
        [DW_CFA_def_cfa] = "ll",
        [DW_CFA_def_cfa_register] = "l",
        [DW_CFA_def_cfa_offset] = "l",
        [DW_CFA_def_cfa_expression] = "b",
        [DW_CFA_expression] = "lb",
        [DW_CFA_offset_extended_sf] = "ll",
        [DW_CFA_def_cfa_sf] = "ll",
        [DW_CFA_def_cfa_offset_sf] = "l",
        [DW_CFA_val_offset] = "ll",
        [DW_CFA_val_offset_sf] = "ll",
        [DW_CFA_val_expression] = "lb",
        [DW_CFA_GNU_args_size] = "l",
        [DW_CFA_GNU_negative_offset_extended] = "ll",
    };

    switch (op & 0xc0) {
    case DW_CFA_advance_loc:
    case DW_CFA_restore:
        return "";
    case DW_CFA_offset:
        return "l";
    default:
        return op < BN_COUNT(extended) ? extended[op] : NULL;
    }
}

static bool can_copy(const uint8_t *p, const uint8_t *end)
{
    while (p < end) {
        const char *kinds = operands(*p++);
        if (!kinds)
            return false;
        for (; *kinds; kinds++) {
            if (*kinds == 'l' ? !skip_leb(&p, end) : *kinds == 'b' && !skip_block(&p, end))
                return false;
            if (*kinds >= '1' && *kinds <= '4') {
                if (end - p < *kinds - '0')
                    return false;
                p += *kinds - '0';
            }
        }
    }
    return true;
}

/* ---- writing ---- */

static void put_leb(struct bn_buf *b, uint64_t v)
{
    do {
        uint8_t byte = (uint8_t)((v & 0x7f) | (v > 0x7f ? 0x80 : 0));
        bn_buf_put(b, &byte, 1);
        v >>= 7;
    } while (v);
}

static void put_sleb(struct bn_buf *b, int64_t v)
{
    for (bool more = true; more;) {
        uint8_t byte = (uint8_t)(v & 0x7f);
        v >>= 7; /* arithmetic with the compilers supported */
        more = !((v == 0 && !(byte & 0x40)) || (v == -1 && byte & 0x40));
        byte |= (uint8_t)(more ? 0x80 : 0);
        bn_buf_put(b, &byte, 1);
    }
}

/* An entry's length stands before it: begun with 0, set when its end is known. Padded with DW_CFA_nop. */
static void finish(struct bn_buf *b, size_t begin)
{
    static const uint8_t nops[8];
    uint32_t length;

    bn_buf_put(b, nops, bn_round_up(b->n - begin, 8) - (b->n - begin));
    length = (uint32_t)(b->n - begin - sizeof length);
    memcpy(b->p + begin, &length, sizeof length);
}

static uint32_t put_cie(struct conversion *c, const Dwarf_CIE *cie)
{
    static const uint8_t head[8] = {0}, version = 1, encoding = DW_EH_PE_pcrel | DW_EH_PE_sdata8;
    size_t begin = c->out->n;
    bool signal = strchr(cie->augmentation, 'S') != NULL;
    uint8_t column = (uint8_t)cie->return_address_register;
    const char *augmentation = signal ? "zRS" : "zR";

    /* "eh" and "armcc" stand for layouts of other machines and ages. */
    if (strspn(cie->augmentation, "zRSLPB") != strlen(cie->augmentation) ||
        cie->return_address_register > UINT8_MAX ||
        !can_copy(cie->initial_instructions, cie->initial_instructions_end))
        return NONE;
    bn_buf_put(c->out, head, sizeof head); /* length, and 0 for "this is a CIE" */
    bn_buf_put(c->out, &version, 1);
    bn_buf_put(c->out, augmentation, strlen(augmentation) + 1);
    put_leb(c->out, cie->code_alignment_factor);
    put_sleb(c->out, cie->data_alignment_factor);
    bn_buf_put(c->out, &column, 1);
    put_leb(c->out, sizeof encoding);
    bn_buf_put(c->out, &encoding, sizeof encoding);
    bn_buf_put(c->out, cie->initial_instructions,
               (size_t)(cie->initial_instructions_end - cie->initial_instructions));
    finish(c->out, begin);
    return (uint32_t)begin;
}

/* Where in `out` the CIE at this offset of the section is; written when first needed. */
static uint32_t find_cie(struct conversion *c, uint64_t offset)
{
    const uint32_t *known = bn_idmap_get(&c->cies, offset, 0);
    Dwarf_CFI_Entry entry;
    Dwarf_Off next;
    uint32_t at = NONE;

    if (known)
        return *known;
    if (offset < c->section->d_size &&
        dwarf_next_cfi(c->e_ident, c->section, false, offset, &next, &entry) == 0 && dwarf_cfi_cie_p(&entry))
        at = put_cie(c, &entry.cie);
    bn_idmap_put(&c->cies, offset, 0, at);
    return at;
}

static bool put_fde(struct conversion *c, const Dwarf_FDE *fde)
{
    const uint8_t *rules = fde->start + 2 * ADDRESS_BYTES;
    uint32_t cie = find_cie(c, fde->CIE_pointer), back, zero = 0;
    size_t begin = c->out->n;
    uint64_t range[2];

    if (cie == NONE || fde->end - fde->start < 2 * ADDRESS_BYTES || !can_copy(rules, fde->end))
        return false;
    memcpy(range, fde->start, sizeof range);
    range[0] -= c->vaddr + begin + 8; /* relative to where it will stand */
    back = (uint32_t)(begin + 4 - cie);
    bn_buf_put(c->out, &zero, sizeof zero);
    bn_buf_put(c->out, &back, sizeof back);
    bn_buf_put(c->out, range, sizeof range);
    put_leb(c->out, 0); /* no augmentation data */
    bn_buf_put(c->out, rules, (size_t)(fde->end - rules));
    finish(c->out, begin);
    return true;
}

size_t bn_debug_frame_convert(const unsigned char *e_ident, Elf_Data *section, uint64_t vaddr,
                              struct bn_buf *out)
{
    enum { MAX_BYTES = 1 << 30 };
    struct conversion c = {.e_ident = e_ident, .section = section, .vaddr = vaddr, .out = out};
    Dwarf_CFI_Entry entry;

    for (Dwarf_Off offset = 0, next; offset < section->d_size && out->n < MAX_BYTES; offset = next) {
        next = offset;
        int r = dwarf_next_cfi(e_ident, section, false, offset, &next, &entry);
        if (r > 0)
            break;
        if (r < 0 || (!dwarf_cfi_cie_p(&entry) && !put_fde(&c, &entry.fde)))
            c.n_bad++;
        if (next <= offset || next == (Dwarf_Off)-1)
            break;
    }
    bn_idmap_free(&c.cies);
    return c.n_bad;
}
