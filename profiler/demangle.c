/* SPDX-License-Identifier: MIT
 * Demangling with libiberty. A few hundred bytes of a hostile name can stand for gigabytes of text, and the
 * library writes piece by piece to a function of ours: that one leaves by longjmp when it has seen enough.
 * The library holds memory of its own only while it writes an identifier in punycode, the only pieces that
 * are not plain ASCII: they are never left from. */
#include "profiler/demangle.h"

#include <libiberty/demangle.h>
#include <setjmp.h>
#include <stdlib.h>
#include <string.h>

enum { MAX_MANGLED = 16384, MAX_TEXT = 32768, MAX_PIECES = 65536 };

struct text {
    char *p; /* MAX_TEXT bytes */
    size_t n, n_pieces;
    bool over;
    jmp_buf enough;
};

static bool is_ascii(const char *s, size_t n)
{
    for (size_t i = 0; i < n; i++)
        if ((unsigned char)s[i] >= 0x80)
            return false;
    return true;
}

static void take(const char *piece, size_t n, void *ctx)
{
    struct text *t = ctx;

    t->over = t->over || n > MAX_TEXT - t->n || ++t->n_pieces > MAX_PIECES;
    if (t->over && is_ascii(piece, n))
        longjmp(t->enough, 1);
    if (!t->over && n > 0) {
        memcpy(t->p + t->n, piece, n);
        t->n += n;
    }
}

/* Rust first: its legacy names are C++ names that end in a hash. */
static bool demangle(struct text *t, const char *name)
{
    if (setjmp(t->enough))
        return false;
    if (rust_demangle_callback(name, DMGL_NO_OPTS, take, t))
        return !t->over;
    t->n = t->n_pieces = 0;
    return cplus_demangle_v3_callback(name, DMGL_NO_OPTS, take, t) && !t->over;
}

/* ---- shorter ---- */

/* Bytes of an operator's symbol at s ("<<=", "->", "()"), 0 = none. */
static size_t operator_symbol(const char *s)
{
    static const char *const symbols[] = {"<=>", "<<=", ">>=", "->*", "<<", ">>",
                                          "<=",  ">=",  "->",  "()",  "<",  ">"};

    for (size_t i = 0; i < BN_COUNT(symbols); i++)
        if (strncmp(s, symbols[i], strlen(symbols[i])) == 0)
            return strlen(symbols[i]);
    return 0;
}

/* Bytes at s that are no brackets whatever they hold: an arrow, or the word operator with its symbol. */
static size_t no_bracket(const char *s)
{
    static const char word[] = "operator";

    if (strncmp(s, "->", 2) == 0)
        return 2;
    if (strncmp(s, word, sizeof word - 1) == 0)
        return sizeof word - 1 + operator_symbol(s + sizeof word - 1);
    return 0;
}

/* Copy with what stands deeper than `depth` brackets as "…". false: the brackets do not match. */
static bool collapse(struct bn_buf *out, const char *s, int depth)
{
    int at = 0;

    out->n = 0;
    while (*s) {
        size_t skip = no_bracket(s);
        if (skip == 0) {
            skip = 1;
            if (*s == '<' && at++ == depth)
                bn_buf_puts(out, "<…>");
            if (*s == '>' && --at == depth) {
                s++;
                continue;
            }
            if (at < 0)
                return false;
        }
        if (at <= depth)
            bn_buf_put(out, s, skip);
        s += skip;
    }
    return at == 0;
}

/* At most MAX bytes with a final "…", not inside a character. */
static void cut(struct bn_buf *out, const char *s)
{
    size_t n = BN_DEMANGLE_SHOWN - (sizeof "…" - 1);

    while (n > 0 && ((unsigned char)s[n] & 0xc0) == 0x80)
        n--;
    out->n = 0;
    bn_buf_put(out, s, n);
    bn_buf_puts(out, "…");
}

const char *bn_demangle_shorten(struct bn_arena *arena, const char *name)
{
    struct bn_buf out = {0};
    bool fits = false;

    if (strlen(name) <= BN_DEMANGLE_SHOWN)
        return name;
    for (int depth = 6; depth >= 0 && !fits; depth--)
        fits = collapse(&out, name, depth) && out.n <= BN_DEMANGLE_SHOWN;
    if (!fits)
        cut(&out, name);
    const char *kept = bn_arena_strndup(arena, out.p, out.n);
    bn_buf_free(&out);
    return kept;
}

/* The library knows the short name of this one type only by its old ABI. */
static void use_string(char *s)
{
    static const char spelt[] =
        "std::__cxx11::basic_string<char, std::char_traits<char>, std::allocator<char> >";
    static const char name[] = "std::string";

    for (char *at = s; (at = strstr(at, spelt)) != NULL;) {
        memcpy(at, name, sizeof name - 1);
        memmove(at + sizeof name - 1, at + sizeof spelt - 1, strlen(at + sizeof spelt - 1) + 1);
    }
}

const char *bn_demangle(struct bn_arena *arena, const char *name, size_t n)
{
    struct text *t;
    const char *shown = NULL;

    n = strnlen(name, n);
    if (n < 3 || n > MAX_MANGLED || name[0] != '_' || (name[1] != 'Z' && name[1] != 'R'))
        return NULL;
    t = bn_xcalloc(1, sizeof *t);
    t->p = bn_xmalloc(MAX_TEXT + 1);
    char *whole = bn_xmalloc(n + 1);
    memcpy(whole, name, n);
    whole[n] = '\0';
    if (demangle(t, whole) && t->n > 0) {
        t->p[t->n] = '\0';
        use_string(t->p);
        shown = bn_demangle_shorten(arena, t->p);
        shown = shown == t->p ? bn_arena_strdup(arena, t->p) : shown;
    }
    free(whole);
    free(t->p);
    free(t);
    return shown;
}
