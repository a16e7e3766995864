/* SPDX-License-Identifier: MIT
 * What a tokenizer is made of; for tokenizer.c and the loaders that fill it. */
#ifndef CORE_TOKENIZER_PARTS_H
#define CORE_TOKENIZER_PARTS_H

#include "core/bpe.h"
#include "core/pretokenize.h"
#include "core/special.h"
#include "core/spm.h"
#include "core/tokenizer.h"

struct bn_tokenizer {
    struct bn_arena arena;
    struct bn_vocab vocab;
    struct bn_special special;
    bool is_spm; /* else byte-level BPE */
    struct bn_spm spm;
    struct bn_bpe bpe;
    struct bn_pretokenizer *pre;
    bool bpe_prefix_space; /* ByteLevel's add_prefix_space: a space before text that starts with none */
    bool add_bos;
    int32_t bos, eos; /* -1 = none */
    struct bn_buf warning;

    /* scratch of encode */
    struct bn_merger merger;
    struct bn_buf line;
};

/* Build the tables that both loaders need, once every token has been appended to tok->vocab: the hash table
 * over the vocabulary and the special tokens. */
void bn_tokenizer_index(struct bn_tokenizer *tok);

/* BOS and EOS by their usual names among the special tokens, for files that do not say; -1 = none. */
int32_t bn_tokenizer_usual_bos(const struct bn_tokenizer *tok);
int32_t bn_tokenizer_usual_eos(const struct bn_tokenizer *tok);

#endif
