/* SPDX-License-Identifier: MIT
 * Private to core/synth*.c: the metadata of a random model. */
#ifndef CORE_SYNTH_PARTS_H
#define CORE_SYNTH_PARTS_H

#include "core/gguf_write.h"
#include "core/synth.h"

/* Tokens of the model: the vocabulary's number, else the shape's. 0, or -1 with a message. */
int bn_synth_n_vocab(const struct bn_synth *synth, uint32_t *n_vocab, struct bn_err *err);

/* Write all keys, in the published file's order. */
void bn_synth_write_keys(struct bn_gguf_writer *w, const struct bn_synth *synth, uint32_t n_vocab);

#endif
