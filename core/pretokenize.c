/* SPDX-License-Identifier: MIT
 * Pre-tokenizers on PCRE2, compiled to machine code where the system allows it. */
#define PCRE2_CODE_UNIT_WIDTH 8
#include "core/pretokenize.h"

#include "core/utf8.h"

#include <assert.h>
#include <pcre2.h>
#include <stdlib.h>

enum { MAX_STAGES = 16, JIT_STACK_BYTES = 8 << 20, HEAP_LIMIT_KIB = 1 << 19 };

struct stage {
    pcre2_code *code;
    enum bn_split split;
};

struct bn_pretokenizer {
    struct stage stages[MAX_STAGES];
    size_t n_stages;
    pcre2_match_data *match;
    pcre2_match_context *context;
    pcre2_jit_stack *jit_stack;
};

/* ---- named pre-tokenizers ---- */

#define SPACE          BN_REGEX_SPACE
#define SYMBOL         "[^" SPACE "\\p{L}\\p{N}]+"
#define TRAILING_SPACE "[" SPACE "]+(?![^" SPACE "])"

/* Contractions; letters with one leading character; up to three digits; symbols with the line ends behind
 * them; white space up to its last line end; white space but for the last character before a word; the rest.
 */
#define LLAMA3                                                                                               \
    "(?i:'(?:[sdmt]|ll|ve|re))|[^\\r\\n\\p{L}\\p{N}]?\\p{L}+|\\p{N}{1,3}| ?" SYMBOL "[\\r\\n]*|[" SPACE      \
    "]*[\\r\\n]+|" TRAILING_SPACE "|[" SPACE "]+"
#define GPT2        "'(?:[sdmt]|ll|ve|re)| ?\\p{L}+| ?\\p{N}+| ?" SYMBOL "|" TRAILING_SPACE "|[" SPACE "]+"
#define PUNCTUATION "[\\p{P}$+<=>^~|]+"

static const struct {
    const char *name;
    bool ignore_merges;
    const char *patterns[4];
} named[] = {
    {"llama-bpe", true, {LLAMA3}},
    {"llama3", true, {LLAMA3}},
    {"llama-v3", true, {LLAMA3}},
    {"falcon3", true, {LLAMA3}},
    {"gpt-2", false, {GPT2}},
    {"gpt2", false, {GPT2}},
    {"default", false, {PUNCTUATION, GPT2, "\\p{N}+", "[0-9]{3}"}},
};

bool bn_pretokenizer_add_named(struct bn_pretokenizer *pre, struct bn_str name, bool *ignore_merges)
{
    for (size_t i = 0; i < BN_COUNT(named); i++) {
        if (!bn_str_is(name, named[i].name))
            continue;
        for (size_t k = 0; k < BN_COUNT(named[i].patterns) && named[i].patterns[k]; k++) {
            int status =
                bn_pretokenizer_add(pre, bn_str_from(named[i].patterns[k]), false, BN_SPLIT_KEEP, NULL);
            assert(status == 0);
            (void)status;
        }
        *ignore_merges = named[i].ignore_merges;
        return true;
    }
    return false;
}

/* ---- building ---- */

static void *checked(void *p)
{
    return p ? p : bn_xmalloc(SIZE_MAX); /* PCRE2 is out of memory: end the program as base.h does */
}

struct bn_pretokenizer *bn_pretokenizer_new(void)
{
    struct bn_pretokenizer *pre = bn_xcalloc(1, sizeof *pre);

    pre->match = checked(pcre2_match_data_create(1, NULL));
    pre->context = checked(pcre2_match_context_create(NULL));
    pcre2_set_heap_limit(pre->context, HEAP_LIMIT_KIB);
    pre->jit_stack = pcre2_jit_stack_create(32 << 10, JIT_STACK_BYTES, NULL); /* NULL: no JIT on this CPU */
    pcre2_jit_stack_assign(pre->context, NULL, pre->jit_stack);
    return pre;
}

void bn_pretokenizer_free(struct bn_pretokenizer *pre)
{
    if (!pre)
        return;
    for (size_t i = 0; i < pre->n_stages; i++)
        pcre2_code_free(pre->stages[i].code);
    pcre2_match_data_free(pre->match);
    pcre2_match_context_free(pre->context);
    pcre2_jit_stack_free(pre->jit_stack);
    free(pre);
}

int bn_pretokenizer_add(struct bn_pretokenizer *pre, struct bn_str pattern, bool literal, enum bn_split split,
                        struct bn_err *err)
{
    uint32_t options = PCRE2_UTF | (literal ? PCRE2_LITERAL : PCRE2_UCP | PCRE2_NEVER_BACKSLASH_C);
    PCRE2_UCHAR message[160];
    PCRE2_SIZE at;
    int code;

    if (pre->n_stages == MAX_STAGES)
        return bn_err_set(err, "more than %d splits, one after the other", MAX_STAGES);
    pcre2_code *compiled = pcre2_compile((PCRE2_SPTR)pattern.p, pattern.n, options, &code, &at, NULL);
    if (!compiled) {
        pcre2_get_error_message(code, message, sizeof message);
        return bn_err_set(err, "bad regular expression at its byte %zu: %s", (size_t)at,
                          (const char *)message);
    }
    pcre2_jit_compile(compiled, PCRE2_JIT_COMPLETE); /* where it fails, pcre2_match interprets */
    pre->stages[pre->n_stages++] = (struct stage){compiled, split};
    return 0;
}

/* ---- splitting ---- */

struct split {
    struct bn_pretokenizer *pre;
    bn_word_fn *word;
    void *context;
    struct bn_err *err;
};

/* The next match that is not empty, from `from` on: its ends. 1, 0 when there is none, -1 with a message. */
static int next_match(const struct split *s, size_t k, struct bn_str text, size_t from, size_t *start,
                      size_t *end)
{
    const struct bn_pretokenizer *pre = s->pre;
    PCRE2_UCHAR message[160];
    uint32_t options = PCRE2_NO_UTF_CHECK | PCRE2_NOTEMPTY;
    int code =
        pcre2_match(pre->stages[k].code, (PCRE2_SPTR)text.p, text.n, from, options, pre->match, pre->context);

    if (code == PCRE2_ERROR_JIT_STACKLIMIT) /* the interpreter keeps its state on the heap */
        code = pcre2_match(pre->stages[k].code, (PCRE2_SPTR)text.p, text.n, from, options | PCRE2_NO_JIT,
                           pre->match, pre->context);
    if (code == PCRE2_ERROR_NOMATCH)
        return 0;
    if (code < 0) {
        pcre2_get_error_message(code, message, sizeof message);
        return bn_err_set(s->err, "the pre-tokenizer's regular expression failed: %s", (const char *)message);
    }
    const PCRE2_SIZE *ends = pcre2_get_ovector_pointer(pre->match);
    *start = ends[0];
    *end = ends[1];
    assert(*start >= from && *end > *start); /* \K in a look-around, which could break that, is refused */
    return 1;
}

/* Hand on one piece of stage k - 1: to stage k, or as a word after the last stage. */
static int hand_on(const struct split *s, size_t k, struct bn_str text)
{
    size_t at = 0, start = 0, end = 0;
    int found = 0;

    if (text.n == 0)
        return 0;
    if (k == s->pre->n_stages)
        return s->word(s->context, text, s->err);
    enum bn_split split = s->pre->stages[k].split;
    while (at < text.n && (found = next_match(s, k, text, at, &start, &end)) > 0) {
        if (split != BN_SPLIT_DROP_GAPS && hand_on(s, k + 1, (struct bn_str){text.p + at, start - at}) != 0)
            return -1;
        if (split != BN_SPLIT_DROP_MATCHES &&
            hand_on(s, k + 1, (struct bn_str){text.p + start, end - start}) != 0)
            return -1;
        at = end;
    }
    if (found < 0)
        return -1;
    return split == BN_SPLIT_DROP_GAPS ? 0 : hand_on(s, k + 1, (struct bn_str){text.p + at, text.n - at});
}

int bn_pretokenizer_split(struct bn_pretokenizer *pre, struct bn_str text, bn_word_fn *word, void *context,
                          struct bn_err *err)
{
    struct split s = {pre, word, context, err};

    while (text.n > 0) {
        size_t valid = bn_utf8_valid_prefix(text.p, text.n);
        if (hand_on(&s, 0, (struct bn_str){text.p, valid}) != 0)
            return -1;
        if (valid < text.n && word(context, (struct bn_str){text.p + valid, 1}, err) != 0)
            return -1;
        valid += valid < text.n;
        text.p += valid;
        text.n -= valid;
    }
    return 0;
}
