/* SPDX-License-Identifier: MIT
 * Attention: all heads of a block of columns get their scores, then their softmax, then their values, so that
 * each is a stage of its own. The block is as large as its scores fit their memory.
 *
 * The queries that share a key/value head (its heads of all columns, column after column) go through the
 * kernels BN_ATTN_QUERIES at a time, and over the cache in chunks of CHUNK positions, counted from position
 * 0. A query's sum over a chunk is always built alike, and the chunks' sums are added in their order: who
 * computes what, and beside which other queries, does not show in the result. With many queries an item of
 * work is a group of queries over all chunks; with few (decoding) it is one chunk, else a single column could
 * keep no more threads busy than there are key/value heads. */
#include "core/attention.h"

#include <math.h>
#include <string.h>

#include "core/scope.h"

enum { CHUNK = BN_SESSION_CHUNK };

struct job {
    struct bn_session *s;
    uint32_t layer;
    size_t column, n_columns; /* of the batch */
    size_t group;             /* query heads that share a key/value head */
    size_t n_queries;         /* group * n_columns: those of a key/value head */
    size_t n_blocks;          /* of BN_ATTN_QUERIES of them */
    size_t n_chunks;          /* of positions, for the last column */
    bool split;               /* an item is a head's chunk; else a head's block of queries */
    size_t stride;            /* floats from one row of scores to the next */
};

/* ---- into the cache ---- */

static void store_columns(void *arg, size_t begin, size_t end, unsigned worker)
{
    const struct job *job = arg;
    struct bn_session *s = job->s;
    size_t row = (size_t)s->model->n_head_kv * s->model->head_dim;

    (void)worker;
    bn_kv_store(&s->kv, s->kernels, job->layer, s->n_past + begin, s->k + begin * row, s->v + begin * row,
                end - begin);
}

void bn_attention_store(struct bn_session *s, uint32_t layer, size_t n)
{
    BN_SCOPE(KV_STORE);
    struct job job = {.s = s, .layer = layer};
    uint64_t heads = (uint64_t)n * s->model->n_head_kv;
    uint64_t bytes = heads * (2 * s->model->head_dim * sizeof(float) + bn_kv_position_bytes(&s->kv));

    bn_scope_count(bytes, 0);
    s->kernel_calls[BN_KERNEL_f32_to_f16] += 2 * heads;
    bn_pool_run(s->pool, store_columns, &job, n, BN_ATTN_TILE, bytes);
}

/* ---- queries: number t of a key/value head is head t % group of column t / group ---- */

static size_t n_seen(const struct job *job, size_t t)
{
    return job->s->n_past + job->column + t / job->group + 1;
}

/* Where query t's row of the session's [columns][heads][head_dim] stands. */
static size_t row_at(const struct job *job, size_t head, size_t t)
{
    const struct bn_model *m = job->s->model;
    size_t column = job->column + t / job->group;

    return (column * m->n_head + head * job->group + t % job->group) * m->head_dim;
}

static float *scores_of(const struct job *job, size_t head, size_t t)
{
    return job->s->scores + (head * job->n_queries + t) * job->stride;
}

/* A block's queries, scaled, side by side: [head_dim][BN_ATTN_QUERIES]. */
static float *packed_block(const struct job *job, size_t head, size_t block)
{
    return job->s->packed +
           (head * job->n_blocks + block) * job->s->model->head_dim * (size_t)BN_ATTN_QUERIES;
}

static void pack_blocks(void *arg, size_t begin, size_t end, unsigned worker)
{
    const struct job *job = arg;
    size_t d = job->s->model->head_dim;
    float scale = 1.0f / sqrtf((float)d);

    (void)worker;
    for (size_t item = begin; item < end; item++) {
        size_t head = item / job->n_blocks, block = item % job->n_blocks, t = block * BN_ATTN_QUERIES;
        float *out = packed_block(job, head, block);
        for (size_t j = 0; j < BN_ATTN_QUERIES && t < job->n_queries; j++, t++) {
            const float *q = job->s->q + row_at(job, head, t);
            for (size_t i = 0; i < d; i++)
                out[i * BN_ATTN_QUERIES + j] = q[i] * scale;
        }
    }
}

/* ---- out of the cache ---- */

/* A block of queries on a chunk of positions. */
struct piece {
    size_t head, first, n_queries; /* of the block */
    size_t chunk, from, n_pos;     /* that the last of the queries sees; 0 = none */
};

typedef void piece_fn(const struct job *job, const struct piece *piece, unsigned worker);

static void do_piece(const struct job *job, size_t head, size_t block, size_t chunk, unsigned worker,
                     piece_fn *fn)
{
    struct piece p = {.head = head, .first = block * BN_ATTN_QUERIES, .chunk = chunk, .from = chunk * CHUNK};

    p.n_queries = bn_min_size(BN_ATTN_QUERIES, job->n_queries - p.first);
    size_t seen = n_seen(job, p.first + p.n_queries - 1);
    if (p.from >= seen)
        return;
    p.n_pos = bn_min_size(CHUNK, seen - p.from);
    fn(job, &p, worker);
}

/* Without a split all blocks of a head pass by a chunk before the next one's turn: it is in the cache then.
 */
static void do_items(const struct job *job, size_t begin, size_t end, unsigned worker, piece_fn *fn)
{
    if (job->split) {
        for (size_t item = begin; item < end; item++) {
            for (size_t block = 0; block < job->n_blocks; block++)
                do_piece(job, item / job->n_chunks, block, item % job->n_chunks, worker, fn);
        }
        return;
    }
    while (begin < end) {
        size_t head = begin / job->n_blocks, next = bn_min_size(end, (head + 1) * job->n_blocks);
        for (size_t chunk = 0; chunk < job->n_chunks; chunk++) {
            for (size_t item = begin; item < next; item++)
                do_piece(job, head, item % job->n_blocks, chunk, worker, fn);
        }
        begin = next;
    }
}

static void score_piece(const struct job *job, const struct piece *p, unsigned worker)
{
    const struct bn_session *s = job->s;

    (void)worker;
    s->kernels->f16_attn_scores(packed_block(job, p->head, p->first / BN_ATTN_QUERIES), p->n_queries,
                                s->kv.keys + bn_kv_at(&s->kv, job->layer, p->head, p->from),
                                scores_of(job, p->head, p->first) + p->from, job->stride,
                                (p->n_pos + BN_ATTN_TILE - 1) / BN_ATTN_TILE, s->model->head_dim);
}

static void score_items(void *arg, size_t begin, size_t end, unsigned worker)
{
    do_items(arg, begin, end, worker, score_piece);
}

/* Positions that a query does not see, but another of its block, have no weight. */
static void softmax_rows(void *arg, size_t begin, size_t end, unsigned worker)
{
    const struct job *job = arg;

    (void)worker;
    for (size_t row = begin; row < end; row++) {
        size_t t = row % job->n_queries, seen = n_seen(job, t);
        size_t last = bn_min_size(t | (BN_ATTN_QUERIES - 1), job->n_queries - 1);
        float *scores = scores_of(job, row / job->n_queries, t);
        job->s->kernels->f32_softmax(scores, seen);
        memset(scores + seen, 0, (n_seen(job, last) - seen) * sizeof *scores);
    }
}

/* What a chunk gives to its head's queries from `first` on, when the chunks are items. */
static float *part_at(const struct job *job, size_t head, size_t chunk, size_t first)
{
    return job->s->parts +
           ((head * job->n_chunks + chunk) * job->n_queries + first) * job->s->model->head_dim;
}

static void add_row(const struct bn_session *s, float *sum, const float *part, size_t chunk)
{
    size_t d = s->model->head_dim;

    if (chunk == 0)
        memcpy(sum, part, d * sizeof *sum);
    else
        s->kernels->f32_add(sum, part, d);
}

static void value_piece(const struct job *job, const struct piece *p, unsigned worker)
{
    const struct bn_session *s = job->s;
    size_t d = s->model->head_dim;
    float *part = job->split ? part_at(job, p->head, p->chunk, p->first)
                             : s->gathered + worker * d * (size_t)BN_ATTN_QUERIES;

    s->kernels->f16_attn_values(scores_of(job, p->head, p->first) + p->from, job->stride, p->n_queries,
                                s->kv.values + bn_kv_at(&s->kv, job->layer, p->head, p->from), part, p->n_pos,
                                d);
    for (size_t j = 0; j < p->n_queries && !job->split; j++) {
        if (n_seen(job, p->first + j) > p->from)
            add_row(s, s->o + row_at(job, p->head, p->first + j), part + j * d, p->chunk);
    }
}

static void value_items(void *arg, size_t begin, size_t end, unsigned worker)
{
    do_items(arg, begin, end, worker, value_piece);
}

static void add_parts(void *arg, size_t begin, size_t end, unsigned worker)
{
    const struct job *job = arg;

    (void)worker;
    for (size_t row = begin; row < end; row++) {
        size_t head = row / job->n_queries, t = row % job->n_queries;
        for (size_t chunk = 0; chunk * CHUNK < n_seen(job, t); chunk++)
            add_row(job->s, job->s->o + row_at(job, head, t), part_at(job, head, chunk, t), chunk);
    }
}

/* ---- stages ---- */

/* Scores of the block of columns: positions that its queries see, all together. */
static uint64_t count_scores(const struct job *job)
{
    uint64_t first = n_seen(job, 0), last = n_seen(job, job->n_queries - 1);

    return job->s->model->n_head * (first + last) * job->n_columns / 2;
}

/* Scores and values alike: the heads' part of the cache is read once, a query or result row is moved for
 * every head and column, and every score costs head_dim multiply-adds. */
static uint64_t count_matmul(const struct job *job, enum bn_kernel_slot slot)
{
    const struct bn_model *m = job->s->model;
    uint64_t n_scores = count_scores(job), rows = m->n_head * job->n_columns;
    uint64_t cache = n_seen(job, job->n_queries - 1) * m->n_head_kv * (bn_kv_position_bytes(&job->s->kv) / 2);

    bn_scope_count(cache + (rows * m->head_dim + n_scores) * sizeof(float), 2 * n_scores * m->head_dim);
    bn_scope_demand(cache, 0);
    job->s->kernel_calls[slot] += rows;
    /* what takes its time: the cache when few queries share it, else the arithmetic, 8 multiply-adds a byte
     */
    return cache + n_scores * m->head_dim / 8;
}

static size_t n_items(const struct job *job)
{
    return job->s->model->n_head_kv * (job->split ? job->n_chunks : job->n_blocks);
}

static void scores(struct job *job)
{
    BN_SCOPE(ATTENTION_MATMUL);
    struct bn_session *s = job->s;
    size_t rows = s->model->n_head * job->n_columns;
    uint64_t cost = count_matmul(job, BN_KERNEL_f16_attn_scores);

    bn_pool_run(s->pool, pack_blocks, job, s->model->n_head_kv * job->n_blocks, 1,
                rows * s->model->head_dim * 2 * sizeof(float));
    bn_pool_run(s->pool, score_items, job, n_items(job), 1, cost);
}

static void softmax(struct job *job)
{
    BN_SCOPE(ATTENTION_SOFTMAX);
    struct bn_session *s = job->s;
    size_t rows = s->model->n_head * job->n_columns;
    uint64_t n_scores = count_scores(job);

    bn_scope_count(n_scores * 2 * sizeof(float), 4 * n_scores);
    s->kernel_calls[BN_KERNEL_f32_softmax] += rows;
    bn_pool_run(s->pool, softmax_rows, job, rows, 1, n_scores * 16);
}

static void values(struct job *job)
{
    BN_SCOPE(ATTENTION_MATMUL);
    struct bn_session *s = job->s;
    size_t rows = s->model->n_head * job->n_columns;
    uint64_t cost = count_matmul(job, BN_KERNEL_f16_attn_values);
    uint64_t bytes = rows * job->n_chunks * s->model->head_dim * sizeof(float);

    bn_pool_run(s->pool, value_items, job, n_items(job), 1, cost);
    if (!job->split)
        return;
    bn_scope_count(2 * bytes, bytes / sizeof(float));
    bn_pool_run(s->pool, add_parts, job, rows, 1, bytes);
}

void bn_attention_gather(struct bn_session *s, uint32_t layer, size_t n)
{
    const struct bn_model *m = s->model;
    struct job job = {.s = s, .layer = layer, .group = m->n_head / m->n_head_kv};

    job.stride = bn_session_score_stride(s->n_past + n);
    size_t block = s->n_scores / (m->n_head * job.stride);
    for (job.column = 0; job.column < n; job.column += job.n_columns) {
        job.n_columns = bn_min_size(block, n - job.column);
        job.n_queries = job.group * job.n_columns;
        job.n_blocks = (job.n_queries + BN_ATTN_QUERIES - 1) / BN_ATTN_QUERIES;
        job.n_chunks = (n_seen(&job, job.n_queries - 1) + CHUNK - 1) / CHUNK;
        job.split = job.n_queries <= s->n_split;
        scores(&job);
        softmax(&job);
        values(&job);
    }
}
