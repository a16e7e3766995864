/* SPDX-License-Identifier: MIT
 * SentencePiece-style vocabularies ("llama"): scores instead of merges, and byte tokens for the rest. */
#ifndef CORE_SPM_H
#define CORE_SPM_H

#include "core/pair_merge.h"
#include "core/tokenizer.h"
#include "core/vocab.h"

struct bn_spm {
    const struct bn_vocab *vocab;
    uint32_t *rank;        /* [vocab->n] order by score: the highest score has the lowest rank */
    uint32_t byte_id[256]; /* the tokens <0x00> … <0xFF>; BN_VOCAB_NONE where missing */
    bool prefix_space;     /* put a space before the text */
};

/* scores: [vocab->n] floats, unaligned, no NaN among them (-1 with a message). The vocabulary is indexed,
 * spelled with BN_SPELLING_SPACES, and must outlive it. */
int bn_spm_init(struct bn_spm *spm, struct bn_arena *arena, const struct bn_vocab *vocab,
                const uint8_t *scores, struct bn_err *err);

/* The byte that a token spelled <0xXX> stands for, or -1. */
int bn_spm_byte(struct bn_str token);

/* Append the ids of a stretch of text (fewer than 2^32 - 2 bytes). line: scratch, overwritten.
 * -1: a character is not in the vocabulary and neither are its bytes. */
int bn_spm_encode(const struct bn_spm *spm, struct bn_merger *merger, struct bn_buf *line, struct bn_str text,
                  struct bn_ids *ids, struct bn_err *err);

#endif
