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

static bool is_int8(const struct bn_session *s)
{
    return s->kv.type == BN_KV_INT8;
}

/* ---- into the cache ---- */

static void store_columns(void *arg, size_t begin, size_t end, unsigned worker)
{
    const struct job *job = arg;
    struct bn_session *s = job->s;
    size_t d = s->model->head_dim, row = s->model->n_head_kv * d;

    (void)worker;
    bn_kv_store(&s->kv, s->kernels, job->layer, s->n_past + begin, s->k + begin * row, s->v + begin * row,
                end - begin, s->codes + begin * s->model->n_head * d);
}

void bn_attention_store(struct bn_session *s, uint32_t layer, size_t n)
{
    BN_SCOPE(KV_STORE);
    struct job job = {.s = s, .layer = layer};
    uint64_t heads = (uint64_t)n * s->model->n_head_kv;
    uint64_t bytes = heads * (2 * (s->model->head_dim * sizeof(float) + bn_kv_scale_bytes(&s->kv)) +
                              bn_kv_key_bytes(&s->kv) + bn_kv_value_bytes(&s->kv));

    bn_scope_count(bytes, 0);
    s->kernel_calls[is_int8(s) ? BN_KERNEL_i8_quantize : BN_KERNEL_f32_to_f16] += 2 * heads;
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

/* Where a block's queries lie side by side; all that takes is counted in floats, int8 needs a quarter. */
static void *packed_block(const struct job *job, size_t head, size_t block)
{
    return (float *)job->s->packed +
           (head * job->n_blocks + block) * job->s->model->head_dim * (size_t)BN_ATTN_QUERIES;
}

/* Index of a block's first query among those of all blocks. */
static size_t query_at(const struct job *job, size_t head, size_t block)
{
    return (head * job->n_blocks + block) * (size_t)BN_ATTN_QUERIES;
}

/* Four of a block's columns; all that moves is in registers but the values themselves. */
static void pack_four(const float *const *q, float scale, float *out, size_t d)
{
    const float *q0 = q[0], *q1 = q[1], *q2 = q[2], *q3 = q[3];

    for (size_t i = 0; i < d; i++, out += BN_ATTN_QUERIES) {
        out[0] = q0[i] * scale;
        out[1] = q1[i] * scale;
        out[2] = q2[i] * scale;
        out[3] = q3[i] * scale;
    }
}

/* q: always BN_ATTN_QUERIES rows. */
static void pack_f16(const struct job *job, const float *const *q, float *out)
{
    size_t d = job->s->model->head_dim;
    float scale = 1.0f / sqrtf((float)d);

    pack_four(q, scale, out, d);
    pack_four(q + 4, scale, out + 4, d);
}

/* Query t goes to column j of its block. */
static void pack_int8(const struct job *job, size_t row, int8_t *out, size_t query)
{
    struct bn_session *s = job->s;
    size_t d = s->model->head_dim;
    int8_t *codes = s->codes + row;
    struct bn_act act = s->kernels->i8_quantize(s->q + row, codes, d);

    s->query_scale[query] = 1.0f / act.scale / sqrtf((float)d);
    s->query_sum[query] = act.sum;
    for (size_t i = 0; i < bn_round_up(d, 4); i++)
        out[i / 4 * BN_ATTN_QUERIES * 4 + i % 4] = i < d ? codes[i] : 0;
}

static void pack_block(const struct job *job, size_t head, size_t block)
{
    size_t first = block * BN_ATTN_QUERIES;
    size_t n_queries = bn_min_size(BN_ATTN_QUERIES, job->n_queries - first);
    void *out = packed_block(job, head, block);
    const float *q[BN_ATTN_QUERIES];

    for (size_t j = 0; j < BN_ATTN_QUERIES; j++) {
        size_t row = row_at(job, head, first + bn_min_size(j, n_queries - 1)); /* the last fills the block */
        q[j] = job->s->q + row;
        if (is_int8(job->s) && j < n_queries)
            pack_int8(job, row, (int8_t *)out + 4 * j, query_at(job, head, block) + j);
    }
    if (!is_int8(job->s))
        pack_f16(job, q, out);
}

static void pack_blocks(void *arg, size_t begin, size_t end, unsigned worker)
{
    const struct job *job = arg;

    (void)worker;
    for (size_t item = begin; item < end; item++)
        pack_block(job, item / job->n_blocks, item % job->n_blocks);
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
    const struct bn_kv_cache *kv = &s->kv;
    const uint8_t *keys = bn_kv_keys(kv, job->layer, p->head, p->from);
    const void *packed = packed_block(job, p->head, p->first / BN_ATTN_QUERIES);
    float *scores = scores_of(job, p->head, p->first) + p->from;
    size_t n_tiles = (p->n_pos + BN_ATTN_TILE - 1) / BN_ATTN_TILE;

    (void)worker;
    if (is_int8(s)) {
        size_t query = query_at(job, p->head, p->first / BN_ATTN_QUERIES);
        s->kernels->i8_attn_scores(packed, s->query_scale + query, s->query_sum + query, p->n_queries, keys,
                                   kv->key_scales + bn_kv_at(kv, job->layer, p->head, p->from), scores,
                                   job->stride, n_tiles, kv->head_dim);
    } else {
        s->kernels->f16_attn_scores(packed, p->n_queries, (const uint16_t *)(const void *)keys, scores,
                                    job->stride, n_tiles, kv->head_dim);
    }
}

static void score_items(void *arg, size_t begin, size_t end, unsigned worker)
{
    do_items(arg, begin, end, worker, score_piece);
}

/* Where the scales of a chunk's weights stand: those of a head's queries from `first` on. */
static float *weight_scale_at(const struct job *job, size_t head, size_t chunk, size_t first)
{
    return job->s->weight_scale + (head * job->n_chunks + chunk) * job->n_queries + first;
}

/* A row of weights to 16 bits, chunk by chunk, so that one heavy position does not take the precision of
 * those in other chunks. Values come in pairs: an odd number of positions is followed by a zero. */
static void quantize_weights(const struct job *job, size_t head, size_t t, size_t last)
{
    const struct bn_session *s = job->s;
    const struct bn_kv_cache *kv = &s->kv;
    float *row = scores_of(job, head, t);
    int16_t *weights = s->weights + (row - s->scores);

    row[last] = 0.0f;
    for (size_t from = 0; from < last; from += CHUNK)
        *weight_scale_at(job, head, from / CHUNK, t) =
            s->kernels->i8_attn_weights(row + from, kv->value_scales + bn_kv_at(kv, job->layer, head, from),
                                        weights + from, bn_round_up(bn_min_size(CHUNK, last - from), 2));
}

/* Positions that a query does not see, but another of its block, have no weight. */
static void softmax_rows(void *arg, size_t begin, size_t end, unsigned worker)
{
    const struct job *job = arg;

    (void)worker;
    for (size_t i = begin; i < end; i++) {
        size_t head = i / job->n_queries, t = i % job->n_queries, seen = n_seen(job, t);
        size_t last = n_seen(job, bn_min_size(t | (BN_ATTN_QUERIES - 1), job->n_queries - 1));
        float *row = scores_of(job, head, t);
        job->s->kernels->f32_softmax(row, seen);
        memset(row + seen, 0, (last - seen) * sizeof *row);
        if (is_int8(job->s))
            quantize_weights(job, head, t, last);
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

/* out: [p->n_queries][head_dim] */
static void add_values(const struct job *job, const struct piece *p, float *out)
{
    const struct bn_session *s = job->s;
    const uint8_t *values = bn_kv_values(&s->kv, job->layer, p->head, p->from);
    const float *row = scores_of(job, p->head, p->first) + p->from;

    if (is_int8(s))
        s->kernels->i8_attn_values(s->weights + (row - s->scores), job->stride,
                                   weight_scale_at(job, p->head, p->chunk, p->first), p->n_queries,
                                   (const int8_t *)values, out, (p->n_pos + 1) / 2, s->kv.head_dim);
    else
        s->kernels->f16_attn_values(row, job->stride, p->n_queries, (const uint16_t *)(const void *)values,
                                    out, p->n_pos, s->kv.head_dim);
}

static void value_piece(const struct job *job, const struct piece *p, unsigned worker)
{
    const struct bn_session *s = job->s;
    size_t d = s->model->head_dim;
    float *part = s->gathered + worker * d * (size_t)BN_ATTN_QUERIES;

    if (job->split) {
        add_values(job, p, part_at(job, p->head, p->chunk, p->first));
        return;
    }
    add_values(job, p, part);
    for (size_t j = 0; j < p->n_queries; j++) {
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

/* Scores and values alike: the heads' part of the cache, cache_bytes a head and position, is read once, a
 * query or result row is moved for every head and column, and every score costs head_dim multiply-adds. What
 * is returned is the job's cost: the cache when few queries share it, else the arithmetic, 8 multiply-adds a
 * byte. */
static uint64_t count_matmul(const struct job *job, size_t cache_bytes, enum bn_kernel_slot slot)
{
    struct bn_session *s = job->s;
    const struct bn_model *m = s->model;
    uint64_t macs = count_scores(job) * m->head_dim, rows = m->n_head * job->n_columns;
    uint64_t cache = n_seen(job, job->n_queries - 1) * m->n_head_kv * cache_bytes;
    bool int8_products = slot == BN_KERNEL_i8_attn_scores;

    bn_scope_count(cache + (rows * m->head_dim + count_scores(job)) * sizeof(float), 2 * macs);
    bn_scope_demand(cache, int8_products ? macs : 0);
    s->kernel_calls[slot] += rows;
    return cache + macs / 8;
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
    uint64_t cost = count_matmul(job, bn_kv_key_bytes(&s->kv) + bn_kv_scale_bytes(&s->kv),
                                 is_int8(s) ? BN_KERNEL_i8_attn_scores : BN_KERNEL_f16_attn_scores);

    s->kernel_calls[BN_KERNEL_i8_quantize] += is_int8(s) ? rows : 0;
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
    s->kernel_calls[BN_KERNEL_i8_attn_weights] += is_int8(s) ? rows : 0;
    bn_pool_run(s->pool, softmax_rows, job, rows, 1, n_scores * 16);
}

static void values(struct job *job)
{
    BN_SCOPE(ATTENTION_MATMUL);
    struct bn_session *s = job->s;
    size_t rows = s->model->n_head * job->n_columns;
    uint64_t cost = count_matmul(job, bn_kv_value_bytes(&s->kv) + bn_kv_scale_bytes(&s->kv),
                                 is_int8(s) ? BN_KERNEL_i8_attn_values : BN_KERNEL_f16_attn_values);
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
