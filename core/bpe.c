/* SPDX-License-Identifier: MIT
 * Byte-level BPE over ids: merges are looked up by the pair of ids, so no string is touched while encoding.
 */
#include "core/bpe.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>

/* Merges are added in groups, in steps that each fetch ahead what the next one reads: in a large vocabulary
 * nearly every look-up misses the cache. */
enum { GROUP = 32, SHOWN_BYTES = 60 };

/* One of a merge's three tokens. */
struct side {
    struct bn_vocab_key key;
    uint32_t id;
    bool known; /* the id; else the key */
};

/* Its two sides lie one after the other, so that the joined token needs no copy. */
struct merge {
    struct side left, right, joined;
};

void bn_bpe_init(struct bn_bpe *bpe, struct bn_arena *arena, const struct bn_vocab *vocab, uint32_t n_merges)
{
    uint64_t n_slots = 16;

    while (n_slots < n_merges + (uint64_t)n_merges / 2)
        n_slots *= 2;
    *bpe = (struct bn_bpe){.vocab = vocab, .mask = n_slots - 1, .seed = bn_hash_seed()};
    bpe->pairs = bn_arena_array(arena, (size_t)n_slots, sizeof *bpe->pairs);
    for (unsigned b = 0; b < 256; b++) {
        char byte = (char)b;
        bpe->byte_id[b] = bn_vocab_find(vocab, &byte, 1);
    }
}

static uint64_t first_slot(const struct bn_bpe *bpe, uint32_t left, uint32_t right)
{
    return bn_hash_mix(((uint64_t)left << 32 | right) ^ bpe->seed, BN_HASH_MULTIPLIER) & bpe->mask;
}

/* Where the pair is, or the free slot where it would go. */
static struct bn_bpe_pair *find_pair(const struct bn_bpe *bpe, uint32_t left, uint32_t right)
{
    uint64_t i = first_slot(bpe, left, right);

    while (bpe->pairs[i].joined_plus_1 != 0 && (bpe->pairs[i].left != left || bpe->pairs[i].right != right))
        i = (i + 1) & bpe->mask;
    return &bpe->pairs[i];
}

/* ---- the merge table ---- */

int bn_bpe_split_line(struct bn_str line, struct bn_bpe_merge *merge)
{
    const char *blank = line.n > 2 ? memchr(line.p + 1, ' ', line.n - 2) : NULL;

    if (!blank)
        return -1;
    merge->left = (struct bn_str){line.p, (size_t)(blank - line.p)};
    merge->right = (struct bn_str){blank + 1, line.n - merge->left.n - 1};
    return 0;
}

static int no_token(uint32_t rank, const struct bn_bpe_merge *line, const char *which, struct bn_err *err)
{
    return bn_err_set(err, "merge %u, \"%.*s %.*s\": %s is not in the vocabulary", rank,
                      (int)bn_min_size(line->left.n, SHOWN_BYTES), line->left.p,
                      (int)bn_min_size(line->right.n, SHOWN_BYTES), line->right.p, which);
}

/* A part of a merge: one byte is known, the others must be looked up. */
static struct side make_side(const struct bn_bpe *bpe, const char *bytes, size_t n)
{
    if (n == 1)
        return (struct side){.id = bpe->byte_id[(unsigned char)bytes[0]], .known = true};
    struct side side = {.key = bn_vocab_key(bpe->vocab, bytes, n)};
    bn_vocab_prefetch_slot(bpe->vocab, &side.key);
    return side;
}

/* What a merge gives. Tables list the merges in the order of what they give, and vocabularies were numbered
 * in that order: it is the token that the merge before gave, or the next. */
static struct side make_joined(struct bn_bpe *bpe, const char *bytes, size_t n)
{
    for (uint32_t i = 0; i < 2; i++) {
        uint32_t guess = bpe->last_joined + i;
        if (bn_vocab_is_found_as(bpe->vocab, guess, bytes, n)) {
            bpe->last_joined = guess;
            return (struct side){.id = guess, .known = true};
        }
    }
    struct side side = {.key = bn_vocab_key(bpe->vocab, bytes, n)};
    bn_vocab_prefetch_slot(bpe->vocab, &side.key);
    return side;
}

/* Spell a merge's two sides out at `bytes`, where BN_VOCAB_PAD bytes more than they need can be read. Returns
 * the end of the bytes. */
static char *spell_merge(struct bn_bpe *bpe, struct merge *m, char *bytes, const struct bn_bpe_merge *line)
{
    size_t n_left = bn_vocab_spell(line->left, BN_SPELLING_BYTE_LEVEL, bytes);
    size_t n_right = bn_vocab_spell(line->right, BN_SPELLING_BYTE_LEVEL, bytes + n_left);

    m->left = make_side(bpe, bytes, n_left);
    m->right = make_side(bpe, bytes + n_left, n_right);
    m->joined = make_joined(bpe, bytes, n_left + n_right);
    return bytes + n_left + n_right;
}

static void prefetch_token(const struct bn_vocab *vocab, const struct side *side)
{
    if (!side->known)
        bn_vocab_prefetch_token(vocab, &side->key);
}

static void find_side(const struct bn_vocab *vocab, struct side *side)
{
    if (!side->known)
        side->id = bn_vocab_find_key(vocab, &side->key);
}

static int find_sides(struct bn_bpe *bpe, struct merge *m, const struct bn_bpe_merge *line, uint32_t rank,
                      struct bn_err *err)
{
    find_side(bpe->vocab, &m->left);
    find_side(bpe->vocab, &m->right);
    find_side(bpe->vocab, &m->joined);
    if (m->left.id == BN_VOCAB_NONE)
        return no_token(rank, line, "its left side", err);
    if (m->right.id == BN_VOCAB_NONE)
        return no_token(rank, line, "its right side", err);
    if (m->joined.id == BN_VOCAB_NONE)
        return no_token(rank, line, "the joined token", err);
    if (!m->joined.known)
        bpe->last_joined = m->joined.id;
    __builtin_prefetch(&bpe->pairs[first_slot(bpe, m->left.id, m->right.id)], 1);
    return 0;
}

static int add_group(struct bn_bpe *bpe, struct bn_buf *scratch, const struct bn_bpe_merge *lines, uint32_t n,
                     uint32_t first_rank, struct bn_err *err)
{
    struct merge group[GROUP];
    size_t total = 0;

    for (uint32_t i = 0; i < n; i++)
        total += lines[i].left.n + lines[i].right.n;
    bn_grow(&scratch->p, &scratch->capacity, total + BN_VOCAB_PAD, 1);
    char *bytes = scratch->p;
    for (uint32_t i = 0; i < n; i++)
        bytes = spell_merge(bpe, &group[i], bytes, &lines[i]);
    for (uint32_t i = 0; i < n; i++) {
        prefetch_token(bpe->vocab, &group[i].left);
        prefetch_token(bpe->vocab, &group[i].right);
        prefetch_token(bpe->vocab, &group[i].joined);
    }
    for (uint32_t i = 0; i < n; i++)
        if (find_sides(bpe, &group[i], &lines[i], first_rank + i, err) != 0)
            return -1;
    for (uint32_t i = 0; i < n; i++) {
        const struct merge *m = &group[i];
        struct bn_bpe_pair *pair = find_pair(bpe, m->left.id, m->right.id);
        if (pair->joined_plus_1 == 0)
            *pair = (struct bn_bpe_pair){m->left.id, m->right.id, first_rank + i, m->joined.id + 1};
    }
    return 0;
}

int bn_bpe_add_merges(struct bn_bpe *bpe, const struct bn_bpe_merge *merges, uint32_t n, uint32_t first_rank,
                      struct bn_err *err)
{
    struct bn_buf scratch = {0};
    int status = 0;

    for (uint32_t i = 0; i < n && status == 0; i += GROUP) {
        uint32_t count = n - i < GROUP ? n - i : GROUP;
        status = add_group(bpe, &scratch, merges + i, count, first_rank + i, err);
    }
    bn_buf_free(&scratch);
    return status;
}

/* ---- encoding ---- */

static void rank_pair(const void *context, struct bn_symbol *left, const struct bn_symbol *right)
{
    const struct bn_bpe_pair *pair = find_pair(context, left->id, right->id);

    if (pair->joined_plus_1 != 0) {
        left->rank = pair->rank;
        left->joined = pair->joined_plus_1 - 1;
    }
}

int bn_bpe_encode(const struct bn_bpe *bpe, struct bn_merger *merger, struct bn_str word, struct bn_ids *ids,
                  struct bn_err *err)
{
    if (word.n == 0)
        return 0;
    if (bpe->ignore_merges) {
        uint32_t id = bn_vocab_find(bpe->vocab, word.p, word.n);
        if (id != BN_VOCAB_NONE) {
            bn_ids_push(ids, id);
            return 0;
        }
    }
    merger->n = 0;
    for (size_t i = 0; i < word.n; i++) {
        unsigned char byte = (unsigned char)word.p[i];
        if (bpe->byte_id[byte] == BN_VOCAB_NONE)
            return bn_err_set(err, "the vocabulary has no token for the byte 0x%02X", byte);
        bn_merger_push(merger, bpe->byte_id[byte], (uint32_t)i, 1);
    }
    bn_merger_run(merger, rank_pair, bpe);
    for (uint32_t i = 0; i != BN_MERGE_NONE; i = merger->symbols[i].next)
        bn_ids_push(ids, merger->symbols[i].id);
    return 0;
}
