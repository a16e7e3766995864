/* SPDX-License-Identifier: MIT
 * Rows of ternary weights from any format into any layout, and of block formats into tiles. */
#ifndef CORE_REPACK_H
#define CORE_REPACK_H

#include "core/model.h"
#include "kernels/kernels.h"

enum { BN_REPACK_ROWS = 64 }; /* a multiple of every layout's tile_rows */

/* Give `w` the layout (not BN_LAYOUT_FILE or _FLOAT), and with it the size of its tiles. w->block must be
 * right already. */
void bn_repack_set_layout(struct bn_weight *w, enum bn_layout layout);

/* Scratch that bn_repack_rows wants for rows of k weights. */
size_t bn_repack_scratch_bytes(size_t k);

/* Bring n_rows rows of `from`, which lie at `rows` as its file has them, to the place in `to` that belongs to
 * the rows from `row` on; row is a multiple of BN_REPACK_ROWS, and n_rows is one, too, unless they are the
 * last. Rows that the last tile has too many become zero weights. scratch: 2-byte aligned. Threads: any, on
 * rows of their own. False: a code of 3, which TL1 and TL2 cannot express. */
bool bn_repack_rows(const struct bn_kernels *kernels, const struct bn_weight *from, const uint8_t *rows,
                    const struct bn_weight *to, size_t row, size_t n_rows, uint8_t *scratch);

#endif
