/* SPDX-License-Identifier: MIT
 * Attention over long contexts, by itself: against sums in double precision, and the same bits in batches,
 * one by one and on any number of threads, for heads that share keys and values in various ways. */
#include "core/attention.h"

#include <math.h>
#include <setjmp.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "core/scope.h"
#include "kernels/cpu.h"

enum { N_POSITIONS = 600 }; /* two chunks and a part of a third */

struct heads {
    uint32_t n_head, n_head_kv, head_dim;
};

/* A group in one block of queries and in two, no groups, columns that have to be halved for their scores, a
 * last layer that is not the only one. */
static const struct heads shapes[] = {{20, 5, 32}, {12, 1, 8}, {3, 3, 20}, {32, 8, 16}, {6, 2, 128}};

struct engine {
    struct bn_model model;
    struct bn_kernels kernels;
    struct bn_pool *pool;
    struct bn_session session;
};

/* No weights: they are not attention's business. */
static void open_engine(struct engine *e, struct heads h, enum bn_kv_type kv, unsigned n_threads)
{
    static struct bn_layer layers[2];
    struct bn_err err;

    *e = (struct engine){.model = {.n_layer = BN_COUNT(layers),
                                   .layers = layers,
                                   .n_head = h.n_head,
                                   .n_head_kv = h.n_head_kv,
                                   .head_dim = h.head_dim,
                                   .n_rot = h.head_dim,
                                   .n_embd = h.n_head * h.head_dim,
                                   .n_ff = 16,
                                   .n_vocab = 16,
                                   .n_ctx = N_POSITIONS,
                                   .rope_base = 10000.0f}};
    bn_kernels_init(&e->kernels, bn_cpu_detect());
    assert_int_equal(bn_pool_open(&e->pool, n_threads, &err), 0);
    assert_int_equal(bn_session_open(&e->session, &e->model, &e->kernels, e->pool,
                                     &(struct bn_session_options){.n_ctx = N_POSITIONS, .kv = kv}, &err),
                     0);
}

static void close_engine(struct engine *e)
{
    bn_session_close(&e->session);
    bn_pool_close(e->pool);
}

/* Queries, keys and values of all positions, and what attention makes of them: [N_POSITIONS][width]. */
struct inputs {
    float *q, *k, *v;
};

static float *some_floats(size_t n, float magnitude)
{
    float *x = bn_xcalloc(n, sizeof *x);
    uint64_t state = n;

    for (size_t i = 0; i < n; i++) {
        state = state * 6364136223846793005u + 1442695040888963407u;
        x[i] = ((float)(state >> 40) / 8388608.0f - 1.0f) * magnitude;
    }
    return x;
}

static struct inputs some_inputs(struct heads h)
{
    size_t n_q = (size_t)h.n_head * h.head_dim, n_kv = (size_t)h.n_head_kv * h.head_dim;

    return (struct inputs){some_floats(N_POSITIONS * n_q, 3.0f), some_floats(N_POSITIONS * n_kv, 2.0f),
                           some_floats(N_POSITIONS * n_kv + 1, 1.0f)};
}

static void free_inputs(struct inputs *in)
{
    free(in->q);
    free(in->k);
    free(in->v);
}

/* All positions, `batch` columns at a time (0: 1, 2, 3, …, as a conversation has them), through layer 1. */
static float *attend(struct engine *e, const struct inputs *in, size_t batch)
{
    struct bn_session *s = &e->session;
    size_t n_q = (size_t)e->model.n_head * e->model.head_dim,
           n_kv = (size_t)e->model.n_head_kv * e->model.head_dim;
    float *out = bn_xcalloc(N_POSITIONS * n_q, sizeof *out);

    bn_session_reset(s);
    for (size_t at = 0, step = 0; at < N_POSITIONS; at += step) {
        step = bn_min_size(bn_min_size(batch ? batch : step + 1, s->n_batch), N_POSITIONS - at);
        memcpy(s->q, in->q + at * n_q, step * n_q * sizeof *out);
        memcpy(s->k, in->k + at * n_kv, step * n_kv * sizeof *out);
        memcpy(s->v, in->v + at * n_kv, step * n_kv * sizeof *out);
        bn_attention_store(s, 1, step);
        bn_attention_gather(s, 1, step);
        memcpy(out + at * n_q, s->o, step * n_q * sizeof *out);
        s->n_past += (uint32_t)step;
    }
    return out;
}

static void check_same_bits(enum bn_kv_type kv)
{
    static const size_t batches[] = {0, 2, 3, 31, 128};

    for (size_t i = 0; i < BN_COUNT(shapes); i++) {
        size_t bytes = (size_t)N_POSITIONS * shapes[i].n_head * shapes[i].head_dim * sizeof(float);
        struct inputs in = some_inputs(shapes[i]);
        float *expected = NULL;

        for (unsigned n_threads = 1; n_threads <= 3; n_threads++) {
            struct engine e;
            open_engine(&e, shapes[i], kv, n_threads);
            float *out = attend(&e, &in, 1);
            if (!expected)
                expected = out;
            assert_memory_equal(out, expected, bytes);
            if (out != expected)
                free(out);
            for (size_t b = 0; b < BN_COUNT(batches); b++) {
                out = attend(&e, &in, batches[b]);
                assert_memory_equal(out, expected, bytes);
                free(out);
            }
            close_engine(&e);
        }
        free(expected);
        free_inputs(&in);
    }
}

static void test_same_bits(void **state)
{
    (void)state;
    check_same_bits(BN_KV_F16);
    check_same_bits(BN_KV_INT8);
}

/* ---- memory ---- */

static size_t memory_of(enum bn_kv_type kv, uint32_t n_ctx)
{
    struct bn_session session;
    struct bn_err err;
    struct engine e;

    open_engine(&e, shapes[0], kv, 2);
    e.model.n_ctx = n_ctx;
    assert_int_equal(bn_session_open(&session, &e.model, &e.kernels, e.pool,
                                     &(struct bn_session_options){.n_ctx = n_ctx, .kv = kv}, &err),
                     0);
    size_t bytes = session.memory_bytes;
    bn_session_close(&session);
    close_engine(&e);
    return bytes;
}

/* What a position more takes does not depend on how many there are. */
static void test_memory(void **state)
{
    (void)state;
    for (int kv = 0; kv < BN_KV_TYPES; kv++) {
        size_t small = memory_of((enum bn_kv_type)kv, 4096), medium = memory_of((enum bn_kv_type)kv, 8192),
               large = memory_of((enum bn_kv_type)kv, 16384);

        assert_true(medium > small);
        assert_int_equal(large - medium, 2 * (medium - small));
    }
}

/* ---- against double precision ---- */

/* Query head `head` of the last position; out: [head_dim]. */
static void attend_in_double(struct heads h, const struct inputs *in, uint32_t head, double *out)
{
    size_t d = h.head_dim, kv = head / (h.n_head / h.n_head_kv), n_kv = h.n_head_kv * d;
    const float *q = in->q + ((size_t)(N_POSITIONS - 1) * h.n_head + head) * d;
    double weight[N_POSITIONS], max = -INFINITY, sum = 0.0;

    for (size_t p = 0; p < N_POSITIONS; p++) {
        weight[p] = 0.0;
        for (size_t i = 0; i < d; i++)
            weight[p] += (double)q[i] * in->k[p * n_kv + kv * d + i];
        weight[p] /= sqrt((double)d);
        max = fmax(max, weight[p]);
    }
    for (size_t p = 0; p < N_POSITIONS; p++) {
        weight[p] = exp(weight[p] - max);
        sum += weight[p];
    }
    for (size_t i = 0; i < d; i++) {
        out[i] = 0.0;
        for (size_t p = 0; p < N_POSITIONS; p++)
            out[i] += weight[p] / sum * in->v[p * n_kv + kv * d + i];
    }
}

static void check_distance(enum bn_kv_type kv, double bound)
{
    double worst = 0.0;

    for (size_t i = 0; i < BN_COUNT(shapes); i++) {
        struct heads h = shapes[i];
        struct inputs in = some_inputs(h);
        struct engine e;
        double expected[128];

        open_engine(&e, h, kv, 2);
        float *out = attend(&e, &in, 100);
        const float *last = out + (size_t)(N_POSITIONS - 1) * h.n_head * h.head_dim;
        for (uint32_t head = 0; head < h.n_head; head++) {
            attend_in_double(h, &in, head, expected);
            for (size_t j = 0; j < h.head_dim; j++)
                worst = fmax(worst, fabs(last[head * h.head_dim + j] - expected[j]));
        }
        free(out);
        close_engine(&e);
        free_inputs(&in);
    }
    print_message("# %s: off by %.2e at most (bound %.0e)\n", bn_kv_type_name(kv), worst, bound);
    assert_true(worst <= bound);
}

static void test_error(void **state)
{
    (void)state;
    check_distance(BN_KV_F16, 2e-3);
    check_distance(BN_KV_INT8, 2e-2);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_same_bits),
        cmocka_unit_test(test_memory),
        cmocka_unit_test(test_error),
    };

    bn_scope_init();
    return cmocka_run_group_tests(tests, NULL, NULL);
}
