/* SPDX-License-Identifier: MIT
 * core/tokenizer, core/tokenizer_gguf, core/special: real vocabularies give the known ids, any bytes survive,
 * and damaged metadata is named. */
#include <cjson/cJSON.h>

#include "core/builtin.h"
#include "tests/unit/vocabulary.h"

static int load_builtin(struct loaded *l)
{
    struct bn_str bytes = bn_builtin_model();
    struct bn_err err = {""};

    *l = (struct loaded){0};
    assert_int_equal(bn_gguf_open_memory(&l->gguf, bytes.p, bytes.n, BN_BUILTIN_LABEL, &err), 0);
    if (bn_tokenizer_load(&l->tok, &l->gguf, &err) != 0)
        fail_msg("%s", err.msg);
    return 0;
}

/* ---- the demo model ---- */

static void test_demo_model(void **state)
{
    struct bn_map map;
    struct bn_err err = {""};
    struct loaded l;
    const cJSON *prompt, *id;

    (void)state;
    load_builtin(&l);
    assert_null(bn_tokenizer_warning(l.tok));
    assert_int_equal(bn_tokenizer_size(l.tok), 1024);
    assert_int_equal(bn_tokenizer_bos(l.tok), 1022);
    assert_int_equal(bn_tokenizer_eos(l.tok), 1023);
    assert_true(bn_tokenizer_add_bos(l.tok));
    assert_int_equal(bn_map_open(&map, "tests/data/tiny-bitnet-expected.json", &err), 0);
    cJSON *root = cJSON_ParseWithLength((const char *)map.p, map.n);
    assert_true(cJSON_GetArraySize(root) > 0);
    cJSON_ArrayForEach(prompt, root)
    {
        struct bn_buf expected = {0}, text = {0};
        cJSON_ArrayForEach(id, cJSON_GetObjectItem(prompt, "prompt_ids"))
            bn_buf_printf(&expected, expected.n ? " %d" : "%d", id->valueint);
        check_ids(l.tok, cJSON_GetObjectItem(prompt, "prompt")->valuestring, BOS, expected.p);
        cJSON_ArrayForEach(id, cJSON_GetObjectItem(prompt, "tokens"))
            bn_tokenizer_decode(l.tok, (uint32_t)id->valueint, false, false, &text);
        assert_string_equal(text.p, cJSON_GetObjectItem(prompt, "text")->valuestring);
        bn_buf_free(&expected);
        bn_buf_free(&text);
    }
    cJSON_Delete(root);
    bn_map_close(&map);
    unload(&l);
}

static void check_any_bytes(struct bn_tokenizer *tok, uint64_t seed)
{
    struct bn_buf bytes = {0};

    for (int i = 0; i < 300; i++) {
        struct bn_buf text = random_text(&seed, random_below(&seed, 400), i % 2);
        check_round_trip(tok, text.p, text.n);
        bn_buf_free(&text);
    }
    for (int i = 0; i < 20000; i++)
        bn_buf_putc(&bytes, (char)next_random(&seed));
    check_round_trip(tok, bytes.p, bytes.n);
    bytes.n = 0;
    for (uint32_t c = 0; c < 0x110000; c++)
        if (c < 0xd800 || c > 0xdfff)
            put_utf8(&bytes, c);
    check_round_trip(tok, bytes.p, bytes.n);
    bn_buf_free(&bytes);
}

static void test_demo_model_any_bytes(void **state)
{
    struct loaded l;

    (void)state;
    load_builtin(&l);
    check_any_bytes(l.tok, 1);
    check_round_trip(l.tok, NULL, 0);
    unload(&l);
}

/* ---- the Llama-3 vocabulary ---- */

/* Ids by another implementation, OpenAI's tiktoken with this vocabulary's tokens as ranks and Llama 3's
 * pattern. */
static const char *const llama3_known[][2] = {
    {"What is 2+2?", "3923 374 220 17 10 17 30"},
    {"Hello world", "9906 1917"},
    {"Hello, world! It's 2024 -- isn't it?", "9906 11 1917 0 1102 596 220 2366 19 1198 4536 956 433 30"},
    {"I'LL say: WE'VE won 1234567 times.", "40 6 4178 2019 25 20255 6 4592 2834 220 4513 10961 22 3115 13"},
    {"  three  spaces\n\n\nand lines\r\n\tend  ", "220 2380 220 12908 1432 438 5238 319 6379 256"},
    {"naïve café — “quoted” … ½ ٣٤٥",
     "3458 38672 588 53050 2001 1054 64825 863 4696 220 27154 220 117413 124079 124043"},
    {"你好，世界。こんにちは 안녕하세요", "57668 53901 3922 102616 1811 90115 96270 124409"},
    {"👩‍👩‍👧‍👦 🇩🇪 👍🏽",
     "9468 239 102 102470 9468 239 102 102470 9468 239 100 102470 9468 239 99 11410 229 "
     "102 9468 229 103 62904 235 9468 237 121"},
    {"Привет, мир! שלום عليكم हिन्दी",
     "54745 28089 8341 11 115388 0 88898 50391 37769 251 127419 10386 85410 100556 "
     "101102 44747"},
    {"int main(void)\n{\n    return 0;\n}\n", "396 1925 4431 340 517 262 471 220 15 280 534"},
    {"e\xcc\x81 a\xcc\x88\xcc\xa3 Z\xcd\x91\xcd\xab", "68 54939 264 127104 105001 1901 137 239 137 104"},
    {"\xe3\x80\x80"
     "full\xc2\xa0width\xe2\x80\x83"
     "and\xc2\x85more\xe2\x80\xa8lines",
     "23249 9054 4194 3175 116503 438 116360 6518 378 101 8128"},
    {"x\xe1\xa0\x8ey \xe1\xa0\x8e z", "87 157 254 236 88 87189 254 236 1167"},
    {"http://example.org/a_b?c=d&e=%20#f", "1277 1129 8858 2726 14520 890 30 66 26477 69170 8003 508 2 69"},
    {"'ſ", "6 129 123"},
};

static bool load_llama3(struct loaded *l)
{
    char *path = optional_model("llama3-vocab.gguf");
    struct bn_err err = {""};

    if (path && load_file(l, path, &err) != 0)
        fail_msg("%s", err.msg);
    free(path);
    return path != NULL;
}

static void test_llama3(void **state)
{
    struct loaded l;

    (void)state;
    if (!load_llama3(&l))
        skip();
    struct bn_tokenizer *tok = l.tok;
    assert_int_equal(bn_tokenizer_size(tok), 128256);
    assert_int_equal(bn_tokenizer_bos(tok), 128000);
    assert_int_equal(bn_tokenizer_eos(tok), 128001);
    assert_int_equal(bn_tokenizer_find(tok, "<|eot_id|>"), 128009);
    assert_int_equal(bn_tokenizer_find(tok, " is"), 374);
    assert_int_equal(bn_tokenizer_find(tok, "no such token"), -1);
    assert_true(bn_tokenizer_is_special(tok, 128009));
    assert_false(bn_tokenizer_is_special(tok, 127999));
    assert_false(bn_tokenizer_is_special(tok, 128256));
    for (size_t i = 0; i < BN_COUNT(llama3_known); i++)
        check_ids(tok, llama3_known[i][0], 0, llama3_known[i][1]);
    check_ids(tok, "Hello world", BOS, "128000 9906 1917");
    check_ids(tok, "2+2<|eot_id|>", SPECIAL, "17 10 17 128009");
    check_ids(tok, "<|eot_id|><|eot_id|>x", BOS | SPECIAL, "128000 128009 128009 87");
    check_ids(tok, "<|eot_id|>", 0, "27 91 68 354 851 91 29");
    check_any_bytes(tok, 2);
    unload(&l);
}

/* Each of these is one word, or one run, of 200 KB; a step that is quadratic in it would take minutes. */
static void test_llama3_long_runs(void **state)
{
    enum { LENGTH = 200000 };
    static const char *const alphabets[] = {
        "a", " ", "\n", "7", "!", "\xff", "abcdefghijklmnopqrstuvwxyz", "\xe2\x96\x81", "\n "};
    char *text = bn_xmalloc(LENGTH);
    uint64_t seed = 5;
    struct loaded l;

    (void)state;
    if (!load_llama3(&l)) {
        free(text);
        skip();
    }
    for (size_t k = 0; k < BN_COUNT(alphabets); k++) {
        size_t n = strlen(alphabets[k]);
        for (size_t i = 0; i < LENGTH; i++)
            text[i] = alphabets[k][n > 3 ? random_below(&seed, n) : i % n];
        check_round_trip(l.tok, text, LENGTH);
    }
    free(text);
    unload(&l);
}

/* ---- a SentencePiece vocabulary ---- */

static void test_stories(void **state)
{
    struct loaded l;
    struct bn_err err = {""};

    (void)state;
    if (load_file(&l, "tests/data/stories260k-f32.gguf", &err) != 0)
        fail_msg("%s", err.msg);
    assert_int_equal(bn_tokenizer_bos(l.tok), 1);
    assert_int_equal(bn_tokenizer_eos(l.tok), 2);
    assert_true(bn_tokenizer_add_bos(l.tok));
    check_ids(l.tok, "Once upon a time", BOS, "1 403 407 261 378");
    check_round_trip(l.tok, "  two  blanks, \xc3\xa9\xff\n", 19);
    unload(&l);
}

/* ---- special and user-defined tokens ---- */

/* The ASCII letters a to e and a blank, then more tokens of these kinds. */
static void start_letters(struct gguf_text *g, const char *const *more, const int32_t *kinds, size_t n)
{
    char *tokens[32] = {"a", "b", "c", "d", "e", "\xc4\xa0"};
    int32_t all_kinds[32] = {1, 1, 1, 1, 1, 1};

    for (size_t i = 0; i < n; i++) {
        tokens[6 + i] = (char *)more[i];
        all_kinds[6 + i] = kinds[i];
    }
    start_gguf(g);
    key_str(g, "tokenizer.ggml.model", "gpt2");
    key_str(g, "tokenizer.ggml.pre", "llama-bpe");
    key_words(g, "tokenizer.ggml.tokens", tokens, 6 + n);
    key_numbers(g, "tokenizer.ggml.token_type", BN_GGUF_I32, all_kinds, 6 + n);
}

static void test_special_tokens(void **state)
{
    static const char *const more[] = {"<a>",   "<a>b", "<ab>", "de", "", "<a>", "<|begin_of_text|>",
                                       "<pad>", "abc"};
    static const int32_t kinds[] = {3, 3, 2, 4, 3, 3, 3, 5, 1};
    struct gguf_text g;
    struct loaded l;
    struct bn_err err = {""};
    struct bn_buf out = {0};

    (void)state;
    start_letters(&g, more, kinds, BN_COUNT(more));
    if (load_text(&l, &g, &err) != 0)
        fail_msg("%s", err.msg);
    check_ids(l.tok, "a<a>", SPECIAL, "0 6");
    check_ids(l.tok, "<a>b<ab><a>cb", SPECIAL, "7 8 6 2 1"); /* the longest one counts; of equals the first */
    check_ids(l.tok, "cde", 0, "2 9");                       /* user-defined: matched in any case */
    check_ids(l.tok, "abcde", 0, "14 9");                    /* ignore_merges: a whole word that is a token */
    check_ids(l.tok, "<a>", 0, "the vocabulary has no token for the byte 0x3C");
    check_ids(l.tok, "", BOS, "12");
    assert_int_equal(bn_tokenizer_bos(l.tok), 12); /* by its usual name */
    assert_int_equal(bn_tokenizer_eos(l.tok), -1);
    assert_true(bn_tokenizer_add_bos(l.tok));
    for (uint32_t id = 5; id < 16; id++)
        bn_tokenizer_decode(l.tok, id, true, false, &out);
    assert_string_equal(out.p, " de<pad>abc");
    out.n = 0;
    bn_tokenizer_decode(l.tok, 7, true, true, &out);
    assert_string_equal(out.p, "<a>b");
    bn_buf_free(&out);
    bn_buf_free(&g.b);
    unload(&l);
}

/* ---- which pre-tokenizer ---- */

static void check_warning(const char *pre, const char *pattern)
{
    static char *const tokens[] = {"a", "b"};
    struct gguf_text g;
    struct loaded l;
    struct bn_err err = {""};

    start_gguf(&g);
    key_str(&g, "tokenizer.ggml.model", "gpt2");
    key_words(&g, "tokenizer.ggml.tokens", tokens, 2);
    if (pre)
        key_str(&g, "tokenizer.ggml.pre", pre);
    if (load_text(&l, &g, &err) != 0)
        fail_msg("%s", err.msg);
    if (pattern)
        assert_true(bn_tokenizer_warning(l.tok) && matches(bn_tokenizer_warning(l.tok), pattern));
    else
        assert_null(bn_tokenizer_warning(l.tok));
    check_ids(l.tok, "abba", 0, "0 1 1 0");
    assert_false(bn_tokenizer_add_bos(l.tok));
    bn_buf_free(&g.b);
    unload(&l);
}

static void test_warnings(void **state)
{
    (void)state;
    check_warning("llama-bpe", NULL);
    check_warning("default", NULL);
    check_warning("gpt-2", NULL);
    check_warning(NULL, "^t.gguf: key tokenizer.ggml.pre is missing: .*\"default\"");
    check_warning("dashing\n", "^t.gguf: unknown pre-tokenizer \"dashing.\": .*\"default\"");
}

/* 128256 tokens without tokenizer.ggml.pre: Llama 3's rules, so digits go by threes from the left. */
static void test_llama3_by_its_size(void **state)
{
    struct gguf_text g;
    struct loaded l;
    struct bn_err err = {""};
    char name[16];

    (void)state;
    start_gguf(&g);
    key_str(&g, "tokenizer.ggml.model", "gpt2");
    key(&g, "tokenizer.ggml.tokens", BN_GGUF_ARRAY);
    put32(&g.b, BN_GGUF_STRING);
    put64(&g.b, 128256);
    for (int i = 0; i < 128256; i++) {
        snprintf(name, sizeof name, i < 10 ? "%d" : i < 1010 ? "%03d" : "x%d", i < 10 ? i : i - 10);
        put_name(&g.b, name);
    }
    if (load_text(&l, &g, &err) != 0)
        fail_msg("%s", err.msg);
    assert_null(bn_tokenizer_warning(l.tok));
    check_ids(l.tok, "1234567", 0, "133 466 7");
    bn_buf_free(&g.b);
    unload(&l);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_demo_model), cmocka_unit_test(test_demo_model_any_bytes),
        cmocka_unit_test(test_llama3),     cmocka_unit_test(test_llama3_long_runs),
        cmocka_unit_test(test_stories),    cmocka_unit_test(test_special_tokens),
        cmocka_unit_test(test_warnings),   cmocka_unit_test(test_llama3_by_its_size),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
