/* SPDX-License-Identifier: MIT
 * core/spm: SentencePiece-style encoding agrees with its plain definition on random vocabularies. */
#include <math.h>

#include "core/spm.h"
#include "tests/unit/vocabulary.h"

#define UNDERSCORE "\xe2\x96\x81" /* the vocabulary's space */

enum { FIRST_BYTE_TOKEN = 3, FIRST_PIECE = FIRST_BYTE_TOKEN + 256 };

/* Tokens 0 to 2 are <unk>, <s>, </s>; then 256 byte tokens; then the pieces. */
struct model {
    struct words tokens;
    float *scores;
    int32_t *kinds;
    size_t capacity, kinds_capacity;
    struct loaded loaded;
};

static void add(struct model *m, const char *token, int32_t kind, float score)
{
    words_add(&m->tokens, token);
    bn_grow(&m->scores, &m->capacity, m->tokens.n, sizeof *m->scores);
    bn_grow(&m->kinds, &m->kinds_capacity, m->tokens.n, sizeof *m->kinds);
    m->scores[m->tokens.n - 1] = score;
    m->kinds[m->tokens.n - 1] = kind;
}

static void start(struct model *m)
{
    *m = (struct model){0};
    add(m, "<unk>", BN_TOKEN_UNKNOWN, 0);
    add(m, "<s>", BN_TOKEN_CONTROL, 0);
    add(m, "</s>", BN_TOKEN_CONTROL, 0);
    for (unsigned b = 0; b < 256; b++) {
        char name[8];
        snprintf(name, sizeof name, "<0x%02X>", b);
        add(m, name, BN_TOKEN_BYTE, 0);
    }
}

/* prefix: 1 or 0 for add_space_prefix, -1 to leave it out. */
static void load(struct model *m, int prefix)
{
    struct gguf_text g;
    struct bn_err err = {""};

    start_gguf(&g);
    key_str(&g, "tokenizer.ggml.model", "llama");
    key_words(&g, "tokenizer.ggml.tokens", m->tokens.p, m->tokens.n);
    key_numbers(&g, "tokenizer.ggml.scores", BN_GGUF_F32, m->scores, m->tokens.n);
    key_numbers(&g, "tokenizer.ggml.token_type", BN_GGUF_I32, m->kinds, m->tokens.n);
    key_u32(&g, "tokenizer.ggml.bos_token_id", 1);
    key_u32(&g, "tokenizer.ggml.eos_token_id", 2);
    if (prefix >= 0)
        key_bool(&g, "tokenizer.ggml.add_space_prefix", prefix);
    if (load_text(&m->loaded, &g, &err) != 0)
        fail_msg("%s", err.msg);
    bn_buf_free(&g.b);
}

static void drop(struct model *m)
{
    unload(&m->loaded);
    words_free(&m->tokens);
    free(m->scores);
    free(m->kinds);
}

/* ---- the definition ---- */

static int find_piece(const struct model *m, const char *piece)
{
    for (size_t i = FIRST_PIECE; i < m->tokens.n; i++)
        if (strcmp(m->tokens.p[i], piece) == 0)
            return (int)i;
    return -1;
}

/* Join the pair with the highest score, the leftmost of equals. */
static bool naive_step(const struct model *m, struct words *parts)
{
    float best = -INFINITY;
    int where = -1;
    char *joined = NULL;

    for (size_t i = 0; i + 1 < parts->n; i++) {
        char *both = bn_xasprintf("%s%s", parts->p[i], parts->p[i + 1]);
        int id = find_piece(m, both);
        if (id >= 0 && (where < 0 || m->scores[id] > best)) {
            best = m->scores[id];
            where = (int)i;
            free(joined);
            joined = both;
        } else {
            free(both);
        }
    }
    if (where < 0)
        return false;
    free(parts->p[where]);
    free(parts->p[where + 1]);
    parts->p[where] = joined;
    parts->n--;
    memmove(parts->p + where + 1, parts->p + where + 2, (parts->n - (size_t)where - 1) * sizeof *parts->p);
    return true;
}

/* chars: the text's characters, and the bytes that are none, one string each. */
static char *naive_ids(const struct model *m, char *const *chars, size_t n, bool prefix)
{
    struct words parts = {0};
    struct bn_buf out = {0};

    bn_buf_puts(&out, "");
    if (prefix && n > 0)
        words_add(&parts, UNDERSCORE);
    for (size_t i = 0; i < n; i++)
        words_add(&parts, strcmp(chars[i], " ") == 0 ? UNDERSCORE : chars[i]);
    while (naive_step(m, &parts))
        continue;
    for (size_t i = 0; i < parts.n; i++) {
        int id = find_piece(m, parts.p[i]);
        const char *bytes = strcmp(parts.p[i], UNDERSCORE) == 0 ? " " : parts.p[i];
        if (id >= 0)
            bn_buf_printf(&out, out.n ? " %d" : "%d", id);
        for (; id < 0 && *bytes; bytes++)
            bn_buf_printf(&out, out.n ? " %d" : "%d", FIRST_BYTE_TOKEN + (unsigned char)*bytes);
    }
    words_free(&parts);
    return out.p;
}

/* ---- random vocabularies ---- */

static const char *const characters[] = {" ",    "a",        "b", "\xc3\xa9", "\xf0\x9f\x91\x8d",
                                         "\xff", "\xe2\x82", "z", "<s>"};

static void random_pieces(struct model *m, uint64_t *state)
{
    size_t n = random_below(state, 40);

    for (size_t i = 0; i < n; i++) {
        struct bn_buf piece = {0};
        size_t length = 1 + random_below(state, 4);
        for (size_t k = 0; k < length; k++) {
            const char *c = characters[random_below(state, 5)];
            bn_buf_puts(&piece, *c == ' ' ? UNDERSCORE : c);
        }
        if (find_piece(m, piece.p) < 0)
            add(m, piece.p, i % 7 == 6 ? BN_TOKEN_UNUSED : BN_TOKEN_NORMAL,
                (float)random_below(state, 12) - 6.5f);
        bn_buf_free(&piece);
    }
    if (random_below(state, 4) == 0)
        add(m, "ab" UNDERSCORE "ba", BN_TOKEN_NORMAL, -INFINITY);
    /* equal scores, so of the two that "aba" offers the left one counts */
    if (find_piece(m, "ab") < 0)
        add(m, "ab", BN_TOKEN_NORMAL, -0.0f);
    if (find_piece(m, "ba") < 0)
        add(m, "ba", BN_TOKEN_NORMAL, 0.0f);
}

static void check_text(struct model *m, uint64_t *state, size_t n, bool prefix)
{
    char *chars[64];
    struct bn_buf text = {0};

    bn_buf_puts(&text, "");
    for (size_t i = 0; i < n; i++) {
        const char *c =
            characters[random_below(state, BN_COUNT(characters) - (random_below(state, 3) > 0 ? 4 : 1))];
        chars[i] = bn_xstrdup(c);
        bn_buf_puts(&text, c);
    }
    /* a cut sequence is two characters for the definition, too */
    struct words single = {0};
    for (size_t i = 0; i < n; i++) {
        if (strcmp(chars[i], "\xe2\x82") != 0) {
            words_add(&single, chars[i]);
        } else {
            words_add(&single, "\xe2");
            words_add(&single, "\x82");
        }
        free(chars[i]);
    }
    char *ids = ids_of(m->loaded.tok, text.p, text.n, 0),
         *expected = naive_ids(m, single.p, single.n, prefix);
    assert_string_equal(ids, expected);
    check_round_trip(m->loaded.tok, text.p, text.n);
    free(ids);
    free(expected);
    words_free(&single);
    bn_buf_free(&text);
}

static void test_random_vocabularies(void **state)
{
    uint64_t seed = 4711;

    (void)state;
    for (int round = 0; round < 200; round++) {
        struct model m;
        int prefix = (int)random_below(&seed, 3) - 1;
        start(&m);
        random_pieces(&m, &seed);
        load(&m, prefix);
        for (int i = 0; i < 30; i++)
            check_text(&m, &seed, random_below(&seed, i == 0 ? 64 : 16), prefix != 0);
        drop(&m);
    }
}

/* ---- single cases ---- */

static void test_spaces(void **state)
{
    struct model m;

    (void)state;
    start(&m);
    add(&m, UNDERSCORE, BN_TOKEN_NORMAL, -1);           /* 259 */
    add(&m, "a", BN_TOKEN_NORMAL, -2);                  /* 260 */
    add(&m, UNDERSCORE "a", BN_TOKEN_NORMAL, -3);       /* 261 */
    add(&m, "a" UNDERSCORE, BN_TOKEN_NORMAL, -3);       /* 262 */
    add(&m, UNDERSCORE UNDERSCORE, BN_TOKEN_NORMAL, 5); /* 263 */
    load(&m, -1);
    struct bn_tokenizer *tok = m.loaded.tok;
    check_ids(tok, "", 0, "");
    check_ids(tok, "", BOS, "1");
    check_ids(tok, "a", BOS, "1 261");
    check_ids(tok, "a a", 0, "261 261"); /* equal scores: the left one first */
    check_ids(tok, " a", 0, "263 260");
    check_ids(tok, UNDERSCORE "a", 0, "263 260"); /* U+2581 in a text is a space */
    check_ids(tok, "a<s>a", 0, "261 63 118 65 260");
    check_ids(tok, "a<s>a", SPECIAL, "261 1 261");
    assert_true(bn_tokenizer_add_bos(tok));
    assert_int_equal(bn_tokenizer_find(tok, "<s>"), 1);
    assert_int_equal(bn_tokenizer_find(tok, " a"), 261);
    assert_int_equal(bn_tokenizer_find(tok, "<0x41>"), -1);
    drop(&m);
}

static void check_decoded(const struct bn_tokenizer *tok, uint32_t id, bool first, bool special,
                          const char *expected)
{
    struct bn_buf out = {0};

    bn_buf_puts(&out, "");
    bn_tokenizer_decode(tok, id, first, special, &out);
    assert_string_equal(out.p, expected);
    bn_buf_free(&out);
}

static void test_decode(void **state)
{
    struct model m;

    (void)state;
    for (int prefix = 0; prefix < 2; prefix++) {
        start(&m);
        add(&m, UNDERSCORE "a", BN_TOKEN_NORMAL, 0);
        load(&m, prefix);
        struct bn_tokenizer *tok = m.loaded.tok;
        check_decoded(tok, FIRST_PIECE, false, false, " a");
        check_decoded(tok, FIRST_PIECE, true, false, prefix ? "a" : " a");
        check_decoded(tok, FIRST_BYTE_TOKEN + 0xff, false, false, "\xff");
        check_decoded(tok, FIRST_BYTE_TOKEN + ' ', true, false, prefix ? "" : " ");
        check_decoded(tok, FIRST_BYTE_TOKEN + ' ', false, false, " ");
        check_decoded(tok, 1, true, false, "");
        check_decoded(tok, 1, true, true, "<s>");
        check_decoded(tok, 0, false, true, "<unk>");
        check_decoded(tok, FIRST_PIECE + 1, false, true, "");
        check_decoded(tok, UINT32_MAX, false, true, "");
        drop(&m);
    }
}

static void test_byte_names(void **state)
{
    (void)state;
    assert_int_equal(bn_spm_byte(BN_STR("<0x00>")), 0);
    assert_int_equal(bn_spm_byte(BN_STR("<0xAf>")), -1);
    assert_int_equal(bn_spm_byte(BN_STR("<0xFF>")), 255);
    assert_int_equal(bn_spm_byte(BN_STR("<0x9A>")), 0x9a);
    assert_int_equal(bn_spm_byte(BN_STR("<0x9A> ")), -1);
    assert_int_equal(bn_spm_byte(BN_STR("<0xG0>")), -1);
    assert_int_equal(bn_spm_byte(BN_STR("")), -1);
}

/* A vocabulary without byte tokens: what it lacks is an error, and nothing of the text is left behind. */
static void test_no_byte_tokens(void **state)
{
    static char *const tokens[] = {"<s>", UNDERSCORE, "a", "<0xC3>"};
    float scores[BN_COUNT(tokens)] = {0};
    struct gguf_text g;
    struct loaded l;
    struct bn_ids ids = {0};
    struct bn_err err = {""};

    (void)state;
    start_gguf(&g);
    key_str(&g, "tokenizer.ggml.model", "llama");
    key_words(&g, "tokenizer.ggml.tokens", tokens, BN_COUNT(tokens));
    key_numbers(&g, "tokenizer.ggml.scores", BN_GGUF_F32, scores, BN_COUNT(tokens));
    key_u32(&g, "tokenizer.ggml.bos_token_id", 0);
    assert_int_equal(load_text(&l, &g, &err), 0);
    check_ids(l.tok, "a", 0, "1 2");
    bn_ids_push(&ids, 9);
    assert_int_equal(bn_tokenizer_encode(l.tok, BN_STR("a\xc3\xa9"), true, false, &ids, &err), -1);
    assert_string_equal(err.msg, "the vocabulary has no token <0xA9>, which the text needs");
    assert_int_equal(ids.n, 1);
    assert_int_equal(ids.p[0], 9);
    check_ids(l.tok, "a\xc3", 0, "1 2 3"); /* without kinds, <0xC3> is known by its name */
    bn_ids_free(&ids);
    bn_buf_free(&g.b);
    unload(&l);
}

/* One word of 300 000 characters; the doubling pieces make it n / 64 tokens and a rest. */
static void test_long_text(void **state)
{
    struct model m;
    enum { LENGTH = 300000 + 21 };
    char *text = bn_xmalloc(LENGTH), *piece = bn_xmalloc(65);
    struct bn_ids ids = {0};
    struct bn_err err;

    (void)state;
    memset(text, 'a', LENGTH);
    memset(piece, 'a', 64);
    start(&m);
    for (size_t n = 1; n <= 64; n *= 2) {
        piece[n] = '\0';
        add(&m, piece, BN_TOKEN_NORMAL, -(float)n);
        piece[n] = 'a';
    }
    load(&m, 0);
    assert_int_equal(
        bn_tokenizer_encode(m.loaded.tok, (struct bn_str){text, LENGTH}, false, false, &ids, &err), 0);
    assert_int_equal(ids.n, LENGTH / 64 + (unsigned)__builtin_popcount(LENGTH % 64));
    check_round_trip(m.loaded.tok, text, LENGTH);
    bn_ids_free(&ids);
    free(text);
    free(piece);
    drop(&m);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_random_vocabularies),
        cmocka_unit_test(test_spaces),
        cmocka_unit_test(test_decode),
        cmocka_unit_test(test_byte_names),
        cmocka_unit_test(test_no_byte_tokens),
        cmocka_unit_test(test_long_text),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
