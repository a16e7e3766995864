/* SPDX-License-Identifier: MIT
 * One token's logits, screened: plane by plane, the rows in play become fewer.
 *
 * Between two planes the logits of the most promising rows are computed exactly. The n_top-th largest of them
 * is a lower bound of the n_top-th largest of all, so a row whose upper bound is below it is out; one whose
 * upper bound equals it stays, because among equals the lowest id wins. */
#include "core/lm_head.h"

#include <math.h>

#include "core/linear.h"
#include "core/lm_head_parts.h"
#include "core/scope.h"

enum {
    FEW = 32,       /* rows more than n_top: from here on another plane is not worth its trouble */
    FULL_SHARE = 4, /* one row in so many left: the matrix is faster read from end to end */
    AHEAD_ROWS = 4, /* scattered rows are fetched so many ahead */
    CACHE_LINE = 64,
};

/* ---- a block's rows ---- */

static size_t block_rows(const struct bn_lm_head *h, size_t block)
{
    return bn_min_size(BN_LM_HEAD_BLOCK, h->w->n_rows - block * BN_LM_HEAD_BLOCK);
}

static void find_best(struct bn_lm_head *h, size_t block)
{
    size_t first = block * BN_LM_HEAD_BLOCK;

    h->best[block] = (uint32_t)(first + h->kernels->f32_argmax(h->y + first, block_rows(h, block)));
}

/* All rows by the plane high, in one call: the kernel reads several streams. No logit is known yet. */
static void multiply_high(void *arg, size_t begin, size_t end, unsigned worker)
{
    struct bn_lm_head *h = arg;
    const struct bn_screen_query *q = &h->query;
    size_t first = begin * BN_LM_HEAD_BLOCK, after = bn_min_size(end * BN_LM_HEAD_BLOCK, h->w->n_rows);
    size_t n_tiles = (after - first + BN_TILE_ROWS - 1) / BN_TILE_ROWS;
    const uint8_t *tiles = h->high + first / BN_TILE_ROWS * bn_screen_high_bytes(h->k);

    (void)worker;
    h->kernels->screen_high_gemv(tiles, q->x, h->scale + first, q->center, BN_SCREEN_HIGH_UNIT(q),
                                 h->y + first, n_tiles, h->k);
    for (size_t r = first; r < after; r++)
        h->logits[r] = -INFINITY;
    for (size_t b = begin; b < end; b++)
        find_best(h, b);
}

/* ---- narrowing: who is in play, and the next plane for those ---- */

/* A step: rows that the planes so far leave in play are selected, and the next plane is added to them. */
struct step {
    struct bn_lm_head *h;
    enum bn_screen_plane bound; /* the last plane that was added */
    const uint8_t *plane;       /* the next one; NULL: only select */
    size_t row_bytes;
    float unit;
};

/* Those out of play have no more than -infinity from then on: they lack the next plane, whose bound would not
 * hold for them. */
static void select_from_block(const struct step *s, size_t block)
{
    struct bn_lm_head *h = s->h;
    size_t first = block * BN_LM_HEAD_BLOCK;

    h->n_ids[block] = (uint32_t)h->kernels->screen_select(
        h->y + first, h->error[s->bound] + first, h->norm + first, h->scale + first,
        &h->query.bound[s->bound], h->least, (uint32_t)first, h->ids + first, block_rows(h, block));
}

/* The first rows of a block, while the one before it is worked on. */
static void fetch_first(const struct step *s, size_t block)
{
    const uint32_t *ids = s->h->ids + block * BN_LM_HEAD_BLOCK;

    for (size_t i = 0; i < AHEAD_ROWS && i < s->h->n_ids[block]; i++) {
        for (size_t at = 0; at < s->row_bytes; at += CACHE_LINE)
            __builtin_prefetch(s->plane + ids[i] * s->row_bytes + at);
    }
}

static void multiply_block(const struct step *s, size_t block)
{
    struct bn_lm_head *h = s->h;
    const struct bn_kernels *k = h->kernels;

    (s->bound == BN_SCREEN_HIGH ? k->screen_mid_gemv : k->screen_low_gemv)(
        s->plane, h->query.x, h->query.x_sum, h->scale, s->unit, h->y, h->ids + block * BN_LM_HEAD_BLOCK,
        h->n_ids[block], h->k);
    find_best(h, block);
}

static void narrow(void *arg, size_t begin, size_t end, unsigned worker)
{
    const struct step *s = arg;

    (void)worker;
    select_from_block(s, begin);
    for (size_t b = begin; b < end; b++) {
        if (b + 1 < end)
            select_from_block(s, b + 1);
        if (!s->plane)
            continue;
        if (b + 1 < end)
            fetch_first(s, b + 1);
        multiply_block(s, b);
    }
}

static size_t rows_in_play(const struct bn_lm_head *h)
{
    size_t n = 0;

    for (size_t b = 0; b < h->n_blocks; b++)
        n += h->n_ids[b];
    return n;
}

/* n_most: how many rows may be in play before. Returns how many are left. */
static size_t narrow_rows(const struct step *step, struct bn_pool *pool, size_t n_most)
{
    struct step s = *step;

    bn_pool_run(pool, narrow, &s, s.h->n_blocks, 1,
                s.h->w->n_rows * 5 * sizeof(float) + n_most * s.row_bytes);
    return rows_in_play(s.h);
}

/* ---- logits ---- */

/* Returns 1 if the logit was not known, else 0. */
static uint32_t compute_exactly(struct bn_lm_head *h, size_t row)
{
    if (!isinf(h->logits[row]))
        return 0;
    bn_linear_rows(h->kernels, h->w, row, 1, h->x, &h->logits[row]);
    return 1;
}

/* n_ids becomes the number of rows that had to be computed. */
static void multiply_exactly(void *arg, size_t begin, size_t end, unsigned worker)
{
    struct bn_lm_head *h = arg;

    (void)worker;
    for (size_t b = begin; b < end; b++) {
        const uint32_t *ids = h->ids + b * BN_LM_HEAD_BLOCK;
        uint32_t n_computed = 0;
        for (size_t i = 0; i < h->n_ids[b]; i++)
            n_computed += compute_exactly(h, ids[i]);
        h->n_ids[b] = n_computed;
    }
}

static void multiply_all(void *arg, size_t begin, size_t end, unsigned worker)
{
    struct bn_lm_head *h = arg;
    size_t first = begin * BN_LM_HEAD_BLOCK, after = bn_min_size(end * BN_LM_HEAD_BLOCK, h->w->n_rows);

    (void)worker;
    bn_linear_rows(h->kernels, h->w, first, after - first, h->x, h->logits + first);
}

/* ---- what the n_top-th largest logit is at least ---- */

static bool before(struct bn_lm_head_candidate a, struct bn_lm_head_candidate b)
{
    return a.y > b.y || (a.y == b.y && a.id < b.id);
}

/* Bring the n_first largest of c[0 … n-1] to the front, in any order (Hoare's selection; all differ). */
static void select_largest(struct bn_lm_head_candidate *c, size_t n, size_t n_first)
{
    ptrdiff_t low = 0, high = (ptrdiff_t)n - 1, border = (ptrdiff_t)n_first;

    while (low < high) {
        struct bn_lm_head_candidate pivot = c[low + (high - low) / 2];
        ptrdiff_t i = low, j = high;

        while (i <= j) {
            while (before(c[i], pivot))
                i++;
            while (before(pivot, c[j]))
                j--;
            if (i <= j) {
                struct bn_lm_head_candidate swap = c[i];
                c[i++] = c[j];
                c[j--] = swap;
            }
        }
        if (border <= j)
            high = j;
        else if (border > i)
            low = i;
        else
            return;
    }
}

/* Of the rows in play one a block, or all where so few would miss too many of the largest. */
static size_t gather_candidates(struct bn_lm_head *h, uint32_t n_top)
{
    bool by_block = h->n_blocks >= 4 * (size_t)n_top;
    size_t n_all = by_block ? h->n_blocks : h->w->n_rows, n = 0;

    for (size_t i = 0; i < n_all; i++) {
        uint32_t id = by_block ? h->best[i] : (uint32_t)i;
        if (h->y[id] > -INFINITY)
            h->candidates[n++] = (struct bn_lm_head_candidate){h->y[id], id};
    }
    return n;
}

/* Compute the logits of somewhat more than n_top promising rows. Returns how many were not known yet. */
static size_t raise_least(struct bn_lm_head *h, uint32_t n_top)
{
    struct bn_lm_head_candidate *c = h->candidates;
    size_t n = gather_candidates(h, n_top), n_first = bn_min_size(n, n_top + n_top / 4 + 8);
    size_t n_known = 0, n_computed = 0;
    float least = INFINITY;

    select_largest(c, n, n_first);
    for (size_t i = 0; i < n_first; i++) {
        n_computed += compute_exactly(h, c[i].id);
        if (!isnan(h->logits[c[i].id]))
            c[n_known++] = (struct bn_lm_head_candidate){h->logits[c[i].id], c[i].id};
    }
    if (n_known < n_top)
        return n_computed;
    select_largest(c, n_known, n_top);
    for (size_t i = 0; i < n_top; i++)
        least = c[i].y < least ? c[i].y : least;
    h->least = least > h->least ? least : h->least;
    return n_computed;
}

/* ---- a token ---- */

/* Rows that each step did. */
struct work {
    size_t mid, low, exact;
    bool full;
};

/* The plane mid is added to every row that the plane high leaves, however few; the plane low only to many. */
static struct work screen(struct bn_lm_head *h, struct bn_pool *pool, uint32_t n_top)
{
    const struct step mid = {h, BN_SCREEN_HIGH, h->mid, bn_screen_mid_bytes(h->k),
                             BN_SCREEN_MID_UNIT(&h->query)};
    const struct step low = {h, BN_SCREEN_MID, h->low, bn_screen_low_bytes(h->k),
                             BN_SCREEN_LOW_UNIT(&h->query)};
    const struct step last = {h, BN_SCREEN_LOW, NULL, 0, 0.0f};
    size_t row_bytes = (size_t)bn_weight_row_bytes(h->w), rows = h->w->n_rows, n;
    struct work done = {0};

    h->least = -INFINITY;
    bn_pool_run(pool, multiply_high, h, h->n_blocks, 1, h->n_tiles * bn_screen_high_bytes(h->k));
    done.exact = raise_least(h, n_top);
    done.mid = n = narrow_rows(&mid, pool, rows);
    if (n > n_top + FEW) {
        done.exact += raise_least(h, n_top);
        done.low = narrow_rows(&low, pool, n);
        done.exact += raise_least(h, n_top);
        n = narrow_rows(&last, pool, 0);
    }
    done.full = n > rows / FULL_SHARE;
    bn_pool_run(pool, done.full ? multiply_all : multiply_exactly, h, h->n_blocks, 1, n * row_bytes);
    done.exact += done.full ? rows : rows_in_play(h);
    return done;
}

/* Beside each plane the scales; for each selection an error, a norm and a scale a row. */
static void count(struct bn_session *s, struct bn_lm_head *h, const struct work *done)
{
    const uint64_t rows = h->w->n_rows, k = h->k, meta = sizeof(float);
    uint64_t bytes = h->n_tiles * bn_screen_high_bytes(k) + rows * 4 * meta +
                     done->mid * (bn_screen_mid_bytes(k) + 4 * meta) +
                     done->low * (bn_screen_low_bytes(k) + 4 * meta) +
                     done->exact * bn_weight_row_bytes(h->w);
    uint64_t int8_macs = (2 * rows + done->mid + done->low) * k;

    bn_scope_count(bytes + 2 * rows * sizeof *h->y, 2 * (int8_macs + done->exact * h->w->k));
    bn_scope_demand(bytes, int8_macs);
    h->stats.n_tokens++;
    h->stats.n_full += done->full;
    h->stats.rows_mid += done->mid;
    h->stats.rows_low += done->low;
    h->stats.rows_exact += done->exact;
    h->stats.bytes += bytes;
    s->kernel_calls[BN_KERNEL_screen_high_gemv]++;
    s->kernel_calls[BN_KERNEL_screen_select] += done->low > 0 ? 3 : 1;
    s->kernel_calls[BN_KERNEL_screen_mid_gemv] += done->mid > 0;
    s->kernel_calls[BN_KERNEL_screen_low_gemv] += done->low > 0;
    s->kernel_calls[bn_linear_slot(h->w)] += done->exact;
}

double bn_lm_head_bytes(const struct bn_lm_head *h)
{
    return h->stats.n_tokens ? (double)h->stats.bytes / (double)h->stats.n_tokens
                             : (double)bn_weight_stream_bytes(h->w);
}

void bn_lm_head_apply(struct bn_session *s, const float *x)
{
    struct bn_lm_head *h = s->lm_head;
    const struct bn_weight *w = h ? h->w : &s->model->lm_head;
    bool ask =
        h && h->mode == BN_LM_HEAD_SCREENED && s->n_top > 0 && s->n_top <= w->n_rows / BN_LM_HEAD_SHARE;

    if (!ask || !bn_screen_query_make(&h->query, x, w->k, h->k)) {
        bn_linear(s, BN_STAGE_LM_HEAD, &(struct bn_product){w, s->logits}, 1, x, 1);
        return;
    }
    BN_SCOPE(LM_HEAD);
    h->x = x;
    h->logits = s->logits;
    struct work done = screen(h, s->pool, s->n_top);
    count(s, h, &done);
}
