/* SPDX-License-Identifier: MIT
 * Attention: what a query gathers from a chunk of positions is one piece of work: scores, their exponentials
 * relative to the chunk's largest, the values they weigh. A query's chunks join in their order, counted from
 * position 0: each brings its largest score and the sum of its exponentials, by which the values are brought
 * to one scale. Scores live for a piece only, so memory does not grow with the square of a prompt.
 *
 * The queries that share a key/value head (its heads of all columns, column after column) go through the
 * kernels BN_ATTN_QUERIES at a time. A query's sum over a chunk is always built alike: who computes what, and
 * beside which other queries, does not show in the result. With many queries an item of work is a group of
 * queries over all chunks; with few (decoding) it is one chunk, else a single column could keep no more
 * threads busy than there are key/value heads. */
#include "core/attention.h"

#include <math.h>
#include <string.h>

#include "core/scope.h"

enum {
    CHUNK = BN_KV_CHUNK,
    FETCH_FROM = 4096, /* bytes of a piece's values that the scores' kernel has asked for … */
    FETCH_BYTES = 512, /* … and how many more are, a row of scores */
    PARTS_AHEAD = 4,   /* chunks */
    PART_COST = 8,     /* of a byte that another core may have written */
};

struct job {
    struct bn_session *s;
    uint32_t layer;
    size_t n_columns; /* of the batch */
    size_t group;     /* query heads that share a key/value head */
    size_t n_queries; /* group * n_columns: those of a key/value head */
    size_t n_blocks;  /* of BN_ATTN_QUERIES of them */
    size_t n_chunks;  /* of positions, for the last column */
    bool split;       /* an item is a head's chunk; else a head's block of queries */
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
    return job->s->n_past + t / job->group + 1;
}

/* Where query t's row of the session's [columns][heads][head_dim] stands. */
static size_t row_at(const struct job *job, size_t head, size_t t)
{
    const struct bn_model *m = job->s->model;

    return (t / job->group * m->n_head + head * job->group + t % job->group) * m->head_dim;
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

/* q: always BN_ATTN_QUERIES rows, of which n_queries count. */
static void pack_f16(const struct job *job, const float *const *q, size_t n_queries, float *out)
{
    size_t d = job->s->model->head_dim;
    float scale = 1.0f / sqrtf((float)d);

    pack_four(q, scale, out, d);
    if (n_queries > 4)
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
    size_t i = 0;
    for (; i + 4 <= d; i += 4, out += 4 * BN_ATTN_QUERIES)
        memcpy(out, codes + i, 4);
    for (; i % 4 || i < d; i++)
        out[i % 4] = i < d ? codes[i] : 0;
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
        pack_f16(job, q, n_queries, out);
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
    size_t chunk, n_pos;           /* that the last of the queries sees */
    struct bn_kv_block cache;
    float *scores;    /* [n_queries] rows BN_SESSION_SCORE_STRIDE apart; then weights */
    int16_t *weights; /* the same, int8 only */
};

static void score_piece(const struct job *job, const struct piece *p)
{
    const struct bn_session *s = job->s;
    const void *packed = packed_block(job, p->head, p->first / BN_ATTN_QUERIES);
    size_t n_tiles = (p->n_pos + BN_ATTN_TILE - 1) / BN_ATTN_TILE;

    if (is_int8(s)) {
        size_t query = query_at(job, p->head, p->first / BN_ATTN_QUERIES);
        s->kernels->i8_attn_scores(packed, s->query_scale + query, s->query_sum + query, p->n_queries,
                                   p->cache.keys, p->cache.key_scales, p->scores, BN_SESSION_SCORE_STRIDE,
                                   n_tiles, s->kv.head_dim);
    } else {
        s->kernels->f16_attn_scores(packed, p->n_queries, (const uint16_t *)(const void *)p->cache.keys,
                                    p->scores, BN_SESSION_SCORE_STRIDE, n_tiles, s->kv.head_dim);
    }
}

/* How many of a chunk's positions query t sees. */
static size_t n_seen_of(const struct job *job, size_t t, size_t chunk)
{
    size_t seen = n_seen(job, t), from = chunk * CHUNK;

    return seen > from ? bn_min_size(seen - from, CHUNK) : 0;
}

/* The scores' kernel has asked for the values' first lines; while scores become weights, the memory goes on
 * with the next. */
static void fetch_values(const struct job *job, const struct piece *p, size_t row)
{
    size_t bytes = p->n_pos * bn_kv_value_bytes(&job->s->kv), from = FETCH_FROM + row * FETCH_BYTES;

    for (size_t at = from; at < bn_min_size(bytes, from + FETCH_BYTES); at += 64)
        __builtin_prefetch(p->cache.values + at);
}

/* Scores to weights. Positions that a query does not see, but another of its block, have none. Values come in
 * pairs in int8: an odd number of positions is followed by a zero. */
static void weigh_piece(const struct job *job, const struct piece *p, struct bn_exp_sum *sums,
                        float *weight_scale)
{
    const struct bn_kernels *kernels = job->s->kernels;
    bool int8 = is_int8(job->s);
    size_t n = int8 ? bn_round_up(p->n_pos, 2) : p->n_pos;

    for (size_t j = 0; j < p->n_queries; j++) {
        float *row = p->scores + j * BN_SESSION_SCORE_STRIDE;
        size_t seen = n_seen_of(job, p->first + j, p->chunk);

        if (job->split)
            fetch_values(job, p, j);
        sums[j] = seen ? kernels->f32_exp_sum(row, int8 ? p->cache.value_scales : NULL, seen)
                       : (struct bn_exp_sum){0};
        memset(row + seen, 0, (n - seen) * sizeof *row);
        if (int8) {
            kernels->i8_attn_weights(row, sums[j].largest, p->weights + j * BN_SESSION_SCORE_STRIDE, n);
            weight_scale[j] = sums[j].largest / 32767.0f;
        }
    }
}

/* out: [p->n_queries][head_dim] */
static void add_values(const struct job *job, const struct piece *p, const float *weight_scale, float *out)
{
    const struct bn_session *s = job->s;

    if (is_int8(s))
        s->kernels->i8_attn_values(p->weights, BN_SESSION_SCORE_STRIDE, weight_scale, p->n_queries,
                                   (const int8_t *)p->cache.values, out, (p->n_pos + 1) / 2, s->kv.head_dim);
    else
        s->kernels->f16_attn_values(p->scores, BN_SESSION_SCORE_STRIDE, p->n_queries,
                                    (const uint16_t *)(const void *)p->cache.values, out, p->n_pos,
                                    s->kv.head_dim);
}

/* out: [n_queries][head_dim], sums: [n_queries]: what each gathers from the chunk, and how much it counts. */
static void gather_piece(const struct job *job, const struct piece *p, float *out, struct bn_exp_sum *sums)
{
    float weight_scale[BN_ATTN_QUERIES];

    score_piece(job, p);
    weigh_piece(job, p, sums, weight_scale);
    add_values(job, p, weight_scale, out);
}

/* What exp(score - max) is worth beside an exp(0). */
static float exp_below(float score, float max)
{
    float x = score - max;

    return x < BN_ATTN_LEAST_EXPONENT ? 0.0f : x < 0.0f ? expf(x) : 1.0f;
}

/* Query t's chunk joins those before it, whose values are in the session's o and *so_far; the last one brings
 * them all to a sum of weights of 1. */
static void join(const struct job *job, size_t head, size_t t, size_t chunk, const float *part,
                 struct bn_exp_sum sum, struct bn_exp_sum *so_far)
{
    const struct bn_session *s = job->s;
    float before = 0.0f, now = 1.0f;

    if (chunk == 0) {
        *so_far = sum;
    } else {
        float max = fmaxf(so_far->max, sum.max);
        before = exp_below(so_far->max, max);
        now = exp_below(sum.max, max);
        *so_far = (struct bn_exp_sum){max, so_far->sum * before + sum.sum * now, 0.0f};
    }
    if ((chunk + 1) * CHUNK >= n_seen(job, t)) {
        before /= so_far->sum;
        now /= so_far->sum;
    }
    s->kernels->f32_join(s->o + row_at(job, head, t), before, part, now, s->model->head_dim);
}

/* Index of what a chunk gives to its head's first query, when the chunks are items. */
static size_t part_at(const struct job *job, size_t head, size_t chunk)
{
    return (chunk * job->s->model->n_head_kv + head) * job->n_queries;
}

static void do_piece(const struct job *job, size_t head, size_t block, size_t chunk, unsigned worker)
{
    struct bn_session *s = job->s;
    size_t d = s->model->head_dim, scratch = worker * (size_t)BN_ATTN_QUERIES;
    float *out = s->gathered + scratch * d;
    struct bn_exp_sum sums[BN_ATTN_QUERIES];
    struct piece p = {.head = head,
                      .first = block * BN_ATTN_QUERIES,
                      .chunk = chunk,
                      .scores = s->scores + scratch * BN_SESSION_SCORE_STRIDE,
                      .weights = s->weights + scratch * BN_SESSION_SCORE_STRIDE};

    p.n_queries = bn_min_size(BN_ATTN_QUERIES, job->n_queries - p.first);
    p.n_pos = n_seen_of(job, p.first + p.n_queries - 1, chunk);
    if (p.n_pos == 0)
        return;
    p.cache = bn_kv_block_at(&s->kv, job->layer, head, chunk);
    if (job->split) {
        size_t part = part_at(job, head, chunk) + p.first;
        gather_piece(job, &p, s->parts + part * d, s->part_sums + part);
        return;
    }
    gather_piece(job, &p, out, sums);
    for (size_t j = 0; j < p.n_queries; j++) {
        if (n_seen_of(job, p.first + j, chunk))
            join(job, head, p.first + j, chunk, out + j * d, sums[j],
                 &s->sums[head * job->n_queries + p.first + j]);
    }
}

/* The chunk of a head after the other, as they lie in the cache. */
static void do_chunks(void *arg, size_t begin, size_t end, unsigned worker)
{
    const struct job *job = arg;
    size_t n_head_kv = job->s->model->n_head_kv;

    for (size_t item = begin; item < end; item++) {
        for (size_t block = 0; block < job->n_blocks; block++)
            do_piece(job, item % n_head_kv, block, item / n_head_kv, worker);
    }
}

/* All blocks of a head pass by a chunk before the next one's turn: it is near then. */
static void do_blocks(void *arg, size_t begin, size_t end, unsigned worker)
{
    const struct job *job = arg;

    while (begin < end) {
        size_t head = begin / job->n_blocks, next = bn_min_size(end, (head + 1) * job->n_blocks);
        for (size_t chunk = 0; chunk < job->n_chunks; chunk++) {
            for (size_t item = begin; item < next; item++)
                do_piece(job, head, item % job->n_blocks, chunk, worker);
        }
        begin = next;
    }
}

/* Half of the parts were written by another core: they are asked for ahead. */
static void fetch_part(const struct job *job, size_t head, size_t chunk, size_t t)
{
    const struct bn_session *s = job->s;
    const float *part = s->parts + (part_at(job, head, chunk) + t) * s->model->head_dim;

    for (size_t i = 0; chunk < job->n_chunks && i < s->model->head_dim; i += 16)
        __builtin_prefetch(part + i);
}

static void join_parts(void *arg, size_t begin, size_t end, unsigned worker)
{
    const struct job *job = arg;
    const struct bn_session *s = job->s;

    (void)worker;
    for (size_t row = begin; row < end; row++) {
        size_t head = row / job->n_queries, t = row % job->n_queries;
        struct bn_exp_sum so_far;
        for (size_t chunk = 0; n_seen_of(job, t, chunk); chunk++) {
            size_t part = part_at(job, head, chunk) + t;
            fetch_part(job, head, chunk + PARTS_AHEAD, t);
            join(job, head, t, chunk, s->parts + part * s->model->head_dim, s->part_sums[part], &so_far);
        }
    }
}

/* ---- the stage ---- */

/* Scores of the columns: positions that their queries see, all together. */
static uint64_t count_scores(const struct job *job)
{
    uint64_t first = n_seen(job, 0), last = n_seen(job, job->n_queries - 1);

    return job->s->model->n_head * (first + last) * job->n_columns / 2;
}

/* The heads' part of the cache is read once, queries and results are moved, and every score costs head_dim
 * multiply-adds, a weight as many, and the softmax four operations. What is returned is the job's cost: the
 * cache when few queries share it, else the arithmetic, 8 multiply-adds a byte. */
static uint64_t count_gather(const struct job *job)
{
    struct bn_session *s = job->s;
    const struct bn_model *m = s->model;
    uint64_t n_scores = count_scores(job), macs = n_scores * m->head_dim, rows = m->n_head * job->n_columns;
    uint64_t parts = job->split ? rows * job->n_chunks * m->head_dim : 0;
    uint64_t cache = n_seen(job, job->n_queries - 1) * m->n_head_kv *
                     (bn_kv_key_bytes(&s->kv) + bn_kv_value_bytes(&s->kv) + 2 * bn_kv_scale_bytes(&s->kv));

    bn_scope_count(cache + 2 * (rows * m->head_dim + parts) * sizeof(float), 4 * macs + 4 * n_scores + parts);
    bn_scope_demand(cache, is_int8(s) ? macs : 0);
    s->kernel_calls[BN_KERNEL_f32_exp_sum] += rows;
    s->kernel_calls[BN_KERNEL_f32_join] += rows;
    if (is_int8(s)) {
        s->kernel_calls[BN_KERNEL_i8_quantize] += rows;
        s->kernel_calls[BN_KERNEL_i8_attn_scores] += rows;
        s->kernel_calls[BN_KERNEL_i8_attn_weights] += rows;
        s->kernel_calls[BN_KERNEL_i8_attn_values] += rows;
    } else {
        s->kernel_calls[BN_KERNEL_f16_attn_scores] += rows;
        s->kernel_calls[BN_KERNEL_f16_attn_values] += rows;
    }
    return cache + macs / 4;
}

void bn_attention_gather(struct bn_session *s, uint32_t layer, size_t n)
{
    bn_scope_fused(BN_STAGE_ATTENTION_SOFTMAX, BN_STAGE_ATTENTION_MATMUL, 1);
    BN_SCOPE(ATTENTION_MATMUL);
    const struct bn_model *m = s->model;
    struct job job = {.s = s, .layer = layer, .n_columns = n, .group = m->n_head / m->n_head_kv};
    size_t rows = m->n_head * n;

    job.n_queries = job.group * n;
    job.n_blocks = (job.n_queries + BN_ATTN_QUERIES - 1) / BN_ATTN_QUERIES;
    job.n_chunks = (n_seen(&job, job.n_queries - 1) + CHUNK - 1) / CHUNK;
    job.split = job.n_queries <= s->n_split;
    uint64_t cost = count_gather(&job);
    bn_pool_run(s->pool, pack_blocks, &job, m->n_head_kv * job.n_blocks, 1,
                rows * m->head_dim * 2 * sizeof(float));
    if (!job.split) {
        bn_pool_run(s->pool, do_blocks, &job, m->n_head_kv * job.n_blocks, 1, cost);
        return;
    }
    bn_pool_run(s->pool, do_chunks, &job, m->n_head_kv * job.n_chunks, 1, cost);
    bn_pool_run(s->pool, join_parts, &job, rows, 1,
                rows * job.n_chunks * m->head_dim * sizeof(float) * PART_COST);
}
