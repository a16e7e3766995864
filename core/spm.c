/* SPDX-License-Identifier: MIT
 * SentencePiece-style encoding: characters, joined by the score of what they give. */
#include "core/spm.h"

#include "core/utf8.h"

#include <math.h>
#include <string.h>

int bn_spm_byte(struct bn_str token)
{
    int value = 0;

    if (token.n != 6 || memcmp(token.p, "<0x", 3) != 0 || token.p[5] != '>')
        return -1;
    for (int i = 3; i < 5; i++) {
        char c = token.p[i];
        int digit = c >= '0' && c <= '9' ? c - '0' : c >= 'A' && c <= 'F' ? c - 'A' + 10 : -1;
        if (digit < 0)
            return -1;
        value = value * 16 + digit;
    }
    return value;
}

/* A float's bits, reordered so that they compare as unsigned numbers the other way round: the highest score
 * gives the lowest rank. Only a NaN gives UINT32_MAX, which means "no pair". */
static uint32_t rank_of_score(float score)
{
    uint32_t bits;

    score += 0.0f; /* -0 ranks with +0 */
    memcpy(&bits, &score, sizeof bits);
    return bits & 0x80000000u ? bits : ~(bits | 0x80000000u);
}

int bn_spm_init(struct bn_spm *spm, struct bn_arena *arena, const struct bn_vocab *vocab,
                const uint8_t *scores, struct bn_err *err)
{
    *spm = (struct bn_spm){.vocab = vocab, .prefix_space = true};
    memset(spm->byte_id, 0xff, sizeof spm->byte_id);
    spm->rank = bn_arena_array(arena, (size_t)vocab->n + 1, sizeof *spm->rank);
    for (uint32_t id = 0; id < vocab->n; id++) {
        float score;
        memcpy(&score, scores + (size_t)id * sizeof score, sizeof score);
        if (isnan(score))
            return bn_err_set(err, "score %u is not a number", id);
        spm->rank[id] = rank_of_score(score);
        int byte = vocab->kind[id] == BN_TOKEN_BYTE ? bn_spm_byte(bn_vocab_bytes(vocab, id)) : -1;
        if (byte >= 0 && spm->byte_id[byte] == BN_VOCAB_NONE)
            spm->byte_id[byte] = id;
    }
    return 0;
}

struct line {
    const struct bn_spm *spm;
    const char *text;
};

static void rank_pair(const void *context, struct bn_symbol *left, const struct bn_symbol *right)
{
    const struct line *line = context;
    uint32_t id = bn_vocab_find(line->spm->vocab, line->text + left->start, left->length + right->length);

    if (id != BN_VOCAB_NONE) {
        left->rank = line->spm->rank[id];
        left->joined = id;
    }
}

/* The text as the vocabulary spells it. U+2581 in the text itself is a space too: that is the format's
 * choice. */
static struct bn_str prepare(const struct bn_spm *spm, struct bn_buf *line, struct bn_str text)
{
    bn_grow(&line->p, &line->capacity, text.n + 2, 1);
    line->n = 0;
    if (spm->prefix_space)
        line->p[line->n++] = ' ';
    line->n += bn_vocab_spell(text, BN_SPELLING_SPACES, line->p + line->n);
    return (struct bn_str){line->p, line->n};
}

static int push_bytes(const struct bn_spm *spm, struct bn_str bytes, struct bn_ids *ids, struct bn_err *err)
{
    for (size_t i = 0; i < bytes.n; i++) {
        unsigned char byte = (unsigned char)bytes.p[i];
        if (spm->byte_id[byte] == BN_VOCAB_NONE)
            return bn_err_set(err, "the vocabulary has no token <0x%02X>, which the text needs", byte);
        bn_ids_push(ids, spm->byte_id[byte]);
    }
    return 0;
}

int bn_spm_encode(const struct bn_spm *spm, struct bn_merger *merger, struct bn_buf *line, struct bn_str text,
                  struct bn_ids *ids, struct bn_err *err)
{
    if (text.n == 0)
        return 0;
    text = prepare(spm, line, text);
    merger->n = 0;
    for (size_t at = 0; at < text.n;) {
        size_t length = bn_utf8_length(text.p + at, text.n - at);
        if (length == 0)
            length = 1; /* a byte that is no character: it will become a byte token */
        bn_merger_push(merger, bn_vocab_find(spm->vocab, text.p + at, length), (uint32_t)at,
                       (uint32_t)length);
        at += length;
    }
    bn_merger_run(merger, rank_pair, &(struct line){spm, text.p});
    for (uint32_t i = 0; i != BN_MERGE_NONE; i = merger->symbols[i].next) {
        const struct bn_symbol *s = &merger->symbols[i];
        if (s->id != BN_VOCAB_NONE)
            bn_ids_push(ids, s->id);
        else if (push_bytes(spm, (struct bn_str){text.p + s->start, s->length}, ids, err) != 0)
            return -1;
    }
    return 0;
}
