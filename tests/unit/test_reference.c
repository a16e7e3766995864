/* SPDX-License-Identifier: MIT
 * core/reference: known continuations of two trained models, and the rules that no model alone would show. */
#include "core/reference.h"

#include <math.h>
#include <setjmp.h>
#include <stdlib.h>
#include <string.h>

#include <cjson/cJSON.h>
#include <cmocka.h>

#include "core/tokenizer.h"

#define DEMO "core/tiny-bitnet-i2s.gguf"

static uint32_t largest(const double *logits, uint32_t n)
{
    uint32_t best = 0;

    for (uint32_t i = 1; i < n; i++)
        if (logits[i] > logits[best])
            best = i;
    return best;
}

/* ---- the demo model: expected token by token ---- */

static void check_continuation(struct bn_reference *ref, const cJSON *example, double *logits)
{
    const cJSON *prompt = cJSON_GetObjectItem(example, "prompt_ids"),
                *tokens = cJSON_GetObjectItem(example, "tokens");
    const cJSON *id;

    assert_true(cJSON_GetArraySize(prompt) > 0 && cJSON_GetArraySize(tokens) > 0);
    bn_reference_reset(ref);
    cJSON_ArrayForEach(id, prompt) bn_reference_step(ref, (uint32_t)id->valuedouble, logits);
    cJSON_ArrayForEach(id, tokens)
    {
        assert_int_equal(largest(logits, bn_reference_n_vocab(ref)), (uint32_t)id->valuedouble);
        bn_reference_step(ref, (uint32_t)id->valuedouble, logits);
    }
}

static void test_demo(void **state)
{
    struct bn_gguf g;
    struct bn_map text;
    struct bn_err err = {""};
    struct bn_reference *ref;
    const cJSON *example;

    (void)state;
    assert_int_equal(bn_gguf_open(&g, DEMO, &err), 0);
    assert_int_equal(bn_reference_open(&ref, &g, 64, &err), 0);
    assert_int_equal(bn_map_open(&text, "tests/data/tiny-bitnet-expected.json", &err), 0);
    cJSON *examples = cJSON_ParseWithLength((const char *)text.p, text.n);
    assert_int_equal(cJSON_GetArraySize(examples), 6);
    double *logits = bn_xcalloc(bn_reference_n_vocab(ref), sizeof *logits);
    cJSON_ArrayForEach(example, examples) check_continuation(ref, example, logits);
    free(logits);
    cJSON_Delete(examples);
    bn_map_close(&text);
    bn_reference_free(ref);
    bn_gguf_close(&g);
}

/* The reference's answer to "a+b=": greedy, up to the end of the line. */
static void answer(struct bn_reference *ref, struct bn_tokenizer *tok, int a, int b, double *logits,
                   struct bn_buf *out)
{
    char prompt[32];
    struct bn_ids ids = {0};
    struct bn_err err = {""};

    snprintf(prompt, sizeof prompt, "%d+%d=", a, b);
    assert_int_equal(bn_tokenizer_encode(tok, bn_str_from(prompt), true, false, &ids, &err), 0);
    bn_reference_reset(ref);
    for (size_t i = 0; i < ids.n; i++)
        bn_reference_step(ref, ids.p[i], i + 1 == ids.n ? logits : NULL);
    bn_ids_free(&ids);
    out->n = 0;
    for (int i = 0; i < 4; i++) {
        uint32_t token = largest(logits, bn_reference_n_vocab(ref));
        bn_tokenizer_decode(tok, token, false, false, out);
        if (memchr(out->p, '\n', out->n))
            return;
        bn_reference_step(ref, token, logits);
    }
}

static void test_sums(void **state)
{
    struct bn_gguf g;
    struct bn_err err = {""};
    struct bn_reference *ref;
    struct bn_tokenizer *tok;
    struct bn_buf out = {0};
    double logits[1024];

    (void)state;
    assert_int_equal(bn_gguf_open(&g, DEMO, &err), 0);
    assert_int_equal(bn_reference_open(&ref, &g, 32, &err), 0);
    assert_int_equal(bn_tokenizer_load(&tok, &g, &err), 0);
    for (int a = 0; a <= 20; a += 2) {
        for (int b = 0; b <= 20; b += 2) {
            char sum[32];
            size_t n = (size_t)snprintf(sum, sizeof sum, "%d\n", a + b);
            answer(ref, tok, a, b, logits, &out);
            if (out.n < n || memcmp(out.p, sum, n) != 0)
                fail_msg("%d+%d=%s", a, b, out.p);
        }
    }
    bn_buf_free(&out);
    bn_tokenizer_free(tok);
    bn_reference_free(ref);
    bn_gguf_close(&g);
}

/* ---- a llama model: expected as text ---- */

/* A SentencePiece token as text: a byte token <0xXX>, or a piece with U+2581 for a space. */
static void put_piece(struct bn_buf *out, struct bn_str piece)
{
    unsigned byte;
    char text[8] = "";

    if (piece.n == 6) {
        memcpy(text, piece.p, 6);
        if (sscanf(text, "<0x%02X>", &byte) == 1) {
            bn_buf_putc(out, (char)byte);
            return;
        }
    }
    for (size_t i = 0; i < piece.n; i++) {
        bool space = piece.n - i >= 3 && memcmp(piece.p + i, "\xe2\x96\x81", 3) == 0;
        bn_buf_putc(out, space ? ' ' : piece.p[i]);
        i += space ? 2 : 0;
    }
}

static struct bn_str *vocabulary(const struct bn_gguf *g, uint32_t n_vocab)
{
    const struct bn_gguf_kv *kv = bn_gguf_find(g, "tokenizer.ggml.tokens");
    struct bn_str *pieces = bn_xcalloc(n_vocab, sizeof *pieces);
    const uint8_t *cursor = kv->value;

    assert_int_equal(kv->count, n_vocab);
    for (uint32_t i = 0; i < n_vocab; i++)
        pieces[i] = bn_gguf_next_str(&cursor);
    return pieces;
}

/* `prompt` are the ids of `text`, which must be continued by 64 tokens as the expectations have it. */
static void check_story(const char *path, const char *text, const uint32_t *prompt, size_t n)
{
    struct bn_gguf g;
    struct bn_map map;
    struct bn_err err = {""};
    struct bn_reference *ref;
    struct bn_buf out = {0};

    assert_int_equal(bn_gguf_open(&g, path, &err), 0);
    assert_int_equal(bn_reference_open(&ref, &g, 128, &err), 0);
    assert_int_equal(bn_map_open(&map, "tests/data/stories260k-expected.json", &err), 0);
    cJSON *expected = cJSON_ParseWithLength((const char *)map.p, map.n);
    double *logits = bn_xcalloc(bn_reference_n_vocab(ref), sizeof *logits);
    struct bn_str *pieces = vocabulary(&g, bn_reference_n_vocab(ref));
    bn_buf_puts(&out, text);
    for (size_t i = 0; i < n; i++)
        bn_reference_step(ref, prompt[i], logits);
    for (int i = 0; i < 64; i++) {
        uint32_t token = largest(logits, bn_reference_n_vocab(ref));
        put_piece(&out, pieces[token]);
        bn_reference_step(ref, token, logits);
    }
    assert_string_equal(out.p, cJSON_GetStringValue(cJSON_GetObjectItem(expected, text)));
    free(pieces);
    free(logits);
    cJSON_Delete(expected);
    bn_buf_free(&out);
    bn_map_close(&map);
    bn_reference_free(ref);
    bn_gguf_close(&g);
}

static void test_stories(void **state)
{
    static const uint32_t once_upon_a_time[] = {1, 403, 407, 261, 378}, the_dog[] = {1, 291, 400, 428};

    (void)state;
    check_story("tests/data/stories260k-f32.gguf", "Once upon a time", once_upon_a_time, 5);
    check_story("tests/data/stories260k-f32.gguf", "The dog", the_dog, 4);
    check_story("tests/data/stories260k-f16.gguf", "Once upon a time", once_upon_a_time, 5);
}

/* ---- options ---- */

static void test_reset_and_cache(void **state)
{
    struct bn_gguf g;
    struct bn_err err = {""};
    struct bn_reference *ref;
    double first[1024], again[1024], exact[1024], difference = 0;

    (void)state;
    assert_int_equal(bn_gguf_open(&g, DEMO, &err), 0);
    assert_int_equal(bn_reference_open(&ref, &g, 8, &err), 0);
    assert_int_equal(bn_reference_n_vocab(ref), 1024);
    for (uint32_t i = 0; i < 4; i++)
        bn_reference_step(ref, 50 + i, i == 3 ? first : NULL);
    bn_reference_reset(ref);
    for (uint32_t i = 0; i < 4; i++)
        bn_reference_step(ref, 50 + i, again);
    assert_memory_equal(first, again, sizeof first);
    bn_reference_reset(ref);
    bn_reference_set_f16_cache(ref, false);
    for (uint32_t i = 0; i < 4; i++)
        bn_reference_step(ref, 50 + i, exact);
    for (int i = 0; i < 1024; i++)
        difference = fmax(difference, fabs(exact[i] - first[i]));
    assert_true(difference > 0 && difference < 0.5);
    bn_reference_free(ref);
    bn_gguf_close(&g);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_demo),
        cmocka_unit_test(test_sums),
        cmocka_unit_test(test_stories),
        cmocka_unit_test(test_reset_and_cache),
    };
    return cmocka_run_group_tests_name("reference", tests, NULL, NULL);
}
