/* SPDX-License-Identifier: MIT
 * core/tokenizer_json: Hugging Face files give the same ids as the GGUF with the same vocabulary; what is not
 * understood is refused. */
#include <unistd.h>

#include "tests/unit/vocabulary.h"

static char path[] = "/tmp/bnprof-test-json.XXXXXX";

static int make_path(void **state)
{
    (void)state;
    int fd = mkstemp(path);
    return fd < 0 ? -1 : close(fd);
}

static int remove_path(void **state)
{
    (void)state;
    return unlink(path);
}

static int load_json(const void *text, size_t n, struct bn_tokenizer **tok, struct bn_err *err)
{
    FILE *f = fopen(path, "wb");

    assert_non_null(f);
    assert_int_equal(fwrite(text, 1, n, f), n);
    assert_int_equal(fclose(f), 0);
    return bn_tokenizer_load_json(tok, path, err);
}

/* ---- a small file, in parts that a test can replace ---- */

struct parts {
    const char *normalizer, *pre_tokenizer, *post_processor, *decoder, *added, *model, *vocab, *merges, *tail;
};

#define BYTE_LEVEL                                                                                           \
    "{\"type\":\"ByteLevel\",\"add_prefix_space\":false,\"trim_offsets\":true,\"use_regex\":true}"
#define PLAIN_BYTE_LEVEL "{\"type\":\"ByteLevel\",\"add_prefix_space\":false,\"use_regex\":false}"
#define SPLIT(pattern, more)                                                                                 \
    "{\"type\":\"Split\",\"pattern\":{" pattern "},\"behavior\":\"Isolated\"" more "}"
#define SEQUENCE(list) "{\"type\":\"Sequence\",\"pretokenizers\":[" list "]}"
#define TEMPLATE(single, specials)                                                                           \
    "{\"type\":\"TemplateProcessing\",\"single\":[" single "],\"pair\":[],\"special_tokens\":{" specials "}" \
    "}"
#define TOKEN(name)              "{\"SpecialToken\":{\"id\":\"" name "\",\"type_id\":0}}"
#define TEXT_A                   "{\"Sequence\":{\"id\":\"A\",\"type_id\":0}}"
#define SPECIAL_S                "\"<s>\":{\"id\":\"<s>\",\"ids\":[8],\"tokens\":[\"<s>\"]}"
#define ADDED(id, content, more) "{\"id\":" id ",\"content\":\"" content "\"" more "}"

/* ids: a 0, b 1, c 2, blank 3, ab 4, abc 5, 1 6, . 7, <s> 8 special, <user> 9, 10 missing, blank-a 11, CR 12
 */
static const struct parts usual = {
    .normalizer = "null",
    .pre_tokenizer = BYTE_LEVEL,
    .post_processor = TEMPLATE(TOKEN("<s>") "," TEXT_A, SPECIAL_S),
    .decoder = BYTE_LEVEL,
    .added = ADDED("8", "<s>", ",\"special\":true") "," ADDED("9", "<user>", ",\"special\":false"),
    .model = "\"type\":\"BPE\",\"dropout\":null,\"unk_token\":null,\"byte_fallback\":false",
    .vocab = "\"a\":0,\"b\":1,\"c\":2,\"\\u0120\":3,\"ab\":4,\"abc\":5,\"1\":6,\".\":7,\"\u0120a\":11,"
             "\"\\u010d\":12",
    .merges = "\"a b\",[\"ab\",\"c\"],\"\u0120 a\"",
    .tail = "",
};

static struct bn_buf document(const struct parts *p)
{
    struct bn_buf out = {0};

    bn_buf_printf(
        &out,
        "{\"version\":\"1.0\",\"truncation\":null,\"padding\":null,\"added_tokens\":[%s],\"normalizer\":%s,\n"
        "\"pre_tokenizer\":%s,\"post_processor\":%s,\"decoder\":%s,\"model\":{%s,\"vocab\":{%s},"
        "\"merges\":[%s]}}%s\n",
        p->added, p->normalizer, p->pre_tokenizer, p->post_processor, p->decoder, p->model, p->vocab,
        p->merges, p->tail);
    return out;
}

static struct bn_tokenizer *load_parts(const struct parts *p)
{
    struct bn_buf text = document(p);
    struct bn_tokenizer *tok;
    struct bn_err err = {""};

    if (load_json(text.p, text.n, &tok, &err) != 0)
        fail_msg("%s", err.msg);
    bn_buf_free(&text);
    return tok;
}

static void check_parts(const struct parts *p, const char *text, unsigned flags, const char *expected)
{
    struct bn_tokenizer *tok = load_parts(p);

    check_ids(tok, text, flags, expected);
    bn_tokenizer_free(tok);
}

static void test_usual(void **state)
{
    struct bn_tokenizer *tok = load_parts(&usual);
    struct bn_buf out = {0};

    (void)state;
    assert_null(bn_tokenizer_warning(tok));
    assert_int_equal(bn_tokenizer_size(tok), 13);
    assert_int_equal(bn_tokenizer_bos(tok), 8);
    assert_int_equal(bn_tokenizer_eos(tok), -1);
    assert_true(bn_tokenizer_add_bos(tok));
    assert_true(bn_tokenizer_is_special(tok, 8));
    assert_false(bn_tokenizer_is_special(tok, 9));
    check_ids(tok, "abcab ab a 1", BOS, "8 5 4 3 4 11 3 6");
    check_ids(tok, "a<user><s>", SPECIAL, "0 9 8");
    check_ids(tok, "a<user>", 0, "0 9");
    check_ids(tok, "<s>", 0, "the vocabulary has no token for the byte 0x3C");
    for (uint32_t id = 0; id < 14; id++)
        bn_tokenizer_decode(tok, id, id == 0, false, &out);
    assert_string_equal(out.p, "abc ababc1.<user> a\r");
    bn_buf_free(&out);
    bn_tokenizer_free(tok);
}

static void test_variants(void **state)
{
    struct parts p = usual;

    (void)state;
    p.model = "\"type\":\"BPE\",\"ignore_merges\":true,\"dropout\":0";
    p.merges = "";
    check_parts(&p, "abc ab", 0, "5 3 0 1");
    p.model = "\"unk_token\":\"<s>\""; /* an old file: no type */
    check_parts(&p, "abc", 0, "0 1 2");
    p = usual;
    p.post_processor = "{\"type\":\"Sequence\",\"processors\":[" BYTE_LEVEL
                       "," TEMPLATE(TOKEN("<s>") "," TEXT_A, SPECIAL_S) "]}";
    p.decoder = "{\"type\":\"Sequence\",\"decoders\":[" BYTE_LEVEL "]}";
    p.normalizer = "{\"type\":\"Sequence\",\"normalizers\":[]}";
    check_parts(&p, "a", BOS, "8 0");
    p.post_processor = TEMPLATE(TEXT_A, "");
    p.decoder = "null";
    struct bn_tokenizer *tok = load_parts(&p);
    assert_int_equal(bn_tokenizer_bos(tok), 8); /* there is one, but the file does not put it first */
    assert_false(bn_tokenizer_add_bos(tok));
    bn_tokenizer_free(tok);
    p.post_processor = "null";
    p.added = ADDED("8", "<s>", ",\"special\":true,\"lstrip\":true");
    tok = load_parts(&p);
    assert_true(bn_tokenizer_warning(tok) && strstr(bn_tokenizer_warning(tok), "lstrip"));
    bn_tokenizer_free(tok);
    p.added = ADDED("7", ".", ",\"special\":true") "," ADDED("13", "<|endoftext|>", ",\"special\":true");
    tok = load_parts(&p);
    assert_true(bn_tokenizer_is_special(tok, 7));
    assert_int_equal(bn_tokenizer_eos(tok), 13);
    bn_tokenizer_free(tok);
}

static void test_pre_tokenizers(void **state)
{
    struct parts p = usual;

    (void)state;
    p.pre_tokenizer =
        PLAIN_BYTE_LEVEL; /* one word: the blank joins the letter behind it, wherever it stands */
    check_parts(&p, "c a", 0, "2 11");
    p.pre_tokenizer = SEQUENCE(SPLIT("\"Regex\":\"\\\\s+|b\"", ",\"invert\":false") "," PLAIN_BYTE_LEVEL);
    check_parts(&p, "ab abc a", 0, "0 1 3 0 1 2 3 0");
    p.pre_tokenizer =
        SEQUENCE(SPLIT("\"String\":\".\"", "") "," SPLIT("\"Regex\":\"b(?=c)\"", "") "," PLAIN_BYTE_LEVEL);
    check_parts(&p, "ab.abc", 0, "4 7 0 1 2");
    p.pre_tokenizer = SEQUENCE("{\"type\":\"Split\",\"pattern\":{\"Regex\":\"[ab]+\"},\"behavior\":"
                               "\"Removed\",\"invert\":true}," PLAIN_BYTE_LEVEL);
    check_parts(&p, "ab cab.", 0, "4 4");
    p.pre_tokenizer = SEQUENCE(
        "{\"type\":\"Split\",\"pattern\":{\"String\":\" \"},\"behavior\":\"Removed\"}," PLAIN_BYTE_LEVEL);
    check_parts(&p, "ab cab.", 0, "4 2 4 7");
    p.pre_tokenizer =
        "{\"type\":\"ByteLevel\"}"; /* add_prefix_space and use_regex are on unless they are off */
    check_parts(&p, "a a<user>a a", 0, "11 11 9 11 11");
    check_parts(&p, " a1", 0, "11 6");
    check_parts(&p, "", 0, "");
}

/* ---- what is refused ---- */

static void check_text_refused(const char *text, size_t n, const char *pattern)
{
    struct bn_tokenizer *tok;
    struct bn_err err = {""};

    assert_int_equal(load_json(text, n, &tok, &err), -1);
    assert_null(tok);
    assert_true(strncmp(err.msg, path, strlen(path)) == 0);
    assert_true(matches(err.msg, pattern));
    assert_null(strchr(err.msg, '\n'));
}

static void check_refused(const struct parts *p, const char *pattern)
{
    struct bn_buf text = document(p);

    check_text_refused(text.p, text.n, pattern);
    bn_buf_free(&text);
}

/* The usual file with one part replaced. */
#define REFUSED(part, text, pattern)                                                                         \
    do {                                                                                                     \
        struct parts p_ = usual;                                                                             \
        p_.part = (text);                                                                                    \
        check_refused(&p_, pattern);                                                                         \
    } while (0)

static void test_refused_models(void **state)
{
    (void)state;
    REFUSED(model, "\"type\":\"Unigram\"", "model: type \"Unigram\" is not supported, \"BPE\" expected");
    REFUSED(model, "\"type\":\"WordPiece\"", "model: type \"WordPiece\"");
    REFUSED(model, "\"byte_fallback\":true", "model.byte_fallback: ");
    REFUSED(model, "\"dropout\":0.1", "model.dropout: ");
    REFUSED(model, "\"end_of_word_suffix\":\"</w>\"", "end_of_word_suffix");
    REFUSED(model, "\"continuing_subword_prefix\":\"##\"", "continuing_subword_prefix");
    REFUSED(vocab, "\"a\":-1", "token \"a\": an id from 0 to 2097151 expected");
    REFUSED(vocab, "\"a\":2097152", "token \"a\": an id from 0 to 2097151 expected");
    REFUSED(vocab, "\"a\":1.5", "token \"a\": an id from 0");
    REFUSED(vocab, "\"a\":1e300", "token \"a\": an id from 0");
    REFUSED(vocab, "\"a\":\"1\"", "token \"a\": an id from 0");
    REFUSED(vocab, "\"a\":1,\"b\":1", "the tokens \"a\" and \"b\" have the same id, 1");
    REFUSED(merges, "\"a\"", "model.merges: merge 0: ");
    REFUSED(merges, "\"a b\",7", "model.merges: merge 1: ");
    REFUSED(merges, "[\"a\"]", "model.merges: merge 0: ");
    REFUSED(merges, "[\"a\",\"b\",\"c\"]", "model.merges: merge 0: ");
    REFUSED(merges, "[\"a\",1]", "model.merges: merge 0: ");
    REFUSED(merges, "\"a b\",\"b a\"",
            "model.merges: merge 1, \"b a\": the joined token is not in the vocabulary");
    REFUSED(added, "7", "added_tokens: ");
    REFUSED(added, "{\"id\":8}", "added_tokens: ");
    REFUSED(added, ADDED("0", "x", ""), "the tokens \"a\" and \"x\" have the same id, 0");
    REFUSED(added, ADDED("\"8\"", "x", ""), "token \"x\": an id from 0");
    REFUSED(normalizer, "{\"type\":\"NFC\"}", "normalizer: type \"NFC\" is not supported, null expected");
    REFUSED(decoder, "{\"type\":\"Metaspace\"}",
            "decoder: type \"Metaspace\" is not supported, \"ByteLevel\" expected");
    REFUSED(decoder, "{\"type\":\"Sequence\",\"decoders\":[{\"type\":\"Fuse\"}]}", "decoder: type \"Fuse\"");
    REFUSED(decoder, "{\"type\":\"Sequence\",\"decoders\":[]}", "decoder: type \"Sequence\"");
}

static void test_refused_steps(void **state)
{
    (void)state;
    REFUSED(pre_tokenizer, "null", "pre_tokenizer: a ByteLevel expected");
    REFUSED(pre_tokenizer, "{\"type\":\"Metaspace\"}", "pre_tokenizer: type \"Metaspace\" is not supported");
    REFUSED(pre_tokenizer, SEQUENCE(""), "pre_tokenizer: a ByteLevel expected");
    REFUSED(pre_tokenizer, SEQUENCE(PLAIN_BYTE_LEVEL "," SPLIT("\"String\":\"a\"", "")),
            "pre_tokenizer: \"Split\" behind ByteLevel is not supported");
    REFUSED(pre_tokenizer, SEQUENCE(SPLIT("\"String\":\"a\"", "") ",{\"type\":\"ByteLevel\"}"),
            "pre_tokenizer: ByteLevel: add_prefix_space behind a Split is not supported");
    REFUSED(pre_tokenizer, SEQUENCE(SPLIT("\"Regex\":\"a(\"", "") "," PLAIN_BYTE_LEVEL),
            "pre_tokenizer: Split: bad regular expression at its byte 6: ");
    REFUSED(pre_tokenizer, SEQUENCE(SPLIT("\"Regex\":\"[a&&b]\"", "")),
            "pre_tokenizer: Split: regular expression, byte 2: ");
    REFUSED(pre_tokenizer, SEQUENCE(SPLIT("\"Regex\":7", "")), "pre_tokenizer: Split: pattern: ");
    REFUSED(pre_tokenizer,
            "{\"type\":\"Split\",\"pattern\":{\"String\":\"a\"},\"behavior\":\"MergedWithNext\"}",
            "pre_tokenizer: Split: behavior \"MergedWithNext\" is not supported");
    REFUSED(post_processor, "{\"type\":\"RobertaProcessing\"}", "post_processor: type \"RobertaProcessing\"");
    REFUSED(post_processor, TEMPLATE(TEXT_A "," TOKEN("<s>"), SPECIAL_S),
            "post_processor: TemplateProcessing: one token");
    REFUSED(post_processor, TEMPLATE(TOKEN("<s>") "," TOKEN("<s>") "," TEXT_A, SPECIAL_S),
            "TemplateProcessing: one token");
    REFUSED(post_processor, TEMPLATE(TOKEN("<s>") "," TEXT_A, ""),
            "special_tokens: one id for \"<s>\" expected");
    REFUSED(post_processor, TEMPLATE(TOKEN("<s>") "," TEXT_A, "\"<s>\":{\"ids\":[8,9]}"),
            "special_tokens: one id");
    REFUSED(post_processor, TEMPLATE(TOKEN("<s>") "," TEXT_A, "\"<s>\":{\"ids\":[13]}"),
            "id 13 of \"<s>\" is outside");
    REFUSED(post_processor, TEMPLATE(TOKEN("<s>") "," TEXT_A, "\"<s>\":{\"ids\":[\"x\"]}"),
            "token \"<s>\": an id");
    REFUSED(tail, "x", ": byte [0-9]+: nothing behind the JSON expected");
}

static void test_refused_files(void **state)
{
    struct bn_tokenizer *tok;
    struct bn_err err = {""};

    (void)state;
    assert_int_equal(bn_tokenizer_load_json(&tok, "/nonexistent/tokenizer.json", &err), -1);
    assert_true(matches(err.msg, "^/nonexistent/tokenizer.json: No such file"));
    check_text_refused("", 0, "the file is empty");
    check_text_refused("[]", 2, "a JSON object expected");
    check_text_refused("{}", 2, "a tokenizer.json expected, but there is no object \"model\"");
    check_text_refused("{\"a\":tru}", 9, "byte [0-9]+: JSON expected");
    check_text_refused("GGUF\3\0\0\0", 8, "byte 0: JSON expected");
    check_text_refused("{\"model\":{\"merges\":[]}}", 23, "model.vocab: an object");
    check_text_refused("{\"model\":{\"vocab\":{},\"merges\":[]}}", 34, "model.vocab: at least one token");
    check_text_refused("{\"model\":{\"vocab\":{\"a\":0},\"merges\":{}}}", 39, "model.merges: an array");
    struct bn_buf deep = {0};
    for (int i = 0; i < 100000; i++)
        bn_buf_putc(&deep, '[');
    check_text_refused(deep.p, deep.n, "JSON expected");
    bn_buf_free(&deep);
}

/* Cut off anywhere, or with a byte changed: a message or a tokenizer that works, never a crash. */
static void test_mutations(void **state)
{
    struct bn_buf text = document(&usual);
    uint64_t seed = 77;
    size_t n_loaded = 0, n_refused = 0;

    (void)state;
    for (size_t i = 0; i < 2 * text.n; i++) {
        bool cut = i >= text.n;
        char kept = text.p[i % text.n];
        struct bn_tokenizer *tok;
        struct bn_err err = {""};
        if (!cut)
            text.p[i] =
                random_below(&seed, 2) ? "0\"[]{}:,n"[random_below(&seed, 9)] : (char)next_random(&seed);
        if (load_json(text.p, cut ? i - text.n : text.n, &tok, &err) == 0) {
            free(ids_of(tok, "abc ab1<s>\xff", 11, BOS | SPECIAL));
            n_loaded++;
        } else {
            assert_true(err.msg[0] != '\0' && !strchr(err.msg, '\n'));
            n_refused++;
        }
        bn_tokenizer_free(tok);
        text.p[i % text.n] = kept;
    }
    bn_buf_free(&text);
    assert_true(n_loaded > 50 && n_refused > 500);
}

/* ---- the Llama-3 vocabulary as Hugging Face writes it ---- */

#define LLAMA3_REGEX                                                                                         \
    "(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\\\\r\\\\n\\\\p{L}\\\\p{N}]?\\\\p{L}+|\\\\p{N}{1,3}| ?[^\\\\s\\\\p{L}"   \
    "\\\\p{N}]+[\\\\r\\\\n]*|\\\\s*[\\\\r\\\\n]+|\\\\s+(?!\\\\S)|\\\\s+"

static void put_json(struct bn_buf *out, struct bn_str s)
{
    bn_buf_putc(out, '"');
    for (size_t i = 0; i < s.n; i++) {
        if (s.p[i] == '"' || s.p[i] == '\\')
            bn_buf_putc(out, '\\');
        bn_buf_putc(out, s.p[i]);
    }
    bn_buf_putc(out, '"');
}

static void put_merges(struct bn_buf *out, const struct bn_gguf_kv *merges, bool pairs)
{
    const uint8_t *cursor = merges->value;

    for (uint64_t i = 0; i < merges->count; i++) {
        struct bn_str line = bn_gguf_next_str(&cursor);
        size_t left = (size_t)((const char *)memchr(line.p, ' ', line.n) - line.p);
        bn_buf_puts(out, i ? ",\n" : "");
        if (!pairs) {
            put_json(out, line);
            continue;
        }
        bn_buf_putc(out, '[');
        put_json(out, (struct bn_str){line.p, left});
        bn_buf_putc(out, ',');
        put_json(out, (struct bn_str){line.p + left + 1, line.n - left - 1});
        bn_buf_putc(out, ']');
    }
}

/* Tokens of one kind: "token": id for the vocabulary, objects for the added ones. */
static void put_tokens(struct bn_buf *out, const struct bn_gguf *gguf, int32_t wanted)
{
    const struct bn_gguf_kv *tokens = bn_gguf_find(gguf, "tokenizer.ggml.tokens");
    const struct bn_gguf_kv *kinds = bn_gguf_find(gguf, "tokenizer.ggml.token_type");
    const uint8_t *cursor = tokens->value;
    const char *comma = "";

    for (uint64_t id = 0; id < tokens->count; id++) {
        struct bn_str token = bn_gguf_next_str(&cursor);
        int32_t kind;
        memcpy(&kind, kinds->value + 4 * id, sizeof kind);
        if (kind != wanted)
            continue;
        bn_buf_printf(out, wanted == BN_TOKEN_NORMAL ? "%s" : "%s{\"content\":", comma);
        put_json(out, token);
        bn_buf_printf(out, wanted == BN_TOKEN_NORMAL ? ":%llu" : ",\"id\":%llu,\"special\":true}",
                      (unsigned long long)id);
        comma = ",\n";
    }
}

static struct bn_buf llama3_json(const struct bn_gguf *gguf, bool pairs)
{
    struct bn_buf out = {0};

    bn_buf_puts(&out, "{\"added_tokens\":[");
    put_tokens(&out, gguf, BN_TOKEN_CONTROL);
    bn_buf_puts(&out, "],\"normalizer\":null,\"pre_tokenizer\":" SEQUENCE(
                          SPLIT("\"Regex\":\"" LLAMA3_REGEX "\"", ",\"invert\":false") "," PLAIN_BYTE_LEVEL));
    bn_buf_puts(&out, ",\"post_processor\":{\"type\":\"Sequence\",\"processors\":[" BYTE_LEVEL "," TEMPLATE(
                          TOKEN("<|begin_of_text|>") "," TEXT_A,
                          "\"<|begin_of_text|>\":{\"id\":\"<|begin_of_text|>\",\"ids\":[128000]}") "]}");
    bn_buf_puts(&out,
                ",\"decoder\":" BYTE_LEVEL ",\"model\":{\"type\":\"BPE\",\"ignore_merges\":true,\"vocab\":{");
    put_tokens(&out, gguf, BN_TOKEN_NORMAL);
    bn_buf_puts(&out, "},\"merges\":[");
    put_merges(&out, bn_gguf_find(gguf, "tokenizer.ggml.merges"), pairs);
    bn_buf_puts(&out, "]}}\n");
    return out;
}

static void check_same_ids(struct bn_tokenizer *a, struct bn_tokenizer *b)
{
    uint64_t seed = 12;

    for (int i = 0; i < 1000; i++) {
        struct bn_buf text = random_text(&seed, random_below(&seed, 200), i % 4 == 0);
        unsigned flags = (unsigned)i % 4;
        char *x = ids_of(a, text.p, text.n, flags), *y = ids_of(b, text.p, text.n, flags);
        assert_string_equal(x, y);
        free(x);
        free(y);
        bn_buf_free(&text);
    }
}

static void test_llama3(void **state)
{
    char *gguf_path = optional_model("llama3-vocab.gguf");
    struct loaded l;
    struct bn_err err = {""};

    (void)state;
    if (!gguf_path)
        skip();
    if (load_file(&l, gguf_path, &err) != 0)
        fail_msg("%s", err.msg);
    for (int pairs = 0; pairs < 2; pairs++) {
        struct bn_buf text = llama3_json(&l.gguf, pairs);
        struct bn_tokenizer *tok;
        if (load_json(text.p, text.n, &tok, &err) != 0)
            fail_msg("%s", err.msg);
        bn_buf_free(&text);
        assert_int_equal(bn_tokenizer_size(tok), 128256);
        assert_int_equal(bn_tokenizer_bos(tok), 128000);
        assert_int_equal(bn_tokenizer_eos(tok), 128001);
        assert_true(bn_tokenizer_add_bos(tok));
        check_ids(tok, "What is 2+2?", 0, "3923 374 220 17 10 17 30");
        check_same_ids(l.tok, tok);
        bn_tokenizer_free(tok);
    }
    unload(&l);
    free(gguf_path);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_usual),          cmocka_unit_test(test_variants),
        cmocka_unit_test(test_pre_tokenizers), cmocka_unit_test(test_refused_models),
        cmocka_unit_test(test_refused_steps),  cmocka_unit_test(test_refused_files),
        cmocka_unit_test(test_mutations),      cmocka_unit_test(test_llama3),
    };
    return cmocka_run_group_tests(tests, make_path, remove_path);
}
