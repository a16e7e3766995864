/* SPDX-License-Identifier: MIT
 * Keys and values of the positions so far, in the order in which the attention kernels read them
 * (docs/formats.md#kv-cache). */
#ifndef CORE_KV_CACHE_H
#define CORE_KV_CACHE_H

#include "core/base.h"
#include "kernels/attn.h"
#include "kernels/kernels.h"

enum bn_kv_type { BN_KV_F16, BN_KV_INT8, BN_KV_TYPES };

struct bn_kv_cache {
    enum bn_kv_type type;
    size_t n_layer, n_head_kv, head_dim;
    size_t n_positions;               /* a multiple of BN_ATTN_TILE */
    uint8_t *keys, *values;           /* bn_kv_side_bytes each */
    float *key_scales, *value_scales; /* int8 only: [n_layer][n_head_kv][n_positions] */
};

/* "f16", "int8" */
const char *bn_kv_type_name(enum bn_kv_type type);
/* 0, or -1 if no type is called so. */
int bn_kv_type_find(const char *name, enum bn_kv_type *type);

/* Bytes of a head's key at one position, without its scale; int8 keys are padded to whole fours. */
static inline size_t bn_kv_key_bytes(const struct bn_kv_cache *kv)
{
    return kv->type == BN_KV_INT8 ? bn_round_up(kv->head_dim, 4) : kv->head_dim * sizeof(uint16_t);
}

/* The same of a value. */
static inline size_t bn_kv_value_bytes(const struct bn_kv_cache *kv)
{
    return kv->type == BN_KV_INT8 ? kv->head_dim : kv->head_dim * sizeof(uint16_t);
}

/* Bytes of a scale, of which there is one a head and position for keys and one for values. */
static inline size_t bn_kv_scale_bytes(const struct bn_kv_cache *kv)
{
    return kv->type == BN_KV_INT8 ? sizeof(float) : 0;
}

/* Where a head's position stands among all layers' heads' positions. */
static inline size_t bn_kv_at(const struct bn_kv_cache *kv, size_t layer, size_t head, size_t position)
{
    return (layer * kv->n_head_kv + head) * kv->n_positions + position;
}

/* A head's keys from a position on that is a multiple of BN_ATTN_TILE; its values from an even position on.
 */
static inline uint8_t *bn_kv_keys(const struct bn_kv_cache *kv, size_t layer, size_t head, size_t position)
{
    return kv->keys + bn_kv_at(kv, layer, head, position) * bn_kv_key_bytes(kv);
}

static inline uint8_t *bn_kv_values(const struct bn_kv_cache *kv, size_t layer, size_t head, size_t position)
{
    return kv->values + bn_kv_at(kv, layer, head, position) * bn_kv_value_bytes(kv);
}

/* Write the keys and values of all heads, k and v: [n][n_head_kv * head_dim], to layer's positions from
 * `position` on. scratch: [head_dim], used for int8. */
void bn_kv_store(struct bn_kv_cache *kv, const struct bn_kernels *kernels, size_t layer, size_t position,
                 const float *k, const float *v, size_t n, int8_t *scratch);

#endif
