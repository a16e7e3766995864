/* SPDX-License-Identifier: MIT
 * A module is a path with a build id: a file that was replaced while it was recorded is two. */
#include "profiler/addresses.h"

#include <string.h>

#include "profiler/debug.h"
#include "profiler/symtab.h"

static void write_hex(char *text, const uint8_t *bytes, size_t n)
{
    for (size_t i = 0; i < n; i++)
        snprintf(text + 2 * i, 3, "%02x", bytes[i]);
}

static bool same(const char *a, const char *b)
{
    return a && b ? strcmp(a, b) == 0 : a == b;
}

static uint32_t find_module(const struct bn_profile *p, const struct bn_profile_module *m)
{
    for (size_t i = p->n_modules; i-- > 0;)
        if (strcmp(p->modules[i].path, m->path) == 0 && same(p->modules[i].build_id, m->build_id) &&
            p->modules[i].state == m->state)
            return (uint32_t)i;
    return BN_NONE;
}

static uint32_t module_of(struct bn_profile *p, struct bn_image *image)
{
    char hex[2 * BN_IMAGE_MAX_BUILD_ID + 1] = "";
    struct bn_profile_module m = {.name = image->name,
                                  .path = image->path,
                                  .state = image->usable       ? BN_MODULE_READ
                                           : image->other_file ? BN_MODULE_OTHER_FILE
                                                               : BN_MODULE_UNREADABLE};

    if (image->noted_in == p)
        return image->noted_as;
    write_hex(hex, image->build_id, image->build_id_bytes);
    m.build_id = hex[0] ? hex : NULL;
    image->noted_in = p;
    image->noted_as = find_module(p, &m);
    if (image->noted_as != BN_NONE)
        return image->noted_as;
    if (image->usable) {
        m.symbols = bn_symtab_is_full(image);
        m.debug_info = bn_debug_exists(image);
        m.modified_s = image->modified_s;
    } else {
        m.why = image->why.msg;
    }
    return image->noted_as = bn_profile_add_module(p, &m);
}

void bn_addresses_note(struct bn_profile *p, const struct bn_place *place, uint32_t frame, uint64_t samples,
                       uint64_t weight_ns)
{
    if (!place->image)
        return;
    struct bn_profile_address address = {.module = module_of(p, place->image),
                                         .vaddr = place->vaddr,
                                         .frame = frame,
                                         .samples = samples,
                                         .weight_ns = weight_ns};
    p->modules[address.module].samples += samples;
    p->modules[address.module].weight_ns += weight_ns;
    if (place->has_vaddr)
        bn_profile_add_address(p, &address);
}
