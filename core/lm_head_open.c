/* SPDX-License-Identifier: MIT
 * Making the low-bit planes of the last matrix: a tile of 32 rows is a piece of work, all threads share them.
 */
#include "core/lm_head_parts.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "core/encode.h"

enum {
    ALIGN = 4096,
    CACHE_LINE = 64,
    MAX_K = 65536,                 /* what the kernels' int32 sums hold */
    UNKNOWN_CACHE_BYTES = 32 << 20 /* of a machine that does not tell */
};

/* ---- which mode ---- */

bool bn_lm_head_can_screen(const struct bn_weight *w)
{
    return w->layout == BN_LAYOUT_FLOAT && w->k >= 1 && w->k <= MAX_K && w->extra_scale == 1.0f && !w->bias;
}

/* The last cache: what does not fit there is read from memory at every token, and its bytes are its cost. */
static uint64_t last_cache_bytes(void)
{
    long bytes = 0;

#ifdef _SC_LEVEL3_CACHE_SIZE
    bytes = sysconf(_SC_LEVEL3_CACHE_SIZE);
    bytes = bytes > 0 ? bytes : sysconf(_SC_LEVEL2_CACHE_SIZE);
#endif
    return bytes > 0 ? (uint64_t)bytes : UNKNOWN_CACHE_BYTES;
}

enum bn_lm_head_mode bn_lm_head_choose(const struct bn_weight *w, const struct bn_kernels *kernels,
                                       uint32_t n_top)
{
    const char *symbol = kernels->symbol[BN_KERNEL_screen_high_gemv];
    bool fast = strcmp(symbol, "screen_high_gemv_c") != 0;

    return fast && n_top > 0 && n_top <= w->n_rows / BN_LM_HEAD_SHARE && bn_lm_head_can_screen(w) &&
                   w->size_bytes > last_cache_bytes()
               ? BN_LM_HEAD_SCREENED
               : BN_LM_HEAD_F16;
}

/* ---- memory ---- */

struct layout {
    char *base; /* NULL: only measure */
    size_t used;
};

static void *take(struct layout *l, size_t count, size_t size_bytes)
{
    size_t at = l->used;

    l->used += bn_round_up(count * size_bytes, ALIGN);
    return l->base ? l->base + at : NULL;
}

/* The planes first: they are what is read in long streams. */
static void lay_out(struct bn_lm_head *h, struct layout *l)
{
    size_t rows = h->n_blocks * BN_LM_HEAD_BLOCK;

    h->high = take(l, h->n_tiles, bn_screen_high_bytes(h->k));
    h->mid = take(l, h->n_tiles * BN_TILE_ROWS, bn_screen_mid_bytes(h->k));
    h->low = take(l, h->n_tiles * BN_TILE_ROWS, bn_screen_low_bytes(h->k));
    h->scale = take(l, rows, sizeof *h->scale);
    h->norm = take(l, rows, sizeof *h->norm);
    for (int p = 0; p < BN_SCREEN_PLANES; p++)
        h->error[p] = take(l, rows, sizeof *h->error[p]);
    h->y = take(l, rows, sizeof *h->y);
    h->ids = take(l, rows, sizeof *h->ids);
    h->n_ids = take(l, h->n_blocks, sizeof *h->n_ids);
    h->best = take(l, h->n_blocks, sizeof *h->best);
    h->candidates = take(l, rows, sizeof *h->candidates);
    h->query.x = take(l, 2 * h->k + BN_SCREEN_MID_GROUP, 1);
}

static int allocate(struct bn_lm_head *h, const char *path, struct bn_err *err)
{
    struct layout measure = {0}, place = {0};

    lay_out(h, &measure);
    place.base = mmap(NULL, measure.used, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (place.base == MAP_FAILED)
        return bn_err_set(err, "%s: no memory for %zu MiB of a screened lm_head: %s", path,
                          measure.used >> 20, strerror(errno));
    madvise(place.base, measure.used, MADV_HUGEPAGE);
    h->memory = place.base;
    h->memory_bytes = measure.used;
    lay_out(h, &place);
    return 0;
}

/* ---- codes ---- */

struct job {
    struct bn_lm_head *h;
    float *rows;    /* [threads][k] */
    uint8_t *codes; /* [threads][32][k] */
};

static const void *file_row(const struct bn_lm_head *h, size_t row)
{
    return (const uint8_t *)h->w->data + row * bn_weight_row_bytes(h->w);
}

static void to_float(const struct bn_lm_head *h, size_t row, float *out)
{
    const struct bn_weight *w = h->w;

    if (w->type == BN_TYPE_F16)
        h->kernels->f16_to_f32(file_row(h, row), out, w->k);
    else if (w->type == BN_TYPE_BF16)
        h->kernels->bf16_to_f32(file_row(h, row), out, w->k);
    else
        memcpy(out, file_row(h, row), w->k * sizeof *out);
}

/* Rows that the last tile has too many are zeros. */
static void make_tiles(void *arg, size_t begin, size_t end, unsigned worker)
{
    const struct job *job = arg;
    struct bn_lm_head *h = job->h;
    float *row = job->rows + worker * h->k;
    uint8_t *codes = job->codes + worker * h->k * BN_TILE_ROWS;

    for (size_t t = begin; t < end; t++) {
        for (size_t i = 0, r = t * BN_TILE_ROWS; i < BN_TILE_ROWS; i++, r++) {
            struct bn_screen_row made = {0};

            memset(codes + i * h->k, 0, h->k);
            if (r < h->w->n_rows) {
                to_float(h, r, row);
                made = h->kernels->screen_encode(row, file_row(h, r + 1), codes + i * h->k, h->k);
            }
            h->scale[r] = made.scale;
            h->norm[r] = made.norm;
            for (int p = 0; p < BN_SCREEN_PLANES; p++)
                h->error[p][r] = made.error[p];
        }
        h->kernels->screen_pack(codes, h->high + t * bn_screen_high_bytes(h->k),
                                h->mid + t * BN_TILE_ROWS * bn_screen_mid_bytes(h->k),
                                h->low + t * BN_TILE_ROWS * bn_screen_low_bytes(h->k), h->k);
    }
}

/* Scratch begins at cache lines: vectors of 64 bytes that lie across two of them take twice as long. */
static void make_codes(struct bn_lm_head *h, struct bn_pool *pool)
{
    size_t n_threads = bn_pool_threads(pool), row_bytes = h->k * sizeof(float);
    size_t size = n_threads * (row_bytes + h->k * BN_TILE_ROWS);
    char *scratch = bn_xcalloc(size + CACHE_LINE, 1);
    char *first = scratch + (CACHE_LINE - (uintptr_t)scratch % CACHE_LINE);
    struct job job = {
        .h = h, .rows = (float *)(void *)first, .codes = (uint8_t *)first + n_threads * row_bytes};

    bn_pool_run(pool, make_tiles, &job, h->n_tiles, 1, h->w->size_bytes * 3);
    free(scratch);
}

/* ---- blocks ---- */

static int make_blocks(struct bn_lm_head *h, const struct bn_model *m, struct bn_pool *pool,
                       struct bn_err *err)
{
    static const uint32_t types[BN_LM_HEAD_MODES] = {
        [BN_LM_HEAD_Q8_0] = BN_TYPE_Q8_0, [BN_LM_HEAD_Q6_K] = BN_TYPE_Q6_K, [BN_LM_HEAD_Q4_0] = BN_TYPE_Q4_0};

    if (m->lm_head.type == types[h->mode]) /* it is that small already */
        return 0;
    if (bn_encode_matrix(&m->lm_head, types[h->mode], h->kernels, pool, &h->made, &h->memory,
                         &h->memory_bytes, m->gguf.path, err) != 0)
        return -1;
    h->w = &h->made;
    return 0;
}

/* ---- open and close ---- */

int bn_lm_head_open(struct bn_lm_head *h, const struct bn_model *m, const struct bn_kernels *kernels,
                    struct bn_pool *pool, enum bn_lm_head_mode mode, struct bn_err *err)
{
    const struct bn_weight *w = &m->lm_head;

    *h = (struct bn_lm_head){.mode = mode, .w = w, .kernels = kernels};
    if (mode == BN_LM_HEAD_F16)
        return 0;
    if (mode != BN_LM_HEAD_SCREENED)
        return make_blocks(h, m, pool, err);
    if (!bn_lm_head_can_screen(w))
        return bn_err_set(err, "%s: --lm-head screened: the last matrix has a scale, a bias or rows of %u",
                          m->gguf.path, w->k);
    h->k = bn_round_up(w->k, BN_SCREEN_UNIT);
    h->n_tiles = (w->n_rows + BN_TILE_ROWS - 1) / BN_TILE_ROWS;
    h->n_blocks = (w->n_rows + BN_LM_HEAD_BLOCK - 1) / BN_LM_HEAD_BLOCK;
    if (allocate(h, m->gguf.path, err) != 0)
        return -1;
    make_codes(h, pool);
    return 0;
}

void bn_lm_head_close(struct bn_lm_head *h)
{
    if (h->memory)
        munmap(h->memory, h->memory_bytes);
    memset(h, 0, sizeof *h);
}
