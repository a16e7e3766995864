/* SPDX-License-Identifier: MIT
 * Attention: all heads of a block of columns get their scores, then their softmax, then their values, so that
 * each is a stage of its own. The block is as large as its scores fit their memory. */
#include "core/attention.h"

#include <math.h>

#include "core/scope.h"

struct job {
    struct bn_session *s;
    uint32_t layer;
    size_t column, n_columns; /* of the batch */
    size_t stride;            /* floats from one row of scores to the next */
    float scale;
};

/* ---- into the cache ---- */

static void store_columns(void *arg, size_t begin, size_t end, unsigned worker)
{
    const struct job *job = arg;
    const struct bn_session *s = job->s;
    const struct bn_model *m = s->model;
    size_t d = m->head_dim, row = m->n_head_kv * d;

    (void)worker;
    for (size_t c = begin; c < end; c++) {
        for (uint32_t head = 0; head < m->n_head_kv; head++) {
            size_t at = (s->n_past + c) * d;
            s->kernels->f32_to_f16(s->k + c * row + head * d,
                                   bn_session_head(s, s->k_cache, job->layer, head) + at, d);
            s->kernels->f32_to_f16(s->v + c * row + head * d,
                                   bn_session_head(s, s->v_cache, job->layer, head) + at, d);
        }
    }
}

void bn_attention_store(struct bn_session *s, uint32_t layer, size_t n)
{
    BN_SCOPE(KV_STORE);
    struct job job = {.s = s, .layer = layer};
    uint64_t values = 2 * (uint64_t)n * s->model->n_head_kv * s->model->head_dim;

    bn_scope_count(values * (sizeof(float) + sizeof(uint16_t)), 0);
    s->kernel_calls[BN_KERNEL_f32_to_f16] += 2 * n * s->model->n_head_kv;
    bn_pool_run(s->pool, store_columns, &job, n, 1, values * 6);
}

/* ---- out of the cache; an item is one head of one column, columns of a head together ---- */

static size_t n_seen(const struct job *job, size_t item)
{
    return job->s->n_past + job->column + item % job->n_columns + 1;
}

static void score_items(void *arg, size_t begin, size_t end, unsigned worker)
{
    const struct job *job = arg;
    const struct bn_session *s = job->s;
    const struct bn_model *m = s->model;
    size_t d = m->head_dim, group = m->n_head / m->n_head_kv;

    (void)worker;
    for (size_t i = begin; i < end; i++) {
        size_t head = i / job->n_columns, column = job->column + i % job->n_columns;
        s->kernels->f16_attn_scores(s->q + (column * m->n_head + head) * d,
                                    bn_session_head(s, s->k_cache, job->layer, (uint32_t)(head / group)), d,
                                    s->scores + i * job->stride, n_seen(job, i), d, job->scale);
    }
}

static void softmax_items(void *arg, size_t begin, size_t end, unsigned worker)
{
    const struct job *job = arg;

    (void)worker;
    for (size_t i = begin; i < end; i++)
        job->s->kernels->f32_softmax(job->s->scores + i * job->stride, n_seen(job, i));
}

static void value_items(void *arg, size_t begin, size_t end, unsigned worker)
{
    const struct job *job = arg;
    const struct bn_session *s = job->s;
    const struct bn_model *m = s->model;
    size_t d = m->head_dim, group = m->n_head / m->n_head_kv;

    (void)worker;
    for (size_t i = begin; i < end; i++) {
        size_t head = i / job->n_columns, column = job->column + i % job->n_columns;
        s->kernels->f16_attn_values(s->scores + i * job->stride,
                                    bn_session_head(s, s->v_cache, job->layer, (uint32_t)(head / group)), d,
                                    s->o + (column * m->n_head + head) * d, n_seen(job, i), d);
    }
}

/* Scores and values alike: the heads' part of the cache is read once a block, a query or result row is moved
 * for every item, and every position of an item costs head_dim multiply-adds. */
static void matmul(struct job *job, bn_pool_fn *fn, enum bn_kernel_slot slot)
{
    BN_SCOPE(ATTENTION_MATMUL);
    struct bn_session *s = job->s;
    const struct bn_model *m = s->model;
    size_t n_items = m->n_head * job->n_columns;
    uint64_t first = s->n_past + job->column + 1, last = first + job->n_columns - 1;
    uint64_t n_scores = m->n_head * (first + last) * job->n_columns / 2;

    uint64_t cache_bytes = last * m->n_head_kv * m->head_dim * sizeof(uint16_t);

    bn_scope_count(cache_bytes + (n_items * m->head_dim + n_scores) * sizeof(float),
                   2 * n_scores * m->head_dim);
    bn_scope_demand(cache_bytes, 0);
    s->kernel_calls[slot] += n_items;
    bn_pool_run(s->pool, fn, job, n_items, 1, n_scores * m->head_dim * sizeof(uint16_t));
}

static void softmax(struct job *job)
{
    BN_SCOPE(ATTENTION_SOFTMAX);
    struct bn_session *s = job->s;
    size_t n_items = s->model->n_head * job->n_columns;
    uint64_t first = s->n_past + job->column + 1, last = first + job->n_columns - 1;
    uint64_t n_scores = s->model->n_head * (first + last) * job->n_columns / 2;

    bn_scope_count(n_scores * 2 * sizeof(float), 4 * n_scores);
    s->kernel_calls[BN_KERNEL_f32_softmax] += n_items;
    bn_pool_run(s->pool, softmax_items, job, n_items, 1, n_scores * 16);
}

void bn_attention_gather(struct bn_session *s, uint32_t layer, size_t n)
{
    const struct bn_model *m = s->model;
    struct job job = {.s = s, .layer = layer, .scale = 1.0f / sqrtf((float)m->head_dim)};

    job.stride = bn_round_up(s->n_past + n, 16);
    size_t block = s->n_scores / (m->n_head * job.stride);
    for (job.column = 0; job.column < n; job.column += job.n_columns) {
        job.n_columns = bn_min_size(block, n - job.column);
        matmul(&job, score_items, BN_KERNEL_f16_attn_scores);
        softmax(&job);
        matmul(&job, value_items, BN_KERNEL_f16_attn_values);
    }
}
