/* SPDX-License-Identifier: MIT
 * Pre-tokenizers: split text into words by regular expressions, in stages, before BPE merges within each
 * word. */
#ifndef CORE_PRETOKENIZE_H
#define CORE_PRETOKENIZE_H

#include "core/base.h"

/* A stage's matches are words, and so is what lies between them; a stage can drop one of the two. */
enum bn_split {
    BN_SPLIT_KEEP,
    BN_SPLIT_DROP_MATCHES,
    BN_SPLIT_DROP_GAPS,
};

struct bn_pretokenizer; /* one thread at a time */

/* Without stages: the whole text is one word. */
struct bn_pretokenizer *bn_pretokenizer_new(void);
void bn_pretokenizer_free(struct bn_pretokenizer *pre);

/* Unicode's White_Space as the inside of a set. Not \s: PCRE2 counts U+180E in, the libraries that the
 * vocabularies were made with do not. */
#define BN_REGEX_SPACE                                                                                       \
    "\\t-\\r \\x{85}\\x{a0}\\x{1680}\\x{2000}-\\x{200a}\\x{2028}\\x{2029}\\x{202f}\\x{205f}\\x{3000}"

/* Append a stage, which splits what the stages before it left. literal: the pattern is plain text, else PCRE2
 * with Unicode properties. -1: PCRE2's message and the place in the pattern. */
int bn_pretokenizer_add(struct bn_pretokenizer *pre, struct bn_str pattern, bool literal, enum bn_split split,
                        struct bn_err *err);

/* The stages of a named pre-tokenizer ("llama-bpe", "gpt-2", "default" and their aliases). ignore_merges:
 * whether whole words that are tokens skip the merges there. False when the name is unknown; nothing is added
 * then. */
bool bn_pretokenizer_add_named(struct bn_pretokenizer *pre, struct bn_str name, bool *ignore_merges);

/* A regular expression of Oniguruma, which tokenizer.json files are written for, in PCRE2's dialect, appended
 * to out. -1: it uses something that means another thing there (intersections, nested sets, \h, {n,m}+). */
int bn_regex_from_oniguruma(struct bn_str pattern, struct bn_buf *out, struct bn_err *err);

typedef int bn_word_fn(void *context, struct bn_str word, struct bn_err *err);

/* Call `word` for each word of the text, in order; -1 from it ends the split. Bytes that are no UTF-8 are
 * words of one byte each. -1: out of PCRE2's limits. */
int bn_pretokenizer_split(struct bn_pretokenizer *pre, struct bn_str text, bn_word_fn *word, void *context,
                          struct bn_err *err);

#endif
