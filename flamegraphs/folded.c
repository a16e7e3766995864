/* SPDX-License-Identifier: MIT
 * Reading other tools' folded stacks tolerantly, writing our own strictly. */
#include "flamegraphs/folded.h"

#include <assert.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

enum { MAX_LINE_BYTES = 1 << 20 };

/* ---- characters ---- */

size_t bn_utf8_char(const char *s, size_t n, uint32_t *code)
{
    static const uint32_t smallest[] = {0, 0, 0x80, 0x800, 0x10000};
    unsigned char first = (unsigned char)s[0];
    size_t size = first < 0x80   ? 1
                  : first < 0xc2 ? 0
                  : first < 0xe0 ? 2
                  : first < 0xf0 ? 3
                  : first < 0xf5 ? 4
                                 : 0;

    if (size == 0 || size > n)
        return 0;
    uint32_t c = size == 1 ? first : first & (0x7fu >> size);
    for (size_t i = 1; i < size; i++) {
        unsigned char next = (unsigned char)s[i];
        if ((next & 0xc0) != 0x80)
            return 0;
        c = c << 6 | (next & 0x3f);
    }
    if (c < smallest[size] || (c >= 0xd800 && c < 0xe000) || c > 0x10ffff)
        return 0;
    *code = c;
    return size;
}

static bool is_digit(char c)
{
    return c >= '0' && c <= '9';
}

/* ---- reading ---- */

/* One line without its end; a line beyond the limit is read to its end and marked. False at the end of the
 * file. */
static bool read_line(FILE *f, struct bn_buf *line, bool *too_long)
{
    int c;

    line->n = 0;
    *too_long = false;
    while ((c = getc_unlocked(f)) != EOF && c != '\n') {
        if (line->n < MAX_LINE_BYTES)
            bn_buf_putc(line, (char)c);
        else
            *too_long = true;
    }
    if (c == EOF && line->n == 0)
        return false;
    if (line->n > 0 && line->p[line->n - 1] == '\r')
        line->n--;
    return true;
}

/* Cut a trailing " 123" or " 123.45" off text and give its whole part. False if there is none or it is too
 * large. */
static bool cut_count(struct bn_str *text, uint64_t *count, bool *fraction)
{
    size_t end = text->n, start;
    char digits[24];

    for (start = end; start > 0 && is_digit(text->p[start - 1]); start--)
        ;
    *fraction = start > 0 && start < end && text->p[start - 1] == '.';
    if (*fraction) {
        end = start - 1;
        for (start = end; start > 0 && is_digit(text->p[start - 1]); start--)
            ;
    }
    if (start == end || start == 0 || text->p[start - 1] != ' ' || end - start >= sizeof digits)
        return false;
    memcpy(digits, text->p + start, end - start);
    digits[end - start] = '\0';
    text->n = start - 1;
    return bn_parse_u64(digits, 0, UINT64_MAX, count) == 0;
}

static bool ends_with(struct bn_str s, const char *tail)
{
    size_t n = strlen(tail);
    return s.n > n && memcmp(s.p + s.n - n, tail, n) == 0;
}

static struct bn_tree_frame frame_from(struct bn_str name)
{
    struct bn_tree_frame frame = {.name = name, .kind = BN_TREE_PROGRAM};
    bool kernel = ends_with(name, "_[k]");

    frame.inlined = ends_with(name, "_[i]");
    if (kernel || frame.inlined || ends_with(name, "_[j]") || ends_with(name, "_[w]"))
        frame.name.n -= 4;
    if (frame.name.n == 0)
        frame.name = BN_STR("[unknown]");
    const char *p = frame.name.p;
    if (kernel || bn_str_is(frame.name, "[kernel]"))
        frame.kind = BN_TREE_KERNEL;
    else if (bn_str_is(frame.name, "-") || bn_str_is(frame.name, "--"))
        frame.kind = BN_TREE_MARK; /* separates user and kernel, sleeper and waker */
    else if (p[0] == '[' && p[frame.name.n - 1] == ']')
        frame.kind = BN_TREE_UNKNOWN;
    else if (bn_tree_is_compute_name(p, frame.name.n))
        frame.kind = BN_TREE_COMPUTE;
    return frame;
}

static int add_stack(struct bn_tree *tree, struct bn_str stack, uint64_t count)
{
    uint32_t node = 0;

    /* Checked first: a line that cannot be counted must not leave empty boxes behind. */
    if (count > BN_TREE_MAX - tree->samples)
        return -1;
    while (stack.n > 0) {
        const char *semicolon = memchr(stack.p, ';', stack.n);
        size_t n = semicolon ? (size_t)(semicolon - stack.p) : stack.n;
        struct bn_tree_frame frame = frame_from((struct bn_str){stack.p, n});
        if (frame.inlined && tree->nodes[node].kind == BN_TREE_COMPUTE)
            frame.kind = BN_TREE_COMPUTE; /* a piece of the kernel */
        node = bn_tree_child(tree, node, &frame);
        stack.p += n;
        stack.n -= n;
        if (semicolon) {
            stack.p++;
            stack.n--;
        }
    }
    return bn_tree_add(tree, node, count, 0);
}

/* NULL, or why the line was skipped. */
static const char *read_stack(struct bn_tree *tree, struct bn_str line, struct bn_folded_report *report)
{
    uint64_t count, first;
    bool fraction, first_fraction;
    struct bn_str stack = line, rest;

    if (memchr(line.p, '\0', line.n))
        return "a zero byte in a line of text";
    if (!cut_count(&stack, &count, &fraction))
        return "no count at its end";
    rest = stack;
    bool two = cut_count(&rest, &first, &first_fraction);
    if (two)
        stack = rest;
    while (stack.n > 0 && stack.p[stack.n - 1] == ' ')
        stack.n--;
    if (stack.n == 0)
        return "no stack before its count";
    if (count == 0)
        return NULL;
    if (add_stack(tree, stack, count) != 0)
        return "a count that takes the total beyond 2^53";
    report->n_lines++;
    report->n_fractions += fraction;
    report->n_two_counts += two;
    return NULL;
}

static bool is_comment(const struct bn_buf *line)
{
    return line->n == 0 || (line->p[0] == '#' && (line->n == 1 || line->p[1] == ' '));
}

int bn_folded_read(struct bn_tree *tree, FILE *f, const char *name, struct bn_folded_report *report,
                   struct bn_err *err)
{
    struct bn_buf line = {0};
    bool too_long;

    *report = (struct bn_folded_report){0};
    for (uint64_t number = 1; read_line(f, &line, &too_long); number++) {
        if (!too_long && is_comment(&line))
            continue;
        const char *reason =
            too_long ? "more than 1 MiB" : read_stack(tree, (struct bn_str){line.p, line.n}, report);
        if (!reason)
            continue;
        if (report->n_skipped++ == 0) {
            report->first_skipped = number;
            report->reason = reason;
        }
    }
    bn_buf_free(&line);
    if (ferror(f))
        return bn_err_set(err, "%s: cannot be read: %s", name, strerror(errno));
    return 0;
}

/* ---- writing ---- */

struct line {
    const char *stack;
    uint64_t count;
};

/* The name as every reader takes it. */
static void put_name(struct bn_buf *out, const char *name)
{
    size_t n = strlen(name);
    uint32_t c;

    if (n == 0)
        bn_buf_puts(out, "[unknown]");
    for (size_t i = 0, size; i < n; i += size ? size : 1) {
        size = bn_utf8_char(name + i, n - i, &c);
        if (size == 0)
            bn_buf_putc(out, '?');
        else if (c == ';')
            bn_buf_putc(out, ':');
        else if (c < 0x20 || (c >= 0x7f && c < 0xa0))
            bn_buf_putc(out, ' ');
        else
            bn_buf_put(out, name + i, size);
    }
}

/* A leaf "f 12" would be read as the first of two counts. */
static void protect_leaf(struct bn_buf *out)
{
    size_t i = out->n;

    while (i > 0 && (is_digit(out->p[i - 1]) || out->p[i - 1] == '.'))
        i--;
    if (i > 0 && i < out->n && out->p[i - 1] == ' ')
        out->p[i - 1] = '_';
}

static void put_stack(struct bn_buf *out, const struct bn_tree *tree, uint32_t leaf)
{
    uint32_t path[BN_TREE_MAX_DEPTH + 1];
    size_t depth = 0;

    for (uint32_t i = leaf; i != 0; i = tree->nodes[i].parent)
        path[depth++] = i;
    out->n = 0;
    while (depth-- > 0) {
        put_name(out, tree->nodes[path[depth]].name);
        if (depth > 0)
            bn_buf_putc(out, ';');
    }
    if (leaf == 0)
        bn_buf_puts(out, "[unknown]");
    if (out->p[0] == '#') /* not a comment */
        out->p[0] = '_';
    protect_leaf(out);
}

static int by_stack(const void *a, const void *b)
{
    return strcmp(((const struct line *)a)->stack, ((const struct line *)b)->stack);
}

/* Two stacks may read alike once their names are made safe: sorted, they stand side by side and become one
 * line. */
void bn_folded_write(const struct bn_tree *tree, FILE *f)
{
    struct line *lines = bn_xcalloc(tree->n_nodes, sizeof *lines);
    struct bn_arena strings = {0};
    struct bn_buf stack = {0};
    size_t n = 0;

    assert(tree->finished);
    for (size_t i = 0; i < tree->n_nodes; i++) {
        if (bn_tree_self_width(tree, (uint32_t)i) == 0)
            continue;
        put_stack(&stack, tree, (uint32_t)i);
        lines[n++] = (struct line){bn_arena_strndup(&strings, stack.p, stack.n),
                                   bn_tree_self_width(tree, (uint32_t)i)};
    }
    qsort(lines, n, sizeof *lines, by_stack);
    for (size_t i = 0; i < n; i++) {
        uint64_t count = lines[i].count;
        while (i + 1 < n && strcmp(lines[i].stack, lines[i + 1].stack) == 0)
            count += lines[++i].count;
        fprintf(f, "%s %llu\n", lines[i].stack, (unsigned long long)count);
    }
    bn_buf_free(&stack);
    bn_arena_free(&strings);
    free(lines);
}
