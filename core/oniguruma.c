/* SPDX-License-Identifier: MIT
 * Regular expressions from Oniguruma's dialect (Ruby syntax) to PCRE2's. */
#include "core/pretokenize.h"

#include <string.h>

struct translation {
    struct bn_str in;
    size_t at;
    bool in_set;
    struct bn_buf *out;
    struct bn_err *err;
};

static int unsupported(const struct translation *t, const char *what)
{
    return bn_err_set(t->err, "regular expression, byte %zu: %s is not supported", t->at, what);
}

static void copy(struct translation *t, size_t n)
{
    n = bn_min_size(n, t->in.n - t->at);
    bn_buf_put(t->out, t->in.p + t->at, n);
    t->at += n;
}

static bool follows(const struct translation *t, const char *text)
{
    size_t n = strlen(text);

    return t->in.n - t->at >= n && memcmp(t->in.p + t->at, text, n) == 0;
}

/* Bytes up to and with the next `end`, or all that are left. */
static size_t length_to(const struct translation *t, char end)
{
    const char *hit = memchr(t->in.p + t->at, end, t->in.n - t->at);

    return hit ? (size_t)(hit - (t->in.p + t->at)) + 1 : t->in.n - t->at;
}

static void put_instead(struct translation *t, const char *text, size_t n_skipped)
{
    bn_buf_puts(t->out, text);
    t->at += n_skipped;
}

static int translate_escape(struct translation *t)
{
    if (follows(t, "\\h") || follows(t, "\\H"))
        return unsupported(t, "\\h");
    if (follows(t, "\\p{") || follows(t, "\\P{") || follows(t, "\\x{"))
        copy(t, length_to(t, '}'));
    else if (follows(t, "\\s"))
        put_instead(t, t->in_set ? BN_REGEX_SPACE : "[" BN_REGEX_SPACE "]", 2);
    else if (follows(t, "\\S") && !t->in_set)
        put_instead(t, "[^" BN_REGEX_SPACE "]", 2);
    else if (follows(t, "\\u") && t->in.n - t->at >= 6) {
        bn_buf_printf(t->out, "\\x{%.4s}", t->in.p + t->at + 2);
        t->at += 6;
    } else {
        copy(t, 2);
    }
    return 0;
}

static int translate_in_set(struct translation *t)
{
    if (follows(t, "[:")) {
        copy(t, length_to(t, ']'));
        return 0;
    }
    if (follows(t, "["))
        return unsupported(t, "a set within a set");
    if (follows(t, "&&"))
        return unsupported(t, "&& in a set");
    t->in_set = !follows(t, "]");
    copy(t, 1);
    return 0;
}

static int translate_outside(struct translation *t)
{
    if (follows(t, "}+"))
        return unsupported(t, "{n,m}+");
    if (follows(t, "[")) {
        t->in_set = true;
        copy(t, follows(t, "[^") ? 2 : 1);
        if (follows(t, "]")) /* a literal one */
            copy(t, 1);
    } else {
        copy(t, 1);
    }
    return 0;
}

int bn_regex_from_oniguruma(struct bn_str pattern, struct bn_buf *out, struct bn_err *err)
{
    struct translation t = {.in = pattern, .out = out, .err = err};

    bn_buf_puts(out, "(?m)"); /* Ruby's ^ and $ know lines */
    while (t.at < pattern.n) {
        int status = pattern.p[t.at] == '\\' ? translate_escape(&t)
                     : t.in_set              ? translate_in_set(&t)
                                             : translate_outside(&t);
        if (status != 0)
            return -1;
    }
    return 0;
}
