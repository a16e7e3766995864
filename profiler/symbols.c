/* SPDX-License-Identifier: MIT
 * Put together what debug information, symbol tables and the file's name say about an address. */
#include "profiler/symbols.h"

#include <string.h>

#include "profiler/debug.h"
#include "profiler/symtab.h"

/* The name as it is shown; copied only if something is cut off. */
static const char *shown(struct bn_symbols *s, const char *name)
{
    size_t n = bn_symtab_fold(name);

    return name[n] ? bn_arena_strndup(&s->names, name, n) : name;
}

static struct bn_frame nameless(struct bn_symbols *s, const struct bn_image *image)
{
    struct bn_frame frame = {.function = "[unknown]", .kind = BN_FRAME_UNKNOWN};

    if (!image)
        return frame;
    frame.module = image->name;
    if (strncmp(image->path, "//anon", 6) == 0)
        frame.module = "[anon]";
    if (frame.module[0] == '[') {
        frame.function = frame.module;
    } else {
        size_t n = strlen(frame.module);
        char *name = bn_arena_alloc(&s->names, n + 3);
        name[0] = '[';
        memcpy(name + 1, frame.module, n);
        name[n + 1] = ']';
        frame.function = name;
    }
    return frame;
}

void bn_symbols_find(struct bn_symbols *s, const struct bn_place *place)
{
    struct bn_debug_frame debug[BN_SYMBOLS_MAX_FRAMES];

    s->n = 1;
    s->frames[0] = nameless(s, place->image);
    if (!place->image || !place->has_vaddr)
        return;
    size_t n = bn_debug_find(place->image, place->vaddr, debug, BN_SYMBOLS_MAX_FRAMES);
    bool exported;
    const char *symbol = bn_symtab_find(place->image, place->vaddr, &exported);
    /* The exported name is the one callers use ("free"); libraries know it by others inside
     * ("__GI___libc_free"). */
    const char *outermost = n && debug[n - 1].function && !exported ? debug[n - 1].function : symbol;
    if (!outermost)
        return;
    s->n = n ? n : 1;
    for (size_t i = 0; i < s->n; i++) {
        const char *name = i + 1 == s->n ? outermost : debug[i].function ? debug[i].function : "[inlined]";
        s->frames[i] = (struct bn_frame){.function = shown(s, name),
                                         .module = place->image->name,
                                         .file = n ? debug[i].file : NULL,
                                         .line = n && debug[i].file ? debug[i].line : 0,
                                         .inlined = n && debug[i].inlined,
                                         .kind = BN_FRAME_USER};
    }
}

void bn_symbols_find_kernel(struct bn_symbols *s, const struct bn_kallsyms *kallsyms, uint64_t address)
{
    const char *name = bn_kallsyms_find(kallsyms, address);

    s->n = 1;
    s->frames[0] = (struct bn_frame){
        .function = name ? shown(s, name) : "[kernel]", .module = "[kernel]", .kind = BN_FRAME_KERNEL};
}

void bn_symbols_free(struct bn_symbols *s)
{
    bn_arena_free(&s->names);
}
