/* SPDX-License-Identifier: MIT
 * A stub jumps through a word of the global offset table; the relocation of that word tells which function it
 * is. */
#include "profiler/plt.h"

#include <gelf.h>
#include <stdlib.h>
#include <string.h>

#include "profiler/image.h"

/* A word of the table that is filled at load time. */
struct slot {
    uint64_t vaddr, resolver;
    const char *name;
};

struct slots {
    struct slot *items;
    size_t n, capacity;
};

static void add_relocations(struct slots *slots, Elf *elf, Elf_Scn *scn, const GElf_Shdr *shdr)
{
    Elf_Data *data = elf_getdata(scn, NULL), *symbols = NULL;
    Elf_Scn *table = elf_getscn(elf, shdr->sh_link);
    GElf_Shdr table_shdr = {0};
    GElf_Rela rela;
    GElf_Sym sym;

    if (table && gelf_getshdr(table, &table_shdr) &&
        (table_shdr.sh_type == SHT_DYNSYM || table_shdr.sh_type == SHT_SYMTAB))
        symbols = elf_getdata(table, NULL);
    for (int i = 0; data && gelf_getrela(data, i, &rela); i++) {
        struct slot slot = {.vaddr = rela.r_offset};
        switch (GELF_R_TYPE(rela.r_info)) {
        case R_X86_64_JUMP_SLOT:
        case R_X86_64_GLOB_DAT:
            if (symbols && gelf_getsym(symbols, (int)GELF_R_SYM(rela.r_info), &sym))
                slot.name = elf_strptr(elf, table_shdr.sh_link, sym.st_name);
            break;
        case R_X86_64_IRELATIVE:
            slot.resolver = (uint64_t)rela.r_addend;
            break;
        default:
            continue;
        }
        if (!slot.resolver && (!slot.name || !slot.name[0]))
            continue;
        bn_grow(&slots->items, &slots->capacity, slots->n + 1, sizeof *slots->items);
        slots->items[slots->n++] = slot;
    }
}

static int by_vaddr(const void *a, const void *b)
{
    const struct slot *x = a, *y = b;
    return (x->vaddr > y->vaddr) - (x->vaddr < y->vaddr);
}

/* The table word that this stub jumps through: [endbr64] [bnd] jmp *disp32(%rip), at the stub's beginning. 0
 * = none. */
static uint64_t jump_target(const uint8_t *code, size_t n, uint64_t vaddr)
{
    static const uint8_t endbr64[] = {0xf3, 0x0f, 0x1e, 0xfa};
    size_t at = 0;
    int32_t displacement;

    if (n >= sizeof endbr64 && memcmp(code, endbr64, sizeof endbr64) == 0)
        at += sizeof endbr64;
    if (at < n && code[at] == 0xf2)
        at++;
    if (at + 6 > n || code[at] != 0xff || code[at + 1] != 0x25)
        return 0;
    memcpy(&displacement, code + at + 2, sizeof displacement);
    return vaddr + at + 6 + (uint64_t)(int64_t)displacement;
}

static void read_stubs(const struct bn_image *image, const GElf_Shdr *shdr, const struct slots *slots,
                       bn_plt_found *found, void *ctx)
{
    uint64_t step = shdr->sh_entsize == 8 ? 8 : 16;

    for (uint64_t at = 0; at + step <= shdr->sh_size; at += step) {
        const uint8_t *code = bn_image_read(image, shdr->sh_addr + at, step);
        if (!code)
            return;
        struct slot key = {.vaddr = jump_target(code, step, shdr->sh_addr + at)};
        const struct slot *slot =
            key.vaddr ? bsearch(&key, slots->items, slots->n, sizeof key, by_vaddr) : NULL;
        if (slot)
            found(ctx, shdr->sh_addr + at, shdr->sh_addr + at + step, slot->name, slot->resolver);
    }
}

void bn_plt_read(const struct bn_image *image, bn_plt_found *found, void *ctx)
{
    struct slots slots = {0};
    size_t names;
    GElf_Shdr shdr;

    if (elf_getshdrstrndx(image->elf, &names) != 0)
        return;
    for (Elf_Scn *scn = NULL; (scn = elf_nextscn(image->elf, scn)) != NULL;)
        if (gelf_getshdr(scn, &shdr) && shdr.sh_type == SHT_RELA && shdr.sh_flags & SHF_ALLOC)
            add_relocations(&slots, image->elf, scn, &shdr);
    if (slots.n)
        qsort(slots.items, slots.n, sizeof *slots.items, by_vaddr);
    for (Elf_Scn *scn = NULL; slots.n && (scn = elf_nextscn(image->elf, scn)) != NULL;) {
        const char *name = gelf_getshdr(scn, &shdr) ? elf_strptr(image->elf, names, shdr.sh_name) : NULL;
        if (name && strncmp(name, ".plt", 4) == 0 && shdr.sh_flags & SHF_EXECINSTR)
            read_stubs(image, &shdr, &slots, found, ctx);
    }
    free(slots.items);
}
