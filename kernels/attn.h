/* SPDX-License-Identifier: MIT
 * The shapes that the attention kernels work in (docs/formats.md#kv-cache). */
#ifndef KERNELS_ATTN_H
#define KERNELS_ATTN_H

enum {
    BN_ATTN_TILE = 32,   /* positions whose keys lie together, one dimension after the other */
    BN_ATTN_QUERIES = 8, /* queries that go through a kernel together, at most */
};

#endif
