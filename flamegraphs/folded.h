/* SPDX-License-Identifier: MIT
 * Folded stacks, the text that every flame graph tool speaks: "main;forward;gemv 123", one line a stack, root
 * first. */
#ifndef FLAMEGRAPHS_FOLDED_H
#define FLAMEGRAPHS_FOLDED_H

#include "flamegraphs/tree.h"

/* What the reader met. Skipped lines are counted, never guessed at. */
struct bn_folded_report {
    uint64_t n_lines;       /* drawn */
    uint64_t n_skipped;     /* not of the form, too long, or too much for the total */
    uint64_t first_skipped; /* line number, from 1 */
    const char *reason;     /* of the first one; static text */
    uint64_t n_fractions;   /* counts with a fraction, which was cut off */
    uint64_t n_two_counts;  /* lines of a differential file: the second count was taken */
};

/* Read stacks from f into `tree` (initialised, not finished). Blank lines, comments ("# …"), CR LF and a
 * missing last newline are accepted; annotations at the end of a name (_[k] kernel, _[i] inlined, _[j]
 * compiled at run time, _[w] waker) are removed and give the kind. name: of the input, for messages. -1 only
 * if reading fails. */
int bn_folded_read(struct bn_tree *tree, FILE *f, const char *name, struct bn_folded_report *report,
                   struct bn_err *err);

/* Write a finished tree so that every known reader understands it: one line for each distinct stack, sorted
 * by bytes, integer counts of samples (ns of CPU time in a tree by time), no zero counts, no comments; in
 * names ';' becomes ':', control and malformed bytes become ' ' and '?', a leaf's last " 123" becomes "_123",
 * an empty name "[unknown]". The root is not written. Write errors stay in f for the caller (bn_out_commit).
 */
void bn_folded_write(const struct bn_tree *tree, FILE *f);

/* Bytes of the UTF-8 character at s (n >= 1 bytes left) and its code point; 0 if it is malformed, overlong or
 * a surrogate. */
size_t bn_utf8_char(const char *s, size_t n, uint32_t *code);

#endif
