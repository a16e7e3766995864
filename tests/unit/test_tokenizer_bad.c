/* SPDX-License-Identifier: MIT
 * core/tokenizer_gguf: damaged and hostile metadata gives one line, never a crash. */
#include <math.h>

#include "tests/unit/vocabulary.h"

/* What to do wrong in an otherwise good vocabulary of three tokens. */
enum wrong {
    NOTHING,
    NO_MODEL,
    MODEL_BERT,
    MODEL_NUMBER,
    NO_TOKENS,
    TOKENS_EMPTY,
    TOKENS_STRING,
    TOKENS_NUMBERS,
    KINDS_SHORT,
    KINDS_FLOATS,
    KINDS_UNKNOWN,
    KINDS_NEGATIVE,
    NO_SCORES,
    SCORES_LONG,
    SCORES_INTEGERS,
    SCORES_NAN,
    MERGES_NUMBERS,
    MERGES_UNKNOWN_LEFT,
    MERGES_UNKNOWN_RIGHT,
    MERGES_UNKNOWN_JOINED,
    MERGES_NO_BLANK,
    MERGES_CONTROL,
    BOS_OUTSIDE,
    EOS_STRING,
    PRE_NUMBER,
    ADD_BOS_STRING,
};

static void put_tokens(struct gguf_text *g, enum wrong wrong)
{
    static char *const tokens[] = {"a", "b", "ab"};
    static const uint32_t numbers[] = {1, 2, 3};

    if (wrong == TOKENS_STRING)
        key_str(g, "tokenizer.ggml.tokens", "a b ab");
    else if (wrong == TOKENS_NUMBERS)
        key_numbers(g, "tokenizer.ggml.tokens", BN_GGUF_U32, numbers, 3);
    else if (wrong != NO_TOKENS)
        key_words(g, "tokenizer.ggml.tokens", tokens, wrong == TOKENS_EMPTY ? 0 : 3);
}

static void put_kinds(struct gguf_text *g, enum wrong wrong)
{
    int32_t kinds[] = {1, 1, 1};

    if (wrong == KINDS_UNKNOWN || wrong == KINDS_NEGATIVE)
        kinds[1] = wrong == KINDS_UNKNOWN ? 7 : -1;
    if (wrong == MERGES_CONTROL)
        kinds[2] = 3;
    key_numbers(g, "tokenizer.ggml.token_type", wrong == KINDS_FLOATS ? BN_GGUF_F32 : BN_GGUF_I32, kinds,
                wrong == KINDS_SHORT ? 2 : 3);
}

static void put_scores(struct gguf_text *g, enum wrong wrong)
{
    float scores[] = {-1, -2, wrong == SCORES_NAN ? NAN : 0, 4};

    if (wrong != NO_SCORES)
        key_numbers(g, "tokenizer.ggml.scores", wrong == SCORES_INTEGERS ? BN_GGUF_I32 : BN_GGUF_F32, scores,
                    wrong == SCORES_LONG ? 4 : 3);
}

static void put_merges(struct gguf_text *g, enum wrong wrong)
{
    char *merges[] = {"a b", "a b"};
    static const uint32_t numbers[] = {1, 2};

    if (wrong == MERGES_UNKNOWN_LEFT)
        merges[1] = "x b";
    else if (wrong == MERGES_UNKNOWN_RIGHT)
        merges[1] = "a x";
    else if (wrong == MERGES_UNKNOWN_JOINED)
        merges[1] = "b a";
    else if (wrong == MERGES_NO_BLANK)
        merges[1] = "ab";
    if (wrong == MERGES_NUMBERS)
        key_numbers(g, "tokenizer.ggml.merges", BN_GGUF_I32, numbers, 2);
    else
        key_words(g, "tokenizer.ggml.merges", merges, 2);
}

static struct gguf_text make(const char *model, enum wrong wrong)
{
    struct gguf_text g;

    start_gguf(&g);
    if (wrong == MODEL_NUMBER)
        key_u32(&g, "tokenizer.ggml.model", 1);
    else if (wrong != NO_MODEL)
        key_str(&g, "tokenizer.ggml.model", wrong == MODEL_BERT ? "bert" : model);
    put_tokens(&g, wrong);
    put_kinds(&g, wrong);
    put_scores(&g, wrong);
    put_merges(&g, wrong);
    key_u32(&g, "tokenizer.ggml.bos_token_id", wrong == BOS_OUTSIDE ? 3 : 0);
    if (wrong == EOS_STRING)
        key_str(&g, "tokenizer.ggml.eos_token_id", "b");
    else
        key_u32(&g, "tokenizer.ggml.eos_token_id", UINT32_MAX); /* none */
    if (wrong == PRE_NUMBER)
        key_u32(&g, "tokenizer.ggml.pre", 1);
    else
        key_str(&g, "tokenizer.ggml.pre", "llama-bpe");
    if (wrong == ADD_BOS_STRING)
        key_str(&g, "tokenizer.ggml.add_bos_token", "true");
    finish_gguf(&g);
    return g;
}

static void check_bad(const char *model, enum wrong wrong, const char *pattern)
{
    struct gguf_text g = make(model, wrong);
    struct loaded l;
    struct bn_err err = {""};

    assert_int_equal(load_text(&l, &g, &err), pattern ? -1 : 0);
    if (pattern)
        assert_true(matches(err.msg, pattern));
    assert_null(strchr(err.msg, '\n'));
    bn_buf_free(&g.b);
    unload(&l);
}

static void test_bad_metadata(void **state)
{
    (void)state;
    check_bad("gpt2", NOTHING, NULL);
    check_bad("gpt2", NO_MODEL, "^t.gguf: key tokenizer.ggml.model is missing: the file has no vocabulary$");
    check_bad("gpt2", MODEL_BERT,
              "^t.gguf: key tokenizer.ggml.model: \"gpt2\" or \"llama\" expected, found \"bert\"$");
    check_bad("gpt2", MODEL_NUMBER, "^t.gguf: .*tokenizer.ggml.model");
    check_bad("gpt2", NO_TOKENS,
              "^t.gguf: key tokenizer.ggml.tokens is missing: the file has no vocabulary$");
    check_bad("gpt2", TOKENS_EMPTY,
              "^t.gguf: key tokenizer.ggml.tokens: 1 to 2097152 tokens expected, found 0$");
    check_bad("gpt2", TOKENS_STRING, "^t.gguf: key tokenizer.ggml.tokens: an array of strings expected$");
    check_bad("gpt2", TOKENS_NUMBERS, "^t.gguf: key tokenizer.ggml.tokens: an array of strings expected$");
    check_bad("gpt2", KINDS_SHORT,
              "^t.gguf: key tokenizer.ggml.token_type: 3 elements expected, .* found 2$");
    check_bad("gpt2", KINDS_FLOATS,
              "^t.gguf: key tokenizer.ggml.token_type: an array of 32-bit integers expected$");
    check_bad("gpt2", KINDS_UNKNOWN, "token_type: element 1: a kind from 0 to 6 expected, found 7$");
    check_bad("gpt2", KINDS_NEGATIVE, "token_type: element 1: a kind from 0 to 6 expected, found -1$");
    check_bad("gpt2", NO_SCORES, NULL);
    check_bad("gpt2", SCORES_LONG, NULL); /* only a "llama" vocabulary reads them */
    check_bad("gpt2", MERGES_NUMBERS, "^t.gguf: key tokenizer.ggml.merges: an array of strings expected$");
    check_bad("gpt2", MERGES_UNKNOWN_LEFT,
              "merges: merge 1, \"x b\": its left side is not in the vocabulary$");
    check_bad("gpt2", MERGES_UNKNOWN_RIGHT,
              "merges: merge 1, \"a x\": its right side is not in the vocabulary$");
    check_bad("gpt2", MERGES_UNKNOWN_JOINED,
              "merges: merge 1, \"b a\": the joined token is not in the vocabulary$");
    check_bad("gpt2", MERGES_NO_BLANK,
              "merges: merge 1, \"ab\": two tokens with a blank between them expected$");
    check_bad("gpt2", MERGES_CONTROL, "merges: merge 0, \"a b\": the joined token is not in the vocabulary$");
    check_bad("gpt2", BOS_OUTSIDE,
              "^t.gguf: key tokenizer.ggml.bos_token_id: the id of a token expected, found 3$");
    check_bad("gpt2", EOS_STRING, "^t.gguf: .*tokenizer.ggml.eos_token_id");
    check_bad("gpt2", PRE_NUMBER, "^t.gguf: .*tokenizer.ggml.pre");
    check_bad("gpt2", ADD_BOS_STRING, "^t.gguf: .*tokenizer.ggml.add_bos_token");
    check_bad("llama", NOTHING, NULL);
    check_bad("llama", NO_SCORES, "^t.gguf: key tokenizer.ggml.scores is missing");
    check_bad("llama", SCORES_LONG, "^t.gguf: key tokenizer.ggml.scores: 3 elements expected, .* found 4$");
    check_bad("llama", SCORES_INTEGERS,
              "^t.gguf: key tokenizer.ggml.scores: an array of 32-bit floats expected$");
    check_bad("llama", SCORES_NAN, "^t.gguf: key tokenizer.ggml.scores: score 2 is not a number$");
}

/* Every byte of the metadata set to other values: whatever still opens as a GGUF either loads and works or
 * says why not. The sanitizers watch. */
static void test_mutations(void **state)
{
    uint64_t seed = 31;
    size_t n_loaded = 0, n_refused = 0;

    (void)state;
    for (int model = 0; model < 2; model++) {
        struct gguf_text g = make(model ? "llama" : "gpt2", NOTHING);
        for (size_t i = 24; i < g.b.n; i++) {
            for (int k = 0; k < 3; k++) {
                char kept = g.b.p[i];
                struct loaded l = {0};
                struct bn_err err = {""};
                g.b.p[i] = k == 0 ? '\xff' : k == 1 ? (char)(kept ^ 1) : (char)next_random(&seed);
                bool opened = open_copy(&l.gguf, g.b.p, g.b.n, &l.copy, &err) == 0;
                if (opened && bn_tokenizer_load(&l.tok, &l.gguf, &err) == 0) {
                    free(ids_of(l.tok,
                                "abc ab\xff"
                                "b",
                                8, BOS | SPECIAL));
                    n_loaded++;
                } else {
                    assert_true(err.msg[0] != '\0' && !strchr(err.msg, '\n'));
                    n_refused += opened;
                }
                unload(&l);
                g.b.p[i] = kept;
            }
        }
        bn_buf_free(&g.b);
    }
    assert_true(n_loaded > 100 && n_refused > 100);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_bad_metadata),
        cmocka_unit_test(test_mutations),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
