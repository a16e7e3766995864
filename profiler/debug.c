/* SPDX-License-Identifier: MIT
 * Inline chains and source lines with libdw. The tables of units and functions are our own, because
 * .debug_aranges may be missing and a search from the unit's root costs too much for every address. */
#include "profiler/debug.h"

#include <dwarf.h>
#include <elfutils/libdw.h>
#include <stdlib.h>
#include <string.h>

#include "profiler/idmap.h"
#include "profiler/image.h"

enum { MAX_DEPTH = 64, MAX_CHAIN = 64, NO_SCOPE = -1 };

struct range {
    uint64_t low, high;
    size_t unit;
};

struct function {
    uint64_t low, high;
    Dwarf_Die die;
};

/* A namespace or class of C++. */
struct scope {
    Dwarf_Die die;
    int32_t parent; /* NO_SCOPE = none */
};

struct unit {
    Dwarf_Die die;  /* holds the line table and the ranges */
    Dwarf_Die body; /* holds the functions; differs from die when they are in a .dwo file */
    bool read, cpp;
    size_t n_bytes;      /* no sound unit has more entries */
    size_t *ranges_left; /* of the whole file */
    struct function *functions;
    size_t n, capacity;
    struct scope *scopes;
    size_t n_scopes, cap_scopes;
    struct bn_idmap scope_of; /* function's entry -> scope it stands in */
};

struct bn_debug {
    Dwarf *dwarf;
    size_t ranges_left; /* how many more are read: a sound file's do not share their bytes */
    struct unit *units;
    size_t n_units, cap_units;
    struct range *ranges;
    size_t n_ranges, cap_ranges;
    struct bn_arena names;   /* made here */
    struct bn_idmap name_of; /* function's entry -> qualified name */
    const char **qualified;
    size_t n_qualified, cap_qualified;
};

/* ---- units ---- */

static void add_ranges(struct bn_debug *d, size_t unit)
{
    Dwarf_Addr base, low, high;

    for (ptrdiff_t at = 0; (at = dwarf_ranges(&d->units[unit].die, at, &base, &low, &high)) > 0;) {
        if (low >= high)
            continue;
        if (d->ranges_left == 0)
            return;
        d->ranges_left--;
        bn_grow(&d->ranges, &d->cap_ranges, d->n_ranges + 1, sizeof *d->ranges);
        d->ranges[d->n_ranges++] = (struct range){low, high, unit};
    }
}

/* 0 = cannot be told. */
static size_t unit_bytes(Dwarf_Die *die)
{
    Dwarf_Off start = dwarf_dieoffset(die) - dwarf_cuoffset(die), next;
    size_t head;

    return dwarf_next_unit(dwarf_cu_getdwarf(die->cu), start, &next, &head, NULL, NULL, NULL, NULL, NULL,
                           NULL) == 0
               ? next - start
               : 0;
}

static int by_low(const void *a, const void *b)
{
    const struct range *x = a, *y = b;

    if (x->low != y->low)
        return x->low < y->low ? -1 : 1;
    return x->unit < y->unit ? -1 : x->unit > y->unit;
}

static struct bn_debug *read_units(struct bn_image *image)
{
    struct bn_debug *d = bn_xcalloc(1, sizeof *d);
    Dwarf_CU *cu = NULL;
    Dwarf_Die die, sub;
    uint8_t type;

    if (!image->usable)
        return d;
    bn_image_ask_debug(image);
    Elf *elf = image->debug_elf ? image->debug_elf : image->elf;
    d->dwarf = dwarf_begin_elf(elf, DWARF_C_READ, NULL);
    elf_rawfile(elf, &d->ranges_left);
    while (d->dwarf && dwarf_get_units(d->dwarf, cu, &cu, NULL, &type, &die, &sub) == 0) {
        if (type != DW_UT_compile && type != DW_UT_skeleton)
            continue;
        bn_grow(&d->units, &d->cap_units, d->n_units + 1, sizeof *d->units);
        bool split = type == DW_UT_skeleton && dwarf_tag(&sub) == DW_TAG_compile_unit;
        d->units[d->n_units] =
            (struct unit){.die = die, .body = split ? sub : die, .ranges_left = &d->ranges_left};
        add_ranges(d, d->n_units++);
    }
    if (d->n_ranges)
        qsort(d->ranges, d->n_ranges, sizeof *d->ranges, by_low);
    return d;
}

bool bn_debug_exists(struct bn_image *image)
{
    if (!image->debug)
        image->debug = read_units(image);
    return image->debug->n_ranges > 0;
}

static struct unit *find_unit(struct bn_debug *d, uint64_t vaddr)
{
    size_t low = 0, high = d->n_ranges;

    while (low < high) {
        size_t middle = low + (high - low) / 2;
        if (d->ranges[middle].low <= vaddr)
            low = middle + 1;
        else
            high = middle;
    }
    /* Ranges of units do not overlap in a linked file; a few steps back forgive one that does. */
    for (size_t i = low, tries = 8; i-- > 0 && tries-- > 0;)
        if (vaddr < d->ranges[i].high)
            return &d->units[d->ranges[i].unit];
    return NULL;
}

/* ---- functions of a unit ---- */

static void add_function(struct unit *u, Dwarf_Die *die)
{
    Dwarf_Addr base, low, high;

    for (ptrdiff_t at = 0; (at = dwarf_ranges(die, at, &base, &low, &high)) > 0;) {
        if (low >= high)
            continue;
        if (*u->ranges_left == 0)
            return;
        (*u->ranges_left)--;
        bn_grow(&u->functions, &u->capacity, u->n + 1, sizeof *u->functions);
        u->functions[u->n++] = (struct function){low, high, *die};
    }
}

static int32_t add_scope(struct unit *u, const Dwarf_Die *die, int32_t parent)
{
    if (!u->cpp)
        return NO_SCOPE;
    bn_grow(&u->scopes, &u->cap_scopes, u->n_scopes + 1, sizeof *u->scopes);
    u->scopes[u->n_scopes] = (struct scope){*die, parent};
    return (int32_t)u->n_scopes++;
}

/* Functions stand below the unit, namespaces, types and (nested ones) other functions. In a damaged file an
 * entry may call one of its own descendants the next beside it; *left keeps the number of ways through such
 * entries, which doubles with every level, from mattering. */
static void gather(struct unit *u, Dwarf_Die *parent, int32_t scope, int depth, size_t *left)
{
    Dwarf_Die die;

    if (depth > MAX_DEPTH || dwarf_child(parent, &die) != 0)
        return;
    do {
        *left -= *left > 0;
        switch (dwarf_tag(&die)) {
        case DW_TAG_subprogram:
            add_function(u, &die);
            if (scope != NO_SCOPE)
                bn_idmap_put(&u->scope_of, (uintptr_t)die.addr, 0, (uint32_t)scope);
            gather(u, &die, NO_SCOPE, depth + 1, left);
            break;
        case DW_TAG_namespace:
        case DW_TAG_class_type:
        case DW_TAG_structure_type:
        case DW_TAG_union_type:
            gather(u, &die, add_scope(u, &die, scope), depth + 1, left);
            break;
        case DW_TAG_module:
        case DW_TAG_lexical_block:
        case DW_TAG_inlined_subroutine:
            gather(u, &die, NO_SCOPE, depth + 1, left);
            break;
        default:
            break;
        }
    } while (dwarf_siblingof(&die, &die) == 0 && *left > 0);
}

static bool is_cpp(Dwarf_Die *unit)
{
    switch (dwarf_srclang(unit)) {
    case DW_LANG_C_plus_plus:
    case DW_LANG_C_plus_plus_03:
    case DW_LANG_C_plus_plus_11:
    case DW_LANG_C_plus_plus_14:
        return true;
    default:
        return false;
    }
}

static struct function *find_function(struct unit *u, uint64_t vaddr)
{
    struct function *best = NULL;

    if (!u->read) {
        u->read = true;
        u->cpp = is_cpp(&u->die);
        u->n_bytes = unit_bytes(&u->body);
        size_t left = u->n_bytes;
        gather(u, &u->body, NO_SCOPE, 0, &left);
    }
    for (size_t i = 0; i < u->n; i++) {
        struct function *f = &u->functions[i];
        if (vaddr >= f->low && vaddr < f->high && (!best || f->high - f->low < best->high - best->low))
            best = f;
    }
    return best;
}

/* ---- the chain of inlined functions ---- */

struct chain {
    Dwarf_Die die[MAX_CHAIN]; /* outermost first */
    size_t n;
    size_t left; /* entries to be looked at: see gather */
};

static void descend(struct chain *c, Dwarf_Die *parent, uint64_t vaddr, int depth)
{
    Dwarf_Die die;

    if (depth > MAX_DEPTH || dwarf_child(parent, &die) != 0)
        return;
    do {
        c->left -= c->left > 0;
        int tag = dwarf_tag(&die);
        bool block = tag == DW_TAG_lexical_block && !dwarf_hasattr(&die, DW_AT_ranges) &&
                     !dwarf_hasattr(&die, DW_AT_low_pc);
        if (tag != DW_TAG_lexical_block && tag != DW_TAG_inlined_subroutine)
            continue;
        if (!block && dwarf_haspc(&die, vaddr) != 1)
            continue;
        size_t before = c->n;
        if (tag == DW_TAG_inlined_subroutine && c->n < MAX_CHAIN)
            c->die[c->n++] = die;
        descend(c, &die, vaddr, depth + 1);
        if (c->n > before)
            return; /* blocks may overlap: one without an inlined function here does not end the search */
    } while (dwarf_siblingof(&die, &die) == 0 && c->left > 0);
}

/* The entry that declares the function: its class or namespace stands around that. */
static Dwarf_Die declaration_of(const Dwarf_Die *die)
{
    static const unsigned links[] = {DW_AT_abstract_origin, DW_AT_specification};
    Dwarf_Die at = *die, next;
    Dwarf_Attribute attr;

    for (int hops = 0; hops < 4; hops++) {
        bool found = false;
        for (size_t i = 0; i < BN_COUNT(links) && !found; i++)
            found = dwarf_attr(&at, links[i], &attr) && dwarf_formref_die(&attr, &next);
        if (!found)
            break;
        at = next;
    }
    return at;
}

static void put_scopes(struct bn_buf *to, const struct unit *u, int32_t scope)
{
    if (scope == NO_SCOPE)
        return;
    put_scopes(to, u, u->scopes[scope].parent); /* not deeper than MAX_DEPTH */
    Dwarf_Die *die = &u->scopes[scope].die;
    const char *name = dwarf_diename(die);
    if (name || dwarf_tag(die) == DW_TAG_namespace)
        bn_buf_printf(to, "%s::", name ? name : "(anonymous namespace)");
}

/* C++ functions that no other file can call may lack a linkage name, and have "push" for "Stack::push". */
static const char *qualified_name(struct bn_debug *d, const struct unit *u, const Dwarf_Die *die,
                                  const char *name)
{
    Dwarf_Die declaration = declaration_of(die);
    const uint32_t *scope = bn_idmap_get(&u->scope_of, (uintptr_t)declaration.addr, 0);
    const uint32_t *known = bn_idmap_get(&d->name_of, (uintptr_t)declaration.addr, 0);
    struct bn_buf whole = {0};

    if (!name || !scope)
        return name;
    if (known)
        return d->qualified[*known];
    put_scopes(&whole, u, (int32_t)*scope);
    bn_buf_puts(&whole, name);
    bn_grow(&d->qualified, &d->cap_qualified, d->n_qualified + 1, sizeof *d->qualified);
    d->qualified[d->n_qualified] = bn_arena_strndup(&d->names, whole.p, whole.n);
    bn_idmap_put(&d->name_of, (uintptr_t)declaration.addr, 0, (uint32_t)d->n_qualified);
    bn_buf_free(&whole);
    return d->qualified[d->n_qualified++];
}

static const char *function_name(struct bn_debug *d, const struct unit *u, Dwarf_Die *die)
{
    Dwarf_Attribute attr;

    if (dwarf_attr_integrate(die, DW_AT_linkage_name, &attr) ||
        dwarf_attr_integrate(die, DW_AT_MIPS_linkage_name, &attr)) {
        const char *name = dwarf_formstring(&attr);
        if (name && name[0])
            return name;
    }
    return qualified_name(d, u, die, dwarf_diename(die));
}

static uint32_t number(Dwarf_Die *die, unsigned name)
{
    Dwarf_Attribute attr;
    Dwarf_Word value;

    if (!dwarf_attr(die, name, &attr) || dwarf_formudata(&attr, &value) != 0 || value > UINT32_MAX)
        return 0;
    return (uint32_t)value;
}

/* A header found by "-I." is the same file as one named from here. */
static const char *plain(const char *file)
{
    while (file && file[0] == '.' && file[1] == '/' && file[2] && file[2] != '/')
        file += 2;
    return file;
}

static const char *call_file(struct unit *u, Dwarf_Die *inlined)
{
    Dwarf_Files *files;
    size_t n;
    uint32_t file = number(inlined, DW_AT_call_file);

    if (file == 0 || dwarf_getsrcfiles(&u->die, &files, &n) != 0 || file >= n)
        return NULL;
    return plain(dwarf_filesrc(files, file, NULL, NULL));
}

/* Wrappers that compilers' headers mark as artificial (vector intrinsics) stand for one instruction: their
 * callers are shown in their place, which is what the mark asks for. */
static bool is_artificial(Dwarf_Die *die)
{
    Dwarf_Attribute attr;
    bool flag = false;

    return dwarf_attr_integrate(die, DW_AT_artificial, &attr) && dwarf_formflag(&attr, &flag) == 0 && flag;
}

static void source_line(struct unit *u, uint64_t vaddr, struct bn_debug_frame *frame)
{
    Dwarf_Line *line = dwarf_getsrc_die(&u->die, vaddr);
    int number_of_line = 0;

    if (!line || dwarf_lineno(line, &number_of_line) != 0 || number_of_line <= 0)
        return;
    frame->line = (uint32_t)number_of_line;
    frame->file = plain(dwarf_linesrc(line, NULL, NULL));
}

size_t bn_debug_find(struct bn_image *image, uint64_t vaddr, struct bn_debug_frame *frames, size_t max)
{
    struct chain chain = {.n = 0};

    if (!image->debug)
        image->debug = read_units(image);
    struct unit *u = find_unit(image->debug, vaddr);
    struct function *f = u ? find_function(u, vaddr) : NULL;
    if (!u || max == 0)
        return 0;
    if (f) {
        chain.die[chain.n++] = f->die;
        chain.left = u->n_bytes;
        descend(&chain, &f->die, vaddr, 0);
    }
    size_t shown = chain.n;
    while (shown > 1 && is_artificial(&chain.die[shown - 1]))
        shown--;
    size_t n = bn_min_size(shown ? shown : 1, max);
    for (size_t i = 0; i < n; i++) { /* from the innermost */
        Dwarf_Die *die = shown ? &chain.die[shown - 1 - i] : NULL;
        Dwarf_Die *inner = die && shown - i < chain.n ? &chain.die[shown - i] : NULL;
        frames[i] = (struct bn_debug_frame){.function = die ? function_name(image->debug, u, die) : NULL,
                                            .inlined = die && i + 1 < shown};
        if (inner) {
            frames[i].file = call_file(u, inner);
            frames[i].line = frames[i].file ? number(inner, DW_AT_call_line) : 0;
        } else {
            source_line(u, vaddr, &frames[i]);
        }
    }
    return n;
}

const char *bn_debug_folder(struct bn_image *image, uint64_t vaddr)
{
    Dwarf_Attribute attr;

    if (!image->debug)
        image->debug = read_units(image);
    struct unit *u = find_unit(image->debug, vaddr);
    return u && dwarf_attr(&u->die, DW_AT_comp_dir, &attr) ? dwarf_formstring(&attr) : NULL;
}

void bn_debug_free(struct bn_debug *d)
{
    if (!d)
        return;
    for (size_t i = 0; i < d->n_units; i++) {
        free(d->units[i].functions);
        free(d->units[i].scopes);
        bn_idmap_free(&d->units[i].scope_of);
    }
    bn_idmap_free(&d->name_of);
    bn_arena_free(&d->names);
    free(d->qualified);
    free(d->units);
    free(d->ranges);
    dwarf_end(d->dwarf);
    free(d);
}
