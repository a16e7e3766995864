/* SPDX-License-Identifier: MIT
 * One sequence being processed: its key/value cache, its rotation tables and all scratch memory. Sized from
 * the model, then allocated once; the forward pass allocates nothing. */
#ifndef CORE_SESSION_H
#define CORE_SESSION_H

#include "core/model.h"
#include "core/pool.h"
#include "kernels/kernels.h"

enum {
    BN_SESSION_BATCH = 128,          /* columns of a prompt that go through the layers together */
    BN_SESSION_PRODUCTS = 16 * 1024, /* int32 results that a thread holds before they are scaled: 64 KiB */
    BN_SESSION_SCORES = 1024 * 1024, /* attention scores held at a time, at least a position's: 4 MiB */
};

struct bn_session {
    const struct bn_model *model;
    const struct bn_kernels *kernels;
    struct bn_pool *pool;
    uint32_t n_ctx;   /* positions that fit */
    uint32_t n_batch; /* columns that one bn_forward takes */
    uint32_t n_past;  /* positions in the cache */

    uint16_t *k_cache, *v_cache; /* f16 [n_layer][n_head_kv][n_ctx][head_dim] */
    float *rope_cos, *rope_sin;  /* [n_ctx][n_rot / 2] */

    float *x;          /* [n_batch][n_embd]: the residual stream */
    float *h;          /* [n_batch][n_embd]: normed input of a block's half, then its output */
    float *q;          /* [n_batch][n_head * head_dim] */
    float *k, *v;      /* [n_batch][n_head_kv * head_dim] */
    float *o;          /* [n_batch][n_head * head_dim]: what attention gathered */
    float *gate, *up;  /* [n_batch][n_ff] */
    int8_t *codes;     /* [n_batch][widest input]: activations quantised row by row */
    float *act_scale;  /* [n_batch] */
    int32_t *act_sum;  /* [n_batch] */
    int32_t *products; /* [threads][BN_SESSION_PRODUCTS] */
    float *scores;     /* [n_scores] */
    size_t n_scores;
    float *logits; /* [n_vocab] */

    uint64_t kernel_calls[BN_KERNEL_COUNT]; /* by slot: a matrix, row or head that it was applied to */
    void *memory;
    size_t memory_bytes;
};

/* n_ctx: 1 … model->n_ctx. model, kernels and pool must outlive the session.
 * 0, or -1 with a message when the memory cannot be had. */
int bn_session_open(struct bn_session *session, const struct bn_model *model,
                    const struct bn_kernels *kernels, struct bn_pool *pool, uint32_t n_ctx,
                    struct bn_err *err);
/* Accepts a zeroed and a closed session. */
void bn_session_close(struct bn_session *session);

/* Forget the sequence: the next token stands at position 0. */
void bn_session_reset(struct bn_session *session);

/* The cache of one key/value head: rows of head_dim values, one a position. */
static inline uint16_t *bn_session_head(const struct bn_session *s, uint16_t *cache, uint32_t layer,
                                        uint32_t head)
{
    return cache + ((size_t)layer * s->model->n_head_kv + head) * s->n_ctx * s->model->head_dim;
}

#endif
