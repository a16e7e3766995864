/* SPDX-License-Identifier: MIT
 * Find or add stack entries, and write new ones out. */
#include "profiler/stack_table.h"

#include <stdlib.h>

void bn_stack_table_init(struct bn_stack_table *t)
{
    *t = (struct bn_stack_table){.n = 1, .n_written = 1};
    bn_grow(&t->entries, &t->capacity, 1, sizeof *t->entries);
    t->entries[0] = (struct bn_raw_stack){.file = BN_RAW_NOWHERE};
}

void bn_stack_table_free(struct bn_stack_table *t)
{
    free(t->entries);
    bn_idmap_free(&t->by_content);
    *t = (struct bn_stack_table){0};
}

uint32_t bn_stack_table_add(struct bn_stack_table *t, uint32_t parent, int32_t file, uint64_t address)
{
    uint64_t key = (uint64_t)parent << 32 | (uint32_t)file;
    const uint32_t *known = bn_idmap_get(&t->by_content, key, address);

    if (known)
        return *known;
    bn_grow(&t->entries, &t->capacity, t->n + 1, sizeof *t->entries);
    t->entries[t->n] = (struct bn_raw_stack){.parent = parent, .file = file, .address = address};
    bn_idmap_put(&t->by_content, key, address, (uint32_t)t->n);
    return (uint32_t)t->n++;
}

void bn_stack_table_write(struct bn_stack_table *t, struct bn_raw_writer *w)
{
    struct bn_raw_stacks head = {.first = (uint32_t)t->n_written, .epoch = t->epoch};

    if (t->n_written == t->n)
        return;
    bn_raw_append(w, BN_RAW_STACKS, &head, sizeof head, t->entries + t->n_written,
                  (t->n - t->n_written) * sizeof *t->entries);
    t->n_written = t->n;
}
