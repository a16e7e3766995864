/* SPDX-License-Identifier: MIT
 * The cache's layouts, value by value; and what int8 keys and values do to a whole model's logits. */
#include "core/kv_cache.h"
#include "core/scope.h"
#include "tests/unit/engine.h"

/* ---- where a value goes, and what is left of it ---- */

enum { N_LAYER = 2, N_HEAD_KV = 3, N_POSITIONS = 352 }; /* a chunk, and one of 96 positions */

static float magnitude(size_t head, size_t position)
{
    return ldexpf(1.0f, (int)((head * 5 + position) % 9) - 4);
}

static float some_value(size_t head, size_t position, size_t i)
{
    return (float)((position * 31 + head * 17 + i * 7) % 101) / 50.0f - 1.0f;
}

static struct bn_kv_cache new_cache(enum bn_kv_type type, size_t d)
{
    struct bn_kv_cache kv = {
        .type = type, .n_layer = N_LAYER, .n_head_kv = N_HEAD_KV, .head_dim = d, .n_positions = N_POSITIONS};

    kv.memory = bn_xcalloc((size_t)N_LAYER * N_HEAD_KV, bn_kv_head_bytes(&kv));
    return kv;
}

/* Positions 5 … 5 + n - 1 of layer 1. */
static void fill_cache(struct bn_kv_cache *kv, const struct bn_kernels *kernels, size_t n)
{
    size_t d = kv->head_dim, width = N_HEAD_KV * d;
    float *k = bn_xcalloc(n * width, sizeof *k), *v = bn_xcalloc(n * width, sizeof *v);
    int8_t *scratch = bn_xcalloc(d, 1);

    for (size_t at = 0; at < n * width; at++) {
        size_t position = 5 + at / width, head = at % width / d, i = at % d;
        k[at] = some_value(head, position, i) * magnitude(head, position);
        v[at] = -some_value(head, position, i) * magnitude(head, position);
    }
    bn_kv_store(kv, kernels, 1, 5, k, v, n, scratch);
    free(k);
    free(v);
    free(scratch);
}

static size_t whole_lines(size_t bytes)
{
    return (bytes + 63) / 64 * 64;
}

/* Keys, their scales, values, their scales of n positions. */
static size_t block_bytes(const struct bn_kv_cache *kv, size_t n)
{
    size_t d = kv->head_dim;

    return kv->type == BN_KV_INT8
               ? whole_lines(n * ((d + 3) / 4 * 4)) + whole_lines(n * d) + 2 * whole_lines(n * 4)
               : 2 * whole_lines(n * d * 2);
}

/* What the documented layout says of a key and a value of layer 1. */
static void read_value(const struct bn_kv_cache *kv, const struct bn_kernels *kernels, size_t head,
                       size_t position, size_t i, float *k, float *v)
{
    size_t d = kv->head_dim, at = position % 256, n = position < 256 ? 256 : 96, tile = at / 32, p = at % 32;
    const uint8_t *blocks = kv->memory + (position < 256 ? 0 : N_LAYER * N_HEAD_KV * block_bytes(kv, 256));
    const uint8_t *block = blocks + (N_HEAD_KV + head) * block_bytes(kv, n);

    if (kv->type == BN_KV_INT8) {
        size_t d4 = (d + 3) / 4 * 4;
        const uint8_t *k_scales = block + whole_lines(n * d4), *values = k_scales + whole_lines(n * 4);
        const uint8_t *v_scales = values + whole_lines(n * d);
        *k = (float)(block[tile * 32 * d4 + i / 4 * 128 + p * 4 + i % 4] - 128) *
             ((const float *)(const void *)k_scales)[at];
        *v = (float)(int8_t)values[at / 2 * 2 * d + 2 * i + at % 2] *
             ((const float *)(const void *)v_scales)[at];
    } else {
        const uint16_t *keys = (const uint16_t *)(const void *)block,
                       *values = (const uint16_t *)(const void *)(block + whole_lines(n * d * 2));
        kernels->f16_to_f32(keys + tile * 32 * d + i * 32 + p, k, 1);
        kernels->f16_to_f32(values + at * d + i, v, 1);
    }
}

static void check_layout(enum bn_kv_type type, size_t d)
{
    struct bn_kv_cache kv = new_cache(type, d);
    struct bn_kernels kernels;

    bn_kernels_init(&kernels, bn_cpu_detect());
    fill_cache(&kv, &kernels, 320);
    for (size_t position = 5; position < 325; position++) {
        for (size_t head = 0; head < N_HEAD_KV; head++) {
            for (size_t i = 0; i < d; i++) {
                float k, v, m = magnitude(head, position), expected = some_value(head, position, i) * m;
                /* half a unit of F16, or of a 127th of the row's largest, which is m at most */
                float bound = type == BN_KV_INT8 ? m / 253.0f : m * 0x1p-12f;
                read_value(&kv, &kernels, head, position, i, &k, &v);
                assert_true(fabsf(k - expected) <= bound);
                assert_true(fabsf(v + expected) <= bound);
            }
        }
    }
    free(kv.memory);
}

static void test_layout(void **state)
{
    static const size_t widths[] = {128, 20, 7, 200};

    (void)state;
    for (size_t i = 0; i < BN_COUNT(widths); i++) {
        check_layout(BN_KV_F16, widths[i]);
        check_layout(BN_KV_INT8, widths[i]);
    }
}

static void test_names(void **state)
{
    enum bn_kv_type type;

    (void)state;
    for (int i = 0; i < BN_KV_TYPES; i++) {
        assert_int_equal(bn_kv_type_find(bn_kv_type_name((enum bn_kv_type)i), &type), 0);
        assert_int_equal(type, i);
    }
    assert_int_equal(bn_kv_type_find("f32", &type), -1);
}

/* ---- a whole model: logits after each token with int8 against those with F16 ----
 *
 * Rounding keys, values and queries to 1/254 of a row's largest moves them by about 0.3 % of their root mean
 * square; what comes of it in the logits after all layers, at the worst token and entry, was measured: 0.13.
 */

static void reopen(struct engine *e, enum bn_kv_type type)
{
    struct bn_session_options options = {.n_ctx = e->model.n_ctx, .kv = type};
    struct bn_err err;

    bn_session_close(&e->session);
    assert_int_equal(bn_session_open(&e->session, &e->model, &e->kernels, e->pool, &options, &err), 0);
}

static void check_logits(const char *path, size_t n, double bound)
{
    uint32_t *tokens = bn_xcalloc(n, sizeof *tokens);
    struct engine e;

    open_engine(&e, path, bn_cpu_detect(), 2);
    fill_tokens(tokens, n, e.model.n_vocab);
    double *expected = bn_xcalloc(n * e.model.n_vocab, sizeof *expected);
    for (size_t t = 0; t < n; t++) {
        const float *logits = bn_forward(&e.session, &tokens[t], 1, true);
        for (uint32_t i = 0; i < e.model.n_vocab; i++)
            expected[t * e.model.n_vocab + i] = (double)logits[i];
    }
    reopen(&e, BN_KV_INT8);
    double error = distance(&e, tokens, n, expected);
    print_message("# %s: %.2e of the logits' root mean square (bound %.0e)\n", path, error, bound);
    assert_true(error > 0.0 && error <= bound);
    close_engine(&e);
    free(expected);
    free(tokens);
}

static void test_logits(void **state)
{
    (void)state;
    check_logits("core/tiny-bitnet-i2s.gguf", 150, 0.3);
    check_logits("tests/data/stories260k-f32.gguf", 100, 0.3);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_layout),
        cmocka_unit_test(test_names),
        cmocka_unit_test(test_logits),
    };

    bn_scope_init();
    return cmocka_run_group_tests(tests, NULL, NULL);
}
