/* SPDX-License-Identifier: MIT
 * The report's entry: compute once, then hand to a format. */
#include "hotspots/report.h"

#include <stdlib.h>
#include <string.h>

#include "hotspots/report_text.h"

static char *next_buffer(size_t *size)
{
    static char buffers[16][512];
    static unsigned next;

    *size = sizeof buffers[0];
    return buffers[next++ % BN_COUNT(buffers)];
}

const char *bn_text_number(double value, int decimals)
{
    size_t size;

    if (isnan(value))
        return "unknown";
    char *s = next_buffer(&size);
    snprintf(s, size, "%.*f", decimals, value);
    return s;
}

const char *bn_text_percent(double share)
{
    size_t size;

    if (isnan(share))
        return "unknown";
    char *s = next_buffer(&size);
    snprintf(s, size, "%.1f %%", 100 * share);
    return s;
}

const char *bn_text_count(uint64_t n)
{
    char digits[24];
    size_t size, k = 0;
    char *s = next_buffer(&size);
    int length = snprintf(digits, sizeof digits, "%" PRIu64, n);

    for (int i = 0; i < length; i++) {
        if (i && (length - i) % 3 == 0)
            s[k++] = ',';
        s[k++] = digits[i];
    }
    s[k] = '\0';
    return s;
}

const char *bn_text_time(double ns)
{
    static const struct {
        double from, unit;
        const char *name;
    } units[] = {{1e9, 1e9, "s"}, {1e6, 1e6, "ms"}, {1e3, 1e3, "µs"}, {0, 1, "ns"}};
    size_t size, i = 0;

    if (isnan(ns))
        return "unknown";
    char *s = next_buffer(&size);
    while (fabs(ns) < units[i].from)
        i++;
    double value = ns / units[i].unit;
    snprintf(s, size, "%.*f %s",
             fabs(value) >= 100 || units[i].unit == 1 ? 0
             : fabs(value) >= 10                      ? 1
                                                      : 2,
             value, units[i].name);
    return s;
}

const char *bn_text_whole(const struct bn_sampled *all)
{
    return bn_sampled_equal(all) ? "all samples" : "all sampled CPU time";
}

const char *bn_text_part(const struct bn_sampled *part, const struct bn_sampled *whole, const char *noun)
{
    size_t size;
    char *s = next_buffer(&size), *end = s;

    if (!bn_sampled_equal(whole))
        end +=
            snprintf(s, size, "%s of %s (", bn_text_time((double)part->ns), bn_text_time((double)whole->ns));
    snprintf(end, size - (size_t)(end - s), "%" PRIu64 " of %" PRIu64 " %s%s", part->n, whole->n, noun,
             end > s ? ")" : "");
    return s;
}

/* Bytes of the text that end with a whole character, if they are cut there. */
static size_t whole_characters(const char *text, size_t n)
{
    while (n > 0 && ((unsigned char)text[n] & 0xc0) == 0x80)
        n--;
    return n;
}

const char *bn_text_cell(const char *text)
{
    size_t size, k = 0;
    char *s = next_buffer(&size);
    size_t n = strlen(text), fits = (size - 6) / 2;

    n = n <= fits ? n : whole_characters(text, fits);
    for (size_t i = 0; i < n; i++) {
        if (strchr("|`<*\\", text[i]))
            s[k++] = '\\';
        s[k++] = text[i];
    }
    strcpy(s + k, text[n] ? "…" : "");
    return s;
}

const char *bn_text_code(const char *name)
{
    size_t size, k = 0;
    char *s = next_buffer(&size);
    size_t n = strlen(name), fits = size - 8;

    n = n <= fits ? n : whole_characters(name, fits);
    s[k++] = '`';
    for (size_t i = 0; i < n; i++)
        s[k++] = strchr("`|\n", name[i]) ? '\'' : name[i];
    strcpy(s + k, name[n] ? "…`" : "`");
    return s;
}

/* Markdown as plain lines: without fences, heading marks, emphasis and code marks (names hold no backtick,
 * see bn_text_code). */
static void put_plain(FILE *f, const char *md)
{
    while (*md) {
        size_t n = strcspn(md, "\n");
        const char *end = md + n;
        bool fence = n == 3 && strncmp(md, "```", 3) == 0;
        if (*md == '#')
            md += strspn(md, "#") + 1;
        for (; !fence && md < end; md++) {
            if (*md == '`')
                continue;
            if (*md == '\\' && md + 1 < end)
                fputc(*++md, f);
            else if (strncmp(md, "**", 2) == 0)
                md++;
            else
                fputc(*md, f);
        }
        if (!fence && *end)
            fputc('\n', f);
        md = end + (*end == '\n');
    }
}

static void write_plain(FILE *f, const struct bn_profile *p, const struct bn_report_options *o,
                        const struct bn_ranking *r, const struct bn_comparison *c)
{
    char *md = NULL;
    size_t n;
    FILE *memory = open_memstream(&md, &n);

    bn_report_sections(memory, p, o, r, c);
    fclose(memory);
    put_plain(f, md);
    free(md);
}

void bn_report_write(FILE *f, const struct bn_profile *p, const struct bn_report_options *o)
{
    struct bn_ranking r;
    struct bn_comparison c = {0};

    bn_ranking_make(&r, p, o->by);
    if (o->previous)
        bn_compare(&c, o->previous, p, o->by, o->top > 8 ? o->top : 8);
    if (o->format == BN_REPORT_JSON)
        bn_report_json(f, p, o, &r, o->previous ? &c : NULL);
    else if (o->format == BN_REPORT_TEXT)
        write_plain(f, p, o, &r, o->previous ? &c : NULL);
    else
        bn_report_sections(f, p, o, &r, o->previous ? &c : NULL);
    bn_comparison_free(&c);
    bn_ranking_free(&r);
}
