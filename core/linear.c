/* SPDX-License-Identifier: MIT
 * Products: the rows of all matrices that share an input are one range, cut among the threads.
 *
 * Rows are handed to kernels in groups that start at a multiple of UNIT of their matrix, whatever the number
 * of threads or columns: a float kernel that works on groups of rows does the same sums every time. */
#include "core/linear.h"

#include <assert.h>

#include "core/block.h"
#include "kernels/lut.h"
#include "kernels/pack.h"

enum {
    UNIT = BN_TILE_ROWS,   /* rows; every cut is a multiple of it, or of a tile that has more */
    TABLE_CHUNK = 480,     /* activations whose look-up tables are made in one go: whole groups of TL2 */
    TILE_SUMS = 16 * 1024, /* int32 results that stay in the cache until they are scaled: 64 KiB */
    FLOAT_TILE_BYTES = 64 * 1024 /* of float weights that stay in the cache while the columns pass */
};

/* What a product takes its activations as. */
enum input { INPUT_FLOAT, INPUT_I8, INPUT_Q8_0, INPUT_Q8_K };

struct job {
    struct bn_session *s;
    const struct bn_product *products;
    size_t n_products;
    const float *x; /* [n][k] */
    size_t n, k;
    size_t product; /* whose kind of activations is being made */
    size_t first;   /* column of the n that are multiplied */
};

static enum input input_of(const struct bn_weight *w)
{
    if (w->layout == BN_LAYOUT_FLOAT)
        return INPUT_FLOAT;
    if (bn_weight_is_ternary(w))
        return INPUT_I8;
    return bn_block_of(w->type)->elements == BN_BLOCK ? INPUT_Q8_0 : INPUT_Q8_K;
}

static const struct bn_q8 *block_input(const struct bn_session *s, const struct bn_weight *w)
{
    return input_of(w) == INPUT_Q8_0 ? &s->q8_0 : &s->q8_k;
}

/* ---- activations to int8 ---- */

static void quantize_rows(void *arg, size_t begin, size_t end, unsigned worker)
{
    const struct job *job = arg;
    struct bn_session *s = job->s;

    (void)worker;
    for (size_t c = begin; c < end; c++) {
        struct bn_act act = s->kernels->i8_quantize(job->x + c * job->k, s->codes + c * job->k, job->k);
        s->act_scale[c] = act.scale;
        s->act_sum[c] = act.sum;
    }
}

static void quantize_blocks(void *arg, size_t begin, size_t end, unsigned worker)
{
    const struct job *job = arg;
    const struct bn_weight *w = job->products[job->product].w;

    (void)worker;
    for (size_t c = begin; c < end; c++) {
        struct bn_q8 out = bn_block_column(w->type, block_input(job->s, w), c, job->k);
        bn_block_quantize(job->s->kernels, w->type, job->x + c * job->k, &out, job->k);
    }
}

/* Once for every kind of codes that a product takes. */
static void quantize(struct job *job)
{
    BN_SCOPE(QUANTIZE_ACTIVATIONS);
    uint64_t bytes = job->n * job->k * (sizeof(float) + 1);
    unsigned done = 1u << INPUT_FLOAT;

    for (job->product = 0; job->product < job->n_products; job->product++) {
        const struct bn_weight *w = job->products[job->product].w;
        enum input input = input_of(w);
        if (done >> input & 1)
            continue;
        done |= 1u << input;
        bn_scope_count(bytes, 2 * (uint64_t)job->n * job->k);
        job->s->kernel_calls[input == INPUT_I8 ? BN_KERNEL_i8_quantize : bn_block_of(w->type)->quantize] +=
            job->n;
        bn_pool_run(job->s->pool, input == INPUT_I8 ? quantize_rows : quantize_blocks, job, job->n, 1, bytes);
    }
}

/* What else the layouts in use want to know about the codes. */
static void sum_blocks(const struct job *job)
{
    struct bn_session *s = job->s;

    for (size_t c = 0; c < job->n; c++)
        s->kernels->i8_block_sums(s->codes + c * job->k, s->block_sums + c * (job->k / 32), job->k);
    s->kernel_calls[BN_KERNEL_i8_block_sums] += job->n;
}

/* ---- look-up tables ---- */

static enum bn_layout table_layout(const struct job *job)
{
    for (size_t i = 0; i < job->n_products; i++) {
        enum bn_layout layout = job->products[i].w->layout;
        if (layout == BN_LAYOUT_TL1 || layout == BN_LAYOUT_TL2)
            return layout;
    }
    return BN_LAYOUT_FLOAT;
}

static size_t table_bytes(enum bn_layout layout, size_t k)
{
    return layout == BN_LAYOUT_TL1 ? bn_tl1_table_bytes(k) : bn_tl2_table_bytes(k);
}

/* An item is a chunk of a column. */
static void fill_tables(void *arg, size_t begin, size_t end, unsigned worker)
{
    const struct job *job = arg;
    const struct bn_session *s = job->s;
    enum bn_layout layout = table_layout(job);
    size_t chunks = (job->k + TABLE_CHUNK - 1) / TABLE_CHUNK;

    (void)worker;
    for (size_t i = begin; i < end; i++) {
        size_t c = i / chunks, at = i % chunks * TABLE_CHUNK, n = bn_min_size(TABLE_CHUNK, job->k - at);
        const int8_t *x = s->codes + (job->first + c) * job->k + at;
        uint8_t *table = s->tables + c * table_bytes(layout, job->k) + table_bytes(layout, at);
        (layout == BN_LAYOUT_TL1 ? s->kernels->tl1_table : s->kernels->tl2_table)(x, table, n);
    }
}

/* The tables of the columns at hand: once for all matrices and threads. */
static void make_tables(struct job *job)
{
    enum bn_layout layout = table_layout(job);
    size_t chunks = (job->k + TABLE_CHUNK - 1) / TABLE_CHUNK;
    uint64_t bytes = job->n * table_bytes(layout, job->k);

    bn_scope_count(bytes, 0);
    job->s->kernel_calls[layout == BN_LAYOUT_TL1 ? BN_KERNEL_tl1_table : BN_KERNEL_tl2_table] += job->n;
    bn_pool_run(job->s->pool, fill_tables, job, job->n * chunks, 1, bytes);
}

/* ---- one matrix, rows begin … end-1 ---- */

static size_t unit(const struct bn_weight *w)
{
    return w->tile_rows > UNIT ? w->tile_rows : UNIT;
}

static void finish(const struct bn_weight *w, float *out, size_t row, size_t n_rows)
{
    for (size_t i = 0; i < n_rows && w->extra_scale != 1.0f; i++)
        out[i] *= w->extra_scale;
    for (size_t i = 0; i < n_rows && w->bias; i++)
        out[i] += w->bias[row + i];
}

/* y: columns ldy apart, whole numbers. */
static void ternary_product(const struct job *job, const struct bn_weight *w, size_t row, size_t n_rows,
                            int32_t *y, size_t ldy)
{
    const struct bn_session *s = job->s;
    const struct bn_kernels *k = s->kernels;
    const uint8_t *rows = bn_weight_rows(w, row);
    const int8_t *x = s->codes + job->first * job->k;
    const int32_t *x_sum = s->act_sum + job->first;
    bool tiles = w->layout == BN_LAYOUT_I2S, pairs = w->layout == BN_LAYOUT_TL1;

    if (pairs || w->layout == BN_LAYOUT_TL2) {
        if (job->n == 1)
            (pairs ? k->tl1_gemv : k->tl2_gemv)(rows, s->tables, y, n_rows, w->k);
        else
            (pairs ? k->tl1_gemm : k->tl2_gemm)(rows, s->tables, y, ldy, n_rows, w->k, job->n);
    } else if (job->n == 1) {
        (tiles ? k->i2s_gemv : k->qk256_gemv)(rows, x, x_sum[0], y, n_rows, w->k);
    } else {
        (tiles ? k->i2s_gemm : k->qk256_gemm)(rows, x, x_sum, y, ldy, n_rows, w->k, job->n);
    }
}

/* The whole numbers stand where the floats will, and become those while the cache still has them. */
static void multiply_ternary(const struct job *job, const struct bn_product *p, size_t begin, size_t end)
{
    const struct bn_session *s = job->s;
    const struct bn_weight *w = p->w;
    size_t tile = TILE_SUMS / job->n / unit(w) * unit(w);

    for (size_t r = begin; r < end; r += tile) {
        float *out = p->out + job->first * w->n_rows + r;
        size_t n_rows = bn_min_size(tile, end - r);
        ternary_product(job, w, r, n_rows, (int32_t *)(void *)out, w->n_rows);
        for (size_t c = 0; c < job->n; c++, out += w->n_rows) {
            s->kernels->i32_scale((const int32_t *)(void *)out, out, s->act_scale[job->first + c], w->scale,
                                  n_rows);
            finish(w, out, r, n_rows);
        }
    }
}

/* Ternary with block scales: floats come out of the kernel. */
static void multiply_scaled(const struct job *job, const struct bn_product *p, size_t begin, size_t end)
{
    const struct bn_session *s = job->s;
    const struct bn_weight *w = p->w;
    const uint8_t *rows = bn_weight_rows(w, begin);
    const int8_t *x = s->codes + job->first * job->k;
    const int32_t *x_sums = s->block_sums + job->first * (job->k / 32);
    const float *act_scale = s->act_scale + job->first;
    float *out = p->out + job->first * w->n_rows + begin;

    if (job->n == 1)
        s->kernels->i2s_block_gemv(rows, x, x_sums, act_scale[0], out, end - begin, w->k, w->block);
    else
        s->kernels->i2s_block_gemm(rows, x, x_sums, act_scale, out, w->n_rows, end - begin, w->k, w->block,
                                   job->n);
    for (size_t c = 0; c < job->n; c++)
        finish(w, out + c * w->n_rows, begin, end - begin);
}

static void multiply_blocks(const struct job *job, const struct bn_product *p, size_t begin, size_t end)
{
    const struct bn_weight *w = p->w;
    struct bn_q8 x = bn_block_column(w->type, block_input(job->s, w), job->first, w->k);
    float *out = p->out + job->first * w->n_rows + begin;

    bn_block_product(job->s->kernels, w->type, bn_weight_rows(w, begin), &x, out, w->n_rows, end - begin,
                     w->k, job->n);
    for (size_t c = 0; c < job->n; c++)
        finish(w, out + c * w->n_rows, begin, end - begin);
}

enum bn_kernel_slot bn_linear_slot(const struct bn_weight *w)
{
    return w->type == BN_TYPE_F16    ? BN_KERNEL_f16_gemv
           : w->type == BN_TYPE_BF16 ? BN_KERNEL_bf16_gemv
                                     : BN_KERNEL_f32_gemv;
}

void bn_linear_rows(const struct bn_kernels *k, const struct bn_weight *w, size_t row, size_t n_rows,
                    const float *x, float *y)
{
    size_t at = row * w->k;

    if (w->type == BN_TYPE_F16)
        k->f16_gemv((const uint16_t *)w->data + at, x, y, n_rows, w->k);
    else if (w->type == BN_TYPE_BF16)
        k->bf16_gemv((const uint16_t *)w->data + at, x, y, n_rows, w->k);
    else
        k->f32_gemv((const float *)w->data + at, x, y, n_rows, w->k);
}

static void multiply_float(const struct job *job, const struct bn_product *p, size_t begin, size_t end)
{
    const struct bn_weight *w = p->w;
    size_t fit = FLOAT_TILE_BYTES / bn_weight_row_bytes(w) / UNIT * UNIT;
    size_t tile = job->n == 1 ? end - begin : fit < UNIT ? UNIT : fit;

    for (size_t r = begin; r < end; r += tile) {
        size_t n_rows = bn_min_size(tile, end - r);
        for (size_t c = 0; c < job->n; c++) {
            float *out = p->out + (job->first + c) * w->n_rows + r;
            bn_linear_rows(job->s->kernels, w, r, n_rows, job->x + (job->first + c) * job->k, out);
            finish(w, out, r, n_rows);
        }
    }
}

/* ---- all matrices, units begin … end-1 of their joint range ---- */

static size_t units(const struct bn_weight *w)
{
    return (w->n_rows + unit(w) - 1) / unit(w);
}

static void multiply_units(void *arg, size_t begin, size_t end, unsigned worker)
{
    const struct job *job = arg;
    size_t first = 0;

    (void)worker;
    for (size_t i = 0; i < job->n_products; i++) {
        const struct bn_product *p = &job->products[i];
        size_t after = first + units(p->w);
        size_t from = begin > first ? begin : first, to = bn_min_size(end, after);
        if (from < to) {
            size_t rows = unit(p->w), row = (from - first) * rows,
                   row_end = bn_min_size((to - first) * rows, p->w->n_rows);
            assert(p->w->layout != BN_LAYOUT_FILE);
            if (p->w->layout == BN_LAYOUT_BLOCKS)
                multiply_blocks(job, p, row, row_end);
            else if (p->w->layout == BN_LAYOUT_I2S_BLOCK)
                multiply_scaled(job, p, row, row_end);
            else if (p->w->layout != BN_LAYOUT_FLOAT)
                multiply_ternary(job, p, row, row_end);
            else
                multiply_float(job, p, row, row_end);
        }
        first = after;
    }
}

/* The slots that a ternary matrix's layout uses for one column and for more. */
static const enum bn_kernel_slot slots[][2] = {
    [BN_LAYOUT_QK256] = {BN_KERNEL_qk256_gemv, BN_KERNEL_qk256_gemm},
    [BN_LAYOUT_I2S] = {BN_KERNEL_i2s_gemv, BN_KERNEL_i2s_gemm},
    [BN_LAYOUT_I2S_BLOCK] = {BN_KERNEL_i2s_block_gemv, BN_KERNEL_i2s_block_gemm},
    [BN_LAYOUT_TL1] = {BN_KERNEL_tl1_gemv, BN_KERNEL_tl1_gemm},
    [BN_LAYOUT_TL2] = {BN_KERNEL_tl2_gemv, BN_KERNEL_tl2_gemm},
};

/* Weights are read once a call, inputs once, outputs written once; a multiply-add is two operations. */
static void count(struct bn_session *s, const struct bn_weight *w, size_t n)
{
    bool ternary = bn_weight_is_ternary(w), codes = w->layout != BN_LAYOUT_FLOAT;
    uint64_t rows = w->n_rows, in = codes ? 1 : sizeof(float), bytes = bn_weight_stream_bytes(w);

    bn_scope_count(bytes + n * (w->k * in + rows * sizeof(float)), 2 * n * rows * w->k);
    bn_scope_demand(bytes, codes ? n * rows * w->k : 0);
    if (ternary) {
        s->kernel_calls[slots[w->layout][n > 1]]++;
        s->kernel_calls[BN_KERNEL_i32_scale] += w->layout == BN_LAYOUT_I2S_BLOCK ? 0 : n;
    } else if (w->layout == BN_LAYOUT_BLOCKS) {
        s->kernel_calls[n == 1 ? bn_block_of(w->type)->gemv : bn_block_of(w->type)->gemm]++;
    } else {
        s->kernel_calls[bn_linear_slot(w)] += n;
    }
}

bool bn_linear_takes_codes(const struct bn_product *products, size_t n_products)
{
    for (size_t i = 0; i < n_products; i++) {
        if (input_of(products[i].w) != INPUT_I8)
            return false;
    }
    return true;
}

/* All columns together, or as many at a time as there is room for their look-up tables. */
static void multiply(struct job *job, size_t n_units, uint64_t cost)
{
    bool tables = table_layout(job) != BN_LAYOUT_FLOAT;
    size_t n = job->n, step = tables ? bn_min_size(n, BN_SESSION_TABLES) : n;

    for (job->first = 0; job->first < n; job->first += step) {
        job->n = bn_min_size(step, n - job->first);
        if (tables)
            make_tables(job);
        /* kernels take up to four tiles at a time of one column, and two of many */
        bn_pool_run(job->s->pool, multiply_units, job, n_units, n > 1 ? 2 : 4, cost * job->n);
    }
}

void bn_linear(struct bn_session *s, enum bn_stage stage, const struct bn_product *products,
               size_t n_products, const float *x, size_t n)
{
    struct job job = {s, products, n_products, x, n, products[0].w->k, 0, 0};
    uint64_t cost = 0;
    size_t n_units = 0;
    bool codes = false, scaled = false;

    assert(x || bn_linear_takes_codes(products, n_products));
    assert(n >= 1 && n <= s->n_batch);
    for (size_t i = 0; i < n_products; i++) {
        codes |= products[i].w->layout != BN_LAYOUT_FLOAT;
        scaled |= products[i].w->layout == BN_LAYOUT_I2S_BLOCK;
    }
    if (codes && x)
        quantize(&job);
    bn_scope_enter(stage);
    if (scaled)
        sum_blocks(&job);
    for (size_t i = 0; i < n_products; i++) {
        const struct bn_weight *w = products[i].w;
        assert(w->k == job.k);
        n_units += units(w);
        cost += bn_weight_stream_bytes(w);
        count(s, w, n);
    }
    multiply(&job, n_units, cost);
    bn_scope_leave();
}
