/* SPDX-License-Identifier: MIT
 * Source files are read whole; names and contents come from elsewhere and are checked. */
#include "tools/source_text.h"

#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

enum { MAX_BYTES = 32 << 20, MAX_LINES = 2000000 };

char *bn_printable(const char *s, size_t n)
{
    struct bn_buf b = {0};
    size_t column = 0;

    bn_buf_puts(&b, "");
    for (size_t i = 0; i < n; i++) {
        unsigned char c = (unsigned char)s[i];
        if (c == '\t') {
            do
                bn_buf_putc(&b, ' ');
            while (++column % 4);
            continue;
        }
        bool c1 = c == 0xc2 && i + 1 < n && ((unsigned char)s[i + 1] & 0xe0) == 0x80;
        bn_buf_putc(&b, c < 0x20 || c == 0x7f || c1 ? '?' : (char)c);
        i += c1; /* a control character of two bytes */
        column += (c & 0xc0) != 0x80;
    }
    return b.p;
}

static void split(struct bn_source_text *s, const char *bytes, size_t n)
{
    size_t capacity = 0;

    for (size_t at = 0; at < n && s->n < MAX_LINES;) {
        const char *end = memchr(bytes + at, '\n', n - at);
        size_t length = end ? (size_t)(end - (bytes + at)) : n - at, shown = length;
        if (shown && bytes[at + shown - 1] == '\r')
            shown--;
        bn_grow(&s->lines, &capacity, s->n + 1, sizeof *s->lines);
        s->lines[s->n++] = bn_printable(bytes + at, shown);
        at += length + 1;
    }
}

/* NULL, or why it is not used. */
static const char *read_file(struct bn_source_text *s, const char *path, int64_t built_s)
{
    struct stat st;
    struct bn_map map;
    struct bn_err err;

    if (stat(path, &st) != 0)
        return "not found";
    if (!S_ISREG(st.st_mode) || st.st_size > MAX_BYTES)
        return "no source file";
    if (built_s <= 0)
        return "not known to be the one that was compiled";
    if (st.st_mtim.tv_sec > built_s)
        return "changed after the program was built";
    if (bn_map_open(&map, path, &err) != 0)
        return "cannot be read";
    if (map.n)
        split(s, (const char *)map.p, map.n);
    bn_map_close(&map);
    return NULL;
}

void bn_source_text_read(struct bn_source_text *s, const char *file, const char *folder, int64_t built_s)
{
    *s = (struct bn_source_text){.why = "not found"};
    if (file[0] != '/' && folder && folder[0] == '/') {
        s->path = bn_xasprintf("%s/%s", folder, file);
        s->why = read_file(s, s->path, built_s);
    }
    if (s->why && strcmp(s->why, "not found") == 0) {
        free(s->path);
        s->path = bn_xstrdup(file);
        s->why = read_file(s, s->path, built_s);
    }
}

void bn_source_text_free(struct bn_source_text *s)
{
    for (size_t i = 0; i < s->n; i++)
        free(s->lines[i]);
    free(s->lines);
    free(s->path);
    *s = (struct bn_source_text){0};
}

const char *bn_source_text_line(const struct bn_source_text *s, uint32_t number)
{
    return number >= 1 && number <= s->n ? s->lines[number - 1] : "";
}
