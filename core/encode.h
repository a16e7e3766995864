/* SPDX-License-Identifier: MIT
 * A matrix of the file made smaller at load: any weights that are not ternary as blocks of a few bits. */
#ifndef CORE_ENCODE_H
#define CORE_ENCODE_H

#include "core/model.h"
#include "core/pool.h"
#include "kernels/kernels.h"

/* `from` (floats, or blocks as in the file) in the block format `type` (core/block.h), in tiles, on all
 * threads of the pool: *to is `from` with other weights, which stand in *memory (to be unmapped by the
 * caller, *memory_bytes long). `path` is for messages. 0, or -1 with a message: rows that are no whole
 * blocks, or no memory. */
int bn_encode_matrix(const struct bn_weight *from, uint32_t type, const struct bn_kernels *kernels,
                     struct bn_pool *pool, struct bn_weight *to, void **memory, size_t *memory_bytes,
                     const char *path, struct bn_err *err);

#endif
