/* SPDX-License-Identifier: MIT
 * Hostile names as text of an XML file, and cut to a width. */
#include "flamegraphs/svg_text.h"

#include <string.h>

#include "flamegraphs/folded.h"

static bool is_allowed(uint32_t c)
{
    bool control = c < 0x20 || (c >= 0x7f && c < 0xa0) || c == 0x2028 || c == 0x2029;
    bool turns = (c >= 0x202a && c <= 0x202e) || (c >= 0x2066 && c <= 0x2069) || c == 0x200e || c == 0x200f;
    return !control && !turns && (c & 0xfffe) != 0xfffe;
}

static void put_char(FILE *f, const char *s, size_t size, uint32_t c)
{
    switch (c) {
    case '&':
        fputs("&amp;", f);
        break;
    case '<':
        fputs("&lt;", f);
        break;
    case '>':
        fputs("&gt;", f);
        break;
    case '"':
        fputs("&quot;", f);
        break;
    case '\'':
        fputs("&#39;", f);
        break;
    default:
        fwrite(s, 1, size, f);
    }
}

/* Put the character at s; its bytes (at least 1) and the columns it takes. */
static size_t put_next(FILE *f, const char *s, size_t n, size_t *columns)
{
    uint32_t c = 0;
    size_t size = bn_utf8_char(s, n, &c);

    *columns = size && c >= 0x1100 ? 2 : 1;
    if (!f)
        return size ? size : 1;
    if (size && (c == '\t' || c == '\n' || c == '\r'))
        fputc(' ', f);
    else if (size && is_allowed(c))
        put_char(f, s, size, c);
    else
        fputs("\xef\xbf\xbd", f);
    return size ? size : 1;
}

void bn_svg_put_text(FILE *f, const char *s, size_t n)
{
    size_t columns;

    for (size_t i = 0; i < n;)
        i += put_next(f, s + i, n - i, &columns);
}

static size_t count_columns(const char *s)
{
    size_t n = strlen(s), total = 0, columns;

    for (size_t i = 0; i < n; total += columns)
        i += put_next(NULL, s + i, n - i, &columns);
    return total;
}

void bn_svg_put_cut(FILE *f, const char *s, size_t room)
{
    size_t n = strlen(s), used = 0, columns;
    bool fits = count_columns(s) <= room;

    for (size_t i = 0; i < n;) {
        size_t size = put_next(NULL, s + i, n - i, &columns);
        if (!fits && used + columns > room - 1)
            break;
        put_next(f, s + i, n - i, &columns);
        used += columns;
        i += size;
    }
    if (!fits)
        fputs("…", f);
}

const char *bn_svg_grouped(uint64_t value, char buf[32])
{
    char digits[24];
    size_t n = (size_t)snprintf(digits, sizeof digits, "%llu", (unsigned long long)value), out = 0;

    for (size_t i = 0; i < n; i++) {
        if (i > 0 && (n - i) % 3 == 0)
            buf[out++] = ',';
        buf[out++] = digits[i];
    }
    buf[out] = '\0';
    return buf;
}
