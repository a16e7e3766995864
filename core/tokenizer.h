/* SPDX-License-Identifier: MIT
 * Text to token ids and back: byte-level BPE ("gpt2" vocabularies) and SentencePiece-style ("llama") ones. */
#ifndef CORE_TOKENIZER_H
#define CORE_TOKENIZER_H

#include "core/gguf.h"

struct bn_tokenizer; /* immutable once loaded, except for encode's scratch: one thread at a time */

/* From the metadata of an open GGUF; keeps pointers into it, so the GGUF must outlive it. A file without
 * tensors will do. pre-tokenizer: "llama-bpe" where tokenizer.ggml.pre says so, or where it is missing and
 * the vocabulary has 128256 tokens; any other missing or unknown one is split by the "default" rules, which
 * bn_tokenizer_warning then says. */
int bn_tokenizer_load(struct bn_tokenizer **out, const struct bn_gguf *gguf, struct bn_err *err);

/* From a Hugging Face tokenizer.json (BPE; merges as strings or pairs, added_tokens, ignore_merges,
 * Split + ByteLevel, TemplateProcessing). Self-contained. */
int bn_tokenizer_load_json(struct bn_tokenizer **out, const char *path, struct bn_err *err);
void bn_tokenizer_free(struct bn_tokenizer *tok);

/* A line worth telling the user (unknown pre-tokenizer, …), or NULL. */
const char *bn_tokenizer_warning(const struct bn_tokenizer *tok);

uint32_t bn_tokenizer_size(const struct bn_tokenizer *tok); /* ids are 0 … size-1 */
int32_t bn_tokenizer_bos(const struct bn_tokenizer *tok);   /* -1 = none */
int32_t bn_tokenizer_eos(const struct bn_tokenizer *tok);   /* -1 = none */
bool bn_tokenizer_add_bos(const struct bn_tokenizer *tok);  /* what the file asks for */
/* Id of the token that is spelled so (special ones included), or -1. */
int32_t bn_tokenizer_find(const struct bn_tokenizer *tok, const char *token);
/* A control or unknown token: no text of its own. False for an id outside the vocabulary. */
bool bn_tokenizer_is_special(const struct bn_tokenizer *tok, uint32_t id);

struct bn_ids {
    uint32_t *p;
    size_t n, capacity;
};
void bn_ids_push(struct bn_ids *ids, uint32_t id);
void bn_ids_free(struct bn_ids *ids);

/* Append the ids of `text` (any bytes; invalid UTF-8 survives a round trip). bos: put the BOS first, if there
 * is one. special: spellings of special tokens in the text become those tokens; otherwise they are plain
 * text. Near linear in the text's length. -1: a vocabulary that lacks needed byte tokens, or out of PCRE2's
 * limits.
 */
int bn_tokenizer_encode(struct bn_tokenizer *tok, struct bn_str text, bool bos, bool special,
                        struct bn_ids *ids, struct bn_err *err);

/* Append one token's bytes. special: spell special tokens out, else they are empty. `first`: this is the
 * first token of the text (SentencePiece drops its leading space there). An id outside the vocabulary appends
 * nothing. */
void bn_tokenizer_decode(const struct bn_tokenizer *tok, uint32_t id, bool first, bool special,
                         struct bn_buf *out);

#endif
