/* SPDX-License-Identifier: MIT
 * One step through the layers: tokens in, logits out. The arithmetic is docs/formats.md#forward-pass. */
#ifndef CORE_FORWARD_H
#define CORE_FORWARD_H

#include "core/session.h"

/* Put n tokens behind those in the session's cache (n_past grows by n).
 *
 * tokens: [n], each below n_vocab; 1 <= n <= session->n_batch, n_past + n <= n_ctx
 * want_logits: compute the logits of the last token: [n_vocab] in session->logits, valid until the next call;
 * of those that session->n_top does not ask for some may be minus infinity (core/lm_head.h)
 * Returns the logits, NULL if not wanted. Cannot fail. Allocates: nothing. Threads: the pool's owner calls.
 * Tokens given one by one or together, on any number of threads: the logits are the same, bit for bit. */
const float *bn_forward(struct bn_session *session, const uint32_t *tokens, size_t n, bool want_logits);

#endif
