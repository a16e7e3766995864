/* SPDX-License-Identifier: MIT
 * core/pretokenize, core/oniguruma, core/utf8: where words end, in every named way, on any bytes. */
#include "core/pretokenize.h"
#include "core/utf8.h"
#include "tests/unit/vocabulary.h"

static int put_word(void *context, struct bn_str word, struct bn_err *err)
{
    struct bn_buf *out = context;

    (void)err;
    assert_true(word.n > 0);
    if (out->n > 0)
        bn_buf_putc(out, '|');
    bn_buf_put(out, word.p, word.n);
    return 0;
}

static int put_bytes(void *context, struct bn_str word, struct bn_err *err)
{
    (void)err;
    bn_buf_put(context, word.p, word.n);
    return 0;
}

/* The words of `text`, with bars between them. */
static void check_words(struct bn_pretokenizer *pre, const char *text, const char *expected)
{
    struct bn_buf out = {0};
    struct bn_err err = {""};

    bn_buf_puts(&out, "");
    if (bn_pretokenizer_split(pre, bn_str_from(text), put_word, &out, &err) != 0)
        fail_msg("%s", err.msg);
    assert_string_equal(out.p, expected);
    bn_buf_free(&out);
}

static struct bn_pretokenizer *named(const char *name, bool expect_ignore_merges)
{
    struct bn_pretokenizer *pre = bn_pretokenizer_new();
    bool ignore_merges = !expect_ignore_merges;

    assert_true(bn_pretokenizer_add_named(pre, bn_str_from(name), &ignore_merges));
    assert_int_equal(ignore_merges, expect_ignore_merges);
    return pre;
}

static void test_llama_bpe(void **state)
{
    struct bn_pretokenizer *pre = named("llama-bpe", true);

    (void)state;
    check_words(pre, "", "");
    check_words(pre, "Hello world", "Hello| world");
    check_words(pre, "What is 2+2?", "What| is| |2|+|2|?");
    /* contractions, whatever their case; a quote before other letters goes with them */
    check_words(pre, "I'm WE'LL it's don't x'yz", "I|'m| WE|'LL| it|'s| don|'t| x|'yz");
    check_words(pre, "'sx 've", "'s|x| '|ve");
    /* one leading character that is no letter, digit or line end */
    check_words(pre, "_a (b \tc \n d", "_a| (|b| |\tc| \n| d");
    /* digits by threes from the left, of any script */
    check_words(pre, "1234567 12", "123|456|7| |12");
    check_words(pre, "\xd9\xa1\xd9\xa2\xd9\xa3\xd9\xa4", "\xd9\xa1\xd9\xa2\xd9\xa3|\xd9\xa4");
    /* symbols take a space before and line ends behind */
    check_words(pre, "a ...\n\nb !?", "a| ...\n\n|b| !?");
    check_words(pre, "a ...\r\n b", "a| ...\r\n| b");
    /* white space: up to the last line end; all but the last before a word; all of it at the end */
    check_words(pre, "a  \n \n  b", "a|  \n \n| | b");
    check_words(pre, "a   b", "a|  | b");
    check_words(pre, "a   ", "a|   ");
    check_words(pre, "a   1", "a|  | |1");
    check_words(pre, "a\t\tb", "a|\t|\tb");
    check_words(pre, "\r\n\r\n", "\r\n\r\n");
    /* a combining mark is neither letter nor digit: it opens a word as any symbol does */
    check_words(pre, "e\xcc\x81s", "e|\xcc\x81s");
    check_words(pre, "\xe4\xb8\xad\xe6\x96\x87\xe3\x80\x82", "\xe4\xb8\xad\xe6\x96\x87|\xe3\x80\x82");
    /* U+0085 is white space, U+180E is not */
    check_words(pre,
                "a\xc2\x85\xc2\x85"
                "b",
                "a|\xc2\x85|\xc2\x85"
                "b");
    check_words(pre, "\xe1\xa0\x8e!", "\xe1\xa0\x8e!");
    bn_pretokenizer_free(pre);
}

static void test_other_names(void **state)
{
    struct bn_pretokenizer *pre = named("gpt-2", false);
    bool ignore_merges = true;

    (void)state;
    check_words(pre, "I'm WE'LL it's 12345 a!? b", "I|'m| WE|'|LL| it|'s| 12345| a|!?| b");
    check_words(pre, "a  b\n\nc  ", "a| | b|\n|\n|c|  ");
    bn_pretokenizer_free(pre);
    pre = named("default", false);
    check_words(pre, "it's $12345 a_b? <x>", "it|'|s| |$|123|45| a|_|b|?| |<|x|>");
    check_words(pre, "x  \n 7 \xc2\xbd", "x|  \n| |7| |\xc2\xbd");
    bn_pretokenizer_free(pre);
    pre = bn_pretokenizer_new();
    assert_false(bn_pretokenizer_add_named(pre, BN_STR("llama"), &ignore_merges));
    assert_false(bn_pretokenizer_add_named(pre, BN_STR(""), &ignore_merges));
    assert_true(ignore_merges);
    check_words(pre, "no stages, no splits", "no stages, no splits");
    bn_pretokenizer_free(pre);
}

/* ---- any bytes ---- */

static void test_invalid_utf8(void **state)
{
    struct bn_pretokenizer *pre = named("llama-bpe", true);

    (void)state;
    check_words(pre,
                "ab\xff"
                "cd",
                "ab|\xff|cd");
    check_words(pre, "\xe2\x82", "\xe2|\x82");                   /* cut off */
    check_words(pre, "\xc0\xaf", "\xc0|\xaf");                   /* overlong */
    check_words(pre, "\xed\xa0\x80", "\xed|\xa0|\x80");          /* a surrogate */
    check_words(pre, "\xf4\x90\x80\x80", "\xf4|\x90|\x80|\x80"); /* beyond U+10FFFF */
    check_words(pre, " \x80 x", " |\x80| x");
    bn_pretokenizer_free(pre);
}

static void test_utf8_lengths(void **state)
{
    static const struct {
        const char *s;
        unsigned length;
    } cases[] = {
        {"a", 1},
        {"\x7f", 1},
        {"\x80", 0},
        {"\xc1\xbf", 0},
        {"\xc2\x80", 2},
        {"\xdf\xbf", 2},
        {"\xc2", 0},
        {"\xc2"
         "a",
         0},
        {"\xe0\x9f\xbf", 0},
        {"\xe0\xa0\x80", 3},
        {"\xed\x9f\xbf", 3},
        {"\xed\xa0\x80", 0},
        {"\xee\x80\x80", 3},
        {"\xe1\x80", 0},
        {"\xe1\x80"
         "a",
         0},
        {"\xf0\x8f\xbf\xbf", 0},
        {"\xf0\x90\x80\x80", 4},
        {"\xf4\x8f\xbf\xbf", 4},
        {"\xf4\x90\x80\x80", 0},
        {"\xf5\x80\x80\x80", 0},
        {"\xff", 0},
        {"\xf0\x90\x80", 0},
        {"\xf0\x90\x80\xc0", 0},
    };

    (void)state;
    for (size_t i = 0; i < BN_COUNT(cases); i++)
        assert_int_equal(bn_utf8_length(cases[i].s, strlen(cases[i].s)), cases[i].length);
    assert_int_equal(bn_utf8_valid_prefix("ab\xc3\xa9\xff"
                                          "cd",
                                          7),
                     4);
    assert_int_equal(bn_utf8_valid_prefix("\xc3", 1), 0);
}

/* Nothing is lost, whatever the text. */
static void test_words_cover_the_text(void **state)
{
    static const char *const names[] = {"llama-bpe", "gpt-2", "default"};
    uint64_t seed = 99;

    (void)state;
    for (size_t k = 0; k < BN_COUNT(names); k++) {
        struct bn_pretokenizer *pre = named(names[k], k == 0);
        for (int i = 0; i < 200; i++) {
            struct bn_buf text = random_text(&seed, random_below(&seed, 300), i % 2), out = {0};
            struct bn_err err;
            bn_buf_puts(&out, "");
            assert_int_equal(
                bn_pretokenizer_split(pre, (struct bn_str){text.p, text.n}, put_bytes, &out, &err), 0);
            assert_int_equal(out.n, text.n);
            assert_memory_equal(out.p, text.p, text.n);
            bn_buf_free(&text);
            bn_buf_free(&out);
        }
        bn_pretokenizer_free(pre);
    }
}

/* ---- given expressions ---- */

static struct bn_pretokenizer *with(const char *pattern, bool literal, enum bn_split split)
{
    struct bn_pretokenizer *pre = bn_pretokenizer_new();
    struct bn_err err = {""};

    if (bn_pretokenizer_add(pre, bn_str_from(pattern), literal, split, &err) != 0)
        fail_msg("%s", err.msg);
    return pre;
}

static void test_dropping(void **state)
{
    static const struct {
        const char *pattern;
        bool literal;
        enum bn_split split;
        const char *expected;
    } cases[] = {
        {"b+", false, BN_SPLIT_KEEP, "a|bb|c.|b|+"},   {"b+", false, BN_SPLIT_DROP_MATCHES, "a|c.|+"},
        {"b+", false, BN_SPLIT_DROP_GAPS, "bb|b"},     {"b+", true, BN_SPLIT_KEEP, "abbc.|b+"},
        {".", true, BN_SPLIT_DROP_MATCHES, "abbc|b+"}, {"x*", false, BN_SPLIT_KEEP, "abbc.b+"},
        {"x", false, BN_SPLIT_DROP_GAPS, ""},          {"(?=b)", false, BN_SPLIT_KEEP, "abbc.b+"},
    };

    (void)state;
    for (size_t i = 0; i < BN_COUNT(cases); i++) {
        struct bn_pretokenizer *pre = with(cases[i].pattern, cases[i].literal, cases[i].split);
        check_words(pre, "abbc.b+", cases[i].expected);
        bn_pretokenizer_free(pre);
    }
}

static void check_add_fails(const char *pattern, const char *message)
{
    struct bn_pretokenizer *pre = bn_pretokenizer_new();
    struct bn_err err = {""};

    assert_int_equal(bn_pretokenizer_add(pre, bn_str_from(pattern), false, BN_SPLIT_KEEP, &err), -1);
    assert_true(matches(err.msg, message));
    bn_pretokenizer_free(pre);
}

static void test_bad_expressions(void **state)
{
    struct bn_pretokenizer *pre = bn_pretokenizer_new();
    struct bn_err err = {""};
    int added = 0;

    (void)state;
    check_add_fails("a(b", "^bad regular expression at its byte 3: .*parenthes");
    check_add_fails("\\p{Klingon}", "^bad regular expression at its byte 11: ");
    check_add_fails("(?=a\\K)b", "not allowed in lookaround");
    check_add_fails("\\C", "^bad regular expression at its byte 2: ");
    check_add_fails("\xff", "UTF-8");
    while (added < 100 && bn_pretokenizer_add(pre, BN_STR("x"), false, BN_SPLIT_KEEP, &err) == 0)
        added++;
    assert_int_equal(added, 16);
    assert_true(matches(err.msg, "more than 16 splits"));
    bn_pretokenizer_free(pre);
}

/* What goes beyond PCRE2's limits is an error; what only goes beyond the compiled code's stack is not. */
static void test_limits(void **state)
{
    struct bn_pretokenizer *pre = with("(?:a+)+[bd]", false, BN_SPLIT_KEEP);
    struct bn_buf text = {0}, out = {0};
    struct bn_err err = {""};

    (void)state;
    for (int i = 0; i < 300000; i++)
        bn_buf_puts(&text, i % 3 ? "a" : "c");
    bn_buf_puts(&text, "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa");
    assert_int_equal(bn_pretokenizer_split(pre, (struct bn_str){text.p, text.n}, put_bytes, &out, &err), -1);
    assert_true(matches(err.msg, "^the pre-tokenizer's regular expression failed: .*limit"));
    bn_pretokenizer_free(pre);
    out.n = 0;
    pre = with("(?:(a)|(c))+", false, BN_SPLIT_KEEP);
    assert_int_equal(bn_pretokenizer_split(pre, (struct bn_str){text.p, text.n}, put_word, &out, &err), 0);
    assert_int_equal(out.n, text.n); /* one word, without a bar */
    bn_pretokenizer_free(pre);
    bn_buf_free(&text);
    bn_buf_free(&out);
}

static int refuse(void *context, struct bn_str word, struct bn_err *err)
{
    (void)word;
    ++*(int *)context;
    return bn_err_set(err, "no more");
}

static void test_words_can_stop_it(void **state)
{
    struct bn_pretokenizer *pre = named("llama-bpe", true);
    struct bn_err err;

    (void)state;
    for (int i = 0; i < 2; i++) {
        int calls = 0;
        assert_int_equal(
            bn_pretokenizer_split(pre, i ? BN_STR("\xff\xff") : BN_STR("a b c"), refuse, &calls, &err), -1);
        assert_string_equal(err.msg, "no more");
        assert_int_equal(calls, 1);
    }
    bn_pretokenizer_free(pre);
}

/* ---- Oniguruma's dialect ---- */

#define SPACES BN_REGEX_SPACE

static void test_oniguruma(void **state)
{
    static const struct {
        const char *in, *out;
    } good[] = {
        {"", ""},
        {"\\p{L}+|\\P{N}++", "\\p{L}+|\\P{N}++"},
        {"\\s+(?!\\S)", "[" SPACES "]+(?![^" SPACES "])"},
        {"[^\\s\\p{L}]*", "[^" SPACES "\\p{L}]*"},
        {"[]\\s]x]", "[]" SPACES "]x]"},
        {"[^]a]\\s", "[^]a][" SPACES "]"},
        {"[[:alpha:]_]&&", "[[:alpha:]_]&&"},
        {"\\[\\s\\]\\\\s", "\\[[" SPACES "]\\]\\\\s"},
        {"\\u00e9\\x{e9}{1,3}", "\\x{00e9}\\x{e9}{1,3}"},
        {"a\\", "a\\"},
    };
    static const struct {
        const char *in, *message;
    } bad[] = {
        {"a\\h", "byte 1: .h is not supported"},
        {"[a&&b]", "byte 2: && in a set is not supported"},
        {"[a[b]]", "byte 2: a set within a set is not supported"},
        {"\\p{N}{1,3}+", "byte 9: \\{n,m}\\+ is not supported"},
    };
    struct bn_buf out = {0};
    struct bn_err err;

    (void)state;
    for (size_t i = 0; i < BN_COUNT(good); i++) {
        out.n = 0;
        assert_int_equal(bn_regex_from_oniguruma(bn_str_from(good[i].in), &out, &err), 0);
        char *expected = bn_xasprintf("(?m)%s", good[i].out);
        assert_string_equal(out.p, expected);
        free(expected);
    }
    for (size_t i = 0; i < BN_COUNT(bad); i++) {
        assert_int_equal(bn_regex_from_oniguruma(bn_str_from(bad[i].in), &out, &err), -1);
        assert_true(matches(err.msg, bad[i].message));
    }
    bn_buf_free(&out);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_llama_bpe),
        cmocka_unit_test(test_other_names),
        cmocka_unit_test(test_invalid_utf8),
        cmocka_unit_test(test_utf8_lengths),
        cmocka_unit_test(test_words_cover_the_text),
        cmocka_unit_test(test_dropping),
        cmocka_unit_test(test_bad_expressions),
        cmocka_unit_test(test_limits),
        cmocka_unit_test(test_words_can_stop_it),
        cmocka_unit_test(test_oniguruma),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
