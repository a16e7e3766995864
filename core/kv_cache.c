/* SPDX-License-Identifier: MIT
 * Into the cache: keys are spread over the lines of their tile, values stay rows. */
#include "core/kv_cache.h"

#include <string.h>

static const char *const names[] = {"f16"};

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
static void store_key(const struct bn_kernels *kernels, const float *k, uint16_t *column, size_t d)
{
    uint16_t halves[128];

    for (size_t i = 0; i < d; i += BN_COUNT(halves)) {
        size_t n = bn_min_size(BN_COUNT(halves), d - i);
        kernels->f32_to_f16(k + i, halves, n);
        for (size_t j = 0; j < n; j++)
            column[(i + j) * BN_ATTN_TILE] = halves[j];
    }
}

/* Head after head, so that a tile is in the cache while its positions are filled in. */
void bn_kv_store(struct bn_kv_cache *kv, const struct bn_kernels *kernels, size_t layer, size_t position,
                 const float *k, const float *v, size_t n)
{
    size_t d = kv->head_dim;

    for (size_t head = 0; head < kv->n_head_kv; head++) {
        for (size_t c = 0; c < n; c++) {
            size_t p = position + c, row = (c * kv->n_head_kv + head) * d;
            store_key(
                kernels, k + row,
                kv->keys + bn_kv_at(kv, layer, head, p / BN_ATTN_TILE * BN_ATTN_TILE) + p % BN_ATTN_TILE, d);
            kernels->f32_to_f16(v + row, kv->values + bn_kv_at(kv, layer, head, p), d);
        }
    }
}
