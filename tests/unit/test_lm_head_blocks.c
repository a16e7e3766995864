/* SPDX-License-Identifier: MIT
 * The last matrix quantised at load: as near to the file's logits as its bits allow, the same bits on any
 * number of threads and any instruction set. */
#include "tests/unit/engine.h"

#include <unistd.h>

#include "core/lm_head.h"
#include "core/scope.h"
#include "core/synth.h"

static char path[300];

static void write_model(uint32_t n_embd, uint32_t etype)
{
    struct bn_synth_shape shape = *bn_synth_shape("tiny");
    struct bn_err err;

    shape.n_embd = n_embd;
    shape.n_layer = 1;
    struct bn_synth synth = {.shape = &shape, .wtype = BN_TYPE_I2_S, .etype = etype, .seed = 1};
    if (bn_synth_write(path, &synth, &err) != 0)
        fail_msg("%s", err.msg);
}

/* Logits after 8 tokens; *size_bytes: what the last product reads. The caller frees them. */
static float *logits_with(enum bn_lm_head_mode mode, unsigned cpu_flags, unsigned n_threads,
                          uint64_t *size_bytes)
{
    struct bn_lm_head head;
    struct bn_err err;
    struct engine e;
    uint32_t tokens[8];

    open_engine(&e, path, cpu_flags, n_threads);
    if (bn_lm_head_open(&head, &e.model, &e.kernels, e.pool, mode, &err) != 0)
        fail_msg("%s", err.msg);
    e.session.lm_head = &head;
    fill_tokens(tokens, BN_COUNT(tokens), e.model.n_vocab);
    float *logits = logits_after(&e, tokens, BN_COUNT(tokens), 8);
    *size_bytes = head.w->size_bytes;
    bn_lm_head_close(&head);
    close_engine(&e);
    return logits;
}

/* Root mean square of the differences in units of that of `a`. */
static double difference(const float *a, const float *b, size_t n)
{
    double square = 0, rest = 0;

    for (size_t i = 0; i < n; i++) {
        square += (double)a[i] * (double)a[i];
        rest += ((double)a[i] - (double)b[i]) * ((double)a[i] - (double)b[i]);
    }
    return sqrt(rest / square);
}

/* The root mean square of a rounding error is 0.29 steps. Of normal values a step of Q8_0 is 1/127 of the
 * largest of 32, 0.017: 0.5 % for weights and as much for activations; one of Q6_K is 1/32 of the largest of
 * 16, 0.056, one of Q4_0 1/8 of the largest of 32, 0.26. No more than that, and no less: less would be the
 * file's own matrix. */
static void test_near(void **state)
{
    static const struct {
        enum bn_lm_head_mode mode;
        double at_least, at_most;
        uint64_t bytes; /* of 1024 rows of 256 */
    } modes[] = {{BN_LM_HEAD_Q8_0, 1e-3, 1e-2, 1024 * 272},
                 {BN_LM_HEAD_Q6_K, 5e-3, 3e-2, 1024 * 210},
                 {BN_LM_HEAD_Q4_0, 3e-2, 1.5e-1, 1024 * 144}};
    unsigned sets[4];
    size_t n_sets = flag_sets(sets);
    uint64_t bytes;

    (void)state;
    write_model(256, BN_TYPE_F16);
    float *expected = logits_with(BN_LM_HEAD_F16, sets[n_sets - 1], 2, &bytes);
    assert_int_equal(bytes, 1024 * 512);
    for (size_t m = 0; m < BN_COUNT(modes); m++) {
        float *first = logits_with(modes[m].mode, sets[n_sets - 1], 1, &bytes);
        double error = difference(expected, first, 1024);
        print_message("# mode %d: %.2e\n", modes[m].mode, error);
        assert_true(error >= modes[m].at_least && error <= modes[m].at_most);
        assert_int_equal(bytes, modes[m].bytes);
        float *other = logits_with(modes[m].mode, sets[n_sets - 1], 3, &bytes);
        assert_memory_equal(other, first, 1024 * sizeof *first);
        free(other);
        free(first);
    }
    free(expected);
}

/* A matrix that the file has in the format is used as it is; another one is made from its values. */
static void test_own_format(void **state)
{
    uint64_t bytes;

    (void)state;
    write_model(256, BN_TYPE_Q8_0);
    float *expected = logits_with(BN_LM_HEAD_F16, bn_cpu_detect(), 2, &bytes);
    assert_int_equal(bytes, 1024 * 272);
    float *same = logits_with(BN_LM_HEAD_Q8_0, bn_cpu_detect(), 2, &bytes);
    assert_memory_equal(same, expected, 1024 * sizeof *same);
    float *smaller = logits_with(BN_LM_HEAD_Q4_0, bn_cpu_detect(), 2, &bytes);
    assert_int_equal(bytes, 1024 * 144);
    double error = difference(expected, smaller, 1024);
    assert_true(error > 3e-2 && error < 1.5e-1);
    free(expected);
    free(same);
    free(smaller);
}

static void test_refused(void **state)
{
    struct bn_lm_head head;
    struct bn_err err;
    struct engine e;

    (void)state;
    write_model(128, BN_TYPE_F16);
    open_engine(&e, path, bn_cpu_detect(), 1);
    assert_int_equal(bn_lm_head_open(&head, &e.model, &e.kernels, e.pool, BN_LM_HEAD_Q6_K, &err), -1);
    assert_non_null(strstr(err.msg, ": rows of 128 values, but q6_k needs multiples of 256"));
    bn_lm_head_close(&head);
    assert_int_equal(bn_lm_head_open(&head, &e.model, &e.kernels, e.pool, BN_LM_HEAD_Q4_0, &err), 0);
    bn_lm_head_close(&head);
    close_engine(&e);
}

static int remove_files(void **state)
{
    (void)state;
    unlink(path);
    return 0;
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_near), cmocka_unit_test(test_own_format),
                                       cmocka_unit_test(test_refused)};
    const char *folder = getenv("TEST_TMP") ? getenv("TEST_TMP") : "/tmp";

    snprintf(path, sizeof path, "%s/lm-head-blocks-%d.gguf", folder, (int)getpid());
    bn_scope_init();
    return cmocka_run_group_tests(tests, NULL, remove_files);
}
