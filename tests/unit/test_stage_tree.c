/* SPDX-License-Identifier: MIT
 * The stages of a generation as run reports them: every one with its exact number of calls, nested as the
 * contract has it; and the table's columns. */
#include "tools/stage_tree.h"

#include <setjmp.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "core/builtin.h"
#include "core/generate.h"
#include "core/scope.h"
#include "kernels/cpu.h"

enum { N_PROMPT = 5, N_TOKENS = 4, N_LAYER = 4 };

static void generate(void)
{
    struct bn_str bytes = bn_builtin_model();
    const uint32_t prompt[N_PROMPT] = {1022, 50, 43, 50, 61};
    struct bn_model model;
    struct bn_kernels kernels;
    struct bn_pool *pool;
    struct bn_session session;
    struct bn_sampler sampler;
    struct bn_generator g;
    struct bn_err err;

    bn_kernels_init(&kernels, bn_cpu_detect());
    assert_int_equal(bn_model_load_memory(&model, bytes.p, bytes.n, BN_BUILTIN_LABEL, &err), 0);
    assert_int_equal(bn_pool_open(&pool, 2, &err), 0);
    assert_int_equal(bn_session_open(&session, &model, &kernels, pool,
                                     &(struct bn_session_options){.n_ctx = model.n_ctx}, &err),
                     0);
    bn_sampler_open(&sampler, &(struct bn_sample_options){.greedy = true}, &kernels, model.n_vocab);
    bn_generator_open(&g, &session, &sampler, NULL, 0, N_TOKENS, 1, NULL, NULL);
    assert_int_equal(bn_generate(&g, prompt, N_PROMPT, &err), 0);
    bn_generator_close(&g);
    bn_sampler_close(&sampler);
    bn_session_close(&session);
    bn_pool_close(pool);
    bn_model_close(&model);
}

static cJSON *tree;

/* The node at "generate/decode/…". */
static const cJSON *node(const char *path)
{
    const cJSON *at = tree;
    char copy[256], *rest = copy;

    snprintf(copy, sizeof copy, "%s", path);
    for (char *name; (name = strsep(&rest, "/"));) {
        const cJSON *child, *found = NULL;
        cJSON_ArrayForEach(child, cJSON_GetObjectItem(at, "children"))
        {
            if (strcmp(cJSON_GetObjectItem(child, "name")->valuestring, name) == 0)
                found = child;
        }
        if (!found)
            fail_msg("no stage %s in %s", name, path);
        at = found;
    }
    return at;
}

static double number(const char *path, const char *key)
{
    return cJSON_GetObjectItem(node(path), key)->valuedouble;
}

static void check_calls(const char *phase, const char *stage, int calls)
{
    char path[256];

    snprintf(path, sizeof path, "generate/%s/%s", phase, stage);
    if ((int)number(path, "calls") != calls)
        fail_msg("%s: %d calls, expected %d", path, (int)number(path, "calls"), calls);
}

#define BLOCK     "forward_pass/transformer_block"
#define ATTENTION BLOCK "/attention/"
#define FFN       BLOCK "/ffn/"

static void test_calls(void **state)
{
    static const char *const once_a_step[] = {"forward_pass", "forward_pass/embedding_lookup",
                                              "forward_pass/output_norm", "forward_pass/lm_head",
                                              "sample_token"};
    static const char *const once_a_layer[] = {BLOCK,
                                               BLOCK "/attention",
                                               BLOCK "/ffn",
                                               ATTENTION "attn_norm",
                                               ATTENTION "qkv_projection",
                                               ATTENTION "rope_apply",
                                               ATTENTION "kv_store",
                                               ATTENTION "attention_matmul",
                                               ATTENTION "attention_softmax",
                                               ATTENTION "attn_sub_norm",
                                               ATTENTION "output_projection",
                                               ATTENTION "residual_add",
                                               FFN "ffn_norm",
                                               FFN "gate_up_projection",
                                               FFN "activation",
                                               FFN "ffn_sub_norm",
                                               FFN "down_projection",
                                               FFN "residual_add"};
    static const char *const twice_a_layer[] = {ATTENTION "quantize_activations", FFN "quantize_activations"};
    static const struct {
        const char *name;
        int steps;
    } phases[] = {{"prefill", 1}, {"decode", N_TOKENS - 1}};

    (void)state;
    for (size_t p = 0; p < BN_COUNT(phases); p++) {
        for (size_t i = 0; i < BN_COUNT(once_a_step); i++)
            check_calls(phases[p].name, once_a_step[i], phases[p].steps);
        for (size_t i = 0; i < BN_COUNT(once_a_layer); i++)
            check_calls(phases[p].name, once_a_layer[i], N_LAYER * phases[p].steps);
        for (size_t i = 0; i < BN_COUNT(twice_a_layer); i++)
            check_calls(phases[p].name, twice_a_layer[i], 2 * N_LAYER * phases[p].steps);
    }
    assert_true(number("generate", "calls") == 1);
    assert_true(number("generate/decode", "calls") == N_TOKENS - 1);
}

static void check_times(const cJSON *at)
{
    const cJSON *child;
    double below = 0.0, total = cJSON_GetObjectItem(at, "total_ns")->valuedouble;

    cJSON_ArrayForEach(child, cJSON_GetObjectItem(at, "children"))
    {
        below += cJSON_GetObjectItem(child, "total_ns")->valuedouble;
        check_times(child);
    }
    if (cJSON_HasObjectItem(at, "fused_into"))
        assert_true(total == 0.0);
    else if (cJSON_GetObjectItem(at, "calls")->valuedouble > 0)
        assert_true(total > 0.0 && below + cJSON_GetObjectItem(at, "self_ns")->valuedouble == total);
}

/* Codes come out of the norms: exact calls above, no time below, and a word about where the time stands. */
static void test_fused(void **state)
{
    (void)state;
    const cJSON *attention = node("generate/decode/" ATTENTION "quantize_activations");
    const cJSON *ffn = node("generate/decode/" FFN "quantize_activations");
    assert_string_equal(cJSON_GetObjectItem(attention, "fused_into")->valuestring,
                        "attn_norm, attn_sub_norm");
    assert_string_equal(cJSON_GetObjectItem(ffn, "fused_into")->valuestring, "ffn_norm, ffn_sub_norm");
    assert_false(cJSON_HasObjectItem(node("generate/decode/" FFN "activation"), "fused_into"));
}

/* A stage's time is its own and its children's, to the nanosecond. */
static void test_times(void **state)
{
    (void)state;
    check_times(tree);
}

/* Two operations a multiply-add; weights once a call. */
static void test_bytes_and_operations(void **state)
{
    const char *down = "generate/decode/" FFN "down_projection",
               *prefill = "generate/prefill/" FFN "down_projection";
    double steps = (N_TOKENS - 1) * N_LAYER, macs = 768 * 256;

    (void)state;
    assert_true(number(down, "ops") == steps * 2 * macs);
    assert_true(number(down, "bytes") == steps * (macs / 4 + 768 + 256 * 4));
    assert_true(number(prefill, "ops") == N_LAYER * 2 * macs * N_PROMPT);
    assert_true(number(prefill, "bytes") == N_LAYER * (macs / 4 + N_PROMPT * (768 + 256 * 4)));
    assert_true(number("generate/decode/forward_pass/lm_head", "ops") == (N_TOKENS - 1) * 2.0 * 1024 * 256);
    assert_true(number("generate/decode/forward_pass", "ops") > number("generate/decode/" BLOCK, "ops"));
}

static void test_table(void **state)
{
    struct bn_stage_row *rows = bn_xcalloc(BN_SCOPE_MAX_NODES, sizeof *rows);
    size_t n = bn_stage_rows_live(rows), size;
    char *text;
    FILE *f = open_memstream(&text, &size);

    (void)state;
    bn_stage_tree_print(f, rows, n, N_PROMPT);
    fclose(f);
    assert_int_equal(strncmp(text, "stage  ", 7), 0);
    static const char *const columns[] = {"calls", "total", "self", "min",   "p50",      "p95",
                                          "p99",   "max",   "GB/s", "GOP/s", "per token"};
    const char *at = text;
    for (size_t i = 0; i < BN_COUNT(columns); i++) {
        at = strstr(at, columns[i]);
        assert_non_null(at);
    }
    assert_non_null(strstr(text, "\n  decode                                 3 "));
    assert_non_null(strstr(text, "\n      transformer_block                 12 "));
    free(text);
    /* a hand-made tree: rates include the children, time per token is by decoded token */
    const struct bn_stage_row few[] = {
        {.parent = 0, .name = "all"},
        {.parent = 0, .name = "decode", .calls = 4, .total_ns = 8000, .self_ns = 2000, .max_ns = 2100000},
        {.parent = 1, .name = "lm_head", .calls = 4, .total_ns = 6000, .bytes = 24000, .ops = 12000},
        {.parent = 1, .name = "never"}};
    f = open_memstream(&text, &size);
    bn_stage_tree_print(f, few, BN_COUNT(few), 0);
    fclose(f);
    assert_non_null(strstr(text, " 4   8.00 us   2.00 us      0 ns      0 ns      0 ns      0 ns   2.10 ms   "
                                 " 3.00     1.50   2.00 us"));
    assert_non_null(strstr(text, "  lm_head "));
    assert_null(strstr(text, "never"));
    free(text);
    free(rows);
}

static int read_tree(void **state)
{
    struct bn_stage_row *rows = bn_xcalloc(BN_SCOPE_MAX_NODES, sizeof *rows);

    (void)state;
    bn_scope_init();
    generate();
    tree = bn_stage_tree_json(rows, bn_stage_rows_live(rows));
    free(rows);
    return 0;
}

static int free_tree(void **state)
{
    (void)state;
    cJSON_Delete(tree);
    return 0;
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_calls), cmocka_unit_test(test_fused),
        cmocka_unit_test(test_times), cmocka_unit_test(test_bytes_and_operations),
        cmocka_unit_test(test_table),
    };

    return cmocka_run_group_tests(tests, read_tree, free_tree);
}
