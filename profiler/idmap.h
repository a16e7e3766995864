/* SPDX-License-Identifier: MIT
 * A hash table from a pair of numbers to a number, for ids: threads, processes, addresses. */
#ifndef PROFILER_IDMAP_H
#define PROFILER_IDMAP_H

#include <stdlib.h>

#include "core/base.h"

struct bn_idmap_slot {
    uint64_t a, b;
    uint32_t value;
    bool used;
};

struct bn_idmap {
    struct bn_idmap_slot *slots;
    size_t n_slots; /* a power of two, or 0 */
    size_t n;
};

static inline struct bn_idmap_slot *bn_idmap_slot(const struct bn_idmap *map, uint64_t a, uint64_t b)
{
    uint64_t h = (a * 0x9e3779b97f4a7c15u ^ b) * 0xff51afd7ed558ccdu;
    size_t at = (size_t)(h ^ h >> 32) & (map->n_slots - 1);

    while (map->slots[at].used && (map->slots[at].a != a || map->slots[at].b != b))
        at = (at + 1) & (map->n_slots - 1);
    return &map->slots[at];
}

/* The value of (a, b), NULL = not there. Valid until the next put. */
static inline uint32_t *bn_idmap_get(const struct bn_idmap *map, uint64_t a, uint64_t b)
{
    struct bn_idmap_slot *s = map->n_slots ? bn_idmap_slot(map, a, b) : NULL;
    return s && s->used ? &s->value : NULL;
}

/* Set it. */
static inline void bn_idmap_put(struct bn_idmap *map, uint64_t a, uint64_t b, uint32_t value)
{
    if (map->n * 2 >= map->n_slots) {
        struct bn_idmap old = *map;
        map->n_slots = old.n_slots ? old.n_slots * 2 : 64;
        map->slots = (struct bn_idmap_slot *)bn_xcalloc(map->n_slots, sizeof *map->slots);
        for (size_t i = 0; i < old.n_slots; i++)
            if (old.slots[i].used)
                *bn_idmap_slot(map, old.slots[i].a, old.slots[i].b) = old.slots[i];
        free(old.slots);
    }
    struct bn_idmap_slot *s = bn_idmap_slot(map, a, b);
    map->n += !s->used;
    *s = (struct bn_idmap_slot){a, b, value, true};
}

static inline void bn_idmap_free(struct bn_idmap *map)
{
    free(map->slots);
    *map = (struct bn_idmap){0};
}

#endif
