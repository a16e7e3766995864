/* SPDX-License-Identifier: MIT
 * Generated tokens to text on stdout as they come, characters kept whole. */
#ifndef TOOLS_RUN_TEXT_H
#define TOOLS_RUN_TEXT_H

#include "core/tokenizer.h"

struct bn_run_text {
    const struct bn_tokenizer *tok;
    bool special;  /* spell special tokens out */
    bool print;    /* else tokens are only turned into text */
    bool terminal; /* flush every token */
    bool failed;   /* a write failed; errno_value says how */
    int errno_value;
    struct bn_buf buf; /* text not yet written: at most a piece of a character between tokens */
    char last;         /* byte written last, 0 = none */
};

/* Reserves its memory now: turning tokens into text allocates nothing, unless one has more than 4096 bytes.
 */
void bn_run_text_open(struct bn_run_text *t, const struct bn_tokenizer *tok, bool special);
void bn_run_text_close(struct bn_run_text *t);

/* Stage detokenize. The text continues a prompt: a space that the token begins with is kept. False when
 * stdout cannot be written any more. */
bool bn_run_text_token(struct bn_run_text *t, uint32_t id);

/* The end of a text: what is left of it, a newline unless it ends with one, and a flush. */
void bn_run_text_end(struct bn_run_text *t);

/* Whether the output got out, after a flush: 0, or -1 with a message; errno_value is EPIPE when the reader
 * has gone. */
int bn_run_text_check(struct bn_run_text *t, struct bn_err *err);

#endif
