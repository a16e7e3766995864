/* SPDX-License-Identifier: MIT
 * A vocabulary: the bytes that each token id stands for, its kind, and a hash table from bytes back to ids.
 */
#ifndef CORE_VOCAB_H
#define CORE_VOCAB_H

#include "core/base.h"

/* GGUF's numbers (tokenizer.ggml.token_type). */
enum bn_token_kind {
    BN_TOKEN_NORMAL = 1,
    BN_TOKEN_UNKNOWN = 2,
    BN_TOKEN_CONTROL = 3,
    BN_TOKEN_USER = 4,
    BN_TOKEN_UNUSED = 5,
    BN_TOKEN_BYTE = 6,
};

/* How a file spells the bytes of its tokens. */
enum bn_spelling {
    BN_SPELLING_LITERAL,
    BN_SPELLING_BYTE_LEVEL, /* GPT-2's: each byte is one printable character; a spelling that is none is
                               literal */
    BN_SPELLING_SPACES,     /* SentencePiece's: U+2581 is a space */
};

/* Tokens of up to 8 bytes, the most by far, are compared without leaving the slot. */
struct bn_vocab_slot {
    uint64_t head; /* the token's first 8 bytes, zeros behind a shorter one */
    uint32_t length;
    uint32_t id_plus_1; /* 0 = free */
};

struct bn_vocab {
    uint32_t n;             /* ids are 0 … n-1 */
    uint32_t longest_bytes; /* of the tokens that bn_vocab_find finds */
    bool has_twins;         /* two of these stand for the same bytes */
    char *pool;             /* BN_VOCAB_PAD bytes more may be read behind every token */
    uint32_t *start;        /* [n + 1]: the bytes of id are pool[start[id]] … pool[start[id + 1] - 1] */
    uint8_t *kind;          /* [n] enum bn_token_kind */
    struct bn_vocab_slot *slots;
    uint32_t mask; /* slots - 1, a power of two less one */
    uint64_t seed;
};

#define BN_VOCAB_NONE UINT32_MAX
/* More tokens than this is a damaged file. */
#define BN_VOCAB_MAX (1u << 21)

/* Room for `capacity` tokens whose spellings have spelling_bytes together (fewer than 2^32). All in the
 * arena. */
void bn_vocab_init(struct bn_vocab *vocab, struct bn_arena *arena, uint32_t capacity, size_t spelling_bytes);

/* The next id. Control and unknown tokens are always spelled literally. */
void bn_vocab_append(struct bn_vocab *vocab, struct bn_str token, enum bn_spelling spelling,
                     enum bn_token_kind kind);

/* Build the hash table, after the last append: normal, user-defined and unused tokens; of two that stand for
 * the same bytes the lower id. Control, unknown and byte tokens are left out, so plain text never becomes
 * one. */
void bn_vocab_index(struct bn_vocab *vocab, struct bn_arena *arena);

/* Id of the token that stands for these bytes, or BN_VOCAB_NONE. */
uint32_t bn_vocab_find(const struct bn_vocab *vocab, const char *bytes, size_t n);

/* Turn a spelling into bytes; out has room for token.n bytes, which is always enough. Returns how many. */
size_t bn_vocab_spell(struct bn_str token, enum bn_spelling spelling, char *out);

/* bn_vocab_find in steps, for callers with many look-ups at hand: make all keys, then prefetch slots, then
 * tokens, so that their cache misses overlap; then find. */
struct bn_vocab_key {
    const char *bytes;
    size_t n;
    uint64_t head, hash;
};

/* Behind a key's n bytes BN_VOCAB_PAD more must be readable, whatever they hold. */
enum { BN_VOCAB_PAD = 8 };
struct bn_vocab_key bn_vocab_key(const struct bn_vocab *vocab, const char *bytes, size_t n);
uint32_t bn_vocab_find_key(const struct bn_vocab *vocab, const struct bn_vocab_key *key);

static inline void bn_vocab_prefetch_slot(const struct bn_vocab *vocab, const struct bn_vocab_key *key)
{
    __builtin_prefetch(&vocab->slots[(uint32_t)key->hash & vocab->mask]);
}

static inline void bn_vocab_prefetch_token(const struct bn_vocab *vocab, const struct bn_vocab_key *key)
{
    const struct bn_vocab_slot *slot = &vocab->slots[(uint32_t)key->hash & vocab->mask];

    if (slot->length > sizeof slot->head)
        __builtin_prefetch(&vocab->pool[vocab->start[slot->id_plus_1 - 1]]);
}

/* Is this the id that bn_vocab_find gives for these bytes? No look-up: for callers who can guess. May say no
 * wrongly, never yes. id: any. */
bool bn_vocab_is_found_as(const struct bn_vocab *vocab, uint32_t id, const char *bytes, size_t n);

/* A random number, different in each process: hash tables that start from it cannot be attacked by a file's
 * choice of strings. No result depends on it. */
uint64_t bn_hash_seed(void);

#define BN_HASH_MULTIPLIER 0x9e3779b97f4a7c15u /* 2^64 / golden ratio, odd: products spread over all bits */

/* Both halves of the product, folded. */
static inline uint64_t bn_hash_mix(uint64_t a, uint64_t b)
{
    unsigned __int128 product = (unsigned __int128)a * b;

    return (uint64_t)product ^ (uint64_t)(product >> 64);
}

static inline struct bn_str bn_vocab_bytes(const struct bn_vocab *vocab, uint32_t id)
{
    return (struct bn_str){vocab->pool + vocab->start[id], vocab->start[id + 1] - vocab->start[id]};
}

/* Control and unknown tokens: no text of their own. */
static inline bool bn_vocab_is_special(const struct bn_vocab *vocab, uint32_t id)
{
    return vocab->kind[id] == BN_TOKEN_CONTROL || vocab->kind[id] == BN_TOKEN_UNKNOWN;
}

#endif
