/* SPDX-License-Identifier: MIT
 * The shapes that the attention kernels work in (docs/formats.md#kv-cache). */
#ifndef KERNELS_ATTN_H
#define KERNELS_ATTN_H

enum {
    BN_ATTN_TILE = 32,   /* positions whose keys lie together, one dimension after the other */
    BN_ATTN_QUERIES = 8, /* queries that go through a kernel together, at most */
    BN_ATTN_PAIRS = 32,  /* pairs of positions whose int8 values are added up as integers */
};

/* Below, exp(x) is taken for exp of this or for 0: it would count for nothing beside exp(0), and numbers too
 * small to be normal ones would cost a hundred times as much as others wherever they are multiplied. */
#define BN_ATTN_LEAST_EXPONENT -64.0f

/* i8_attn_weights takes a chunk whose largest weight is no larger for nothing: a float could not hold the
 * factor that brings it to 32767. */
#define BN_ATTN_LEAST_WEIGHT 1e-30f

#endif
