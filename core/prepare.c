/* SPDX-License-Identifier: MIT
 * Preparing a model: one list of pieces of work, of some hundred kilobytes each, shared by all threads. A
 * piece that stays in the file has its pages mapped; one that gets another layout is read into a thread's
 * buffer, which stays in the cache: mapping its pages, only to drop them again, would take longer than the
 * work. */
#include "core/prepare.h"

#include <errno.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "core/block.h"
#include "kernels/pack.h"

enum {
    PIECE_BYTES = 256 << 10,
    HUGE_PAGE = 2 << 20,
    MATRICES_A_LAYER = 7,
};

/* Rows of one matrix that are done in one go. */
struct piece {
    struct bn_weight *w;
    uint8_t *to; /* the matrix's tiles; NULL = stays in the file */
    size_t row, n_rows;
};

struct job {
    const struct bn_kernels *kernels;
    const struct bn_map *map; /* of the file; p NULL = it is not a file */
    size_t page_bytes;
    bool read_in;     /* the file fits in memory */
    uint8_t *buffers; /* [threads][buffer_bytes], for the largest piece that is packed */
    size_t buffer_bytes;
    _Atomic bool failed; /* the file could not be read */
    struct piece *pieces;
    size_t n_pieces, n_alloc;
};

/* ---- the pieces ---- */

static void add_pieces(struct job *job, struct bn_weight *w, uint8_t *to)
{
    size_t rows = PIECE_BYTES / bn_weight_row_bytes(w) / BN_TILE_ROWS * BN_TILE_ROWS;

    rows = rows ? rows : BN_TILE_ROWS;
    for (size_t r = 0; r < w->n_rows; r += rows) {
        if (job->n_pieces == job->n_alloc) {
            job->n_alloc = job->n_alloc ? 2 * job->n_alloc : 256;
            job->pieces = bn_xrealloc(job->pieces, job->n_alloc * sizeof *job->pieces);
        }
        if (to)
            job->buffer_bytes = rows * bn_weight_row_bytes(w) > job->buffer_bytes
                                    ? rows * bn_weight_row_bytes(w)
                                    : job->buffer_bytes;
        job->pieces[job->n_pieces++] = (struct piece){w, to, r, bn_min_size(rows, w->n_rows - r)};
    }
}

static void read_in(const struct job *job, const uint8_t *from, size_t n)
{
#ifdef MADV_POPULATE_READ
    uintptr_t page = job->page_bytes, begin = (uintptr_t)from / page * page;

    /* a hint: older kernels refuse it, and then pages come when they are touched */
    madvise((void *)begin, bn_round_up((uintptr_t)from + n - begin, page), MADV_POPULATE_READ);
#else
    (void)job;
    (void)from;
    (void)n;
#endif
}

static void do_pieces(void *arg, size_t begin, size_t end, unsigned worker)
{
    struct job *job = arg;
    uint8_t *buffer = job->buffers + worker * job->buffer_bytes;

    for (size_t i = begin; i < end; i++) {
        const struct piece *p = &job->pieces[i];
        size_t row_bytes = (size_t)bn_weight_row_bytes(p->w), at = p->row * row_bytes,
               n = p->n_rows * row_bytes;
        const uint8_t *from = (const uint8_t *)p->w->data + at;
        if (!p->to) {
            if (job->map->p && job->read_in)
                read_in(job, from, n);
            continue;
        }
        if (job->map->p) {
            if (bn_map_read(job->map, buffer, (size_t)(from - job->map->p), n) != 0) {
                job->failed = true;
                return;
            }
            from = buffer;
        }
        if (p->w->type == BN_TYPE_I2_S)
            job->kernels->i2s_pack(from, p->to + at, p->n_rows, p->w->k);
        else
            bn_block_pack(job->kernels, p->w->type, from, p->to + at, p->n_rows, p->w->k);
    }
}

/* ---- the model ---- */

/* Does the matrix get tiles? Ternary ones where that is asked for, blocks always. */
static bool packs(const struct bn_weight *w, enum bn_layout ternary)
{
    return w->type == BN_TYPE_I2_S ? ternary == BN_LAYOUT_I2S : w->layout == BN_LAYOUT_FILE;
}

static size_t packed_bytes(const struct bn_weight *w)
{
    return bn_round_up(bn_round_up(w->n_rows, BN_TILE_ROWS) * bn_weight_row_bytes(w), 64);
}

/* All matrices that products use: layer by layer, then the output matrix; NULL behind them. */
static struct bn_weight *matrix(struct bn_model *m, size_t i)
{
    if (i >= (size_t)m->n_layer * MATRICES_A_LAYER)
        return i == (size_t)m->n_layer * MATRICES_A_LAYER ? &m->lm_head : NULL;
    struct bn_layer *l = &m->layers[i / MATRICES_A_LAYER];
    struct bn_weight *in_order[] = {&l->q, &l->k, &l->v, &l->output, &l->gate, &l->up, &l->down};

    return in_order[i % MATRICES_A_LAYER];
}

/* Room for all tiles, in huge pages where there are such: a product reads megabytes in sequence. */
static int allocate(struct bn_model *m, enum bn_layout ternary, struct bn_err *err)
{
    const struct bn_weight *w;
    size_t total = 0;

    for (size_t i = 0; (w = matrix(m, i)); i++)
        total += packs(w, ternary) ? packed_bytes(w) : 0;
    if (total == 0)
        return 0;
    void *p = mmap(NULL, total, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (p == MAP_FAILED)
        return bn_err_set(err, "%s: no memory for %zu MiB of prepared weights: %s", m->gguf.path, total >> 20,
                          strerror(errno));
    if (total >= HUGE_PAGE)
        madvise(p, total, MADV_HUGEPAGE);
    m->packed = p;
    m->packed_bytes = total;
    return 0;
}

/* A file beyond half of the memory is not read in: the kernel's own reading ahead knows better. */
static bool fits_memory(size_t bytes)
{
    long pages = sysconf(_SC_PHYS_PAGES), page_bytes = sysconf(_SC_PAGESIZE);

    return pages > 0 && page_bytes > 0 && bytes / (size_t)page_bytes < (size_t)pages / 2;
}

int bn_model_prepare(struct bn_model *m, const struct bn_kernels *kernels, struct bn_pool *pool,
                     enum bn_layout ternary, struct bn_err *err)
{
    struct job job = {.kernels = kernels, .map = &m->gguf.map};
    struct bn_weight *w;
    size_t used = 0;

    job.page_bytes = (size_t)sysconf(_SC_PAGESIZE);
    job.read_in = fits_memory(m->gguf.map.n);
    if (allocate(m, ternary, err) != 0)
        return -1;
    for (size_t i = 0; (w = matrix(m, i)); i++) {
        add_pieces(&job, w, packs(w, ternary) ? (uint8_t *)m->packed + used : NULL);
        used += packs(w, ternary) ? packed_bytes(w) : 0;
    }
    if (m->lm_head.data != m->embedding.data)
        add_pieces(&job, &m->embedding, NULL);
    job.buffers = bn_xmalloc(bn_pool_threads(pool) * job.buffer_bytes + 1);
    bn_pool_run(pool, do_pieces, &job, job.n_pieces, 1, m->weight_bytes * 2);
    free(job.buffers);
    if (job.failed) {
        free(job.pieces);
        return bn_err_set(err, "%s: cannot be read any more: was it changed or cut meanwhile?", m->gguf.path);
    }
    for (size_t i = 0; i < job.n_pieces; i++) {
        const struct piece *p = &job.pieces[i];
        if (p->to) {
            p->w->packed = p->to;
            p->w->layout = p->w->type == BN_TYPE_I2_S ? BN_LAYOUT_I2S : BN_LAYOUT_BLOCKS;
        }
    }
    free(job.pieces);
    return 0;
}
