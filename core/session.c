/* SPDX-License-Identifier: MIT
 * Session memory: laid out twice by the same function, once to learn the size, once to place the arrays. */
#include "core/session.h"

#include <assert.h>
#include <errno.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#include "kernels/lut.h"

enum { ALIGN = 64 };

struct layout {
    char *base; /* NULL: only measure */
    size_t used;
    bool overflow;
};

static void *take(struct layout *l, uint64_t count, size_t size_bytes)
{
    size_t bytes, at = l->used;

    if (__builtin_mul_overflow(count, size_bytes, &bytes) || bytes > SIZE_MAX / 2 - l->used) {
        l->overflow = true;
        return NULL;
    }
    l->used += bn_round_up(bytes, ALIGN);
    return l->base ? l->base + at : NULL;
}

static void lay_out(struct bn_session *s, struct layout *l)
{
    const struct bn_model *m = s->model;
    uint64_t n = s->n_batch, n_q = (uint64_t)m->n_head * m->head_dim,
             n_kv = (uint64_t)m->n_head_kv * m->head_dim;
    uint64_t widest = n_q > m->n_ff ? n_q : m->n_ff;
    uint64_t n_rows = (uint64_t)m->n_layer * m->n_head_kv; /* at most 2^12 * 2^24, head_dim included */
    uint64_t n_chunks = (s->n_ctx + BN_KV_CHUNK - 1) / BN_KV_CHUNK;
    uint64_t n_group = m->n_head / m->n_head_kv, n_threads = bn_pool_threads(s->pool);

    widest = widest > m->n_embd ? widest : m->n_embd;
    s->kv.memory = take(l, n_rows, bn_kv_head_bytes(&s->kv));
    s->rope_cos = take(l, (uint64_t)s->n_ctx * (m->n_rot / 2), sizeof *s->rope_cos);
    s->rope_sin = take(l, (uint64_t)s->n_ctx * (m->n_rot / 2), sizeof *s->rope_sin);
    s->x = take(l, n * m->n_embd, sizeof *s->x);
    s->h = take(l, n * m->n_embd, sizeof *s->h);
    s->q = take(l, n * n_q, sizeof *s->q);
    s->k = take(l, n * n_kv, sizeof *s->k);
    s->v = take(l, n * n_kv, sizeof *s->v);
    s->o = take(l, n * n_q, sizeof *s->o);
    s->gate = take(l, n * m->n_ff, sizeof *s->gate);
    s->up = take(l, n * m->n_ff, sizeof *s->up);
    s->codes = take(l, n * widest, sizeof *s->codes);
    s->act_scale = take(l, n, sizeof *s->act_scale);
    s->act_sum = take(l, n, sizeof *s->act_sum);
    for (int i = 0; i < 2; i++) {
        uint64_t blocks = n * (widest / (i ? BN_BLOCK_K : BN_BLOCK));
        *(i ? &s->q8_k : &s->q8_0) =
            (struct bn_q8){take(l, n * widest, sizeof(int8_t)), take(l, blocks, sizeof(float)),
                           take(l, i ? blocks * 16 : blocks, sizeof(int16_t))};
    }
    if (bn_model_has_layout(m, BN_LAYOUT_I2S_BLOCK))
        s->block_sums = take(l, n * widest / 32, sizeof *s->block_sums);
    if (bn_model_has_layout(m, BN_LAYOUT_TL1) || bn_model_has_layout(m, BN_LAYOUT_TL2))
        s->tables = take(l, BN_SESSION_TABLES * widest, BN_LUT_ENTRY / 2);
    s->packed =
        take(l, m->n_head_kv * bn_round_up(n * n_group, BN_ATTN_QUERIES), m->head_dim * sizeof(float));
    s->query_scale =
        take(l, m->n_head_kv, bn_round_up(n * n_group, BN_ATTN_QUERIES) * sizeof *s->query_scale);
    s->query_sum = take(l, m->n_head_kv, bn_round_up(n * n_group, BN_ATTN_QUERIES) * sizeof *s->query_sum);
    s->scores = take(l, n_threads * BN_ATTN_QUERIES, BN_SESSION_SCORE_STRIDE * sizeof *s->scores);
    s->weights = take(l, s->kv.type == BN_KV_INT8 ? n_threads * BN_ATTN_QUERIES : 0,
                      BN_SESSION_SCORE_STRIDE * sizeof *s->weights);
    s->gathered = take(l, n_threads * BN_ATTN_QUERIES, m->head_dim * sizeof *s->gathered);
    s->sums = take(l, n * m->n_head, sizeof *s->sums);
    s->n_split = n_group > BN_ATTN_QUERIES ? n_group : BN_ATTN_QUERIES;
    s->parts = take(l, n_chunks * m->n_head_kv * s->n_split, m->head_dim * sizeof *s->parts);
    s->part_sums = take(l, n_chunks * m->n_head_kv * s->n_split, sizeof *s->part_sums);
    s->logits = take(l, m->n_vocab, sizeof *s->logits);
}

/* ---- rotation tables ---- */

/* Angle j of position p: p * base^(-2j / n_rot) / factor[j], computed in double and rounded once. */
static void fill_rope(void *arg, size_t begin, size_t end, unsigned worker)
{
    struct bn_session *s = arg;
    const struct bn_model *m = s->model;
    size_t h = m->n_rot / 2;

    (void)worker;
    for (size_t j = 0; j < h; j++) {
        double rate = pow((double)m->rope_base, -(double)(2 * j) / m->n_rot);
        if (m->rope_factors)
            rate /= (double)m->rope_factors[j];
        for (size_t p = begin; p < end; p++) {
            s->rope_cos[p * h + j] = (float)cos((double)p * rate);
            s->rope_sin[p * h + j] = (float)sin((double)p * rate);
        }
    }
}

/* ---- open and close ---- */

int bn_session_open(struct bn_session *s, const struct bn_model *model, const struct bn_kernels *kernels,
                    struct bn_pool *pool, const struct bn_session_options *options, struct bn_err *err)
{
    uint32_t n_ctx = options->n_ctx;
    struct layout measure = {NULL, 0, false}, place = {NULL, 0, false};

    assert(n_ctx >= 1 && n_ctx <= model->n_ctx);
    *s = (struct bn_session){.model = model, .kernels = kernels, .pool = pool, .n_ctx = n_ctx};
    s->kv = (struct bn_kv_cache){.type = options->kv,
                                 .n_layer = model->n_layer,
                                 .n_head_kv = model->n_head_kv,
                                 .head_dim = model->head_dim,
                                 .n_positions = bn_round_up(n_ctx, BN_ATTN_TILE)};
    s->max_threads = bn_pool_threads(pool);
    s->n_batch = n_ctx < BN_SESSION_BATCH ? n_ctx : BN_SESSION_BATCH;
    lay_out(s, &measure);
    if (measure.overflow)
        return bn_err_set(err, "%s: a context of %u tokens needs more memory than can be addressed",
                          model->gguf.path, n_ctx);
    /* Fresh pages are zero and cost nothing until they are used: a long context that is not filled is free.
     */
    s->memory_bytes = measure.used;
    s->memory = mmap(NULL, s->memory_bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (s->memory == MAP_FAILED) {
        s->memory = NULL;
        return bn_err_set(err, "%s: a context of %u tokens needs %zu MiB of memory: %s", model->gguf.path,
                          n_ctx, s->memory_bytes >> 20, strerror(errno));
    }
    place.base = s->memory;
    lay_out(s, &place);
    /* The cache begins the memory; chunks are filled one after the other, so that few of its huge pages are
     * ever touched in vain. */
    madvise(s->memory, (size_t)model->n_layer * model->n_head_kv * bn_kv_head_bytes(&s->kv), MADV_HUGEPAGE);
    bn_pool_run(pool, fill_rope, s, n_ctx, 16, (uint64_t)n_ctx * model->n_rot * 256);
    return 0;
}

void bn_session_close(struct bn_session *s)
{
    if (s->memory)
        munmap(s->memory, s->memory_bytes);
    memset(s, 0, sizeof *s);
}

void bn_session_reset(struct bn_session *s)
{
    s->n_past = 0;
}

void bn_session_rewind(struct bn_session *s, uint32_t n_past)
{
    assert(n_past < s->n_ctx);
    s->n_past = n_past;
}

void bn_session_set_pool(struct bn_session *s, struct bn_pool *pool)
{
    assert(bn_pool_threads(pool) <= s->max_threads);
    s->pool = pool;
}
