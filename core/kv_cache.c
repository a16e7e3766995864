/* SPDX-License-Identifier: MIT
 * Into the cache: keys are spread over the lines of their tile, values stay rows or go into pairs of rows. */
#include "core/kv_cache.h"

#include <string.h>

static const char *const names[BN_KV_TYPES] = {"f16", "int8"};

const char *bn_kv_type_name(enum bn_kv_type type)
{
    return names[type];
}

int bn_kv_type_find(const char *name, enum bn_kv_type *type)
{
    for (size_t i = 0; i < BN_COUNT(names); i++) {
        if (strcmp(name, names[i]) == 0) {
            *type = (enum bn_kv_type)i;
            return 0;
        }
    }
    return -1;
}

/* Keys, their scales, values, their scales: a block is read in this order. */
struct bn_kv_block bn_kv_block_at(const struct bn_kv_cache *kv, size_t layer, size_t head, size_t chunk)
{
    size_t n = bn_kv_chunk_positions(kv, chunk);
    size_t scale_bytes = bn_round_up(n * bn_kv_scale_bytes(kv), 64);
    struct bn_kv_block block;

    block.keys = kv->memory + chunk * kv->n_layer * kv->n_head_kv * bn_kv_block_bytes(kv, BN_KV_CHUNK) +
                 (layer * kv->n_head_kv + head) * bn_kv_block_bytes(kv, n);
    uint8_t *key_scales = block.keys + bn_round_up(n * bn_kv_key_bytes(kv), 64);
    block.values = key_scales + scale_bytes;
    uint8_t *value_scales = block.values + bn_round_up(n * bn_kv_value_bytes(kv), 64);
    block.key_scales = scale_bytes ? (float *)(void *)key_scales : NULL;
    block.value_scales = scale_bytes ? (float *)(void *)value_scales : NULL;
    return block;
}

/* column: where in its tile the position stands, at dimension 0. */
static void store_key_f16(const struct bn_kernels *kernels, const float *k, uint16_t *column, size_t d)
{
    uint16_t halves[128];

    for (size_t i = 0; i < d; i += BN_COUNT(halves)) {
        size_t n = bn_min_size(BN_COUNT(halves), d - i);
        kernels->f32_to_f16(k + i, halves, n);
        for (size_t j = 0; j < n; j++)
            column[(i + j) * BN_ATTN_TILE] = halves[j];
    }
}

/* p: the position's place in the block. */
static void store_f16(const struct bn_kv_cache *kv, const struct bn_kernels *kernels,
                      const struct bn_kv_block *block, size_t p, const float *k, const float *v)
{
    size_t d = kv->head_dim;
    uint16_t *keys = (uint16_t *)(void *)block->keys, *values = (uint16_t *)(void *)block->values;

    store_key_f16(kernels, k, keys + p / BN_ATTN_TILE * BN_ATTN_TILE * d + p % BN_ATTN_TILE, d);
    kernels->f32_to_f16(v, values + p * d, d);
}

/* A key's codes are stored 128 higher, as the unsigned operand that dpbusd wants. */
static void store_int8(const struct bn_kv_cache *kv, const struct bn_kernels *kernels,
                       const struct bn_kv_block *block, size_t p, const float *k, const float *v,
                       int8_t *codes)
{
    size_t d = kv->head_dim;
    uint8_t *key = block->keys + p / BN_ATTN_TILE * BN_ATTN_TILE * bn_kv_key_bytes(kv) + p % BN_ATTN_TILE * 4;
    uint8_t *pair = block->values + p / 2 * 2 * d + p % 2;

    block->key_scales[p] = 1.0f / kernels->i8_quantize(k, codes, d).scale;
    for (size_t i = 0; i < d; i++)
        key[i / 4 * BN_ATTN_TILE * 4 + i % 4] = (uint8_t)(codes[i] + 128);
    block->value_scales[p] = 1.0f / kernels->i8_quantize(v, codes, d).scale;
    for (size_t i = 0; i < d; i++)
        pair[2 * i] = (uint8_t)codes[i];
}

/* Head after head, so that a tile is near while its positions are filled in. */
void bn_kv_store(struct bn_kv_cache *kv, const struct bn_kernels *kernels, size_t layer, size_t position,
                 const float *k, const float *v, size_t n, int8_t *scratch)
{
    for (size_t head = 0; head < kv->n_head_kv; head++) {
        for (size_t c = 0; c < n; c++) {
            size_t row = (c * kv->n_head_kv + head) * kv->head_dim, at = position + c;
            struct bn_kv_block block = bn_kv_block_at(kv, layer, head, at / BN_KV_CHUNK);
            if (kv->type == BN_KV_INT8)
                store_int8(kv, kernels, &block, at % BN_KV_CHUNK, k + row, v + row, scratch);
            else
                store_f16(kv, kernels, &block, at % BN_KV_CHUNK, k + row, v + row);
        }
    }
}
