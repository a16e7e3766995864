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

static void store_f16(struct bn_kv_cache *kv, const struct bn_kernels *kernels, size_t layer, size_t head,
                      size_t position, const float *k, const float *v)
{
    uint16_t *tile = (uint16_t *)(void *)bn_kv_keys(kv, layer, head, position / BN_ATTN_TILE * BN_ATTN_TILE);

    store_key_f16(kernels, k, tile + position % BN_ATTN_TILE, kv->head_dim);
    kernels->f32_to_f16(v, (uint16_t *)(void *)bn_kv_values(kv, layer, head, position), kv->head_dim);
}

/* A key's codes are stored 128 higher, as the unsigned operand that dpbusd wants. */
static void store_int8(struct bn_kv_cache *kv, const struct bn_kernels *kernels, size_t layer, size_t head,
                       size_t position, const float *k, const float *v, int8_t *codes)
{
    size_t d = kv->head_dim, at = bn_kv_at(kv, layer, head, position);
    uint8_t *key =
        bn_kv_keys(kv, layer, head, position / BN_ATTN_TILE * BN_ATTN_TILE) + position % BN_ATTN_TILE * 4;
    uint8_t *pair = bn_kv_values(kv, layer, head, position / 2 * 2) + position % 2;

    kv->key_scales[at] = 1.0f / kernels->i8_quantize(k, codes, d).scale;
    for (size_t i = 0; i < d; i++)
        key[i / 4 * BN_ATTN_TILE * 4 + i % 4] = (uint8_t)(codes[i] + 128);
    kv->value_scales[at] = 1.0f / kernels->i8_quantize(v, codes, d).scale;
    for (size_t i = 0; i < d; i++)
        pair[2 * i] = (uint8_t)codes[i];
}

/* Head after head, so that a tile is near while its positions are filled in. */
void bn_kv_store(struct bn_kv_cache *kv, const struct bn_kernels *kernels, size_t layer, size_t position,
                 const float *k, const float *v, size_t n, int8_t *scratch)
{
    for (size_t head = 0; head < kv->n_head_kv; head++) {
        for (size_t c = 0; c < n; c++) {
            size_t row = (c * kv->n_head_kv + head) * kv->head_dim;
            if (kv->type == BN_KV_INT8)
                store_int8(kv, kernels, layer, head, position + c, k + row, v + row, scratch);
            else
                store_f16(kv, kernels, layer, head, position + c, k + row, v + row);
        }
    }
}
