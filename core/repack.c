/* SPDX-License-Identifier: MIT
 * Repacking by way of codes, one a byte; for the usual pair of format and layout, and for block formats,
 * there are kernels. */
#include "core/repack.h"

#include <string.h>

#include "core/block.h"
#include "kernels/lut.h"
#include "kernels/pack.h"
#include "kernels/unpack.h"

void bn_repack_set_layout(struct bn_weight *w, enum bn_layout layout)
{
    w->layout = layout;
    switch (layout) {
    case BN_LAYOUT_I2S_BLOCK:
        w->tile_rows = BN_TILE_ROWS;
        w->tile_bytes = bn_pack_block_bytes(BN_TILE_ROWS, w->k, w->block);
        break;
    case BN_LAYOUT_BLOCKS:
        w->tile_rows = BN_TILE_ROWS;
        w->tile_bytes = BN_TILE_ROWS * bn_weight_row_bytes(w);
        break;
    case BN_LAYOUT_TL1:
        w->tile_rows = BN_LUT_ROWS;
        w->tile_bytes = bn_tl1_tile_bytes(w->k);
        break;
    case BN_LAYOUT_TL2:
        w->tile_rows = BN_LUT_ROWS;
        w->tile_bytes = bn_tl2_tile_bytes(w->k);
        break;
    case BN_LAYOUT_I2S:
        w->tile_rows = BN_TILE_ROWS;
        w->tile_bytes = bn_pack_i2s_bytes(BN_TILE_ROWS, w->k);
        break;
    default:
        w->tile_rows = 1;
        w->tile_bytes = w->k / 4;
    }
}

/* ---- scratch: a row's codes, its scales, a tile's rows in the order of files ---- */

struct scratch {
    uint8_t *codes;
    uint16_t *scales;
    uint8_t *rows;
};

static size_t codes_bytes(size_t k)
{
    return bn_round_up(k, 64);
}

static size_t scales_bytes(size_t k)
{
    return bn_round_up(k / BN_BITNET32_BLOCK * sizeof(uint16_t), 64);
}

size_t bn_repack_scratch_bytes(size_t k)
{
    return bn_round_up(codes_bytes(k) + scales_bytes(k) + BN_TILE_ROWS * (k / 4), 64);
}

static void unpack(const struct bn_weight *from, const uint8_t *row, const struct scratch *s)
{
    switch (from->type) {
    case BN_TYPE_BITNET32:
        bn_unpack_bitnet32(row, s->codes, s->scales, from->k);
        break;
    case BN_TYPE_TQ1_0:
        bn_unpack_tq1_0(row, s->codes, s->scales, from->k);
        break;
    case BN_TYPE_TQ2_0:
        bn_unpack_tq2_0(row, s->codes, s->scales, from->k);
        break;
    default:
        bn_unpack_i2s(row, s->codes, from->k);
    }
}

static void zero_row(size_t k, const struct scratch *s)
{
    memset(s->codes, 1, k);
    memset(s->scales, 0, scales_bytes(k));
}

/* Into tiles of I2S through the order of files: its rows have a fast kernel. */
static void pack_i2s_tile(const struct bn_kernels *kernels, const struct bn_weight *from, const uint8_t *rows,
                          uint8_t *tile, size_t n_rows, const struct scratch *s)
{
    size_t k = from->k, row_bytes = bn_weight_row_bytes(from);

    for (size_t r = 0; r < n_rows; r++) {
        unpack(from, rows + r * row_bytes, s);
        bn_pack_file_row(s->codes, s->rows + r * (k / 4), k);
    }
    kernels->i2s_pack(s->rows, tile, n_rows, k);
}

static void pack_row(const struct bn_weight *to, uint8_t *tile, size_t row, const struct scratch *s)
{
    switch (to->layout) {
    case BN_LAYOUT_QK256:
        bn_pack_file_row(s->codes, tile, to->k);
        break;
    case BN_LAYOUT_I2S_BLOCK:
        bn_pack_block_row(s->codes, s->scales, tile, row, to->k, to->block);
        break;
    case BN_LAYOUT_TL1:
        bn_tl1_pack_row(s->codes, tile, row, to->k);
        break;
    case BN_LAYOUT_TL2:
        bn_tl2_pack_row(s->codes, tile, row, to->k);
        break;
    default:
        bn_pack_i2s_row(s->codes, tile, row, to->k);
    }
}

/* Eight codes at a time. */
static bool has_code3(const uint8_t *codes, size_t k)
{
    uint64_t both = 0;

    for (size_t i = 0; i < k; i += sizeof both) {
        uint64_t eight = 0;

        memcpy(&eight, codes + i, bn_min_size(sizeof eight, k - i));
        both |= eight & eight >> 1;
    }
    return both & 0x0101010101010101;
}

/* A tile, or what there is of the last one. */
static bool pack_tile(const struct bn_weight *from, const uint8_t *rows, const struct bn_weight *to,
                      uint8_t *tile, size_t n_rows, const struct scratch *s)
{
    bool indices = to->layout == BN_LAYOUT_TL1 || to->layout == BN_LAYOUT_TL2;

    for (size_t r = 0; r < to->tile_rows; r++) {
        if (r < n_rows)
            unpack(from, rows + r * bn_weight_row_bytes(from), s);
        else
            zero_row(to->k, s);
        if (indices && has_code3(s->codes, to->k))
            return false;
        pack_row(to, tile, r, s);
    }
    return true;
}

bool bn_repack_rows(const struct bn_kernels *kernels, const struct bn_weight *from, const uint8_t *rows,
                    const struct bn_weight *to, size_t row, size_t n_rows, uint8_t *scratch)
{
    size_t k = from->k, row_bytes = bn_weight_row_bytes(from);
    uint8_t *tile = (uint8_t *)(uintptr_t)bn_weight_rows(to, row);
    struct scratch s = {.codes = scratch, .scales = (uint16_t *)(void *)(scratch + codes_bytes(k))};

    s.rows = scratch + codes_bytes(k) + scales_bytes(k);
    if (from->layout == BN_LAYOUT_QK256 && to->layout == BN_LAYOUT_I2S) {
        kernels->i2s_pack(rows, tile, n_rows, k);
        return true;
    }
    if (to->layout == BN_LAYOUT_BLOCKS) {
        bn_block_pack(kernels, from->type, rows, tile, n_rows, k);
        return true;
    }
    for (size_t r = 0; r < n_rows; r += to->tile_rows, tile += to->tile_bytes) {
        size_t n = bn_min_size(to->tile_rows, n_rows - r);
        if (to->layout == BN_LAYOUT_I2S && k % BN_I2S_BLOCK == 0)
            pack_i2s_tile(kernels, from, rows + r * row_bytes, tile, n, &s);
        else if (!pack_tile(from, rows + r * row_bytes, to, tile, n, &s))
            return false;
    }
    return true;
}
