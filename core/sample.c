/* SPDX-License-Identifier: MIT
 * Sampling: a heap of candidates gives the most likely ones one by one, as many as are needed. */
#include "core/sample.h"

#include <assert.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

double bn_random_uniform(uint64_t *state)
{
    uint64_t z = *state += 0x9e3779b97f4a7c15u;

    z = (z ^ z >> 30) * 0xbf58476d1ce4e5b9u;
    z = (z ^ z >> 27) * 0x94d049bb133111ebu;
    return (double)((z ^ z >> 31) >> 11) * 0x1p-53;
}

void bn_sampler_open(struct bn_sampler *s, const struct bn_sample_options *options,
                     const struct bn_kernels *kernels, uint32_t n_vocab)
{
    assert(n_vocab >= 1 && (options->greedy || options->temperature > 0.0f));
    *s = (struct bn_sampler){
        .options = *options, .kernels = kernels, .state = options->seed, .n_vocab = n_vocab};
    if (!options->greedy)
        s->candidates = bn_xmalloc(n_vocab * sizeof *s->candidates);
}

void bn_sampler_close(struct bn_sampler *s)
{
    free(s->candidates);
    memset(s, 0, sizeof *s);
}

/* ---- heap: the most likely candidate on top; the lower id first among equals ---- */

static bool before(struct bn_sample_candidate a, struct bn_sample_candidate b)
{
    return a.logit > b.logit || (a.logit == b.logit && a.id < b.id);
}

static void sift_down(struct bn_sample_candidate *heap, size_t n, size_t i)
{
    struct bn_sample_candidate moved = heap[i];

    for (size_t child; (child = 2 * i + 1) < n; i = child) {
        if (child + 1 < n && before(heap[child + 1], heap[child]))
            child++;
        if (!before(heap[child], moved))
            break;
        heap[i] = heap[child];
    }
    heap[i] = moved;
}

/* Take the top off a heap of n: it goes to heap[n - 1], the rest is a heap again. */
static struct bn_sample_candidate take_top(struct bn_sample_candidate *heap, size_t n)
{
    struct bn_sample_candidate top = heap[0];

    heap[0] = heap[n - 1];
    heap[n - 1] = top;
    if (n > 1)
        sift_down(heap, n - 1, 0);
    return top;
}

/* ---- by chance ---- */

/* Candidates taken off a heap of n lie at its end, the most likely last: c[n - 1], c[n - 2], …. Choose among
 * the first n_taken of them; `sum` is the sum of their weights. */
static uint32_t choose(const struct bn_sampler *s, size_t n_taken, double max, double sum, double uniform)
{
    const struct bn_sample_candidate *c = s->candidates;
    double at = uniform * sum, seen = 0.0;

    uint32_t last = c[s->n_vocab - 1].id; /* the last possible one: the sums may differ in their last bits */

    for (size_t i = 0; i < n_taken; i++) {
        struct bn_sample_candidate next = c[s->n_vocab - 1 - i];
        double weight = exp(((double)next.logit - max) / (double)s->options.temperature);
        last = weight > 0.0 ? next.id : last;
        seen += weight;
        if (seen > at)
            break;
    }
    return last;
}

static uint32_t sample_by_chance(struct bn_sampler *s, const float *logits)
{
    struct bn_sample_candidate *c = s->candidates;
    size_t n = s->n_vocab, limit = s->options.top_k && s->options.top_k < n ? s->options.top_k : n;
    double uniform = bn_random_uniform(&s->state), temperature = (double)s->options.temperature;
    bool ordered = limit < n || s->options.top_p < 1.0f;
    double max = -INFINITY, sum = 0.0, enough, seen = 0.0;

    for (size_t i = 0; i < n; i++) {
        c[i] = (struct bn_sample_candidate){isnan(logits[i]) ? -INFINITY : logits[i], (uint32_t)i};
        max = (double)c[i].logit > max ? (double)c[i].logit : max;
    }
    if (isinf(max)) /* no distribution: all minus infinity, or an infinite winner */
        return (uint32_t)s->kernels->f32_argmax(logits, n);
    if (ordered) {
        for (size_t i = n / 2; i-- > 0;)
            sift_down(c, n, i);
        for (size_t i = 0; i < limit && limit < n; i++)
            take_top(c, n - i);
    }
    for (size_t i = n - limit; i < n; i++)
        sum += exp(((double)c[i].logit - max) / temperature);
    if (s->options.top_p >= 1.0f)
        return choose(s, limit, max, sum, uniform);
    enough = sum * (double)s->options.top_p;
    for (size_t i = 0; i < limit; i++) {
        struct bn_sample_candidate next = limit < n ? c[n - 1 - i] : take_top(c, n - i);
        seen += exp(((double)next.logit - max) / temperature);
        if (seen >= enough)
            return choose(s, i + 1, max, seen, uniform);
    }
    return choose(s, limit, max, sum, uniform);
}

uint32_t bn_sample(struct bn_sampler *s, const float *logits)
{
    if (s->options.greedy)
        return (uint32_t)s->kernels->f32_argmax(logits, s->n_vocab);
    return sample_by_chance(s, logits);
}
