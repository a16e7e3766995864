/* SPDX-License-Identifier: MIT
 * Keys and values of the positions so far, in the order in which the attention kernels read them
 * (docs/formats.md#kv-cache). */
#ifndef CORE_KV_CACHE_H
#define CORE_KV_CACHE_H

#include "core/base.h"
#include "kernels/attn.h"
#include "kernels/kernels.h"

enum bn_kv_type { BN_KV_F16, BN_KV_INT8, BN_KV_TYPES };

/* Positions whose keys and values, those of a layer's heads one behind the other, lie together: a layer is
 * read front to back in pieces of this size, and a context takes memory as it grows. */
enum { BN_KV_CHUNK = 256 };
_Static_assert(BN_KV_CHUNK % BN_ATTN_TILE == 0, "a chunk is whole tiles");

struct bn_kv_cache {
    enum bn_kv_type type;
    size_t n_layer, n_head_kv, head_dim;
    size_t n_positions; /* a multiple of BN_ATTN_TILE */
    uint8_t *memory;    /* bn_kv_bytes, 64-byte aligned: [chunk][layer][head] blocks */
};

/* A head's keys and values of a chunk. */
struct bn_kv_block {
    uint8_t *keys, *values;
    float *key_scales, *value_scales; /* int8 only: [positions] */
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

/* Positions that a chunk has room for: the last one may be shorter. */
static inline size_t bn_kv_chunk_positions(const struct bn_kv_cache *kv, size_t chunk)
{
    return bn_min_size(BN_KV_CHUNK, kv->n_positions - chunk * BN_KV_CHUNK);
}

/* Bytes of a block with room for so many positions. */
static inline size_t bn_kv_block_bytes(const struct bn_kv_cache *kv, size_t n_positions)
{
    return bn_round_up(n_positions * bn_kv_key_bytes(kv), 64) +
           bn_round_up(n_positions * bn_kv_value_bytes(kv), 64) +
           2 * bn_round_up(n_positions * bn_kv_scale_bytes(kv), 64);
}

/* Bytes of all blocks of a layer's head. */
static inline size_t bn_kv_head_bytes(const struct bn_kv_cache *kv)
{
    return kv->n_positions / BN_KV_CHUNK * bn_kv_block_bytes(kv, BN_KV_CHUNK) +
           bn_kv_block_bytes(kv, kv->n_positions % BN_KV_CHUNK);
}

/* A layer's head's block of a chunk. */
struct bn_kv_block bn_kv_block_at(const struct bn_kv_cache *kv, size_t layer, size_t head, size_t chunk);

/* Write the keys and values of all heads, k and v: [n][n_head_kv * head_dim], to layer's positions from
 * `position` on. scratch: [head_dim], used for int8. */
void bn_kv_store(struct bn_kv_cache *kv, const struct bn_kernels *kernels, size_t layer, size_t position,
                 const float *k, const float *v, size_t n, int8_t *scratch);

#endif
