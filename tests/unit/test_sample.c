/* SPDX-License-Identifier: MIT
 * Sampling: what greedy means, and that chance follows the probabilities that the options leave. */
#include "core/sample.h"

#include <math.h>
#include <setjmp.h>
#include <stdlib.h>

#include <cmocka.h>

#include "core/heap.h"

static struct bn_kernels kernels;

static struct bn_sampler open_sampler(struct bn_sample_options options, uint32_t n_vocab)
{
    struct bn_sampler s;

    bn_sampler_open(&s, &options, &kernels, n_vocab);
    return s;
}

/* The published generator's first two results for seed 1234567. */
static void test_generator(void **state)
{
    uint64_t seed = 1234567;

    (void)state;
    assert_true(bn_random_uniform(&seed) == (double)(6457827717110365317u >> 11) * 0x1p-53);
    assert_true(bn_random_uniform(&seed) == (double)(3203168211198807973u >> 11) * 0x1p-53);
}

static void test_greedy(void **state)
{
    struct bn_sampler s = open_sampler((struct bn_sample_options){.greedy = true}, 5);

    (void)state;
    assert_int_equal(bn_sample(&s, (float[]){1, 3, 2, 3, 3}), 1); /* the lowest id on ties */
    assert_int_equal(bn_sample(&s, (float[]){NAN, -3, -2, NAN, -4}), 2);
    assert_int_equal(bn_sample(&s, (float[]){-INFINITY, -INFINITY, 0, INFINITY, 9}), 3);
    assert_true(bn_sample(&s, (float[]){NAN, NAN, NAN, NAN, NAN}) < 5);
    bn_sampler_close(&s);
}

enum { VOCAB = 6, DRAWS = 60000 };

static const float logits[VOCAB] = {0.5f, 2.0f, -1.0f, 2.5f, 0.0f, 1.0f};

/* Draw often and compare with the expected probabilities: within five standard deviations. */
static void check_frequencies(struct bn_sample_options options, const double *expected)
{
    struct bn_sampler s = open_sampler(options, VOCAB);
    unsigned count[VOCAB] = {0};

    for (int i = 0; i < DRAWS; i++)
        count[bn_sample(&s, logits)]++;
    for (int i = 0; i < VOCAB; i++) {
        double mean = expected[i] * DRAWS, deviation = sqrt(mean * (1 - expected[i]));
        if (expected[i] == 0.0)
            assert_int_equal(count[i], 0);
        else
            assert_true(fabs(count[i] - mean) <= 5 * deviation);
    }
    bn_sampler_close(&s);
}

/* Softmax at temperature t over the ids in `keep`. */
static void probabilities(double t, unsigned keep, double *p)
{
    double sum = 0.0;

    for (int i = 0; i < VOCAB; i++) {
        p[i] = keep >> i & 1 ? exp((double)logits[i] / t) : 0.0;
        sum += p[i];
    }
    for (int i = 0; i < VOCAB; i++)
        p[i] /= sum;
}

static void test_frequencies(void **state)
{
    double p[VOCAB];

    (void)state;
    probabilities(1.0, 0x3f, p);
    check_frequencies((struct bn_sample_options){.temperature = 1.0f, .top_p = 1.0f, .seed = 1}, p);
    probabilities(0.5, 0x3f, p);
    check_frequencies((struct bn_sample_options){.temperature = 0.5f, .top_p = 1.0f, .seed = 2}, p);
    /* ids by likelihood: 3 1 5 0 4 2 */
    probabilities(1.0, 1 << 3 | 1 << 1 | 1 << 5, p);
    check_frequencies((struct bn_sample_options){.temperature = 1.0f, .top_k = 3, .top_p = 1.0f, .seed = 3},
                      p);
    /* p: 0.46 0.28 0.10 …: 0.7 is reached by two */
    probabilities(1.0, 1 << 3 | 1 << 1, p);
    check_frequencies((struct bn_sample_options){.temperature = 1.0f, .top_p = 0.7f, .seed = 4}, p);
    /* among the three most likely ones 3 and 1 have 0.88 */
    check_frequencies((struct bn_sample_options){.temperature = 1.0f, .top_k = 3, .top_p = 0.85f, .seed = 5},
                      p);
    /* top_k beyond the vocabulary, top_p so small that one stays */
    probabilities(1.0, 1 << 3, p);
    check_frequencies((struct bn_sample_options){.temperature = 9.0f, .top_k = 99, .top_p = 0.0f, .seed = 6},
                      p);
    check_frequencies((struct bn_sample_options){.temperature = 9.0f, .top_k = 1, .top_p = 1.0f, .seed = 6},
                      p);
    /* next to no temperature */
    check_frequencies((struct bn_sample_options){.temperature = 1e-30f, .top_p = 1.0f, .seed = 7}, p);
}

static void test_seed(void **state)
{
    struct bn_sample_options options = {.temperature = 1.0f, .top_p = 0.95f, .top_k = 5, .seed = 99};
    struct bn_sampler a = open_sampler(options, VOCAB), b = open_sampler(options, VOCAB);
    unsigned different = 0;

    (void)state;
    for (int i = 0; i < 1000; i++)
        assert_int_equal(bn_sample(&a, logits), bn_sample(&b, logits));
    b.state = 100;
    for (int i = 0; i < 1000; i++)
        different += bn_sample(&a, logits) != bn_sample(&b, logits);
    assert_true(different > 100);
    bn_sampler_close(&a);
    bn_sampler_close(&b);
}

/* What a broken model may deliver must still give an id of the vocabulary. */
static void test_no_distribution(void **state)
{
    struct bn_sampler s =
        open_sampler((struct bn_sample_options){.temperature = 1.0f, .top_k = 3, .top_p = 0.9f}, 4);

    (void)state;
    assert_true(bn_sample(&s, (float[]){NAN, NAN, NAN, NAN}) < 4);
    assert_true(bn_sample(&s, (float[]){-INFINITY, -INFINITY, -INFINITY, -INFINITY}) < 4);
    assert_int_equal(bn_sample(&s, (float[]){1, 2, INFINITY, 3}), 2);
    assert_int_equal(bn_sample(&s, (float[]){NAN, -INFINITY, 7, NAN}), 2);
    bn_sampler_close(&s);
}

/* A large vocabulary: only the wanted ids, nothing allocated. */
static void test_large_vocabulary(void **state)
{
    enum { LARGE = 128256 };
    float *many = bn_xmalloc(LARGE * sizeof *many);
    struct bn_sampler s = open_sampler(
        (struct bn_sample_options){.temperature = 0.8f, .top_k = 40, .top_p = 0.95f, .seed = 1}, LARGE);

    (void)state;
    for (int i = 0; i < LARGE; i++)
        many[i] =
            (float)((i * 7919ll) % LARGE) / LARGE; /* a permutation: ids with the 40 largest are known */
    uint64_t before = bn_heap_allocations();
    for (int i = 0; i < 20; i++)
        assert_true(many[bn_sample(&s, many)] >= (float)(LARGE - 40) / LARGE);
    assert_int_equal(bn_heap_allocations(), before);
    bn_sampler_close(&s);
    free(many);
}

/* ---- against the definition: everything sorted, then walked from the most likely one on ---- */

struct item {
    float logit;
    uint32_t id;
};

static int by_likelihood(const void *a, const void *b)
{
    const struct item *x = a, *y = b;

    if (x->logit != y->logit)
        return x->logit > y->logit ? -1 : 1;
    return x->id < y->id ? -1 : x->id > y->id;
}

static uint32_t by_definition(const struct bn_sample_options *o, uint64_t *state, const float *x, uint32_t n)
{
    struct item *items = bn_xmalloc(n * sizeof *items);
    double uniform = bn_random_uniform(state), sum = 0.0, seen = 0.0, kept = 0.0;
    uint32_t n_items = 0, id = 0;

    for (uint32_t i = 0; i < n; i++) {
        if (!isnan(x[i]))
            items[n_items++] = (struct item){x[i], i};
    }
    qsort(items, n_items, sizeof *items, by_likelihood);
    if (o->top_k && o->top_k < n_items)
        n_items = o->top_k;
    for (uint32_t i = 0; i < n_items; i++)
        sum += exp(((double)items[i].logit - (double)items[0].logit) / (double)o->temperature);
    for (uint32_t i = 0; i < n_items && o->top_p < 1.0f; i++) {
        kept += exp(((double)items[i].logit - (double)items[0].logit) / (double)o->temperature);
        if (kept >= sum * (double)o->top_p) {
            n_items = i + 1;
            sum = kept;
        }
    }
    for (uint32_t i = 0; i < n_items; i++) {
        double weight = exp(((double)items[i].logit - (double)items[0].logit) / (double)o->temperature);
        id = weight > 0.0 ? items[i].id : id;
        if ((seen += weight) > uniform * sum)
            break;
    }
    free(items);
    return id;
}

enum shape {
    SHAPE_FLAT,
    SHAPE_PEAKED,
    SHAPE_TIES,
    SHAPE_EQUAL,
    SHAPE_RISING,
    SHAPE_FALLING,
    SHAPE_HOLES,
    SHAPES
};

static void fill(float *x, uint32_t n, enum shape shape, uint64_t *state)
{
    for (uint32_t i = 0; i < n; i++) {
        float u = (float)bn_random_uniform(state);
        switch (shape) {
        case SHAPE_PEAKED:
            x[i] = 30.0f * u * u * u;
            break;
        case SHAPE_TIES:
            x[i] = floorf(u * 4.0f);
            break;
        case SHAPE_EQUAL:
            x[i] = 1.0f;
            break;
        case SHAPE_RISING:
            x[i] = 8.0f * (float)i / (float)n;
            break;
        case SHAPE_FALLING:
            x[i] = -8.0f * (float)i / (float)n;
            break;
        case SHAPE_HOLES:
            x[i] = u < 0.4f ? NAN : u < 0.8f ? -INFINITY : 5.0f * u;
            break;
        default:
            x[i] = u;
        }
    }
}

/* The same tokens as a full sort, for the same random numbers. With all candidates in play their order is
 * free, so only what top-k or top-p leaves is compared. */
static void test_definition(void **state)
{
    enum { MOST = 3000 };
    static const uint32_t sizes[] = {1, 2, 11, 12, 13, 14, 100, 640, MOST};
    static const float ps[] = {0.0f, 0.1f, 0.5f, 0.9f, 0.999f, 1.0f};
    static float x[MOST];
    uint64_t random = 3;

    (void)state;
    for (int again = 0; again < 3; again++)
        for (size_t at = 0; at < BN_COUNT(sizes) * SHAPES; at++) {
            uint32_t n = sizes[at % BN_COUNT(sizes)];
            const uint32_t ks[] = {0, 1, 2, 10, 46, 47, n / 2, n - 1, n, n + 7};
            fill(x, n, (enum shape)(at / BN_COUNT(sizes)), &random);
            x[(uint32_t)(bn_random_uniform(&random) * n)] = 4.5f;
            for (size_t i = 0; i < BN_COUNT(ks) * BN_COUNT(ps); i++) {
                struct bn_sample_options o = {.temperature = i % 7 ? 1.0f : 0.05f,
                                              .top_k = ks[i / BN_COUNT(ps)],
                                              .top_p = ps[i % BN_COUNT(ps)],
                                              .seed = i + 100 * at};
                if (o.top_p >= 1.0f && (o.top_k == 0 || o.top_k >= n))
                    continue;
                struct bn_sampler s = open_sampler(o, n);
                uint64_t twin = o.seed;
                for (int draw = 0; draw < 4; draw++)
                    assert_int_equal(bn_sample(&s, x), by_definition(&o, &twin, x, n));
                bn_sampler_close(&s);
            }
        }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_generator),       cmocka_unit_test(test_greedy),
        cmocka_unit_test(test_frequencies),     cmocka_unit_test(test_seed),
        cmocka_unit_test(test_no_distribution), cmocka_unit_test(test_large_vocabulary),
        cmocka_unit_test(test_definition),
    };

    bn_kernels_init(&kernels, 0);
    return cmocka_run_group_tests(tests, NULL, NULL);
}
