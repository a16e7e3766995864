/* SPDX-License-Identifier: MIT
 * Attention over the cache: scores, softmax and values, chunk by chunk. */
#ifndef CORE_ATTENTION_H
#define CORE_ATTENTION_H

#include "core/session.h"

/* Write rotated keys and values of n new columns (session->k, ->v) into layer's cache, behind n_past. Stage
 * kv_store. */
void bn_attention_store(struct bn_session *session, uint32_t layer, size_t n);

/* session->o = what the n new columns (session->q, rotated) gather from the cache; column i sees positions
 * 0 … n_past + i. Query head h reads key/value head h / (n_head / n_head_kv). Stage attention_matmul, into
 * which attention_softmax is fused. A column's result does not depend on n or the number of threads. */
void bn_attention_gather(struct bn_session *session, uint32_t layer, size_t n);

#endif
