/* SPDX-License-Identifier: MIT
 * Put together what debug information, symbol tables and the file's name say about an address. */
#include "profiler/symbols.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "profiler/debug.h"
#include "profiler/demangle.h"
#include "profiler/symtab.h"

/* The name as it is shown: demangled, without what compilers add to parts of a function, of bounded length;
 * copied only if it differs. A linkage stub keeps its mark. */
static const char *shown(struct bn_symbols *s, const char *name)
{
    size_t n = bn_symtab_fold(name), stem = strcspn(name, "@");
    bool stub = name[n] == '\0' && strcmp(name + stem, "@plt") == 0;
    const char *readable = bn_demangle(&s->names, name, stub ? stem : n);

    if (readable && stub) {
        size_t length = strlen(readable);
        char *whole = bn_arena_alloc(&s->names, length + sizeof "@plt");
        memcpy(whole, readable, length);
        memcpy(whole + length, "@plt", sizeof "@plt");
        return whole;
    }
    if (readable)
        return readable;
    return bn_demangle_shorten(&s->names, name[n] ? bn_arena_strndup(&s->names, name, n) : name);
}

/* A frame named after `name`; `symbol` (or NULL) is what the symbol table calls the code: the same function's
 * name with the compiler's additions, or another alias. */
static struct bn_frame named(struct bn_symbols *s, const char *name, const char *symbol)
{
    size_t n = bn_symtab_fold(name);
    bool same = symbol && bn_symtab_fold(symbol) == n && strncmp(symbol, name, n) == 0;
    struct bn_frame frame = {.function = shown(s, name), .raw = same ? symbol : name};

    if (strcmp(frame.raw, frame.function) == 0)
        frame.raw = NULL;
    return frame;
}

static bool is_mangled(const char *name)
{
    return name[0] == '_' && (name[1] == 'Z' || name[1] == 'R');
}

/* The exported name is the one callers use ("free"); libraries know it by others inside
 * ("__GI___libc_free"). Debug information may know a method by its bare name only. */
static const char *outermost_name(const char *debug, const char *symbol, bool exported)
{
    if (!debug || (symbol && (exported || (is_mangled(symbol) && !is_mangled(debug)))))
        return symbol;
    return debug;
}

/* Code without a name. The unwind table still knows where its function begins: that keeps functions of a
 * stripped file apart, and is where a disassembler finds them. */
static const char *module_name(struct bn_symbols *s, const struct bn_place *place)
{
    const struct bn_image *image = place->image;
    const struct bn_fde *fde = place->has_vaddr ? bn_fde_find(&image->fdes, place->vaddr) : NULL;
    char start[32] = "";

    if (fde && fde->signal)
        return "[signal frame]";
    if (fde)
        snprintf(start, sizeof start, "+0x%" PRIx64, fde->start);
    size_t n = strlen(image->name), n_start = strlen(start);
    char *name = bn_arena_alloc(&s->names, n + n_start + sizeof "[]");
    name[0] = '[';
    memcpy(name + 1, image->name, n);
    memcpy(name + 1 + n, start, n_start);
    memcpy(name + 1 + n + n_start, "]", sizeof "]");
    return name;
}

static struct bn_frame nameless(struct bn_symbols *s, const struct bn_place *place)
{
    const struct bn_image *image = place->image;
    struct bn_frame frame = {.function = "[unknown]", .kind = BN_FRAME_UNKNOWN};

    if (!image)
        return frame;
    frame.module = strncmp(image->path, "//anon", 6) == 0 ? "[anon]" : image->name;
    frame.function = frame.module[0] == '[' ? frame.module : module_name(s, place);
    return frame;
}

void bn_symbols_find(struct bn_symbols *s, const struct bn_place *place)
{
    struct bn_debug_frame debug[BN_SYMBOLS_MAX_FRAMES];

    s->n = 1;
    s->frames[0] = nameless(s, place);
    if (!place->image || !place->has_vaddr)
        return;
    size_t n = bn_debug_find(place->image, place->vaddr, debug, BN_SYMBOLS_MAX_FRAMES);
    bool exported;
    const char *symbol = bn_symtab_find(place->image, place->vaddr, &exported);
    const char *outermost = outermost_name(n ? debug[n - 1].function : NULL, symbol, exported);
    if (!outermost)
        return;
    s->n = n ? n : 1;
    for (size_t i = 0; i < s->n; i++) {
        bool last = i + 1 == s->n;
        const char *name = last ? outermost : debug[i].function ? debug[i].function : "[inlined]";
        s->frames[i] = named(s, name, last ? symbol : NULL);
        s->frames[i].module = place->image->name;
        s->frames[i].file = n ? debug[i].file : NULL;
        s->frames[i].line = n && debug[i].file ? debug[i].line : 0;
        s->frames[i].inlined = n && debug[i].inlined;
        s->frames[i].kind = BN_FRAME_USER;
    }
}

void bn_symbols_find_kernel(struct bn_symbols *s, const struct bn_kallsyms *kallsyms, uint64_t address)
{
    const char *name = bn_kallsyms_find(kallsyms, address);

    s->n = 1;
    s->frames[0] = name ? named(s, name, NULL) : (struct bn_frame){.function = "[kernel]"};
    s->frames[0].module = "[kernel]";
    s->frames[0].kind = BN_FRAME_KERNEL;
}

void bn_symbols_free(struct bn_symbols *s)
{
    bn_arena_free(&s->names);
}
