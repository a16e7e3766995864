/* SPDX-License-Identifier: MIT
 * Preparing a model: one list of pieces of work, of some hundred kilobytes each, shared by all threads. A
 * piece that stays in the file has its pages mapped; one that gets another layout is read into a thread's
 * buffer, which stays in the cache: mapping its pages, only to drop them again, would take longer than the
 * work.
 *
 * Formats that have a scale for each block are gone through twice: do all blocks' scales agree, as in a
 * converted BitNet model, the matrix is like one of I2_S. */
#include "core/prepare.h"

#include <errno.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "core/repack.h"
#include "kernels/unpack.h"

enum {
    PIECE_BYTES = 256 << 10,
    HUGE_PAGE = 2 << 20,
};

/* What is known of some blocks' F16 scales. */
struct scales {
    uint16_t first;
    bool same, finite;
};

/* A matrix and what becomes of it. */
struct matrix {
    struct bn_weight *w;
    uint32_t layer;
    int number;     /* in its layer; the last matrix is the output matrix, in none */
    uint32_t block; /* of the file: weights that share a scale; 0 = the format has one a tensor */
    struct scales scales;
    struct bn_weight to; /* as it will be */
    _Atomic bool code3;  /* found where the layout has no index for it */
};

/* Rows of one matrix that are done in one go. */
struct piece {
    const struct bn_weight *w;
    struct matrix *m; /* NULL = an embedding for look-ups only: it stays in the file */
    size_t row, n_rows;
    struct scales scales;
};

struct job {
    struct bn_model *model;
    const struct bn_kernels *kernels;
    const struct bn_map *map; /* of the file; p NULL = it is not a file */
    size_t page_bytes;
    bool read_in; /* the file fits in memory */
    struct matrix *matrices;
    size_t n_matrices;
    struct piece *pieces;
    size_t n_pieces, n_alloc;
    uint8_t *buffers; /* [threads][buffer_bytes]: the largest piece that is read, then scratch */
    size_t buffer_bytes, scratch_bytes;
    _Atomic bool failed; /* the file could not be read */
};

/* ---- matrices and pieces ---- */

static uint32_t file_block(uint32_t type)
{
    return type == BN_TYPE_BITNET32                         ? BN_BITNET32_BLOCK
           : type == BN_TYPE_TQ1_0 || type == BN_TYPE_TQ2_0 ? BN_TQ_BLOCK
                                                            : 0;
}

static void list_matrices(struct job *job)
{
    struct bn_model *model = job->model;

    job->n_matrices = (size_t)model->n_layer * BN_LAYER_MATRICES + 1;
    job->matrices = bn_xcalloc(job->n_matrices, sizeof *job->matrices);
    for (uint32_t i = 0; i < model->n_layer; i++) {
        struct bn_weight *all[BN_LAYER_MATRICES];
        struct matrix *m = &job->matrices[(size_t)i * BN_LAYER_MATRICES];
        bn_layer_matrices(&model->layers[i], all);
        for (int w = 0; w < BN_LAYER_MATRICES; w++, m++)
            *m = (struct matrix){.w = all[w], .layer = i, .number = w, .block = file_block(all[w]->type)};
    }
    job->matrices[job->n_matrices - 1] = (struct matrix){.w = &model->lm_head};
}

static void add_pieces(struct job *job, const struct bn_weight *w, struct matrix *m)
{
    size_t row_bytes = bn_weight_row_bytes(w),
           rows = PIECE_BYTES / row_bytes / BN_REPACK_ROWS * BN_REPACK_ROWS;

    rows = rows ? rows : BN_REPACK_ROWS;
    for (size_t r = 0; r < w->n_rows; r += rows) {
        bn_grow(&job->pieces, &job->n_alloc, job->n_pieces + 1, sizeof *job->pieces);
        job->pieces[job->n_pieces++] =
            (struct piece){.w = w, .m = m, .row = r, .n_rows = bn_min_size(rows, w->n_rows - r)};
    }
    if (w->layout == BN_LAYOUT_FLOAT || !m)
        return;
    size_t piece_bytes = bn_round_up(rows * row_bytes, 64), scratch_bytes = bn_repack_scratch_bytes(w->k);
    job->buffer_bytes = piece_bytes > job->buffer_bytes ? piece_bytes : job->buffer_bytes;
    job->scratch_bytes = scratch_bytes > job->scratch_bytes ? scratch_bytes : job->scratch_bytes;
}

static void list_pieces(struct job *job, struct bn_pool *pool)
{
    struct bn_model *model = job->model;

    list_matrices(job);
    for (size_t i = 0; i < job->n_matrices; i++)
        add_pieces(job, job->matrices[i].w, &job->matrices[i]);
    if (model->lm_head.data != model->embedding.data)
        add_pieces(job, &model->embedding, NULL);
    job->buffers = bn_xmalloc(bn_pool_threads(pool) * (job->buffer_bytes + job->scratch_bytes) + 1);
}

static uint8_t *buffer_of(const struct job *job, unsigned worker)
{
    return job->buffers + worker * (job->buffer_bytes + job->scratch_bytes);
}

/* The piece's bytes of the file; NULL: they could not be read. */
static const uint8_t *fetch(struct job *job, const struct piece *p, unsigned worker)
{
    size_t row_bytes = bn_weight_row_bytes(p->w);
    const uint8_t *from = (const uint8_t *)p->w->data + p->row * row_bytes;

    if (!job->map->p)
        return from;
    if (bn_map_read(job->map, buffer_of(job, worker), (size_t)(from - job->map->p), p->n_rows * row_bytes) ==
        0)
        return buffer_of(job, worker);
    job->failed = true;
    return NULL;
}

static int fail(const struct job *job, const struct matrix *m, struct bn_err *err, const char *what)
{
    return bn_err_set(err, "%s: tensor blk.%u.%s.weight: %s", job->model->gguf.path, m->layer,
                      bn_layer_matrix_names[m->number], what);
}

static int check_read(const struct job *job, struct bn_err *err)
{
    if (!job->failed)
        return 0;
    return bn_err_set(err, "%s: cannot be read any more: was it changed or cut meanwhile?",
                      job->model->gguf.path);
}

/* ---- scales: the last two bytes of every block ---- */

static void look_at_scales(void *arg, size_t begin, size_t end, unsigned worker)
{
    struct job *job = arg;

    for (size_t i = begin; i < end; i++) {
        struct piece *p = &job->pieces[i];
        struct scales s = {0, true, true};
        if (!p->m || !p->m->block)
            continue;
        const uint8_t *at = fetch(job, p, worker);
        if (!at)
            return;
        size_t step = bn_type_row_bytes(p->w->type, p->m->block), n = p->n_rows * (p->w->k / p->m->block);
        memcpy(&s.first, at + step - sizeof s.first, sizeof s.first);
        for (; n > 0; n--, at += step) {
            uint16_t scale;
            memcpy(&scale, at + step - sizeof scale, sizeof scale);
            s.same = s.same && scale == s.first;
            s.finite = s.finite && (scale & 0x7c00) != 0x7c00;
        }
        p->scales = s;
    }
}

static void compare_scales(struct job *job, struct bn_pool *pool)
{
    bool any = false;

    for (size_t i = 0; i < job->n_matrices; i++)
        any |= job->matrices[i].block != 0;
    if (!any)
        return;
    bn_pool_run(pool, look_at_scales, job, job->n_pieces, 1, job->model->weight_bytes);
    for (size_t i = 0; i < job->n_pieces; i++) {
        const struct piece *p = &job->pieces[i];
        struct scales *all = p->m ? &p->m->scales : NULL;
        if (all && p->row == 0)
            *all = p->scales;
        if (all) {
            all->same = all->same && p->scales.same && p->scales.first == all->first;
            all->finite = all->finite && p->scales.finite;
        }
    }
}

/* ---- layouts ---- */

/* m->to: the matrix in `ternary` if it has one scale, else with block scales. */
static int choose(const struct job *job, struct matrix *m, enum bn_layout ternary, struct bn_err *err)
{
    bool blocks = m->block && !m->scales.same;

    m->to = *m->w;
    if (m->w->layout == BN_LAYOUT_FILE && !bn_type_is_ternary(m->w->type))
        bn_repack_set_layout(&m->to, BN_LAYOUT_BLOCKS);
    if (!bn_type_is_ternary(m->w->type))
        return 0;
    if (m->block && !m->scales.finite)
        return fail(job, m, err, "a block's scale is not finite");
    if (blocks && ternary != BN_LAYOUT_I2S)
        return fail(job, m, err, "its blocks have scales of their own: --kernel i2s expected");
    if (ternary == BN_LAYOUT_QK256 && m->w->k % BN_I2S_BLOCK)
        return fail(job, m, err, "its rows are no whole blocks of 128: --kernel i2s expected");
    if (blocks) {
        m->to.block = m->block;
    } else if (m->block) {
        job->kernels->f16_to_f32(&m->scales.first, &m->to.scale, 1);
        if (m->w->type == BN_TYPE_BITNET32)
            m->to.scale = -m->to.scale; /* bn_unpack_bitnet32 */
    }
    if (ternary != m->w->layout)
        bn_repack_set_layout(&m->to, blocks ? BN_LAYOUT_I2S_BLOCK : ternary);
    return 0;
}

static bool moves(const struct matrix *m)
{
    return m->to.layout != m->w->layout;
}

/* Room for what moves, in huge pages where there are such: a product reads megabytes in sequence. */
static int allocate(struct job *job, struct bn_err *err)
{
    struct bn_model *model = job->model;
    size_t total = 0, used = 0;

    for (size_t i = 0; i < job->n_matrices; i++)
        total += moves(&job->matrices[i]) ? bn_round_up(bn_weight_stream_bytes(&job->matrices[i].to), 64) : 0;
    if (total == 0)
        return 0;
    void *p = mmap(NULL, total, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (p == MAP_FAILED)
        return bn_err_set(err, "%s: no memory for %zu MiB of prepared weights: %s", model->gguf.path,
                          total >> 20, strerror(errno));
    if (total >= HUGE_PAGE)
        madvise(p, total, MADV_HUGEPAGE);
    model->packed = p;
    model->packed_bytes = total;
    for (size_t i = 0; i < job->n_matrices; i++) {
        struct matrix *m = &job->matrices[i];
        if (!moves(m))
            continue;
        m->to.packed = (uint8_t *)p + used;
        used += bn_round_up(bn_weight_stream_bytes(&m->to), 64);
    }
    return 0;
}

/* ---- the work ---- */

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

    for (size_t i = begin; i < end; i++) {
        const struct piece *p = &job->pieces[i];
        size_t row_bytes = bn_weight_row_bytes(p->w);
        if (!p->m || !moves(p->m)) {
            if (job->map->p && job->read_in)
                read_in(job, (const uint8_t *)p->w->data + p->row * row_bytes, p->n_rows * row_bytes);
            continue;
        }
        const uint8_t *rows = fetch(job, p, worker);
        if (!rows)
            return;
        if (!bn_repack_rows(job->kernels, p->w, rows, &p->m->to, p->row, p->n_rows,
                            buffer_of(job, worker) + job->buffer_bytes))
            p->m->code3 = true;
    }
}

/* Every matrix gets its new layout, once all of it is there. */
static void move_in(struct job *job)
{
    struct bn_model *model = job->model;

    for (size_t i = 0; i < job->n_matrices; i++) {
        struct matrix *m = &job->matrices[i];
        if (moves(m))
            model->bytes_per_token += bn_weight_stream_bytes(&m->to) - m->w->size_bytes;
        *m->w = m->to;
    }
}

static int prepare(struct job *job, struct bn_pool *pool, enum bn_layout ternary, struct bn_err *err)
{
    list_pieces(job, pool);
    compare_scales(job, pool);
    if (check_read(job, err) != 0)
        return -1;
    for (size_t i = 0; i < job->n_matrices; i++) {
        if (choose(job, &job->matrices[i], ternary, err) != 0)
            return -1;
    }
    if (allocate(job, err) != 0)
        return -1;
    bn_pool_run(pool, do_pieces, job, job->n_pieces, 1, job->model->weight_bytes * 2);
    if (check_read(job, err) != 0)
        return -1;
    for (size_t i = 0; i < job->n_matrices; i++) {
        if (job->matrices[i].code3)
            return fail(job, &job->matrices[i], err,
                        "it has a code of 3, which look-up kernels cannot express: --kernel i2s expected");
    }
    move_in(job);
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
    struct job job = {.model = m, .kernels = kernels, .map = &m->gguf.map};

    job.page_bytes = (size_t)sysconf(_SC_PAGESIZE);
    job.read_in = fits_memory(m->gguf.map.n);
    int status = prepare(&job, pool, ternary, err);
    free(job.matrices);
    free(job.pieces);
    free(job.buffers);
    return status;
}
