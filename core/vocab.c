/* SPDX-License-Identifier: MIT
 * Vocabulary: one pool of bytes, and an open-addressing hash table over it. */
#include "core/vocab.h"

#include <assert.h>
#include <string.h>
#include <sys/random.h>

uint64_t bn_hash_seed(void)
{
    uint64_t seed;

    if (getrandom(&seed, sizeof seed, GRND_NONBLOCK) != (ssize_t)sizeof seed)
        seed = bn_now_ns();
    return seed | 1;
}

/* ---- words: up to 8 bytes as a number, zeros behind a shorter string ---- */

/* The first 8 bytes, or all n of them. Which loads may overlap does no harm, as they agree on the bytes that
 * they share. */
static uint64_t load_word(const char *bytes, size_t n)
{
    const unsigned char *b = (const unsigned char *)bytes;
    uint64_t word = 0;
    uint32_t low, high;

    if (n >= sizeof word) {
        memcpy(&word, bytes, sizeof word);
        return word;
    }
    if (n >= sizeof low) {
        memcpy(&low, bytes, sizeof low);
        memcpy(&high, bytes + n - sizeof high, sizeof high);
        return low | (uint64_t)high << (8 * (n - sizeof high));
    }
    if (n > 0)
        word = b[0] | (uint64_t)b[n / 2] << (8 * (n / 2)) | (uint64_t)b[n - 1] << (8 * (n - 1));
    return word;
}

/* ---- spellings ---- */

/* GPT-2 gives every byte a printable character: itself where Latin-1 has a visible one, else the next free
 * one from U+0100 on. This is the way back; -1 for a character that stands for no byte. From U+0121 on it is
 * 0x7f … 0xa0, then 0xad. */
static int byte_of_character(unsigned c)
{
    if (c > 0x143 || c == 0xad || c < 0x21 || (c > 0x7e && c < 0xa1))
        return -1;
    if (c == 0x143)
        return 0xad;
    return (int)((c + (c > 0x120 ? 0x7f - 0x21 : 0)) & 0xff);
}

/* Returns the number of bytes, or SIZE_MAX when the token is not in this form. */
static size_t spell_byte_level(struct bn_str token, char *out)
{
    const unsigned char *s = (const unsigned char *)token.p;
    size_t n = 0, i = 0;

    while (i < token.n) {
        unsigned c = s[i++];
        if (c > 0x20 && c < 0x7f) {
            out[n++] = (char)c;
            continue;
        }
        if (c >= 0x80) {
            if (c < 0xc2 || c > 0xdf || i == token.n || (s[i] & 0xc0) != 0x80)
                return SIZE_MAX;
            c = (c & 0x1f) << 6 | (s[i++] & 0x3f);
        }
        int byte = byte_of_character(c);
        if (byte < 0)
            return SIZE_MAX;
        out[n++] = (char)byte;
    }
    return n;
}

static size_t spell_spaces(struct bn_str token, char *out)
{
    size_t n = 0;

    for (size_t i = 0; i < token.n;) {
        if (token.n - i >= 3 && memcmp(token.p + i, "\xe2\x96\x81", 3) == 0) {
            out[n++] = ' ';
            i += 3;
        } else {
            out[n++] = token.p[i++];
        }
    }
    return n;
}

size_t bn_vocab_spell(struct bn_str token, enum bn_spelling spelling, char *out)
{
    size_t n = SIZE_MAX;

    if (spelling == BN_SPELLING_BYTE_LEVEL)
        n = spell_byte_level(token, out);
    else if (spelling == BN_SPELLING_SPACES)
        n = spell_spaces(token, out);
    if (n == SIZE_MAX) {
        n = token.n;
        if (n > 0)
            memcpy(out, token.p, n);
    }
    return n;
}

/* ---- hash table ---- */

/* The same where BN_VOCAB_PAD bytes more may be read: no branch on n that would be mispredicted. */
static uint64_t load_padded(const char *bytes, size_t n)
{
    uint64_t word;

    memcpy(&word, bytes, sizeof word);
    return n >= sizeof word ? word : word & (((uint64_t)1 << 8 * n) - 1);
}

/* Eight bytes at a time, a multiplication each. */
static inline struct bn_vocab_key make_key(const struct bn_vocab *vocab, const char *bytes, size_t n,
                                           uint64_t load(const char *bytes, size_t n))
{
    uint64_t head = load(bytes, n), word = head, h = vocab->seed ^ n;

    for (size_t at = 0; n - at > sizeof h; word = load(bytes + at, n - at)) {
        h = bn_hash_mix(h ^ word, BN_HASH_MULTIPLIER);
        at += sizeof h;
    }
    return (struct bn_vocab_key){bytes, n, head, bn_hash_mix(h ^ word, BN_HASH_MULTIPLIER)};
}

struct bn_vocab_key bn_vocab_key(const struct bn_vocab *vocab, const char *bytes, size_t n)
{
    return make_key(vocab, bytes, n, load_padded);
}

/* The slot where the key is, or the free one where it would go. */
static struct bn_vocab_slot *find_slot(const struct bn_vocab *vocab, const struct bn_vocab_key *key)
{
    for (uint32_t i = (uint32_t)key->hash & vocab->mask;; i = (i + 1) & vocab->mask) {
        struct bn_vocab_slot *slot = &vocab->slots[i];
        if (slot->id_plus_1 == 0)
            return slot;
        if (slot->head != key->head || slot->length != key->n)
            continue;
        if (key->n <= sizeof key->head ||
            memcmp(vocab->pool + vocab->start[slot->id_plus_1 - 1], key->bytes, key->n) == 0)
            return slot;
    }
}

uint32_t bn_vocab_find_key(const struct bn_vocab *vocab, const struct bn_vocab_key *key)
{
    if (key->n == 0 || key->n > vocab->longest_bytes)
        return BN_VOCAB_NONE;
    return find_slot(vocab, key)->id_plus_1 - 1;
}

uint32_t bn_vocab_find(const struct bn_vocab *vocab, const char *bytes, size_t n)
{
    if (n == 0 || n > vocab->longest_bytes) /* before the time is spent on hashing a long one */
        return BN_VOCAB_NONE;
    struct bn_vocab_key key = make_key(vocab, bytes, n, load_word);
    return find_slot(vocab, &key)->id_plus_1 - 1;
}

/* ---- building ---- */

void bn_vocab_init(struct bn_vocab *vocab, struct bn_arena *arena, uint32_t capacity, size_t spelling_bytes)
{
    assert(spelling_bytes < UINT32_MAX && capacity <= BN_VOCAB_MAX);
    *vocab = (struct bn_vocab){.seed = bn_hash_seed()};
    vocab->pool = bn_arena_alloc(arena, spelling_bytes + BN_VOCAB_PAD);
    vocab->start = bn_arena_array(arena, (size_t)capacity + 1, sizeof *vocab->start);
    vocab->kind = bn_arena_array(arena, (size_t)capacity + 1, sizeof *vocab->kind);
}

void bn_vocab_append(struct bn_vocab *vocab, struct bn_str token, enum bn_spelling spelling,
                     enum bn_token_kind kind)
{
    uint32_t id = vocab->n++;

    vocab->kind[id] = (uint8_t)kind;
    if (bn_vocab_is_special(vocab, id))
        spelling = BN_SPELLING_LITERAL;
    vocab->start[id + 1] =
        vocab->start[id] + (uint32_t)bn_vocab_spell(token, spelling, vocab->pool + vocab->start[id]);
}

static bool is_findable(const struct bn_vocab *vocab, uint32_t id)
{
    return id < vocab->n && bn_vocab_bytes(vocab, id).n > 0 && !bn_vocab_is_special(vocab, id) &&
           vocab->kind[id] != BN_TOKEN_BYTE;
}

bool bn_vocab_is_found_as(const struct bn_vocab *vocab, uint32_t id, const char *bytes, size_t n)
{
    return !vocab->has_twins && is_findable(vocab, id) &&
           bn_str_eq(bn_vocab_bytes(vocab, id), (struct bn_str){bytes, n});
}

static void insert(struct bn_vocab *vocab, uint32_t id, const struct bn_vocab_key *key)
{
    struct bn_vocab_slot *slot = find_slot(vocab, key);

    if (slot->id_plus_1 == 0)
        *slot = (struct bn_vocab_slot){key->head, (uint32_t)key->n, id + 1};
    else
        vocab->has_twins = true;
    if (key->n > vocab->longest_bytes)
        vocab->longest_bytes = (uint32_t)key->n;
}

/* The slot that an id will need is fetched AHEAD ids before its turn comes. */
void bn_vocab_index(struct bn_vocab *vocab, struct bn_arena *arena)
{
    enum { AHEAD = 16 };
    struct bn_vocab_key keys[AHEAD];
    size_t n_slots = 16;

    while (n_slots < 2 * (size_t)vocab->n)
        n_slots *= 2;
    vocab->mask = (uint32_t)(n_slots - 1);
    vocab->slots = bn_arena_array(arena, n_slots, sizeof *vocab->slots);
    for (uint32_t i = 0; i < vocab->n + AHEAD; i++) {
        struct bn_vocab_key *key = &keys[i % AHEAD]; /* of id i - AHEAD, then of id i */
        if (i >= AHEAD && is_findable(vocab, i - AHEAD))
            insert(vocab, i - AHEAD, key);
        if (is_findable(vocab, i)) {
            struct bn_str token = bn_vocab_bytes(vocab, i);
            *key = bn_vocab_key(vocab, token.p, token.n);
            bn_vocab_prefetch_slot(vocab, key);
        }
    }
}
