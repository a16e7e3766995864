/* SPDX-License-Identifier: MIT
 * Read /proc/kallsyms and look addresses up. */
#include "profiler/kallsyms.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

struct bn_kallsym {
    uint64_t address;
    const char *name;
};

static int by_address(const void *a, const void *b)
{
    const struct bn_kallsym *x = a, *y = b;

    if (x->address != y->address)
        return x->address < y->address ? -1 : 1;
    size_t n = strlen(x->name), m = strlen(y->name);
    return n != m ? (n < m ? -1 : 1) : strcmp(x->name, y->name);
}

/* "ffffffff81000000 T name\t[module]": code has the types t, T, w and W. */
static void read_line(struct bn_kallsyms *k, const char *line)
{
    char *end;
    uint64_t address = strtoull(line, &end, 16);

    if (end == line || end[0] != ' ' || !end[1] || !strchr("tTwW", end[1]) || end[2] != ' ')
        return;
    const char *name = end + 3;
    size_t n = strcspn(name, "\t \n");
    if (n == 0 || address == 0)
        return;
    bn_grow(&k->items, &k->capacity, k->n + 1, sizeof *k->items);
    k->items[k->n++] = (struct bn_kallsym){address, bn_arena_strndup(&k->arena, name, n)};
}

int bn_kallsyms_read(struct bn_kallsyms *k, const char *path, struct bn_err *err)
{
    char *line = NULL;
    size_t capacity = 0;
    FILE *f = fopen(path, "re");

    *k = (struct bn_kallsyms){0};
    if (!f)
        return bn_err_set(err, "%s: %s", path, strerror(errno));
    while (getline(&line, &capacity, f) > 0)
        read_line(k, line);
    free(line);
    fclose(f);
    if (k->n == 0)
        return bn_err_set(err, "%s: shows no addresses to this user (kernel.kptr_restrict)", path);
    qsort(k->items, k->n, sizeof *k->items, by_address);
    return 0;
}

static bool same_boot(const struct bn_profile *p)
{
    char id[40] = "";
    const char *recorded = bn_profile_fact(p, "boot_id");
    FILE *f = fopen("/proc/sys/kernel/random/boot_id", "re");
    bool read = f && fscanf(f, "%39s", id) == 1;

    if (f)
        fclose(f);
    return read && recorded && strcmp(id, recorded) == 0;
}

void bn_kallsyms_read_for(struct bn_kallsyms *k, struct bn_profile *p)
{
    struct bn_err why;

    if (!same_boot(p))
        bn_profile_add_fact(p, "kernel_names", "none: this is not the boot that was recorded");
    else if (bn_kallsyms_read(k, "/proc/kallsyms", &why) != 0)
        bn_profile_add_fact(p, "kernel_names", why.msg);
}

void bn_kallsyms_free(struct bn_kallsyms *k)
{
    free(k->items);
    bn_arena_free(&k->arena);
    *k = (struct bn_kallsyms){0};
}

/* The last symbol at or before the address; the kernel's table has no sizes. */
const char *bn_kallsyms_find(const struct bn_kallsyms *k, uint64_t address)
{
    size_t low = 0, high = k->n;

    while (low < high) {
        size_t middle = low + (high - low) / 2;
        if (k->items[middle].address <= address)
            low = middle + 1;
        else
            high = middle;
    }
    if (low == 0)
        return NULL;
    uint64_t start = k->items[low - 1].address;
    while (low > 1 && k->items[low - 2].address == start) /* the first of several names */
        low--;
    return k->items[low - 1].name;
}
