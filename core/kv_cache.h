/* SPDX-License-Identifier: MIT
 * Keys and values of the positions so far, in the order in which the attention kernels read them
 * (docs/formats.md#kv-cache). */
#ifndef CORE_KV_CACHE_H
#define CORE_KV_CACHE_H

#include "core/base.h"
#include "kernels/attn.h"
#include "kernels/kernels.h"

enum bn_kv_type { BN_KV_F16 };

struct bn_kv_cache {
    enum bn_kv_type type;
    size_t n_layer, n_head_kv, head_dim;
    size_t n_positions; /* a multiple of BN_ATTN_TILE */
    uint16_t *keys;     /* [n_layer][n_head_kv][n_positions / BN_ATTN_TILE][head_dim][BN_ATTN_TILE] */
    uint16_t *values;   /* [n_layer][n_head_kv][n_positions][head_dim] */
};

/* "f16" */
const char *bn_kv_type_name(enum bn_kv_type type);
/* 0, or -1 if no type is called so. */
int bn_kv_type_find(const char *name, enum bn_kv_type *type);

/* What a head's cache of a position takes, keys and values together. */
static inline size_t bn_kv_position_bytes(const struct bn_kv_cache *kv)
{
    return 2 * kv->head_dim * sizeof(uint16_t);
}

/* A head's keys and values from a position on, the keys' a multiple of BN_ATTN_TILE. */
static inline size_t bn_kv_at(const struct bn_kv_cache *kv, size_t layer, size_t head, size_t position)
{
    return ((layer * kv->n_head_kv + head) * kv->n_positions + position) * kv->head_dim;
}

/* Write the keys and values of all heads, k and v: [n][n_head_kv * head_dim], to layer's positions from
 * `position` on. */
void bn_kv_store(struct bn_kv_cache *kv, const struct bn_kernels *kernels, size_t layer, size_t position,
                 const float *k, const float *v, size_t n);

#endif
