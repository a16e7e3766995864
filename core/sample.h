/* SPDX-License-Identifier: MIT
 * Logits to one token: greedy, or by chance with temperature, top-k and top-p. */
#ifndef CORE_SAMPLE_H
#define CORE_SAMPLE_H

#include "core/base.h"
#include "kernels/kernels.h"

struct bn_sample_options {
    bool greedy;       /* the largest logit, the lowest id on ties; the rest is ignored */
    float temperature; /* > 0; logits are divided by it first */
    uint32_t top_k;    /* then only the k most likely tokens stay; 0 = all */
    float top_p; /* of these the most likely ones whose probabilities reach p, at least one; >= 1 = all */
    uint64_t seed;
};

/* How many of the largest logits decide the choice, the lowest id first among equals; 0 = all. */
uint32_t bn_sample_top(const struct bn_sample_options *options);

struct bn_sample_candidate {
    double weight; /* exp((logit - largest logit) / temperature) */
    float logit;
    uint32_t id;
};

struct bn_sampler {
    struct bn_sample_options options;
    const struct bn_kernels *kernels;
    uint64_t state; /* of the generator */
    uint32_t n_vocab;
    struct bn_sample_candidate
        *candidates; /* [n_vocab], or only [top_k] when that is small; NULL when greedy */
};

/* The sampler owns its scratch memory until close. */
void bn_sampler_open(struct bn_sampler *sampler, const struct bn_sample_options *options,
                     const struct bn_kernels *kernels, uint32_t n_vocab);
/* Accepts a zeroed and a closed sampler. */
void bn_sampler_close(struct bn_sampler *sampler);

/* logits: [n_vocab]; NaN is never chosen unless there is nothing else. Returns an id below n_vocab.
 * Likelier means a larger logit, or among equals the lower id; the token is the first in this order with
 * which the probabilities sum to more than a uniform random number. Equal seeds and logits give equal tokens.
 * Allocates: nothing. Time: one comparison for each logit, plus log(top_k) for each that joins the top k so
 * far; for a large top_k and without one, a small multiple of n_vocab, and an exponential for each candidate
 * (expected; for any order of the logits). Counts: one f32_argmax. */
uint32_t bn_sample(struct bn_sampler *sampler, const float *logits);

/* The generator: SplitMix64 (Steele, Lea, Flood 2014). A uniform number in [0, 1) with 53 random bits. */
double bn_random_uniform(uint64_t *state);

#endif
