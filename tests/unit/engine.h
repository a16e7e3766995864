/* SPDX-License-Identifier: MIT
 * A model made ready to run, and its distance from the double-precision reference: for the tests of the
 * forward pass. */
#ifndef TESTS_UNIT_ENGINE_H
#define TESTS_UNIT_ENGINE_H

#include "core/forward.h"

#include <math.h>
#include <setjmp.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "core/prepare.h"
#include "core/reference.h"
#include "kernels/cpu.h"

struct engine {
    struct bn_model model;
    struct bn_kernels kernels;
    struct bn_pool *pool;
    struct bn_session session;
};

/* With ternary weights in the given layout. */
static inline void open_engine_as(struct engine *e, const char *path, unsigned cpu_flags, unsigned n_threads,
                                  enum bn_layout ternary)
{
    struct bn_err err = {""};

    if (bn_model_load(&e->model, path, &err) != 0)
        fail_msg("%s", err.msg);
    bn_kernels_init(&e->kernels, cpu_flags);
    assert_int_equal(bn_pool_open(&e->pool, n_threads, &err), 0);
    if (bn_model_prepare(&e->model, &e->kernels, e->pool, ternary, &err) != 0)
        fail_msg("%s", err.msg);
    assert_int_equal(bn_session_open(&e->session, &e->model, &e->kernels, e->pool,
                                     &(struct bn_session_options){.n_ctx = e->model.n_ctx}, &err),
                     0);
}

static inline void open_engine(struct engine *e, const char *path, unsigned cpu_flags, unsigned n_threads)
{
    open_engine_as(e, path, cpu_flags, n_threads, BN_LAYOUT_I2S);
}

static inline void close_engine(struct engine *e)
{
    bn_session_close(&e->session);
    bn_pool_close(e->pool);
    bn_model_close(&e->model);
}

/* Any text will do, as long as it differs from place to place. */
static inline void fill_tokens(uint32_t *tokens, size_t n, uint32_t n_vocab)
{
    uint64_t state = n_vocab;

    for (size_t i = 0; i < n; i++) {
        state = state * 6364136223846793005u + 1442695040888963407u;
        tokens[i] = (uint32_t)(state >> 33) % n_vocab;
    }
}

/* Logits after n tokens, given in batches of at most `batch`; the caller frees them. */
static inline float *logits_after(struct engine *e, const uint32_t *tokens, size_t n, size_t batch)
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

/* Cumulative flag sets that this machine has; the last is the best. */
static inline size_t flag_sets(unsigned sets[4])
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

/* Bounds on the distance from the reference. The engine's floats alone differ by about 1e-6; what counts is
 * that a value on the edge may be rounded to the other side: one in the F16 cache is then off by 2^-11 of
 * itself (measured: 6.1e-4 at most), an int8 activation by 1/127 of its row's largest (measured: 2.5e-2 at
 * most). A wrong formula is off by far more: test_wrong_formulas. */
static const double float_bound = 2e-3, ternary_bound = 1e-1;

/* The reference's logits after each of n tokens: [n][n_vocab]; the caller frees them. */
static inline double *expected_logits(const struct bn_gguf *gguf, const uint32_t *tokens, size_t n)
{
    struct bn_err err = {""};
    struct bn_reference *ref;

    if (bn_reference_open(&ref, gguf, (uint32_t)n, &err) != 0)
        fail_msg("%s", err.msg);
    size_t n_vocab = bn_reference_n_vocab(ref);
    double *expected = bn_xcalloc(n * n_vocab, sizeof *expected);
    for (size_t t = 0; t < n; t++)
        bn_reference_step(ref, tokens[t], expected + t * n_vocab);
    bn_reference_free(ref);
    return expected;
}

/* The largest difference over all logits after each of n tokens, in units of the root mean square of the
 * expected logits there. */
static inline double distance(struct engine *e, const uint32_t *tokens, size_t n, const double *expected)
{
    double worst = 0.0;

    for (size_t t = 0; t < n; t++, expected += e->model.n_vocab) {
        const float *logits = bn_forward(&e->session, &tokens[t], 1, true);
        double difference = 0.0, square = 0.0;
        for (uint32_t i = 0; i < e->model.n_vocab; i++) {
            difference = fmax(difference, fabs((double)logits[i] - expected[i]));
            square += expected[i] * expected[i];
        }
        worst = fmax(worst, difference / sqrt(square / e->model.n_vocab));
    }
    return worst;
}

/* On every instruction set that this machine has. */
static inline void check_error_as(const char *path, size_t n, double bound, enum bn_layout ternary)
{
    uint32_t *tokens = bn_xcalloc(n, sizeof *tokens);
    double *expected = NULL;
    unsigned sets[4];
    size_t n_sets = flag_sets(sets);

    for (size_t i = 0; i < n_sets; i++) {
        struct engine e;
        open_engine_as(&e, path, sets[i], 2, ternary);
        fill_tokens(tokens, n, e.model.n_vocab);
        if (!expected)
            expected = expected_logits(&e.model.gguf, tokens, n);
        double error = distance(&e, tokens, n, expected);
        close_engine(&e);
        print_message("# cpu flags %x: %.2e of the logits' root mean square (bound %.0e)\n", sets[i], error,
                      bound);
        assert_true(error <= bound);
    }
    free(expected);
    free(tokens);
}

static inline void check_error(const char *path, size_t n, double bound)
{
    check_error_as(path, n, bound, BN_LAYOUT_I2S);
}

#endif
