/* SPDX-License-Identifier: MIT
 * One sequence being processed: its key/value cache, its rotation tables and all scratch memory. Sized from
 * the model, then allocated once; the forward pass allocates nothing. */
#ifndef CORE_SESSION_H
#define CORE_SESSION_H

#include "core/kv_cache.h"
#include "core/model.h"
#include "core/pool.h"
#include "kernels/kernels.h"

enum {
    BN_SESSION_TABLES = 8,  /* columns whose look-up tables are held at a time */
    BN_SESSION_BATCH = 128, /* columns of a prompt that go through the layers together */
    /* Floats from a row of scores to the next: a chunk, and a cache line more, because rows a power of two
     * apart would crowd into a few sets of the cache. */
    BN_SESSION_SCORE_STRIDE = BN_KV_CHUNK + 16,
};

struct bn_session_options {
    uint32_t n_ctx; /* positions: 1 … model->n_ctx */
    enum bn_kv_type kv;
};

struct bn_lm_head;

struct bn_session {
    const struct bn_model *model;
    const struct bn_kernels *kernels;
    struct bn_pool *pool;
    unsigned max_threads; /* of any pool it is used with: scratch memory is for so many */
    uint32_t n_ctx;       /* positions that fit */
    uint32_t n_batch;     /* columns that one bn_forward takes */
    uint32_t n_past;      /* positions in the cache */

    struct bn_q8 q8_0, q8_k; /* [n_batch][widest input]: activations for weights in blocks of 32 and of 256 */

    struct bn_kv_cache kv;
    float *rope_cos, *rope_sin; /* [n_ctx][n_rot / 2] */

    float *x;            /* [n_batch][n_embd]: the residual stream */
    float *h;            /* [n_batch][n_embd]: normed input of a block's half, then its output */
    float *q;            /* [n_batch][n_head * head_dim] */
    float *k, *v;        /* [n_batch][n_head_kv * head_dim] */
    float *o;            /* [n_batch][n_head * head_dim]: what attention gathered */
    float *gate, *up;    /* [n_batch][n_ff] */
    int8_t *codes;       /* [n_batch][widest input]: activations quantised row by row */
    float *act_scale;    /* [n_batch] */
    int32_t *act_sum;    /* [n_batch] */
    int32_t *block_sums; /* [n_batch][widest input / 32]: of 32 codes; NULL = no block scales in the model */
    uint8_t *tables; /* [BN_SESSION_TABLES][16 x widest input]: for look-up kernels; NULL = no such layout */
    void *packed;    /* [n_head_kv][queries / BN_ATTN_QUERIES]: a block of queries side by side,
                      * [head_dim][BN_ATTN_QUERIES] floats or [head_dim / 4][BN_ATTN_QUERIES][4] int8 */
    float *query_scale;           /* [n_head_kv][queries]: int8 only, a product's factor */
    int32_t *query_sum;           /* [n_head_kv][queries]: int8 only, of the codes */
    float *scores;                /* [threads][BN_ATTN_QUERIES][BN_SESSION_SCORE_STRIDE] */
    int16_t *weights;             /* the same; int8 only: what the scores became */
    float *gathered;              /* [threads][BN_ATTN_QUERIES][head_dim]: from a chunk */
    struct bn_exp_sum *sums;      /* [n_head_kv][queries]: of the chunks so far */
    float *parts;                 /* [chunks][n_head_kv][n_split][head_dim]: when chunks are items of work */
    struct bn_exp_sum *part_sums; /* [chunks][n_head_kv][n_split] */
    size_t n_split; /* queries of a key/value head up to which the chunks are spread over the threads */
    float *logits;  /* [n_vocab] */

    struct bn_lm_head *lm_head; /* set after open, must outlive the session; NULL = the file's own matrix */
    uint32_t n_top; /* how many of the largest logits the caller will look at; 0 = all (default) */

    uint64_t kernel_calls[BN_KERNEL_COUNT]; /* by slot: a matrix, row or head that it was applied to */
    void *memory;
    size_t memory_bytes;
};

/* model, kernels and pool must outlive the session, options need not.
 * 0, or -1 with a message when the memory cannot be had. */
int bn_session_open(struct bn_session *session, const struct bn_model *model,
                    const struct bn_kernels *kernels, struct bn_pool *pool,
                    const struct bn_session_options *options, struct bn_err *err);
/* Accepts a zeroed and a closed session. */
void bn_session_close(struct bn_session *session);

/* Forget the sequence: the next token stands at position 0. */
void bn_session_reset(struct bn_session *session);

/* Go back, or forward over what is still in the cache: the next token stands at n_past, below n_ctx. Rows
 * before it that were never written are zero. */
void bn_session_rewind(struct bn_session *session, uint32_t n_past);

/* Use another pool, of no more threads than the one that the session was opened with. */
void bn_session_set_pool(struct bn_session *session, struct bn_pool *pool);

#endif
