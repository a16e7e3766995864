/* SPDX-License-Identifier: MIT
 * The forward pass against the double-precision reference; the same bits in batches, one by one, on any
 * number of threads; the instruction sets against each other. */
#include "core/forward.h"

#include <math.h>
#include <setjmp.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "core/reference.h"
#include "core/scope.h"
#include "kernels/cpu.h"

#define DEMO "core/tiny-bitnet-i2s.gguf"

/* ---- running a model ---- */

struct engine {
    struct bn_model model;
    struct bn_kernels kernels;
    struct bn_pool *pool;
    struct bn_session session;
};

static void open_engine(struct engine *e, const char *path, unsigned cpu_flags, unsigned n_threads)
{
    struct bn_err err = {""};

    if (bn_model_load(&e->model, path, &err) != 0)
        fail_msg("%s", err.msg);
    bn_kernels_init(&e->kernels, cpu_flags);
    assert_int_equal(bn_pool_open(&e->pool, n_threads, &err), 0);
    assert_int_equal(bn_session_open(&e->session, &e->model, &e->kernels, e->pool, e->model.n_ctx, &err), 0);
}

static void close_engine(struct engine *e)
{
    bn_session_close(&e->session);
    bn_pool_close(e->pool);
    bn_model_close(&e->model);
}

/* Any text will do, as long as it differs from place to place. */
static void fill_tokens(uint32_t *tokens, size_t n, uint32_t n_vocab)
{
    uint64_t state = n_vocab;

    for (size_t i = 0; i < n; i++) {
        state = state * 6364136223846793005u + 1442695040888963407u;
        tokens[i] = (uint32_t)(state >> 33) % n_vocab;
    }
}

/* Logits after n tokens, given in batches of at most `batch`; the caller frees them. */
static float *logits_after(struct engine *e, const uint32_t *tokens, size_t n, size_t batch)
{
    float *copy = bn_xcalloc(e->model.n_vocab, sizeof *copy);
    const float *logits = NULL;

    bn_session_reset(&e->session);
    for (size_t done = 0, step; done < n; done += step) {
        step = bn_min_size(bn_min_size(batch, e->session.n_batch), n - done);
        logits = bn_forward(&e->session, tokens + done, step, done + step == n);
        assert_true((logits != NULL) == (done + step == n));
    }
    assert_int_equal(e->session.n_past, n);
    memcpy(copy, logits, e->model.n_vocab * sizeof *copy);
    return copy;
}

/* ---- the same bits ---- */

static void check_same_bits(const char *path, unsigned cpu_flags, size_t n)
{
    static const size_t batches[] = {2, 3, 7, 33, 128};
    static const unsigned threads[] = {2, 3, 5};
    uint32_t *tokens = bn_xcalloc(n, sizeof *tokens);
    struct engine e;

    open_engine(&e, path, cpu_flags, 1);
    fill_tokens(tokens, n, e.model.n_vocab);
    size_t bytes = e.model.n_vocab * sizeof(float);
    float *one_by_one = logits_after(&e, tokens, n, 1);
    for (size_t i = 0; i < BN_COUNT(batches); i++) {
        float *together = logits_after(&e, tokens, n, batches[i]);
        assert_memory_equal(together, one_by_one, bytes);
        free(together);
    }
    close_engine(&e);
    for (size_t i = 0; i < BN_COUNT(threads); i++) {
        open_engine(&e, path, cpu_flags, threads[i]);
        float *prefilled = logits_after(&e, tokens, n, 128), *decoded = logits_after(&e, tokens, n, 1);
        assert_memory_equal(prefilled, one_by_one, bytes);
        assert_memory_equal(decoded, one_by_one, bytes);
        free(prefilled);
        free(decoded);
        close_engine(&e);
    }
    free(one_by_one);
    free(tokens);
}

/* Cumulative flag sets that this machine has; the last is the best. */
static size_t flag_sets(unsigned sets[4])
{
    static const unsigned all[] = {0, BN_CPU_AVX2, BN_CPU_AVX2 | BN_CPU_AVX512,
                                   BN_CPU_AVX2 | BN_CPU_AVX512 | BN_CPU_AVX512VNNI};
    size_t n = 0;

    for (size_t i = 0; i < BN_COUNT(all); i++) {
        if ((all[i] & ~bn_cpu_detect()) == 0)
            sets[n++] = all[i];
    }
    return n;
}

static void test_same_bits(void **state)
{
    unsigned sets[4];
    size_t n_sets = flag_sets(sets);

    (void)state;
    for (size_t i = 0; i < n_sets; i++) {
        bool best = i + 1 == n_sets; /* the others are slow */
        check_same_bits(DEMO, sets[i], best ? 150 : 12);
        check_same_bits("tests/data/stories260k-f32.gguf", sets[i], best ? 70 : 20);
        check_same_bits("tests/data/stories260k-f16.gguf", sets[i], best ? 70 : 20);
    }
}

/* ---- against the reference ---- */

/* Bounds. Float arithmetic alone stays near 1e-5. An engine that rounds a cached value to the neighbouring
 * F16 is off by 2^-11 of that value: measured 1.6e-4 at most, bound 1e-3. One that rounds an activation to
 * the neighbouring int8 is off by 1/127 of the row's largest: measured 2.5e-2 at most, bound 1e-1. A wrong
 * formula (the other RoPE pairing, SiLU for squared ReLU, a norm left out) is off by 1 and more. */
static const double float_bound = 1e-3, ternary_bound = 1e-1;

/* The largest difference from the reference over all logits of n positions, in units of the root mean square
 * of the reference's logits there. */
static double error_of(const char *path, unsigned cpu_flags, size_t n, void (*change)(struct bn_model *))
{
    uint32_t *tokens = bn_xcalloc(n, sizeof *tokens);
    struct bn_err err = {""};
    struct bn_reference *ref;
    struct engine e;
    double worst = 0.0;

    open_engine(&e, path, cpu_flags, 2);
    fill_tokens(tokens, n, e.model.n_vocab);
    if (change)
        change(&e.model);
    assert_int_equal(bn_reference_open(&ref, &e.model.gguf, (uint32_t)n, &err), 0);
    double *expected = bn_xcalloc(e.model.n_vocab, sizeof *expected);
    for (size_t t = 0; t < n; t++) {
        const float *logits = bn_forward(&e.session, &tokens[t], 1, true);
        double difference = 0.0, square = 0.0;
        bn_reference_step(ref, tokens[t], expected);
        for (uint32_t i = 0; i < e.model.n_vocab; i++) {
            difference = fmax(difference, fabs((double)logits[i] - expected[i]));
            square += expected[i] * expected[i];
        }
        worst = fmax(worst, difference / sqrt(square / e.model.n_vocab));
    }
    bn_reference_free(ref);
    close_engine(&e);
    free(expected);
    free(tokens);
    return worst;
}

static void check_error(const char *path, size_t n, double bound)
{
    unsigned sets[4];
    size_t n_sets = flag_sets(sets);

    for (size_t i = 0; i < n_sets; i++) {
        double error = error_of(path, sets[i], n, NULL);
        print_message("# %s, cpu flags %x: %.2e of the logits' root mean square (bound %.0e)\n", path,
                      sets[i], error, bound);
        assert_true(error <= bound);
    }
}

static void test_demo(void **state)
{
    (void)state;
    check_error(DEMO, 40, ternary_bound);
}

static void test_stories(void **state)
{
    (void)state;
    check_error("tests/data/stories260k-f32.gguf", 40, float_bound);
    check_error("tests/data/stories260k-f16.gguf", 40, float_bound);
}

/* What the comparison is worth: formulas that are nearly right are noticed. */

static void other_activation(struct bn_model *m)
{
    m->activation = m->activation == BN_ACTIVATION_SILU ? BN_ACTIVATION_RELU2 : BN_ACTIVATION_SILU;
}

static void other_rope(struct bn_model *m)
{
    m->rope = m->rope == BN_ROPE_NEOX ? BN_ROPE_NORM : BN_ROPE_NEOX;
}

static void no_sub_norm(struct bn_model *m)
{
    m->layers[1].attn_sub_norm = NULL;
}

static void larger_scale(struct bn_model *m)
{
    m->layers[2].down.scale *= 1.25f;
}

static void test_wrong_formulas(void **state)
{
    unsigned best = bn_cpu_detect();

    (void)state;
    assert_true(error_of(DEMO, best, 20, other_activation) > 2 * ternary_bound);
    assert_true(error_of(DEMO, best, 20, other_rope) > 2 * ternary_bound);
    assert_true(error_of(DEMO, best, 20, no_sub_norm) > 2 * ternary_bound);
    assert_true(error_of(DEMO, best, 20, larger_scale) > 2 * ternary_bound);
    assert_true(error_of("tests/data/stories260k-f32.gguf", best, 20, other_rope) > 2 * float_bound);
    assert_true(error_of("tests/data/stories260k-f32.gguf", best, 20, other_activation) > 2 * float_bound);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_same_bits),
        cmocka_unit_test(test_demo),
        cmocka_unit_test(test_stories),
        cmocka_unit_test(test_wrong_formulas),
    };

    bn_scope_init();
    return cmocka_run_group_tests(tests, NULL, NULL);
}
