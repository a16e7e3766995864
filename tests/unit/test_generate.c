/* SPDX-License-Identifier: MIT
 * Generation on the demo model: known answers, the ways it ends, its numbers, and no allocation while
 * decoding. */
#include "core/generate.h"

#include <cjson/cJSON.h>
#include <setjmp.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "core/builtin.h"
#include "core/heap.h"
#include "core/scope.h"
#include "core/tokenizer.h"
#include "kernels/cpu.h"

static struct bn_model model;
static struct bn_kernels kernels;
static struct bn_pool *pool;
static struct bn_tokenizer *tok;

struct engine {
    struct bn_session session;
    struct bn_sampler sampler;
    struct bn_generator generator;
};

static void open_engine(struct engine *e, uint32_t n_ctx, size_t max_tokens, const uint32_t *stop,
                        size_t n_stop, bn_generate_emit *emit, void *user)
{
    struct bn_err err;

    assert_int_equal(bn_session_open(&e->session, &model, &kernels, pool,
                                     &(struct bn_session_options){.n_ctx = n_ctx}, &err),
                     0);
    bn_sampler_open(&e->sampler, &(struct bn_sample_options){.greedy = true}, &kernels, model.n_vocab);
    bn_generator_open(&e->generator, &e->session, &e->sampler, stop, n_stop, max_tokens, 200, emit, user);
}

static void close_engine(struct engine *e)
{
    bn_generator_close(&e->generator);
    bn_sampler_close(&e->sampler);
    bn_session_close(&e->session);
}

static struct bn_ids encode(const char *text)
{
    struct bn_ids ids = {0};
    struct bn_err err;

    assert_int_equal(bn_tokenizer_encode(tok, bn_str_from(text), true, false, &ids, &err), 0);
    return ids;
}

/* The answer's text; the caller frees it. */
static char *answer(struct engine *e, const char *prompt)
{
    struct bn_ids ids = encode(prompt);
    struct bn_buf text = {0};
    struct bn_err err;

    assert_int_equal(bn_generate(&e->generator, ids.p, ids.n, &err), 0);
    for (size_t i = 0; i < e->generator.n_tokens; i++)
        bn_tokenizer_decode(tok, e->generator.tokens[i], i == 0, false, &text);
    bn_ids_free(&ids);
    return text.p;
}

/* ---- known answers ---- */

static cJSON *read_json(const char *path)
{
    struct bn_map map;
    struct bn_err err;

    assert_int_equal(bn_map_open(&map, path, &err), 0);
    cJSON *json = cJSON_ParseWithLength((const char *)map.p, map.n);
    assert_non_null(json);
    bn_map_close(&map);
    return json;
}

static void test_expected(void **state)
{
    cJSON *all = read_json("tests/data/tiny-bitnet-expected.json"), *one;
    struct engine e;
    int checked = 0;

    (void)state;
    open_engine(&e, model.n_ctx, 64, NULL, 0, NULL, NULL);
    cJSON_ArrayForEach(one, all)
    {
        cJSON *expected = cJSON_GetObjectItem(one, "tokens"),
              *prompt_ids = cJSON_GetObjectItem(one, "prompt_ids");
        struct bn_ids ids = encode(cJSON_GetObjectItem(one, "prompt")->valuestring);
        struct bn_err err;
        assert_int_equal(ids.n, cJSON_GetArraySize(prompt_ids));
        for (int i = 0; i < (int)ids.n; i++)
            assert_int_equal(ids.p[i], cJSON_GetArrayItem(prompt_ids, i)->valueint);
        assert_int_equal(bn_generate(&e.generator, ids.p, ids.n, &err), 0);
        assert_true(e.generator.n_tokens >= (size_t)cJSON_GetArraySize(expected));
        for (int i = 0; i < cJSON_GetArraySize(expected); i++, checked++)
            assert_int_equal(e.generator.tokens[i], cJSON_GetArrayItem(expected, i)->valueint);
        bn_ids_free(&ids);
    }
    assert_true(checked > 20);
    close_engine(&e);
    cJSON_Delete(all);
}

/* All 121 sums of two even numbers up to 20. */
static void test_sums(void **state)
{
    struct engine e;

    (void)state;
    open_engine(&e, model.n_ctx, 4, NULL, 0, NULL, NULL);
    for (int a = 0; a <= 20; a += 2) {
        for (int b = 0; b <= 20; b += 2) {
            char prompt[32], expected[32];
            snprintf(prompt, sizeof prompt, "%d+%d=", a, b);
            int n = snprintf(expected, sizeof expected, "%d\n", a + b);
            char *text = answer(&e, prompt);
            assert_int_equal(strncmp(text, expected, (size_t)n), 0);
            free(text);
        }
    }
    close_engine(&e);
}

/* ---- how it ends ---- */

static void test_max_tokens(void **state)
{
    struct engine e;

    (void)state;
    open_engine(&e, model.n_ctx, 7, NULL, 0, NULL, NULL);
    free(answer(&e, "Once upon a time"));
    assert_int_equal(e.generator.n_tokens, 7);
    assert_int_equal(e.generator.end, BN_END_MAX_TOKENS);
    close_engine(&e);
}

static void test_stop_token(void **state)
{
    const uint32_t stop[] = {999, 10}; /* a newline */
    struct engine e;

    (void)state;
    open_engine(&e, model.n_ctx, 64, stop, BN_COUNT(stop), NULL, NULL);
    char *text = answer(&e, "2+2=");
    assert_string_equal(text, "4\n");
    assert_int_equal(e.generator.end, BN_END_STOP_TOKEN);
    free(text);
    close_engine(&e);
}

/* A context of c holds a prompt of c tokens, and every token but the last generated one takes a place in it.
 */
static void test_context_full(void **state)
{
    struct bn_ids ids = encode("Once upon a time");
    struct bn_err err;
    struct engine e;

    (void)state;
    open_engine(&e, 9, 1000, NULL, 0, NULL, NULL);
    assert_int_equal(bn_generate(&e.generator, ids.p, ids.n, &err), 0);
    assert_int_equal(e.generator.end, BN_END_CONTEXT_FULL);
    assert_int_equal(e.generator.n_tokens, 9 - ids.n + 1);
    close_engine(&e);
    open_engine(&e, (uint32_t)ids.n, 1000, NULL, 0, NULL, NULL);
    assert_int_equal(bn_generate(&e.generator, ids.p, ids.n, &err), 0);
    assert_int_equal(e.generator.n_tokens, 1);
    close_engine(&e);
    bn_ids_free(&ids);
}

static void test_bad_prompts(void **state)
{
    struct bn_ids ids = encode("Once upon a time");
    struct bn_err err;
    struct engine e;

    (void)state;
    open_engine(&e, 4, 8, NULL, 0, NULL, NULL);
    assert_int_equal(bn_generate(&e.generator, ids.p, ids.n, &err), -1);
    assert_string_equal(err.msg, "the prompt has 5 tokens, the context holds 4");
    assert_int_equal(bn_generate(&e.generator, ids.p, 0, &err), -1);
    assert_non_null(strstr(err.msg, "empty"));
    assert_int_equal(bn_generate(&e.generator, &(uint32_t){1024}, 1, &err), -1);
    assert_string_equal(err.msg, "token id 1024 is outside the model's vocabulary of 1024");
    assert_int_equal(e.generator.n_prompt_tokens, 0);
    close_engine(&e);
    bn_ids_free(&ids);
}

static bool stop_at_three(void *user, uint32_t id, size_t index)
{
    const struct bn_generator *g = user;

    assert_int_equal(g->tokens[index], id);
    return index < 2;
}

static void test_interrupted(void **state)
{
    volatile sig_atomic_t interrupt = 0;
    struct engine e;

    (void)state;
    open_engine(&e, model.n_ctx, 64, NULL, 0, stop_at_three, &e.generator);
    free(answer(&e, "Once upon a time"));
    assert_int_equal(e.generator.end, BN_END_INTERRUPTED);
    assert_int_equal(e.generator.n_tokens, 3);
    e.generator.interrupt = &interrupt;
    interrupt = 1;
    free(answer(&e, "Once upon a time"));
    assert_int_equal(e.generator.end, BN_END_INTERRUPTED);
    assert_int_equal(e.generator.n_tokens, 0);
    close_engine(&e);
}

/* ---- numbers ---- */

static void test_numbers(void **state)
{
    struct engine e;

    (void)state;
    open_engine(&e, model.n_ctx, 12, NULL, 0, NULL, NULL);
    uint64_t start_ns = bn_now_ns();
    for (int i = 0; i < 3; i++)
        free(answer(&e, "Once upon a time"));
    uint64_t all_ns = bn_now_ns() - start_ns;
    struct bn_generator *g = &e.generator;
    assert_int_equal(g->n_sequences, 3);
    assert_int_equal(g->n_prompt_tokens, 3 * 5);
    assert_int_equal(g->n_generated_tokens, 3 * 12);
    assert_int_equal(g->n_token_times, 3 * 11);
    assert_true(g->prompt_ns > 0 && g->first_token_ns > 0 && g->prompt_ns + g->decode_ns < all_ns);
    uint64_t sum = 0, max = 0;
    for (size_t i = 0; i < g->n_token_times; i++) {
        sum += g->token_ns[i];
        max = g->token_ns[i] > max ? g->token_ns[i] : max;
    }
    assert_int_equal(sum, g->decode_ns);
    assert_int_equal(bn_generator_quantile(g, 1.0), max);
    assert_true(bn_generator_quantile(g, 0.0) <= bn_generator_quantile(g, 0.5));
    assert_int_equal(bn_generator_quantile(g, 0.5), g->token_ns[16]);
    /* dispatches: 7 matrices a layer for each decoded token; the prompts went through in batches; the model
     * is not prepared, so its weights lie as in the file */
    assert_int_equal(e.session.kernel_calls[BN_KERNEL_qk256_gemv], 3 * 11 * 7 * 4);
    assert_int_equal(e.session.kernel_calls[BN_KERNEL_qk256_gemm], 3 * 7 * 4);
    assert_int_equal(e.session.kernel_calls[BN_KERNEL_f32_argmax], 3 * 12);
    close_engine(&e);
}

static void test_hash(void **state)
{
    char hex[17];

    (void)state;
    /* printf '\x34\0\0\0\x0a\0\0\0' | sha256sum */
    bn_token_hash((const uint32_t[]){52, 10}, 2, hex);
    assert_string_equal(hex, "35189c354e9dc15a");
    bn_token_hash(NULL, 0, hex);
    assert_string_equal(hex, "e3b0c44298fc1c14");
}

static bool allocate_once(void *user, uint32_t id, size_t index)
{
    void *volatile p;

    (void)user;
    (void)id;
    if (index == 3) {
        p = malloc(16);
        p = realloc(p, 400);
        free(p);
        p = calloc(4, 4);
        free(p);
    }
    return true;
}

/* The count is real: it sees what an emit function allocates; and without one there is nothing. */
static void test_no_allocation(void **state)
{
    struct engine e;

    (void)state;
    assert_true(bn_heap_allocations() != UINT64_MAX);
    open_engine(&e, model.n_ctx, 100, NULL, 0, NULL, NULL);
    free(answer(&e, "Once upon a time"));
    assert_int_equal(e.generator.n_tokens, 100);
    assert_int_equal(e.generator.decode_allocations, 0);
    e.sampler.options = (struct bn_sample_options){.temperature = 1.0f, .top_k = 40, .top_p = 0.9f};
    e.sampler.candidates = bn_xcalloc(model.n_vocab, sizeof *e.sampler.candidates);
    free(answer(&e, "Once upon a time"));
    assert_int_equal(e.generator.decode_allocations, 0);
    close_engine(&e);
    open_engine(&e, model.n_ctx, 100, NULL, 0, allocate_once, NULL);
    free(answer(&e, "Once upon a time"));
    assert_int_equal(e.generator.decode_allocations, 3);
    close_engine(&e);
}

static int open_all(void **state)
{
    struct bn_str bytes = bn_builtin_model();
    struct bn_err err;

    (void)state;
    bn_scope_init();
    bn_kernels_init(&kernels, bn_cpu_detect());
    return bn_pool_open(&pool, 3, &err) != 0 ||
           bn_model_load_memory(&model, bytes.p, bytes.n, BN_BUILTIN_LABEL, &err) != 0 ||
           bn_tokenizer_load(&tok, &model.gguf, &err) != 0;
}

static int close_all(void **state)
{
    (void)state;
    bn_tokenizer_free(tok);
    bn_model_close(&model);
    bn_pool_close(pool);
    return 0;
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_expected),     cmocka_unit_test(test_sums),
        cmocka_unit_test(test_max_tokens),   cmocka_unit_test(test_stop_token),
        cmocka_unit_test(test_context_full), cmocka_unit_test(test_bad_prompts),
        cmocka_unit_test(test_interrupted),  cmocka_unit_test(test_numbers),
        cmocka_unit_test(test_hash),         cmocka_unit_test(test_no_allocation),
    };

    return cmocka_run_group_tests(tests, open_all, close_all);
}
