/* SPDX-License-Identifier: MIT
 * Rows of activations times weight matrices, split over the pool's threads: BitLinear for ternary weights
 * (int8 activations, exact integers, FORMATS' epilogue), products of blocks for ggml's formats, plain
 * products for F16, BF16 and F32. */
#ifndef CORE_LINEAR_H
#define CORE_LINEAR_H

#include "core/scope.h"
#include "core/session.h"

struct bn_product {
    const struct bn_weight *w;
    float *out; /* [n][w->n_rows], overwritten */
};

/* Do all products take their input as BitLinear's int8 codes? Then a norm before them can give these at once.
 */
bool bn_linear_takes_codes(const struct bn_product *products, size_t n_products);

/* out[i] = w[i] . x for every product; all share the input x: [n][k] with n <= session->n_batch. x NULL: the
 * input stands in the session's codes, act_scale and act_sum, and all products take it so.
 * The stage quantize_activations (where a weight is no float) and then `stage` are entered below the current
 * one. A row's result does not depend on n or on the number of threads. Allocates: nothing. Cannot fail. */
void bn_linear(struct bn_session *session, enum bn_stage stage, const struct bn_product *products,
               size_t n_products, const float *x, size_t n);

/* Rows row … row + n_rows - 1 of a float matrix, without scale and bias: y[i] = w[row + i] . x. A row's
 * result does not depend on the rows done with it. */
void bn_linear_rows(const struct bn_kernels *kernels, const struct bn_weight *w, size_t row, size_t n_rows,
                    const float *x, float *y);
/* The slot that does it. */
enum bn_kernel_slot bn_linear_slot(const struct bn_weight *w);

#endif
