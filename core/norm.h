/* SPDX-License-Identifier: MIT
 * RMSNorm of rows of activations, alone or together with the quantisation that follows it. */
#ifndef CORE_NORM_H
#define CORE_NORM_H

#include "core/scope.h"
#include "core/session.h"

/* out = the norm of each of n rows of `in`, `width` values each, with the gains `weight`: [width]; out may be
 * in. Enters `stage` below the current one. Allocates: nothing. Cannot fail. */
void bn_norm(struct bn_session *session, enum bn_stage stage, const float *in, const float *weight,
             float *out, size_t n, size_t width);

/* The same, quantised to int8 into the session's codes, for a bn_linear without an input. The stage
 * quantize_activations is fused into `stage`. */
void bn_norm_quantize(struct bn_session *session, enum bn_stage stage, const float *in, const float *weight,
                      size_t n, size_t width);

#endif
