/* SPDX-License-Identifier: MIT
 * Sampling by partial selection: nothing is sorted. Top-k keeps a heap of the k best so far, its worst on
 * top, so nearly every logit costs one comparison. Both top-p and the draw ask where in the order of
 * likelihood the sum of weights reaches a goal: quickselect answers that, descending into the side that holds
 * it. */
#include "core/sample.h"

#include <assert.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

enum {
    FEW = 12,       /* candidates that are put in order by insertion */
    HEAP_PART = 64, /* a heap serves for the best 1/64 of the vocabulary; above that quickselect is faster */
};

double bn_random_uniform(uint64_t *state)
{
    uint64_t z = *state += 0x9e3779b97f4a7c15u;

    z = (z ^ z >> 30) * 0xbf58476d1ce4e5b9u;
    z = (z ^ z >> 27) * 0x94d049bb133111ebu;
    return (double)((z ^ z >> 31) >> 11) * 0x1p-53;
}

uint32_t bn_sample_top(const struct bn_sample_options *o)
{
    return o->greedy ? 1 : o->top_k;
}

static size_t top_k(const struct bn_sampler *s)
{
    return s->options.top_k && s->options.top_k < s->n_vocab ? s->options.top_k : s->n_vocab;
}

/* The most candidates that are held at a time. */
static size_t capacity(const struct bn_sampler *s)
{
    return top_k(s) <= s->n_vocab / HEAP_PART ? top_k(s) : s->n_vocab;
}

void bn_sampler_open(struct bn_sampler *s, const struct bn_sample_options *options,
                     const struct bn_kernels *kernels, uint32_t n_vocab)
{
    assert(n_vocab >= 1 && (options->greedy || options->temperature > 0.0f));
    *s = (struct bn_sampler){
        .options = *options, .kernels = kernels, .state = options->seed, .n_vocab = n_vocab};
    if (!options->greedy)
        s->candidates = bn_xmalloc(capacity(s) * sizeof *s->candidates);
}

void bn_sampler_close(struct bn_sampler *s)
{
    free(s->candidates);
    memset(s, 0, sizeof *s);
}

/* ---- the order of likelihood ---- */

static bool before(struct bn_sample_candidate a, struct bn_sample_candidate b)
{
    return (a.logit > b.logit) | ((a.logit == b.logit) & (a.id < b.id)); /* no branch to mispredict */
}

static void swap(struct bn_sample_candidate *a, struct bn_sample_candidate *b)
{
    struct bn_sample_candidate old = *a;

    *a = *b;
    *b = old;
}

static void sort_few(struct bn_sample_candidate *c, size_t n)
{
    for (size_t i = 1; i < n; i++) {
        struct bn_sample_candidate moved = c[i];
        size_t to = i;
        for (; to > 0 && before(moved, c[to - 1]); to--)
            c[to] = c[to - 1];
        c[to] = moved;
    }
}

/* Is the sum of weights far enough? */
struct goal {
    double sum;
    bool beyond; /* more than the sum, not just as much */
};

static bool reached(struct goal goal, double sum)
{
    return goal.beyond ? sum > goal.sum : sum >= goal.sum;
}

/* Put those of c[0 … n-1] that stand before the pivot first and the pivot behind them; its place. *weight: of
 * those before it. */
static size_t partition(struct bn_sample_candidate *c, size_t n, size_t pivot_at, double *weight)
{
    struct bn_sample_candidate pivot = c[pivot_at];
    size_t n_before = 0;
    double sum = 0.0;

    swap(&c[pivot_at], &c[n - 1]);
    for (size_t i = 0; i < n - 1; i++) {
        struct bn_sample_candidate here = c[i];
        bool is_before = before(here, pivot);
        c[i] = c[n_before];
        c[n_before] = here;
        n_before += is_before;
        sum += is_before ? here.weight : 0.0;
    }
    *weight = sum;
    swap(&c[n - 1], &c[n_before]);
    return n_before;
}

/* The candidate among c[0 … n-1], n >= 1, with which the sum of weights in the order of likelihood reaches
 * the goal, or the last one: its index once all likelier ones, and only they, stand before it. *sum: of the
 * weights up to and with it. The pivots are random, so no order of the candidates makes this slow; what is
 * found does not depend on them. */
static size_t find(struct bn_sample_candidate *c, size_t n, struct goal goal, double *sum)
{
    size_t first = 0, end = n; /* it is in first … end-1, and *sum that of those before */
    uint64_t state = n;

    *sum = 0.0;
    while (end - first > FEW) {
        size_t n_left = end - first, pivot = (size_t)(bn_random_uniform(&state) * (double)n_left);
        double weight;
        size_t at = first + partition(c + first, n_left, pivot, &weight);
        if (at > first && reached(goal, *sum + weight)) {
            end = at;
            continue;
        }
        *sum += weight + c[at].weight;
        if (reached(goal, *sum) || at + 1 == end)
            return at;
        first = at + 1;
    }
    sort_few(c + first, end - first);
    for (;; first++) {
        *sum += c[first].weight;
        if (reached(goal, *sum) || first + 1 == end)
            return first;
    }
}

/* ---- top k: a heap with the least likely candidate on top ---- */

static void sift_down(struct bn_sample_candidate *heap, size_t n, size_t i)
{
    struct bn_sample_candidate moved = heap[i];

    for (size_t child; (child = 2 * i + 1) < n; i = child) {
        if (child + 1 < n && before(heap[child], heap[child + 1]))
            child++;
        if (!before(moved, heap[child]))
            break;
        heap[i] = heap[child];
    }
    heap[i] = moved;
}

/* The most likely candidates, at most max_n, in no order, each of weight 1; fewer when no more have a logit
 * above minus infinity. Ids ascend, so what equals the heap's top comes behind it. */
static size_t gather(struct bn_sample_candidate *c, size_t max_n, const float *logits, size_t n)
{
    size_t n_kept = 0, i = 0;

    for (; i < n && n_kept < max_n; i++) {
        if (logits[i] > -INFINITY)
            c[n_kept++] = (struct bn_sample_candidate){1.0, logits[i], (uint32_t)i};
    }
    if (i == n)
        return n_kept;
    for (size_t at = max_n / 2; at-- > 0;)
        sift_down(c, max_n, at);
    for (float least = c[0].logit; i < n; i++) {
        if (logits[i] > least) {
            c[0] = (struct bn_sample_candidate){1.0, logits[i], (uint32_t)i};
            sift_down(c, max_n, 0);
            least = c[0].logit;
        }
    }
    return max_n;
}

/* ---- by chance ---- */

/* Give the candidates their weights and drop those without any; how many stay. */
static size_t weigh(struct bn_sample_candidate *c, size_t n, double max, double temperature, double *sum)
{
    size_t n_kept = 0;
    double all = 0.0;

    for (size_t i = 0; i < n; i++) {
        struct bn_sample_candidate here = c[i];
        here.weight = exp(((double)here.logit - max) / temperature);
        all += here.weight;
        c[n_kept] = here;
        n_kept += here.weight > 0.0;
    }
    *sum = all;
    return n_kept;
}

/* Drop the candidates that top_p cannot want: even all of them together would weigh less than half of what it
 * leaves out. Most of a vocabulary, as a rule. */
static size_t drop_light(struct bn_sample_candidate *c, size_t n, double left_out)
{
    double least = left_out / 2.0 / (double)n;
    size_t n_kept = 0;

    for (size_t i = 0; i < n; i++) {
        c[n_kept] = c[i];
        n_kept += c[n_kept].weight >= least;
    }
    return n_kept;
}

/* No top-k, no top-p: the order does not matter, and highest ids first is as good as any. */
static uint32_t draw_from_all(const struct bn_sample_candidate *c, size_t n, double goal)
{
    double sum = 0.0;

    while (n > 1 && (sum += c[n - 1].weight) <= goal)
        n--;
    return c[n - 1].id;
}

static uint32_t sample_by_chance(struct bn_sampler *s, const float *logits)
{
    struct bn_sample_candidate *c = s->candidates;
    double uniform = bn_random_uniform(&s->state), p = (double)s->options.top_p, sum;
    size_t top = s->kernels->f32_argmax(logits, s->n_vocab), k = top_k(s);

    if (!isfinite(logits[top])) /* no distribution: all minus infinity or NaN, or an infinite winner */
        return (uint32_t)top;
    size_t n = gather(c, capacity(s), logits, s->n_vocab);
    if (k < n) /* the k-th one: all have weight 1 */
        n = find(c, n, (struct goal){.sum = (double)k}, &sum) + 1;
    n = weigh(c, n, (double)logits[top], (double)s->options.temperature, &sum);
    if (k == s->n_vocab && p >= 1.0)
        return draw_from_all(c, n, uniform * sum);
    if (p < 1.0) {
        n = drop_light(c, n, sum * (1.0 - p));
        n = find(c, n, (struct goal){.sum = sum * p}, &sum) + 1;
    }
    return c[find(c, n, (struct goal){.sum = sum * uniform, .beyond = true}, &sum)].id;
}

uint32_t bn_sample(struct bn_sampler *s, const float *logits)
{
    if (s->options.greedy)
        return (uint32_t)s->kernels->f32_argmax(logits, s->n_vocab);
    return sample_by_chance(s, logits);
}
