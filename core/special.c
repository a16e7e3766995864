/* SPDX-License-Identifier: MIT
 * Special tokens: a sorted table that is walked like a trie. */
#include "core/special.h"

#include <stdlib.h>
#include <string.h>

void bn_special_add(struct bn_special *special, struct bn_str spelling, uint32_t id, bool always)
{
    if (spelling.n == 0)
        return;
    bn_grow(&special->entries, &special->capacity, special->n + 1, sizeof *special->entries);
    special->entries[special->n++] = (struct bn_special_entry){spelling, id, always};
    special->starts[(unsigned char)spelling.p[0]] = true;
    special->any_always |= always;
}

static int compare(struct bn_str a, struct bn_str b)
{
    int order = memcmp(a.p, b.p, bn_min_size(a.n, b.n));

    return order != 0 ? order : (a.n > b.n) - (a.n < b.n);
}

static int by_spelling(const void *a, const void *b)
{
    const struct bn_special_entry *x = a, *y = b;
    int order = compare(x->spelling, y->spelling);

    return order != 0 ? order : (x->id > y->id) - (x->id < y->id);
}

void bn_special_sort(struct bn_special *special)
{
    size_t n = 0;

    if (special->n == 0)
        return;
    qsort(special->entries, special->n, sizeof *special->entries, by_spelling);
    for (size_t i = 1; i < special->n; i++)
        if (!bn_str_eq(special->entries[n].spelling, special->entries[i].spelling))
            special->entries[++n] = special->entries[i];
    special->n = n + 1;
}

void bn_special_free(struct bn_special *special)
{
    free(special->entries);
    *special = (struct bn_special){0};
}

/* First of the entries lo … hi-1, which agree up to byte `depth`, whose byte there is at least `byte`. */
static size_t lower_bound(const struct bn_special *special, size_t lo, size_t hi, size_t depth, unsigned byte)
{
    while (lo < hi) {
        size_t middle = lo + (hi - lo) / 2;
        if ((unsigned char)special->entries[middle].spelling.p[depth] < byte)
            lo = middle + 1;
        else
            hi = middle;
    }
    return lo;
}

/* The longest entry that `text` starts with. Byte by byte the range of entries that still agree gets
 * narrower; an entry that ends here is the first of its range. */
static const struct bn_special_entry *match(const struct bn_special *special, struct bn_str text, bool all)
{
    const struct bn_special_entry *best = NULL;
    size_t lo = 0, hi = special->n;

    for (size_t depth = 0; lo < hi; depth++) {
        if (special->entries[lo].spelling.n == depth) {
            if (all || special->entries[lo].always)
                best = &special->entries[lo];
            lo++;
        }
        if (depth == text.n)
            break;
        unsigned byte = (unsigned char)text.p[depth];
        lo = lower_bound(special, lo, hi, depth, byte);
        hi = lower_bound(special, lo, hi, depth, byte + 1);
    }
    return best;
}

size_t bn_special_next(const struct bn_special *special, struct bn_str text, size_t from, bool all,
                       const struct bn_special_entry **hit)
{
    *hit = NULL;
    if (special->n == 0 || (!all && !special->any_always))
        return text.n;
    for (size_t at = from; at < text.n; at++) {
        if (!special->starts[(unsigned char)text.p[at]])
            continue;
        *hit = match(special, (struct bn_str){text.p + at, text.n - at}, all);
        if (*hit)
            return at;
    }
    return text.n;
}

const struct bn_special_entry *bn_special_find(const struct bn_special *special, struct bn_str spelling)
{
    size_t lo = 0, hi = special->n;

    while (lo < hi) {
        size_t middle = lo + (hi - lo) / 2;
        int order = compare(special->entries[middle].spelling, spelling);
        if (order == 0)
            return &special->entries[middle];
        if (order < 0)
            lo = middle + 1;
        else
            hi = middle;
    }
    return NULL;
}
