/* SPDX-License-Identifier: MIT
 * From a loaded model to one that is fast: weights into the order in which the kernels read them, and every
 * page of the file that is used in place read in now rather than during the first token. */
#ifndef CORE_PREPARE_H
#define CORE_PREPARE_H

#include "core/model.h"
#include "core/pool.h"
#include "kernels/kernels.h"

/* Bring matrices of block formats into tiles and the model's ternary ones into `ternary`, BN_LAYOUT_I2S,
 * _TL1, _TL2 or BN_LAYOUT_QK256 (nothing to do for I2_S files), on all threads of the pool. Weights that are
 * copied are read without mapping their pages, so that the process does not hold them twice. A ternary matrix
 * whose blocks have different scales becomes BN_LAYOUT_I2S_BLOCK. Call it once, behind bn_model_load, while
 * nothing uses the model; bn_model_close frees what it made. 0, or -1 with a message: no memory, the file is
 * shorter by now, or a tensor cannot be brought into the layout; then the model can only be closed. */
int bn_model_prepare(struct bn_model *model, const struct bn_kernels *kernels, struct bn_pool *pool,
                     enum bn_layout ternary, struct bn_err *err);

#endif
