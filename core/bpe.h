/* SPDX-License-Identifier: MIT
 * Byte-level BPE: the merge table, and one word's bytes to ids. */
#ifndef CORE_BPE_H
#define CORE_BPE_H

#include "core/pair_merge.h"
#include "core/tokenizer.h"
#include "core/vocab.h"

/* More merges than this are a damaged file. */
#define BN_BPE_MAX_MERGES (1u << 24)

struct bn_bpe_pair {
    uint32_t left, right;
    uint32_t rank;
    uint32_t joined_plus_1; /* 0 = free slot */
};

struct bn_bpe {
    const struct bn_vocab *vocab;
    struct bn_bpe_pair *pairs; /* hash table over (left, right) */
    uint64_t mask, seed;
    uint32_t last_joined;  /* what the merge that was added last gives */
    uint32_t byte_id[256]; /* BN_VOCAB_NONE where the vocabulary lacks the byte */
    bool ignore_merges;    /* a word that is a token as it stands is that token */
};

/* An indexed vocabulary, which must outlive it, and room for n_merges merges in the arena. */
void bn_bpe_init(struct bn_bpe *bpe, struct bn_arena *arena, const struct bn_vocab *vocab, uint32_t n_merges);

/* One line of a merge table, in GPT-2 spelling. */
struct bn_bpe_merge {
    struct bn_str left, right;
};

/* "left right" at its blank. -1 when it is not two spellings with a blank between them. */
int bn_bpe_split_line(struct bn_str line, struct bn_bpe_merge *merge);

/* Add n merges, the first of which has rank first_rank and the others the following ones. Of two for one pair
 * the first counts. -1 with a message that begins "merge N" when a side or the result is no token of the
 * vocabulary. */
int bn_bpe_add_merges(struct bn_bpe *bpe, const struct bn_bpe_merge *merges, uint32_t n, uint32_t first_rank,
                      struct bn_err *err);

/* Append the ids of one word (of fewer than 2^32 - 1 bytes). -1: the vocabulary lacks one of its bytes. */
int bn_bpe_encode(const struct bn_bpe *bpe, struct bn_merger *merger, struct bn_str word, struct bn_ids *ids,
                  struct bn_err *err);

#endif
