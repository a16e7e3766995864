/* SPDX-License-Identifier: MIT
 * Floats to blocks: a tile of 32 rows is a piece of work, and stays in the cache from the floats of its rows
 * to their tile. */
#include "core/encode.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#include "core/block.h"
#include "core/repack.h"
#include "kernels/pack.h"

enum { HUGE_PAGE = 2 << 20 };

struct job {
    const struct bn_weight *from;
    const struct bn_kernels *kernels;
    uint32_t type;
    size_t row_bytes; /* of the blocks */
    uint8_t *tiles;
    float *values; /* [threads][k] */
    uint8_t *rows; /* [threads][32][row_bytes] */
};

/* Row r as floats: in `buffer`, or where it stands. */
static const float *row_values(const struct job *job, size_t r, float *buffer)
{
    const struct bn_weight *w = job->from;
    const uint8_t *row = (const uint8_t *)w->data + r * bn_weight_row_bytes(w);

    switch (w->type) {
    case BN_TYPE_F32:
        return (const float *)(const void *)row;
    case BN_TYPE_F16:
        job->kernels->f16_to_f32((const uint16_t *)(const void *)row, buffer, w->k);
        return buffer;
    case BN_TYPE_BF16:
        job->kernels->bf16_to_f32((const uint16_t *)(const void *)row, buffer, w->k);
        return buffer;
    default:
        bn_block_to_f32(job->kernels, w->type, row, buffer, w->k);
        return buffer;
    }
}

static void encode_tiles(void *arg, size_t begin, size_t end, unsigned worker)
{
    const struct job *job = arg;
    size_t k = job->from->k, n_rows = job->from->n_rows, tile_bytes = BN_TILE_ROWS * job->row_bytes;
    float *buffer = job->values + worker * k;
    uint8_t *rows = job->rows + worker * tile_bytes;

    for (size_t t = begin; t < end; t++) {
        size_t first = t * BN_TILE_ROWS, n = bn_min_size(BN_TILE_ROWS, n_rows - first);
        for (size_t i = 0; i < n; i++)
            bn_block_encode(job->kernels, job->type, row_values(job, first + i, buffer),
                            rows + i * job->row_bytes, k);
        bn_block_pack(job->kernels, job->type, rows, job->tiles + t * tile_bytes, n, k);
    }
}

int bn_encode_matrix(const struct bn_weight *from, uint32_t type, const struct bn_kernels *kernels,
                     struct bn_pool *pool, struct bn_weight *to, void **memory, size_t *memory_bytes,
                     const char *path, struct bn_err *err)
{
    const struct bn_block *block = bn_block_of(type);
    struct job job = {.from = from, .kernels = kernels, .type = type};
    size_t n_tiles = (from->n_rows + BN_TILE_ROWS - 1) / BN_TILE_ROWS, n_threads = bn_pool_threads(pool);

    *to = *from;
    to->type = type;
    if (from->k % block->elements != 0)
        return bn_err_set(err, "%s: rows of %u values, but %s needs multiples of %u", path, from->k,
                          block->name, block->elements);
    job.row_bytes = bn_weight_row_bytes(to);
    *memory_bytes = n_tiles * BN_TILE_ROWS * job.row_bytes;
    *memory = mmap(NULL, *memory_bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (*memory == MAP_FAILED) {
        *memory = NULL;
        return bn_err_set(err, "%s: no memory for %zu MiB of %s weights: %s", path, *memory_bytes >> 20,
                          block->name, strerror(errno));
    }
    if (*memory_bytes >= HUGE_PAGE)
        madvise(*memory, *memory_bytes, MADV_HUGEPAGE);
    job.tiles = *memory;
    job.values = bn_xmalloc(n_threads * from->k * sizeof *job.values);
    job.rows = bn_xmalloc(n_threads * BN_TILE_ROWS * job.row_bytes);
    bn_pool_run(pool, encode_tiles, &job, n_tiles, 1, from->size_bytes * 4);
    free(job.values);
    free(job.rows);
    to->packed = *memory;
    bn_repack_set_layout(to, BN_LAYOUT_BLOCKS);
    to->size_bytes = from->n_rows * job.row_bytes;
    return 0;
}
