/* SPDX-License-Identifier: MIT
 * Gather the function symbols of an image and look addresses up. */
#include "profiler/symtab.h"

#include <dlfcn.h>
#include <gelf.h>
#include <link.h>
#include <stdlib.h>
#include <string.h>

#include "profiler/image.h"
#include "profiler/plt.h"

enum { GLOBAL, WEAK, LOCAL };

struct symbol {
    uint64_t start, end; /* end == start: size not told, settled after sorting */
    const char *name;
    bool function;   /* typed as one, or found to be one */
    uint8_t binding; /* the smaller the better */
};

struct bn_symtab {
    struct symbol *items;
    size_t n, capacity;
    uint64_t *max_end;     /* largest end of items 0 … i */
    struct bn_arena names; /* made here, for linkage stubs */
};

/* ---- names ---- */

static bool is_digits(const char *s, size_t n)
{
    for (size_t i = 0; i < n; i++)
        if (s[i] < '0' || s[i] > '9')
            return false;
    return n > 0;
}

static bool is_clone_word(const char *s, size_t n)
{
    static const char *const words[] = {"cold",     "part",       "isra", "constprop",
                                        "lto_priv", "localalias", "llvm"};

    for (size_t i = 0; i < BN_COUNT(words); i++)
        if (strlen(words[i]) == n && memcmp(words[i], s, n) == 0)
            return true;
    return false;
}

/* Cut at the first dot from which on there are only such words and numbers. */
size_t bn_symtab_fold(const char *name)
{
    size_t n = strcspn(name, "@"), cut = n;

    if (n == 0 || strcmp(name + n, "@plt") == 0)
        return strlen(name);
    for (size_t end = n; end > 0;) {
        size_t dot = end;
        while (dot > 0 && name[dot - 1] != '.')
            dot--;
        if (dot <= 1)
            break;
        if (is_clone_word(name + dot, end - dot))
            cut = dot - 1;
        else if (!is_digits(name + dot, end - dot))
            break;
        end = dot - 1;
    }
    return cut;
}

/* ---- reading ---- */

static void add(struct bn_symtab *t, struct symbol s)
{
    bn_grow(&t->items, &t->capacity, t->n + 1, sizeof *t->items);
    t->items[t->n++] = s;
}

static uint8_t binding_of(const GElf_Sym *sym)
{
    int binding = GELF_ST_BIND(sym->st_info);
    return binding == STB_GLOBAL ? GLOBAL : binding == STB_WEAK ? WEAK : LOCAL;
}

static bool useful_name(const char *name)
{
    return name && name[0] && name[0] != '$' && strncmp(name, ".L", 2) != 0;
}

static void read_table(struct bn_symtab *t, const struct bn_image *image, Elf *elf, uint32_t type)
{
    for (Elf_Scn *scn = NULL; (scn = elf_nextscn(elf, scn)) != NULL;) {
        GElf_Shdr shdr;
        if (!gelf_getshdr(scn, &shdr) || shdr.sh_type != type || shdr.sh_entsize == 0)
            continue;
        Elf_Data *data = elf_getdata(scn, NULL);
        size_t n = data ? data->d_size / sizeof(Elf64_Sym) : 0;
        for (size_t i = 0; i < n; i++) {
            GElf_Sym sym;
            if (!gelf_getsym(data, (int)i, &sym))
                break;
            int kind = GELF_ST_TYPE(sym.st_info);
            bool function = kind == STT_FUNC || kind == STT_GNU_IFUNC;
            if ((!function && kind != STT_NOTYPE) || sym.st_shndx == SHN_UNDEF || sym.st_shndx == SHN_ABS ||
                !bn_image_is_code(image, sym.st_value) || sym.st_value + sym.st_size < sym.st_value)
                continue;
            const char *name = elf_strptr(elf, shdr.sh_link, sym.st_name);
            if (useful_name(name))
                add(t, (struct symbol){sym.st_value, sym.st_value + sym.st_size, name, function,
                                       binding_of(&sym)});
        }
    }
}

/* ---- implementations chosen at load time ----
 *
 * memcpy and its like are STT_GNU_IFUNC: the exported symbol covers only the code that chooses; the chosen
 * code has a local symbol, which stripped libraries have lost. If this very file (by build id) is loaded in
 * our own process, the dynamic linker tells which address each such name stands for here, and the unwind
 * table tells how far that function reaches. Whatever CPU the recording came from, that code is an
 * implementation of that name. */

struct own_module {
    const struct bn_image *image;
    uint64_t bias;
    const char *path;
    bool found;
};

static bool same_build_id(const struct dl_phdr_info *info, const struct bn_image *image)
{
    for (int i = 0; i < info->dlpi_phnum; i++) {
        const ElfW(Phdr) *p = &info->dlpi_phdr[i];
        const uint8_t *at = (const uint8_t *)(info->dlpi_addr + p->p_vaddr);
        if (p->p_type != PT_NOTE)
            continue;
        for (size_t left = p->p_memsz; left > sizeof(ElfW(Nhdr));) {
            ElfW(Nhdr) note;
            memcpy(&note, at, sizeof note);
            size_t name = bn_round_up(note.n_namesz, 4), desc = bn_round_up(note.n_descsz, 4);
            if (sizeof note + name + desc > left)
                break;
            if (note.n_type == NT_GNU_BUILD_ID && note.n_namesz == 4 &&
                note.n_descsz == image->build_id_bytes &&
                memcmp(at + sizeof note + name, image->build_id, note.n_descsz) == 0)
                return true;
            at += sizeof note + name + desc;
            left -= sizeof note + name + desc;
        }
    }
    return false;
}

static int find_own(struct dl_phdr_info *info, size_t size, void *arg)
{
    struct own_module *own = arg;

    (void)size;
    if (!info->dlpi_name || !info->dlpi_name[0] || !same_build_id(info, own->image))
        return 0;
    own->bias = info->dlpi_addr;
    own->path = info->dlpi_name;
    own->found = true;
    return 1;
}

static void add_chosen(struct bn_symtab *t, struct bn_image *image)
{
    struct own_module own = {.image = image};

    if (image->build_id_bytes == 0)
        return;
    dl_iterate_phdr(find_own, &own);
    void *handle = own.found ? dlopen(own.path, RTLD_NOLOAD | RTLD_LAZY) : NULL;
    if (!handle)
        return;
    for (Elf_Scn *scn = NULL; (scn = elf_nextscn(image->elf, scn)) != NULL;) {
        GElf_Shdr shdr;
        if (!gelf_getshdr(scn, &shdr) || shdr.sh_type != SHT_DYNSYM)
            continue;
        Elf_Data *data = elf_getdata(scn, NULL);
        GElf_Sym sym;
        for (int i = 0; data && gelf_getsym(data, i, &sym); i++) {
            if (GELF_ST_TYPE(sym.st_info) != STT_GNU_IFUNC || sym.st_shndx == SHN_UNDEF)
                continue;
            const char *name = elf_strptr(image->elf, shdr.sh_link, sym.st_name);
            void *at = useful_name(name) ? dlsym(handle, name) : NULL;
            const struct bn_fde *fde = at ? bn_fde_find(&image->fdes, (uintptr_t)at - own.bias) : NULL;
            if (fde)
                add(t, (struct symbol){fde->start, fde->end, name, true, binding_of(&sym)});
        }
    }
    dlclose(handle);
}

/* The ELF header's entry point is _start, whether or not a symbol says so. */
static void add_entry(struct bn_symtab *t, const struct bn_image *image)
{
    if (image->entry && bn_image_is_code(image, image->entry))
        add(t, (struct symbol){image->entry, image->entry, "_start", false, LOCAL});
}

/* ---- order ---- */

static size_t underscores(const char *s)
{
    return strspn(s, "_");
}

/* Of several names at one address the first one wins: functions before labels, exported before local,
 * then the plainest name ("snprintf" before "__snprintf"). */
static int by_start_and_rank(const void *a, const void *b)
{
    const struct symbol *x = a, *y = b;

    if (x->start != y->start)
        return x->start < y->start ? -1 : 1;
    if (x->function != y->function)
        return x->function ? -1 : 1;
    if ((x->binding == LOCAL) != (y->binding == LOCAL))
        return x->binding < y->binding ? -1 : 1;
    if (underscores(x->name) != underscores(y->name))
        return underscores(x->name) < underscores(y->name) ? -1 : 1;
    if (x->binding != y->binding)
        return x->binding < y->binding ? -1 : 1;
    size_t n = strlen(x->name), m = strlen(y->name);
    return n != m ? (n < m ? -1 : 1) : strcmp(x->name, y->name);
}

static uint64_t section_end(Elf *elf, uint64_t vaddr)
{
    for (Elf_Scn *scn = NULL; (scn = elf_nextscn(elf, scn)) != NULL;) {
        GElf_Shdr s;
        if (gelf_getshdr(scn, &s) && s.sh_flags & SHF_EXECINSTR && vaddr >= s.sh_addr &&
            vaddr - s.sh_addr < s.sh_size)
            return s.sh_addr + s.sh_size;
    }
    return vaddr;
}

/* A symbol without size reaches to the next symbol, but not past its section, nor past the unwind entry that
 * covers its start, nor into another one. */
static void settle_size(struct bn_symtab *t, const struct bn_image *image, size_t i)
{
    struct symbol *s = &t->items[i];
    const struct bn_fde *fde = bn_fde_find(&image->fdes, s->start);
    uint64_t end = fde ? fde->end : bn_fde_next_start(&image->fdes, s->start), section;

    for (size_t k = i + 1; k < t->n; k++)
        if (t->items[k].start > s->start) {
            end = t->items[k].start < end ? t->items[k].start : end;
            break;
        }
    section = section_end(image->elf, s->start);
    s->end = section < end ? section : end;
}

/* Sort, settle sizes that were not told, and prepare the search. */
static void settle(struct bn_symtab *t, const struct bn_image *image)
{
    if (t->n == 0)
        return;
    qsort(t->items, t->n, sizeof *t->items, by_start_and_rank);
    for (size_t i = 0; i < t->n; i++)
        if (t->items[i].end == t->items[i].start)
            settle_size(t, image, i);
    t->max_end = bn_xrealloc(t->max_end, t->n * sizeof *t->max_end);
    for (size_t i = 0; i < t->n; i++)
        t->max_end[i] = i && t->max_end[i - 1] > t->items[i].end ? t->max_end[i - 1] : t->items[i].end;
}

/* Where to put stubs: names of functions that are chosen at load time come from the table as it stands. */
struct stubs {
    struct bn_symtab *known, found;
};

static const struct symbol *find(const struct bn_symtab *t, uint64_t vaddr);

static void add_stub(void *ctx, uint64_t start, uint64_t end, const char *name, uint64_t resolver)
{
    struct stubs *s = ctx;
    const struct symbol *chooser = name ? NULL : find(s->known, resolver);

    if (chooser)
        name = chooser->name;
    if (!name)
        return;
    size_t n = strcspn(name, "@");
    char *shown = bn_arena_alloc(&s->known->names, n + sizeof "@plt");
    memcpy(shown, name, n);
    memcpy(shown + n, "@plt", sizeof "@plt");
    add(&s->found, (struct symbol){start, end, shown, true, LOCAL});
}

static void add_stubs(struct bn_symtab *t, const struct bn_image *image)
{
    struct stubs stubs = {.known = t};

    bn_plt_read(image, add_stub, &stubs);
    for (size_t i = 0; i < stubs.found.n; i++)
        add(t, stubs.found.items[i]);
    free(stubs.found.items);
}

static struct bn_symtab *read_symbols(struct bn_image *image)
{
    struct bn_symtab *t = bn_xcalloc(1, sizeof *t);

    if (!image->usable)
        return t;
    bn_image_ask_debug(image);
    if (image->debug_elf)
        read_table(t, image, image->debug_elf, SHT_SYMTAB);
    read_table(t, image, image->elf, SHT_SYMTAB);
    read_table(t, image, image->elf, SHT_DYNSYM);
    add_chosen(t, image);
    add_entry(t, image);
    settle(t, image);
    add_stubs(t, image);
    settle(t, image);
    return t;
}

/* Walk down from the last symbol that begins at or before vaddr; the innermost function that covers it wins,
 * a label only if no function does. */
static const struct symbol *find(const struct bn_symtab *t, uint64_t vaddr)
{
    size_t low = 0, high = t->n;
    const struct symbol *best = NULL;

    while (low < high) {
        size_t middle = low + (high - low) / 2;
        if (t->items[middle].start <= vaddr)
            low = middle + 1;
        else
            high = middle;
    }
    for (size_t i = low; i-- > 0 && t->max_end[i] > vaddr;) {
        const struct symbol *s = &t->items[i];
        if (vaddr >= s->end)
            continue;
        if (!best || (s->function && !best->function) ||
            (s->function == best->function && s->start == best->start))
            best = s;
    }
    return best;
}

bool bn_symtab_start(struct bn_image *image, uint64_t vaddr, uint64_t *start)
{
    if (!image->symtab)
        image->symtab = read_symbols(image);
    const struct symbol *s = find(image->symtab, vaddr);
    if (s && s->function)
        *start = s->start;
    return s && s->function;
}

const char *bn_symtab_find(struct bn_image *image, uint64_t vaddr, bool *exported)
{
    if (!image->symtab)
        image->symtab = read_symbols(image);
    const struct symbol *s = find(image->symtab, vaddr);
    if (exported)
        *exported = s && s->function && s->binding != LOCAL;
    return s ? s->name : NULL;
}

static bool has_table(Elf *elf)
{
    for (Elf_Scn *scn = NULL; elf && (scn = elf_nextscn(elf, scn)) != NULL;) {
        GElf_Shdr shdr;
        if (gelf_getshdr(scn, &shdr) && shdr.sh_type == SHT_SYMTAB && shdr.sh_size > sizeof(Elf64_Sym))
            return true;
    }
    return false;
}

bool bn_symtab_is_full(const struct bn_image *image)
{
    return image->usable && (has_table(image->elf) || has_table(image->debug_elf));
}

void bn_symtab_free(struct bn_symtab *t)
{
    if (!t)
        return;
    free(t->items);
    free(t->max_end);
    bn_arena_free(&t->names);
    free(t);
}
