/* SPDX-License-Identifier: MIT
 * From a loaded model to one that is fast: weights into the order in which the kernels read them, and every
 * page of the file that is used in place read in now rather than during the first token. */
#ifndef CORE_PREPARE_H
#define CORE_PREPARE_H

#include "core/model.h"
#include "core/pool.h"
#include "kernels/kernels.h"

/* Bring matrices of block formats into tiles and the model's ternary ones into `ternary`, BN_LAYOUT_I2S or
 * BN_LAYOUT_QK256 (as in the file: nothing to do), on all threads of the pool. Weights that are copied are
 * read without mapping their pages, so that the process does not hold them twice. Call it once, behind
 * bn_model_load, while nothing uses the model; bn_model_close frees what it made. 0, or -1 with a message: no
 * memory, or the file is shorter by now; then the model can only be closed. */
int bn_model_prepare(struct bn_model *model, const struct bn_kernels *kernels, struct bn_pool *pool,
                     enum bn_layout ternary, struct bn_err *err);

#endif
