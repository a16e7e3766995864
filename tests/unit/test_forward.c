/* SPDX-License-Identifier: MIT
 * The forward pass against the double-precision reference; the same bits in batches, one by one, on any
 * number of threads; the instruction sets against each other. */
#include "core/scope.h"
#include "tests/unit/engine.h"

#define DEMO "core/tiny-bitnet-i2s.gguf"

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

/* ---- what the stages say they read and multiply ---- */

/* So far, in all stages but lm_head, which may read less than its matrix. */
static struct bn_scope_total demand(void)
{
    const struct bn_scope_shared *region = bn_scope_region();
    struct bn_scope_total sum = {0};

    for (uint32_t i = 0; i < atomic_load(&region->n_nodes); i++) {
        struct bn_scope_total node = bn_scope_sum(region, i);
        if (region->nodes[i].stage == BN_STAGE_LM_HEAD)
            continue;
        sum.memory_bytes += node.memory_bytes;
        sum.int8_macs += node.int8_macs;
    }
    return sum;
}

static void test_demand(void **state)
{
    uint32_t tokens[8];
    struct engine e;
    uint64_t matrices = 0, values = 0;

    (void)state;
    open_engine(&e, DEMO, bn_cpu_detect(), 1);
    fill_tokens(tokens, BN_COUNT(tokens), e.model.n_vocab);
    for (uint32_t i = 0; i < e.model.n_layer; i++) {
        const struct bn_layer *l = &e.model.layers[i];
        const struct bn_weight *w[] = {&l->q, &l->k, &l->v, &l->output, &l->gate, &l->up, &l->down};
        for (size_t j = 0; j < BN_COUNT(w); j++) {
            matrices += w[j]->n_rows * bn_weight_row_bytes(w[j]);
            values += (uint64_t)w[j]->n_rows * w[j]->k;
        }
    }
    uint64_t position = 2ull * e.model.n_layer * e.model.n_head_kv * e.model.head_dim * sizeof(uint16_t);
    for (size_t n = 1; n < BN_COUNT(tokens); n += 6) { /* a token, then the others together */
        struct bn_scope_total before = demand();
        bn_forward(&e.session, tokens, n, true);
        struct bn_scope_total after = demand();
        assert_int_equal(after.memory_bytes - before.memory_bytes,
                         matrices + n * bn_weight_row_bytes(&e.model.embedding) +
                             e.session.n_past * position);
        assert_int_equal(after.int8_macs - before.int8_macs, n * values);
    }
    close_engine(&e);
}

/* ---- against the reference ---- */

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

static double error_with(const char *path, void (*change)(struct bn_model *))
{
    uint32_t tokens[16];
    struct engine e;

    open_engine(&e, path, bn_cpu_detect(), 2);
    fill_tokens(tokens, BN_COUNT(tokens), e.model.n_vocab);
    double *expected = expected_logits(&e.model.gguf, tokens, BN_COUNT(tokens));
    change(&e.model);
    double error = distance(&e, tokens, BN_COUNT(tokens), expected);
    close_engine(&e);
    free(expected);
    return error;
}

static void test_wrong_formulas(void **state)
{
    const char *stories = "tests/data/stories260k-f32.gguf";

    (void)state;
    assert_true(error_with(DEMO, other_activation) > 2 * ternary_bound);
    assert_true(error_with(DEMO, other_rope) > 2 * ternary_bound);
    assert_true(error_with(DEMO, no_sub_norm) > 2 * ternary_bound);
    assert_true(error_with(DEMO, larger_scale) > 2 * ternary_bound);
    assert_true(error_with(stories, other_rope) > 10 * float_bound);
    assert_true(error_with(stories, other_activation) > 10 * float_bound);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_same_bits), cmocka_unit_test(test_demand),         cmocka_unit_test(test_demo),
        cmocka_unit_test(test_stories),   cmocka_unit_test(test_wrong_formulas),
    };

    bn_scope_init();
    return cmocka_run_group_tests(tests, NULL, NULL);
}
