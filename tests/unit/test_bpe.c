/* SPDX-License-Identifier: MIT
 * core/bpe, core/pair_merge, core/vocab: the merges agree with the plain definition of BPE on random
 * vocabularies. */
#include "core/bpe.h"
#include "tests/unit/vocabulary.h"

/* One vocabulary, twice: for the code under test, and as plain lists for the definition. */
struct model {
    struct words tokens, left, right; /* as bytes; left and right are the merges, best first */
    struct bn_arena arena;
    struct bn_vocab vocab;
    struct bn_bpe bpe;
    struct bn_merger merger;
};

static void add_merge(struct model *m, const char *left, const char *right)
{
    char *joined = bn_xasprintf("%s%s", left, right);

    words_add(&m->left, left);
    words_add(&m->right, right);
    if (words_find(&m->tokens, joined) < 0)
        words_add(&m->tokens, joined);
    free(joined);
}

static void build(struct model *m)
{
    struct bn_bpe_merge *merges = bn_xcalloc(m->left.n + 1, sizeof *merges);
    size_t total = 0;
    struct bn_err err = {""};

    for (size_t i = 0; i < m->tokens.n; i++)
        total += 2 * strlen(m->tokens.p[i]);
    bn_vocab_init(&m->vocab, &m->arena, (uint32_t)m->tokens.n, total);
    for (size_t i = 0; i < m->tokens.n; i++) {
        char *token = spelled(m->tokens.p[i]);
        bn_vocab_append(&m->vocab, bn_str_from(token), BN_SPELLING_BYTE_LEVEL, BN_TOKEN_NORMAL);
        free(token);
    }
    bn_vocab_index(&m->vocab, &m->arena);
    bn_bpe_init(&m->bpe, &m->arena, &m->vocab, (uint32_t)m->left.n);
    for (size_t i = 0; i < m->left.n; i++)
        merges[i] =
            (struct bn_bpe_merge){bn_str_from(spelled(m->left.p[i])), bn_str_from(spelled(m->right.p[i]))};
    if (bn_bpe_add_merges(&m->bpe, merges, (uint32_t)m->left.n, 0, &err) != 0)
        fail_msg("%s", err.msg);
    for (size_t i = 0; i < m->left.n; i++) {
        free((char *)merges[i].left.p);
        free((char *)merges[i].right.p);
    }
    free(merges);
}

static void drop(struct model *m)
{
    words_free(&m->tokens);
    words_free(&m->left);
    words_free(&m->right);
    bn_merger_free(&m->merger);
    bn_arena_free(&m->arena);
}

/* ---- the definition: while any merge applies, apply the best one, at its leftmost place ---- */

static int naive_rank(const struct model *m, const char *left, const char *right)
{
    for (size_t i = 0; i < m->left.n; i++)
        if (strcmp(m->left.p[i], left) == 0 && strcmp(m->right.p[i], right) == 0)
            return (int)i;
    return -1;
}

static bool naive_step(const struct model *m, struct words *parts)
{
    int best = -1;
    size_t where = 0;

    for (size_t i = 0; i + 1 < parts->n; i++) {
        int rank = naive_rank(m, parts->p[i], parts->p[i + 1]);
        if (rank >= 0 && (best < 0 || rank < best)) {
            best = rank;
            where = i;
        }
    }
    if (best < 0)
        return false;
    char *joined = bn_xasprintf("%s%s", parts->p[where], parts->p[where + 1]);
    free(parts->p[where]);
    free(parts->p[where + 1]);
    parts->p[where] = joined;
    parts->n--;
    memmove(parts->p + where + 1, parts->p + where + 2, (parts->n - where - 1) * sizeof *parts->p);
    return true;
}

static void naive_encode(const struct model *m, const char *word, struct bn_ids *ids)
{
    struct words parts = {0};

    if (m->bpe.ignore_merges && words_find(&m->tokens, word) >= 0) {
        bn_ids_push(ids, (uint32_t)words_find(&m->tokens, word));
        return;
    }
    for (const char *p = word; *p; p++)
        words_add(&parts, (char[]){*p, '\0'});
    while (naive_step(m, &parts))
        continue;
    for (size_t i = 0; i < parts.n; i++)
        bn_ids_push(ids, (uint32_t)words_find(&m->tokens, parts.p[i]));
    words_free(&parts);
}

static void check_word(struct model *m, const char *word)
{
    struct bn_ids ids = {0}, expected = {0};
    struct bn_err err = {""};

    naive_encode(m, word, &expected);
    if (bn_bpe_encode(&m->bpe, &m->merger, bn_str_from(word), &ids, &err) != 0)
        fail_msg("%s", err.msg);
    assert_int_equal(ids.n, expected.n);
    for (size_t i = 0; i < ids.n; i++)
        assert_int_equal(ids.p[i], expected.p[i]);
    bn_ids_free(&ids);
    bn_ids_free(&expected);
}

/* ---- random vocabularies ---- */

static const char letters[] = "abc \n\xc3\xa9\xad";

static void random_model(struct model *m, uint64_t *state)
{
    size_t n_merges = 1 + random_below(state, 60);

    *m = (struct model){0};
    for (size_t i = 0; i < sizeof letters - 1; i++)
        words_add(&m->tokens, (char[]){letters[i], '\0'});
    for (size_t i = 0; i < n_merges; i++) {
        /* the merges in any order, also ones whose sides come up only later: such tables exist */
        const char *left = m->tokens.p[random_below(state, m->tokens.n)];
        const char *right = m->tokens.p[random_below(state, m->tokens.n)];
        if (strlen(left) + strlen(right) <= 12)
            add_merge(m, left, right);
    }
    for (size_t i = m->left.n; i > 1 && random_below(state, 2) == 0; i--) {
        size_t k = random_below(state, i);
        char *left = m->left.p[k], *right = m->right.p[k];
        m->left.p[k] = m->left.p[i - 1], m->right.p[k] = m->right.p[i - 1];
        m->left.p[i - 1] = left, m->right.p[i - 1] = right;
    }
    build(m);
    m->bpe.ignore_merges = random_below(state, 2) == 0;
}

static void test_random_vocabularies(void **state)
{
    uint64_t seed = 20240229;
    char word[128];

    (void)state;
    for (int round = 0; round < 300; round++) {
        struct model m;
        random_model(&m, &seed);
        for (int i = 0; i < 30; i++) {
            size_t n = random_below(&seed, i == 0 ? 120 : 24),
                   n_letters = 1 + random_below(&seed, sizeof letters - 1);
            for (size_t k = 0; k < n; k++)
                word[k] = letters[random_below(&seed, n_letters)];
            word[n] = '\0';
            check_word(&m, word);
        }
        for (size_t i = 0; i < m.tokens.n; i++)
            check_word(&m, m.tokens.p[i]);
        drop(&m);
    }
}

/* Merges aa, aaaa, … : n letters become the ones of n written in binary, the long tokens first. */
static void test_long_word(void **state)
{
    struct model m = {0};
    struct bn_ids ids = {0};
    struct bn_err err;
    enum { LENGTH = 200000 - 3 };
    char *word = bn_xmalloc(LENGTH), *side = bn_xstrdup("a");
    uint64_t length = 0;

    (void)state;
    words_add(&m.tokens, "a");
    for (int i = 0; i < 6; i++) {
        add_merge(&m, side, side);
        free(side);
        side = bn_xstrdup(m.tokens.p[m.tokens.n - 1]);
    }
    build(&m);
    memset(word, 'a', LENGTH);
    assert_int_equal(bn_bpe_encode(&m.bpe, &m.merger, (struct bn_str){word, LENGTH}, &ids, &err), 0);
    assert_int_equal(ids.n, LENGTH / 64 + (unsigned)__builtin_popcount(LENGTH % 64));
    for (size_t i = 0; i < ids.n; i++)
        length += 1u << ids.p[i];
    assert_int_equal(length, LENGTH);
    free(side);
    free(word);
    bn_ids_free(&ids);
    drop(&m);
}

static void test_first_of_equal_merges_counts(void **state)
{
    struct model m = {0};

    (void)state;
    for (const char *p = "abc"; *p; p++)
        words_add(&m.tokens, (char[]){*p, '\0'});
    add_merge(&m, "a", "b");
    add_merge(&m, "b", "c");
    add_merge(&m, "a", "b"); /* had it the last rank, "abc" would be a bc */
    build(&m);
    check_word(&m, "abc");
    check_word(&m, "abcab");
    drop(&m);
}

/* A merge usually gives the token behind the one that the merge before gave. Here that one is a twin: the
 * lower id counts. */
static void test_twins(void **state)
{
    static const char *const tokens[] = {"ab", "aa", "ab", "a", "b", "a"};
    struct model m = {0};

    (void)state;
    for (size_t i = 0; i < BN_COUNT(tokens); i++)
        words_add(&m.tokens, tokens[i]);
    add_merge(&m, "a", "a");
    add_merge(&m, "a", "b");
    build(&m);
    assert_true(m.vocab.has_twins);
    check_word(&m, "ab");
    check_word(&m, "aaab");
    drop(&m);
}

/* Tables in order, whose results are guessed, and the same out of order, whose are not. */
static void test_order_of_merges(void **state)
{
    static const char *const sides[][2] = {{"a", "b"}, {"b", "c"}, {"ab", "c"}, {"a", "bc"}, {"abc", "a"}};

    (void)state;
    for (int reversed = 0; reversed < 2; reversed++) {
        struct model m = {0};
        for (const char *p = "abc"; *p; p++)
            words_add(&m.tokens, (char[]){*p, '\0'});
        for (size_t i = 0; i < BN_COUNT(sides); i++) {
            size_t at = reversed ? BN_COUNT(sides) - 1 - i : i;
            add_merge(&m, sides[at][0], sides[at][1]);
        }
        build(&m);
        assert_false(m.vocab.has_twins);
        check_word(&m, "abcaabc");
        check_word(&m, "bcabca");
        drop(&m);
    }
}

static void test_missing_byte(void **state)
{
    struct model m = {0};
    struct bn_ids ids = {0};
    struct bn_err err = {""};

    (void)state;
    words_add(&m.tokens, "a");
    build(&m);
    assert_int_equal(bn_bpe_encode(&m.bpe, &m.merger, BN_STR("aa\xff"), &ids, &err), -1);
    assert_string_equal(err.msg, "the vocabulary has no token for the byte 0xFF");
    assert_int_equal(bn_bpe_encode(&m.bpe, &m.merger, BN_STR(""), &ids, &err), 0);
    assert_int_equal(ids.n, 0);
    bn_ids_free(&ids);
    drop(&m);
}

static void check_bad_merge(struct model *m, const char *left, const char *right, const char *message)
{
    struct bn_bpe_merge merge = {bn_str_from(left), bn_str_from(right)};
    struct bn_err err = {""};

    assert_int_equal(bn_bpe_add_merges(&m->bpe, &merge, 1, 7, &err), -1);
    assert_string_equal(err.msg, message);
}

static void test_bad_merges(void **state)
{
    struct model m = {0};
    struct bn_bpe_merge merge;

    (void)state;
    words_add(&m.tokens, "a");
    words_add(&m.tokens, "b");
    build(&m);
    check_bad_merge(&m, "x", "a", "merge 7, \"x a\": its left side is not in the vocabulary");
    check_bad_merge(&m, "a", "", "merge 7, \"a \": its right side is not in the vocabulary");
    check_bad_merge(&m, "a", "b", "merge 7, \"a b\": the joined token is not in the vocabulary");
    assert_int_equal(bn_bpe_split_line(BN_STR("ab cd"), &merge), 0);
    assert_true(bn_str_is(merge.left, "ab") && bn_str_is(merge.right, "cd"));
    assert_int_equal(bn_bpe_split_line(BN_STR("  b"), &merge), 0); /* a blank as the left side */
    assert_true(bn_str_is(merge.left, " ") && bn_str_is(merge.right, "b"));
    static const char *const bad[] = {"", " ", "a", "ab", "a ", " a", "abc ", "  "};
    for (size_t i = 0; i < BN_COUNT(bad); i++)
        assert_int_equal(bn_bpe_split_line(bn_str_from(bad[i]), &merge), -1);
    drop(&m);
}

/* Every byte has a spelling of its own, and it is read back. */
static void test_spelling(void **state)
{
    struct bn_buf all = {0};
    char out[1024];

    (void)state;
    for (unsigned b = 0; b < 256; b++)
        put_byte_level(&all, b);
    assert_int_equal(bn_vocab_spell((struct bn_str){all.p, all.n}, BN_SPELLING_BYTE_LEVEL, out), 256);
    for (unsigned b = 0; b < 256; b++)
        assert_int_equal((unsigned char)out[b], b);
    bn_buf_free(&all);
    /* a character that stands for no byte: the token is meant literally, all of it */
    assert_int_equal(bn_vocab_spell(BN_STR("\xc4\xa0\xe2\x82\xac"), BN_SPELLING_BYTE_LEVEL, out), 5);
    assert_memory_equal(out, "\xc4\xa0\xe2\x82\xac", 5);
    assert_int_equal(bn_vocab_spell(BN_STR("a b"), BN_SPELLING_BYTE_LEVEL, out), 3);
    assert_int_equal(bn_vocab_spell(BN_STR("\xc4"), BN_SPELLING_BYTE_LEVEL, out), 1);
    assert_int_equal(bn_vocab_spell(BN_STR("\xe2\x96\x81"
                                           "a\xe2\x96"),
                                    BN_SPELLING_SPACES, out),
                     4);
    assert_memory_equal(out, " a\xe2\x96", 4);
}

/* Long and short tokens, equal heads, one that is the zero-padded head of another. */
static void test_vocabulary(void **state)
{
    static const struct {
        struct bn_str token;
        enum bn_token_kind kind;
        uint32_t found; /* expected id */
    } tokens[] = {
        {{"abcdefgh", 8}, BN_TOKEN_NORMAL, 0},      {{"abcdefghi", 9}, BN_TOKEN_NORMAL, 1},
        {{"abcdefghj", 9}, BN_TOKEN_NORMAL, 2},     {{"a", 1}, BN_TOKEN_NORMAL, 3},
        {{"a\0", 2}, BN_TOKEN_NORMAL, 4},           {{"a\0\0", 3}, BN_TOKEN_USER, 5},
        {{"abc", 3}, BN_TOKEN_UNUSED, 6},           {{"a", 1}, BN_TOKEN_NORMAL, 3},
        {{"<x>", 3}, BN_TOKEN_CONTROL, UINT32_MAX}, {{"<0x41>", 6}, BN_TOKEN_BYTE, UINT32_MAX},
        {{"<u>", 3}, BN_TOKEN_UNKNOWN, UINT32_MAX}, {{"", 0}, BN_TOKEN_NORMAL, UINT32_MAX},
    };
    struct bn_arena arena = {0};
    struct bn_vocab vocab;

    (void)state;
    bn_vocab_init(&vocab, &arena, BN_COUNT(tokens), 100);
    for (size_t i = 0; i < BN_COUNT(tokens); i++)
        bn_vocab_append(&vocab, tokens[i].token, BN_SPELLING_LITERAL, tokens[i].kind);
    bn_vocab_index(&vocab, &arena);
    for (size_t i = 0; i < BN_COUNT(tokens); i++)
        assert_int_equal(bn_vocab_find(&vocab, tokens[i].token.p, tokens[i].token.n), tokens[i].found);
    assert_int_equal(bn_vocab_find(&vocab, "abcdefghk", 9), BN_VOCAB_NONE);
    assert_int_equal(bn_vocab_find(&vocab, "abcdefghij", 10), BN_VOCAB_NONE);
    assert_int_equal(vocab.longest_bytes, 9);
    bn_arena_free(&arena);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_random_vocabularies),
        cmocka_unit_test(test_long_word),
        cmocka_unit_test(test_first_of_equal_merges_counts),
        cmocka_unit_test(test_twins),
        cmocka_unit_test(test_order_of_merges),
        cmocka_unit_test(test_missing_byte),
        cmocka_unit_test(test_bad_merges),
        cmocka_unit_test(test_spelling),
        cmocka_unit_test(test_vocabulary),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
