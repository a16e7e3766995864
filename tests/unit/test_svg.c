/* SPDX-License-Identifier: MIT
 * The SVG: well-formed whatever the names, exact in its numbers, honest about what it leaves out. */
#include "flamegraphs/svg.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "flamegraphs/caption.h"
#include "flamegraphs/folded.h"
#include "flamegraphs/svg_text.h"

/* ---- a strict reader of the XML that we write: fails the test at the first thing that is not well-formed
 * ---- */

struct xml {
    const char *p, *end;
    char open[16][32]; /* names of the open elements */
    size_t depth, elements;
};

static void expect(struct xml *x, bool good, const char *what)
{
    if (!good)
        fail_msg("%s at: %.60s", what, x->p);
}

static bool at(const struct xml *x, const char *s)
{
    return (size_t)(x->end - x->p) >= strlen(s) && memcmp(x->p, s, strlen(s)) == 0;
}

static void skip_to(struct xml *x, const char *s)
{
    while (x->p < x->end && !at(x, s))
        x->p++;
    expect(x, x->p < x->end, s);
    x->p += strlen(s);
}

static void read_char(struct xml *x)
{
    static const char *const entities[] = {"&amp;", "&lt;", "&gt;", "&quot;", "&#39;"};
    uint32_t c = 0;
    size_t n = bn_utf8_char(x->p, (size_t)(x->end - x->p), &c);

    expect(x, n > 0, "malformed UTF-8");
    expect(x, (c >= 0x20 || c == '\n') && (c & 0xfffe) != 0xfffe && c != '<', "forbidden character");
    if (c == '&') {
        bool known = false;
        for (size_t i = 0; i < BN_COUNT(entities); i++)
            known = known || at(x, entities[i]);
        expect(x, known, "bare &");
    }
    x->p += n;
}

static size_t read_name(struct xml *x, char name[32])
{
    size_t n = 0;

    while (x->p < x->end && n < 31 &&
           strchr("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ-:0123456789", *x->p))
        name[n++] = *x->p++;
    name[n] = '\0';
    expect(x, n > 0, "name expected");
    return n;
}

static void read_tag(struct xml *x)
{
    char name[32], attribute[32], seen[16][32];
    size_t n_seen = 0;

    if (at(x, "</")) {
        x->p += 2;
        read_name(x, name);
        expect(x, x->depth > 0 && strcmp(x->open[x->depth - 1], name) == 0, "wrong end tag");
        x->depth--;
        expect(x, at(x, ">"), "> expected");
        x->p++;
        return;
    }
    x->p++;
    read_name(x, name);
    x->elements++;
    while (at(x, " ")) {
        x->p++;
        read_name(x, attribute);
        for (size_t i = 0; i < n_seen; i++)
            expect(x, strcmp(seen[i], attribute) != 0, "attribute twice");
        strcpy(seen[n_seen++], attribute);
        expect(x, at(x, "=\""), "=\" expected");
        for (x->p += 2; x->p < x->end && *x->p != '"';)
            read_char(x);
        x->p++;
    }
    if (at(x, "/>")) {
        x->p += 2;
        return;
    }
    expect(x, at(x, ">") && x->depth < BN_COUNT(x->open), "> expected");
    x->p++;
    strcpy(x->open[x->depth++], name);
}

static void check_xml(const char *text, size_t n)
{
    struct xml x = {.p = text, .end = text + n};

    expect(&x, at(&x, "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n"), "declaration");
    skip_to(&x, "?>\n");
    while (x.p < x.end) {
        if (at(&x, "<![CDATA["))
            skip_to(&x, "]]>");
        else if (at(&x, "<"))
            read_tag(&x);
        else
            read_char(&x);
        if (x.depth == 0)
            break;
    }
    expect(&x, x.depth == 0 && x.p + 1 == x.end && *x.p == '\n', "one element and a line end");
}

/* ---- drawing into memory ---- */

static const struct bn_svg_options plain = {.title = "title", .min_width_px = BN_SVG_MIN_WIDTH_PX};

static char *draw_with(const struct bn_tree *tree, struct bn_svg_options options,
                       struct bn_svg_result *result)
{
    char *text = NULL;
    size_t n = 0;
    struct bn_svg_result own;
    FILE *f = open_memstream(&text, &n);

    bn_svg_write(tree, &options, f, result ? result : &own);
    fclose(f);
    check_xml(text, n);
    char *copy = bn_xstrdup(text);
    free(text);
    return copy;
}

static void tree_of(struct bn_tree *tree, const char *folded)
{
    struct bn_folded_report report;
    FILE *f = fmemopen((void *)(uintptr_t)folded, strlen(folded), "r");

    bn_tree_init(tree);
    assert_int_equal(bn_folded_read(tree, f, "test", &report, NULL), 0);
    assert_int_equal(report.n_skipped, 0);
    bn_tree_finish(tree);
    fclose(f);
}

static char *draw(const char *folded)
{
    struct bn_tree tree;

    tree_of(&tree, folded);
    char *text = draw_with(&tree, plain, NULL);
    bn_tree_free(&tree);
    return text;
}

static void check_has(const char *text, const char *what)
{
    if (!strstr(text, what))
        fail_msg("missing: %s", what);
}

static size_t count(const char *text, const char *what)
{
    size_t n = 0;

    for (; (text = strstr(text, what)) != NULL; text++)
        n++;
    return n;
}

/* ---- tests ---- */

static void test_titles_begin_as_scripts_expect(void **state)
{
    (void)state;
    char *text = draw("main;a 12345\nmain;b 987655\nmain 1\n");
    check_has(text, "<title>all (1,000,001 samples, 100%)</title>");
    check_has(text, "<title>main (1,000,001 samples, 100.00%)\nself 0.00% (1 samples)\n");
    check_has(
        text,
        "data-x=\"0\" data-n=\"12345\"><title>a (12,345 samples, 1.23%)\nself 1.23% (12,345 samples)\n");
    check_has(text, "data-x=\"12345\" data-n=\"987655\"><title>b (987,655 samples, 98.77%)\n");
    free(text);
}

static void test_ids_and_accessibility(void **state)
{
    static const char *const ids[] = {"title",  "subtitle",   "details", "unzoom",
                                      "search", "ignorecase", "matched", "frames"};
    (void)state;
    char *text = draw("a 1\n");
    for (size_t i = 0; i < BN_COUNT(ids); i++) {
        char id[32];
        snprintf(id, sizeof id, " id=\"%s\"", ids[i]);
        assert_int_equal(count(text, id), 1);
    }
    check_has(text, "role=\"img\"");
    check_has(text, "<desc>");
    assert_int_equal(count(text, "]]>"), 2); /* the ends of style and script, and nothing within them */
    assert_null(strstr(text, "href"));       /* nothing is loaded from elsewhere */
    free(text);
}

static void test_boxes_stand_on_their_callers(void **state)
{
    struct bn_tree tree;
    struct bn_svg_options icicle = plain;
    (void)state;

    tree_of(&tree, "a;b 3\na 1\n");
    char *text = draw_with(&tree, plain, NULL);
    check_has(text, "height=\"247\" viewBox=\"0 0 1200 247\"");
    check_has(
        text,
        "<rect x=\"16\" y=\"154\" width=\"1167.25\" height=\"18\" rx=\"2\"/><text x=\"20\" y=\"167\">all<");
    check_has(
        text,
        "<rect x=\"16\" y=\"116\" width=\"875.25\" height=\"18\" rx=\"2\"/><text x=\"20\" y=\"129\">b<");
    free(text);
    icicle.icicle = true;
    text = draw_with(&tree, icicle, NULL);
    check_has(
        text,
        "<rect x=\"16\" y=\"116\" width=\"1167.25\" height=\"18\" rx=\"2\"/><text x=\"20\" y=\"129\">all<");
    check_has(
        text,
        "<rect x=\"16\" y=\"154\" width=\"875.25\" height=\"18\" rx=\"2\"/><text x=\"20\" y=\"167\">b<");
    free(text);
    bn_tree_free(&tree);
}

static void test_hostile_names_are_harmless(void **state)
{
    static const char *const names[] = {
        "</title><script>alert(1)</script>",
        "a\"b'c&d<e>f]]>g",
        "<![CDATA[x",
        "--><!--",
        "bell\x07 esc\x1b[2J del\x7f",
        "tab\tline\nreturn\r",
        "\xff\xfe bad \xc3",
        "overlong \xc0\xaf surrogate \xed\xa0\x80 high \xf5\x80\x80\x80",
        "noncharacter \xef\xbf\xbe\xef\xbf\xbf c1 \xc2\x85",
        "turned \xe2\x80\xae text \xe2\x81\xa7",
        "%s%n &#x0; &amp;",
        "",
    };
    struct bn_tree tree;
    (void)state;

    bn_tree_init(&tree);
    uint32_t node = 0;
    for (size_t i = 0; i < BN_COUNT(names); i++) {
        struct bn_tree_frame f = {.name = bn_str_from(names[i]),
                                  .kind = BN_TREE_PROGRAM,
                                  .module = names[i],
                                  .file = names[(i + 1) % BN_COUNT(names)]};
        node = bn_tree_child(&tree, node, &f);
        bn_tree_add(&tree, node, 100, 1);
    }
    bn_tree_finish(&tree);
    struct bn_svg_options options = {.title = names[0], .subtitle = {names[1], names[6]}};
    char *text = draw_with(&tree, options, NULL);
    assert_int_equal(count(text, "<script>"), 1);
    check_has(text, "<title>&lt;/title&gt;&lt;script&gt;alert(1)&lt;/script&gt; (1,200 samples, 100.00%)");
    check_has(text, "<title>a&quot;b&#39;c&amp;d&lt;e&gt;f]]&gt;g (");
    check_has(text, "<title>bell\xef\xbf\xbd esc\xef\xbf\xbd[2J del\xef\xbf\xbd (");
    check_has(text, "<title>tab line return  (");
    check_has(text, "<title>\xef\xbf\xbd\xef\xbf\xbd bad \xef\xbf\xbd (");
    check_has(text, "<title>turned \xef\xbf\xbd text \xef\xbf\xbd (");
    check_has(text, "&amp;#x0; &amp;amp; (");
    assert_null(strstr(text, "\xe2\x80\xae"));
    free(text);
    bn_tree_free(&tree);
}

static void test_labels_are_cut_to_their_boxes(void **state)
{
    char folded[4600], *label;
    (void)state;

    memset(folded, 'n', 4096);
    strcpy(folded + 4096, " 999\nx 1\n");
    char *text = draw(folded);
    assert_int_equal(count(text, folded[0] == 'n' ? "nnnn…</text>" : ""), 1);
    label = strstr(text, ">nnn");
    label = strstr(label + 1, "\">nnn"); /* the title first, then the text */
    assert_in_range(strcspn(label + 2, "<"), 150, 170);
    free(text);

    /* 漢 takes two columns: a box of 10 % has room for 15 columns. */
    text = draw("a 9\n漢漢漢漢漢漢漢漢漢漢 1\n");
    check_has(text, ">漢漢漢漢漢漢漢…</text>");
    free(text);
    text = draw("wide 997\nno 3\n"); /* 3.5 px: no label at all */
    assert_int_equal(count(text, ">no<"), 0);
    check_has(text, "<title>no (3 samples, 0.30%)");
    free(text);
}

static void test_narrow_boxes_are_left_out_and_counted(void **state)
{
    struct bn_tree tree;
    struct bn_svg_result result;
    struct bn_svg_options options = plain;
    (void)state;

    tree_of(&tree, "a 99998\nb;c;d 1\nb;e 1\n");
    options.min_width_px = 0.02; /* one sample is 0.01168 px: b stays, c, d and e go */
    char *text = draw_with(&tree, options, &result);
    assert_int_equal(result.n_drawn, 3);
    assert_int_equal(result.n_elided, 3);
    assert_int_equal(result.elided, 2);
    check_has(text, ">3 boxes narrower than 0.02 px not drawn; 0.00% of the samples end in them.<");
    assert_int_equal(count(text, " data-n="), 3);
    free(text);
    options.min_width_px = 0;
    text = draw_with(&tree, options, &result);
    assert_int_equal(result.n_elided, 0);
    assert_int_equal(count(text, " data-n="), 6);
    assert_null(strstr(text, "not drawn"));
    free(text);
    bn_tree_free(&tree);
}

/* One deep stack of one sample in a thousand does not make the picture tall. */
static void test_rows_of_next_to_nothing_are_folded_away(void **state)
{
    (void)state;
    char *text = draw("a 994\nb;c 5\nb;c;d;e 1\n");
    check_has(text, "data-rows=\"3\"");
    check_has(text, " height=\"247\"");
    check_has(text, " hide\" data-x=\"994\" data-n=\"1\"><title>d (1 samples, 0.10%)");
    check_has(text, "2 more rows hold less than 0.5% of the samples: zoom or search to see.");
    assert_int_equal(count(text, " hide\" data-x="), 2);
    free(text);
}

static void test_an_empty_recording_says_so(void **state)
{
    struct bn_tree tree;
    (void)state;

    bn_tree_init(&tree);
    bn_tree_finish(&tree);
    char *text = draw_with(&tree, plain, NULL);
    check_has(text, "No samples: there is nothing to draw.");
    assert_int_equal(count(text, " data-n="), 0);
    free(text);
    bn_tree_free(&tree);
}

static void test_the_legend_gives_disjoint_shares(void **state)
{
    struct bn_tree tree, callers;
    struct bn_svg_options options = plain;
    (void)state;

    tree_of(&tree, "main;gemv_rows_avx2 75\nmain;read_[k] 20\nmain 5\n");
    char *text = draw_with(&tree, plain, NULL);
    check_has(text, ">compute kernel 75.0%<");
    check_has(text, ">program 5.0%<");
    check_has(text, ">operating system 20.0%<");
    free(text);
    bn_tree_callers(&callers, &tree);
    bn_tree_finish(&callers);
    options.callers = true;
    text = draw_with(&callers, options, NULL);
    check_has(text, ">compute kernel 75.0%<");
    check_has(text, ">program 5.0%<");
    assert_null(strstr(text, "\nself "));
    free(text);
    bn_tree_free(&callers);
    bn_tree_free(&tree);
}

static void test_stages_show_their_timers(void **state)
{
    struct bn_tree tree;
    struct bn_tree_frame stage = {
        .name = BN_STR("ffn"), .kind = BN_TREE_STAGE, .calls = 1234, .timer_ns = 5600000};
    struct bn_tree_frame code = {.name = BN_STR("f"),
                                 .kind = BN_TREE_PROGRAM,
                                 .module = "prog",
                                 .file = "a/f.c",
                                 .line_min = 3,
                                 .line_max = 9,
                                 .inlined = true};
    (void)state;

    bn_tree_init(&tree);
    bn_tree_add(&tree, bn_tree_child(&tree, bn_tree_child(&tree, 0, &stage), &code), 4, 4004000);
    bn_tree_finish(&tree);
    char *text = draw_with(&tree, plain, NULL);
    check_has(
        text,
        "<title>ffn (4 samples, 100.00%)\nCPU time 4.00 ms\ntimer: 1,234 calls, 5.60 ms\nstage</title>");
    check_has(text,
              "self 100.00% (4 samples)\nCPU time 4.00 ms\nprogram, inlined · prog · a/f.c:3–9</title>");
    free(text);
    bn_tree_free(&tree);
}

static void test_the_same_tree_gives_the_same_bytes(void **state)
{
    (void)state;
    char *a = draw("b;y 2\na;x 1\na;foo2 1\na;foo;z 3\n");
    char *b = draw("a;foo;z 1\na;foo2 1\nb;y 2\na;foo;z 2\na;x 1\n");
    assert_string_equal(a, b);
    free(a);
    free(b);
}

static void test_captions_call_the_unknown_unknown(void **state)
{
    struct bn_profile p;
    struct bn_tree tree;
    struct bn_view view = {.order = BN_VIEW_BY_STACK, .layer = -1};
    (void)state;

    bn_profile_init(&p);
    bn_tree_init(&tree);
    struct bn_caption c = bn_caption_of_profile(&p, &view, &tree);
    assert_string_equal(c.title, "CPU time by stack: unknown");
    assert_string_equal(c.what, "date unknown · run unknown");
    assert_string_equal(c.quality,
                        "0 samples · event unknown, asked rate unknown, achieved rate unknown · lost 0 · "
                        "truncated 0 · grade unknown");
    bn_caption_free(&c);

    p.model.name = "tiny";
    p.model.path = "/m/tiny.gguf";
    p.model.format = "i2s";
    p.started = "2026-11-21 10:15:00 +0000";
    p.run_id = "20261121-101500-i2s";
    p.quality.event = "cpu-clock";
    p.quality.asked_hz = 999;
    p.quality.achieved_hz = 997.25;
    p.quality.n_samples = 4950;
    p.quality.n_lost = 50;
    p.quality.grade = 'A';
    p.n_samples = 4950;
    view.phase = "decode";
    view.callers = true;
    c = bn_caption_of_profile(&p, &view, &tree);
    assert_string_equal(c.title, "CPU time by stack, callers first: tiny");
    assert_string_equal(c.what,
                        "decode only · model tiny.gguf · format i2s · 2026-11-21 10:15:00 +0000 · run "
                        "20261121-101500-i2s");
    assert_string_equal(c.quality, "0 of 4,950 samples · cpu-clock, 999 Hz asked, 997.2 Hz achieved · "
                                   "lost 50 (1.00%) · truncated 0 (0.00%) · grade A");
    bn_caption_free(&c);
    p.n_samples = 0;
    bn_tree_free(&tree);
    bn_profile_free(&p);
}

static void test_grouped_numbers(void **state)
{
    char buf[32];
    (void)state;

    assert_string_equal(bn_svg_grouped(0, buf), "0");
    assert_string_equal(bn_svg_grouped(999, buf), "999");
    assert_string_equal(bn_svg_grouped(1000, buf), "1,000");
    assert_string_equal(bn_svg_grouped(UINT64_MAX, buf), "18,446,744,073,709,551,615");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_titles_begin_as_scripts_expect),
        cmocka_unit_test(test_ids_and_accessibility),
        cmocka_unit_test(test_boxes_stand_on_their_callers),
        cmocka_unit_test(test_hostile_names_are_harmless),
        cmocka_unit_test(test_labels_are_cut_to_their_boxes),
        cmocka_unit_test(test_narrow_boxes_are_left_out_and_counted),
        cmocka_unit_test(test_rows_of_next_to_nothing_are_folded_away),
        cmocka_unit_test(test_an_empty_recording_says_so),
        cmocka_unit_test(test_the_legend_gives_disjoint_shares),
        cmocka_unit_test(test_stages_show_their_timers),
        cmocka_unit_test(test_the_same_tree_gives_the_same_bytes),
        cmocka_unit_test(test_captions_call_the_unknown_unknown),
        cmocka_unit_test(test_grouped_numbers),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
