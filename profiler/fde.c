/* SPDX-License-Identifier: MIT
 * Build the sorted table of frame description entries. libdw splits the sections into entries; only the
 * encoded start and length of each are decoded here. */
#include "profiler/fde.h"

#include <dwarf.h>
#include <elfutils/libdw.h>
#include <gelf.h>
#include <stdlib.h>
#include <string.h>

#include "profiler/debug_frame.h"
#include "profiler/image.h"

/* What an entry needs from its CIE. */
struct cie {
    uint64_t offset;
    uint8_t encoding; /* of pointers, DW_EH_PE_… */
    bool signal, known;
};

struct section {
    const unsigned char *e_ident;
    Elf_Data *data;
    uint64_t vaddr;
    struct cie last; /* entries of one CIE stand together */
};

/* Size of a pointer in this encoding, 0 = not supported. */
static size_t encoded_bytes(uint8_t encoding)
{
    switch (encoding & 0x0f) {
    case DW_EH_PE_absptr:
    case DW_EH_PE_udata8:
    case DW_EH_PE_sdata8:
        return 8;
    case DW_EH_PE_udata4:
    case DW_EH_PE_sdata4:
        return 4;
    case DW_EH_PE_udata2:
    case DW_EH_PE_sdata2:
        return 2;
    default:
        return 0;
    }
}

static uint64_t decode(const uint8_t *p, uint8_t encoding)
{
    uint64_t u8 = 0;
    uint32_t u4 = 0;
    uint16_t u2 = 0;

    switch (encoding & 0x0f) {
    case DW_EH_PE_udata4:
        memcpy(&u4, p, 4);
        return u4;
    case DW_EH_PE_sdata4:
        memcpy(&u4, p, 4);
        return (uint64_t)(int64_t)(int32_t)u4;
    case DW_EH_PE_udata2:
        memcpy(&u2, p, 2);
        return u2;
    case DW_EH_PE_sdata2:
        memcpy(&u2, p, 2);
        return (uint64_t)(int64_t)(int16_t)u2;
    default:
        memcpy(&u8, p, 8);
        return u8;
    }
}

/* Walk the augmentation: 'R' gives the encoding, 'S' marks signal frames, 'P' and 'L' are stepped over. */
static void read_augmentation(const Dwarf_CIE *entry, struct cie *cie)
{
    const uint8_t *p = entry->augmentation_data, *end = p ? p + entry->augmentation_data_size : NULL;

    for (const char *a = entry->augmentation; *a; a++) {
        if (*a == 'S')
            cie->signal = true;
        if (*a == 'z' || *a == 'S' || *a == 'B')
            continue;
        if (!p || p >= end || !strchr("RPL", *a))
            return;
        uint8_t encoding = *p++;
        if (*a == 'R')
            cie->encoding = encoding;
        if (*a == 'P') {
            size_t n = encoded_bytes(encoding);
            if (n == 0 || n > (size_t)(end - p))
                return;
            p += n;
        }
    }
}

static struct cie *find_cie(struct section *s, uint64_t offset)
{
    Dwarf_CFI_Entry entry;
    Dwarf_Off next;

    if (s->last.known && s->last.offset == offset)
        return &s->last;
    s->last = (struct cie){.offset = offset, .encoding = DW_EH_PE_absptr};
    if (offset < s->data->d_size && dwarf_next_cfi(s->e_ident, s->data, true, offset, &next, &entry) == 0 &&
        dwarf_cfi_cie_p(&entry)) {
        read_augmentation(&entry.cie, &s->last);
        s->last.known = true;
    }
    return s->last.known ? &s->last : NULL;
}

static bool add_fde(struct bn_fde_table *t, struct section *s, const Dwarf_FDE *fde, uint64_t offset)
{
    const struct cie *cie = find_cie(s, fde->CIE_pointer);
    size_t n = cie ? encoded_bytes(cie->encoding) : 0;

    if (n == 0 || 2 * n > (size_t)(fde->end - fde->start))
        return false;
    uint64_t at = s->vaddr + (uint64_t)(fde->start - (const uint8_t *)s->data->d_buf);
    uint64_t start = decode(fde->start, cie->encoding);
    uint64_t length =
        decode(fde->start + n, cie->encoding & 0x07); /* the length is never signed or relative */
    switch (cie->encoding & 0x70) {
    case DW_EH_PE_absptr:
        break;
    case DW_EH_PE_pcrel:
        start += at;
        break;
    default:
        return false;
    }
    if (length == 0 || start + length < start)
        return true; /* an entry whose code was discarded by the linker */
    bn_grow(&t->items, &t->capacity, t->n + 1, sizeof *t->items);
    t->items[t->n++] = (struct bn_fde){start, start + length, s->vaddr + offset, cie->signal};
    return true;
}

static void read_section(struct bn_fde_table *t, struct section *s)
{
    Dwarf_Off offset = 0, next;
    Dwarf_CFI_Entry entry;

    for (; offset < s->data->d_size; offset = next) {
        next = offset;
        int r = dwarf_next_cfi(s->e_ident, s->data, true, offset, &next, &entry);
        if (r > 0)
            return;
        if (r < 0)
            t->n_bad++;
        if (r == 0 && !dwarf_cfi_cie_p(&entry) && !add_fde(t, s, &entry.fde, offset))
            t->n_bad++;
        if (next <= offset || next == (Dwarf_Off)-1)
            return;
    }
}

static int by_start(const void *a, const void *b)
{
    const struct bn_fde *x = a, *y = b;

    if (x->start != y->start)
        return x->start < y->start ? -1 : 1;
    return x->at < y->at ? -1 : x->at > y->at;
}

/* Sort, and keep of entries that overlap the one that begins first: the search needs disjoint ranges. */
static void settle(struct bn_fde_table *t)
{
    size_t kept = 0;

    if (t->n == 0)
        return;
    qsort(t->items, t->n, sizeof *t->items, by_start);
    for (size_t i = 0; i < t->n; i++)
        if (kept == 0 || t->items[i].start >= t->items[kept - 1].end)
            t->items[kept++] = t->items[i];
    t->n = kept;
}

static Elf_Data *section_data(Elf *elf, const char *name, uint64_t *vaddr)
{
    Elf_Scn *scn = elf ? bn_image_section(elf, name) : NULL;
    GElf_Shdr shdr;

    if (!scn || !gelf_getshdr(scn, &shdr))
        return NULL;
    if (shdr.sh_flags & SHF_COMPRESSED && elf_compress(scn, 0, 0) < 0)
        return NULL;
    if (strncmp(name, ".z", 2) == 0 && elf_compress_gnu(scn, 0, 0) < 0)
        return NULL;
    Elf_Data *data = elf_rawdata(scn, NULL);
    *vaddr = shdr.sh_addr;
    return data && data->d_buf && data->d_size ? data : NULL;
}

/* .debug_frame entries count where .eh_frame has none; they are gathered apart and merged. */
static void read_debug_frame(struct bn_fde_table *t, Elf *elf, uint64_t vaddr)
{
    uint64_t unused;
    Elf_Data *data = section_data(elf, ".debug_frame", &unused);
    struct bn_fde_table extra = {0};

    if (!data)
        data = section_data(elf, ".zdebug_frame", &unused);
    if (!data || t->debug_frame.n)
        return;
    const unsigned char *e_ident = (const unsigned char *)elf_getident(elf, NULL);
    t->n_bad += bn_debug_frame_convert(e_ident, data, vaddr, &t->debug_frame);
    t->debug_frame_vaddr = vaddr;
    if (t->debug_frame.n == 0)
        return;
    Elf_Data converted = {.d_buf = t->debug_frame.p, .d_size = t->debug_frame.n, .d_version = EV_CURRENT};
    struct section s = {.e_ident = e_ident, .data = &converted, .vaddr = vaddr};
    read_section(&extra, &s);
    settle(&extra);
    struct bn_fde_table eh = {.items = t->items, .n = t->n};
    for (size_t i = 0; i < extra.n; i++) {
        const struct bn_fde *f = &extra.items[i];
        if (bn_fde_find(&eh, f->start) || bn_fde_next_start(&eh, f->start) < f->end)
            continue;
        bn_grow(&t->items, &t->capacity, t->n + 1, sizeof *t->items);
        eh.items = t->items;
        t->items[t->n++] = *f;
    }
    t->n_bad += extra.n_bad;
    free(extra.items);
    settle(t);
}

void bn_fde_read(struct bn_fde_table *t, Elf *elf, Elf *debug_elf, uint64_t free_vaddr)
{
    uint64_t vaddr;
    Elf_Data *data = section_data(elf, ".eh_frame", &vaddr);

    if (data) {
        t->eh_frame = data->d_buf;
        t->eh_frame_vaddr = vaddr;
        t->eh_frame_bytes = data->d_size;
        struct section s = {
            .e_ident = (const unsigned char *)elf_getident(elf, NULL), .data = data, .vaddr = vaddr};
        read_section(t, &s);
        settle(t);
    }
    read_debug_frame(t, elf, free_vaddr);
    read_debug_frame(t, debug_elf, free_vaddr);
}

void bn_fde_free(struct bn_fde_table *t)
{
    free(t->items);
    bn_buf_free(&t->debug_frame);
    *t = (struct bn_fde_table){0};
}

/* Index of the first entry that starts above vaddr. */
static size_t upper_bound(const struct bn_fde_table *t, uint64_t vaddr)
{
    size_t low = 0, high = t->n;

    while (low < high) {
        size_t middle = low + (high - low) / 2;
        if (t->items[middle].start <= vaddr)
            low = middle + 1;
        else
            high = middle;
    }
    return low;
}

const struct bn_fde *bn_fde_find(const struct bn_fde_table *t, uint64_t vaddr)
{
    size_t i = upper_bound(t, vaddr);

    return i > 0 && vaddr < t->items[i - 1].end ? &t->items[i - 1] : NULL;
}

uint64_t bn_fde_next_start(const struct bn_fde_table *t, uint64_t vaddr)
{
    size_t i = upper_bound(t, vaddr);

    return i < t->n ? t->items[i].start : UINT64_MAX;
}

static const uint8_t *within(const uint8_t *bytes, uint64_t at, uint64_t size, uint64_t vaddr, size_t n)
{
    return bytes && vaddr >= at && vaddr - at <= size && n <= size - (vaddr - at) ? bytes + (vaddr - at)
                                                                                  : NULL;
}

const uint8_t *bn_fde_bytes(const struct bn_fde_table *t, uint64_t vaddr, size_t n)
{
    const uint8_t *p = within(t->eh_frame, t->eh_frame_vaddr, t->eh_frame_bytes, vaddr, n);

    return p ? p
             : within((const uint8_t *)t->debug_frame.p, t->debug_frame_vaddr, t->debug_frame.n, vaddr, n);
}
