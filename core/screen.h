/* SPDX-License-Identifier: MIT
 * The vector that screening codes (kernels/screen.h) are multiplied with, and how far from the logit that the
 * float kernel computes an approximation can be. */
#ifndef CORE_SCREEN_H
#define CORE_SCREEN_H

#include "core/base.h"
#include "kernels/kernels.h"

enum bn_screen_plane { BN_SCREEN_HIGH, BN_SCREEN_MID, BN_SCREEN_LOW, BN_SCREEN_PLANES };

struct bn_screen_query {
    int8_t *x;     /* [2][k] and 512 more: x ~ unit * (256 * x[i] + x[k + i]); the caller's memory */
    int32_t x_sum; /* of x[0 … k-1] */
    float unit;    /* a power of two */
    float center;  /* for screen_high_gemv: 7.5 * sum of (256 * x[i] + x[k + i]) */
    /* |logit - approximation| <= error[plane] * per_error + norm * per_norm + scale * per_scale, once the
     * planes up to this one have been added; logit: what f16_gemv and its like give, on any instruction set
     */
    struct bn_screen_bound bound[BN_SCREEN_PLANES];
};

/* Factors of scale[r] for the three products. */
#define BN_SCREEN_HIGH_UNIT(q) (8.0f * (q)->unit)
#define BN_SCREEN_MID_UNIT(q)  (512.0f * (q)->unit)
#define BN_SCREEN_LOW_UNIT(q)  (128.0f * (q)->unit)

/* x: [n]; query->x is filled up to k >= n. False if x is 0 or has values that are not finite or so large or
 * small that float products could overflow or vanish: then nothing can be said about logits.
 * Allocates: nothing. */
bool bn_screen_query_make(struct bn_screen_query *query, const float *x, size_t n, size_t k);

#endif
