/* SPDX-License-Identifier: MIT
 * Samples that stand for unequal times: what is a share is a share of time, everywhere, to the last digit. */
#include "profiler/weigh.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cjson/cJSON.h>
#include <cmocka.h>

#include "flamegraphs/caption.h"
#include "flamegraphs/folded.h"
#include "flamegraphs/svg.h"
#include "flamegraphs/view.h"
#include "hotspots/annotate.h"
#include "hotspots/flags.h"
#include "hotspots/report.h"
#include "tests/unit/report_text.h"
#include "tests/unit/synthetic_profile.h"

static const uint64_t ms = 1000000;

static void add(struct bn_profile *p, uint32_t stack, uint32_t stage, unsigned n, uint64_t weight_ns)
{
    size_t from = p->n_samples;

    synthetic_samples(p, stack, stage, 0, n);
    for (; from < p->n_samples; from++)
        p->samples[from].weight_ns = weight_ns;
    p->quality.n_samples = p->n_samples;
}

struct record {
    struct bn_profile p;
    uint32_t io, work, read, spin, line_31, by_many, by_one;
};

/* 8 samples of 94 ms in read(), 182 of 4 ms in spin(): 752 and 728 of 1480 ms. */
static void make(struct record *r)
{
    struct bn_profile *p = &r->p;

    bn_profile_init(p);
    bn_profile_add_thread(p,
                          &(struct bn_profile_thread){.tid = 1, .pid = 1, .name = bn_profile_str(p, "main")});
    r->io = bn_profile_add_stage(p, 0, bn_profile_str(p, "io"));
    r->work = bn_profile_add_stage(p, 0, bn_profile_str(p, "work"));
    uint32_t main_ = synthetic_stack(p, 0, "main", "prog", 10, false);
    uint32_t often = synthetic_stack(p, main_, "often", "prog", 20, false);
    uint32_t once = synthetic_stack(p, main_, "once", "prog", 25, false);
    r->by_many = synthetic_stack(p, often, "read", "libc.so.6", 26, false);
    r->by_one = synthetic_stack(p, once, "read", "libc.so.6", 26, false);
    r->spin = synthetic_stack(p, main_, "spin", "prog", 30, false);
    r->line_31 = synthetic_stack(p, main_, "spin", "prog", 31, false);
    add(p, r->by_many, r->io, 6, 10 * ms);
    add(p, r->by_one, r->work, 2, 346 * ms);
    add(p, r->spin, r->work, 1, 400 * ms);
    add(p, r->line_31, r->work, 82, 4 * ms);
    p->quality.asked_hz = 250;
    p->quality.steal_share = 0;
    p->quality.empty_scope_ns = 20;
    p->quality.user_ns = 1480 * ms;
}

static char *report(const struct bn_profile *p, enum bn_report_format format, enum bn_rank_by by)
{
    struct bn_report_options o = {.format = format, .by = by, .top = 9};

    return report_text(p, &o);
}

static void check_has(const char *text, const char *part)
{
    if (!strstr(text, part))
        fail_msg("no %s in\n%s", part, text);
}

static void test_ranking(void **state)
{
    struct record s;
    struct bn_ranking r;

    (void)state;
    make(&s);
    bn_ranking_make(&r, &s.p, BN_RANK_FUNCTION);
    assert_true(r.total.n == 91 && r.total.ns == 1480 * ms);
    assert_string_equal(r.items[0].name, "read");
    assert_true(r.items[0].self.n == 8 && r.items[0].self.ns == 752 * ms);
    assert_string_equal(r.items[1].name, "spin");
    assert_true(bn_sampled_share(&r.items[1].self, &r.total) == 728.0 / 1480);
    /* most of the time came by one road and was spent in one stage, most samples by the other in another */
    assert_int_equal(r.items[0].stack, s.by_one);
    assert_int_equal(r.items[0].stage, s.work);
    assert_int_equal(r.items[1].lines[0].line, 30);
    assert_true(r.items[1].lines[0].self.ns == 400 * ms && r.items[1].lines[1].self.ns == 328 * ms);
    assert_true(r.class_ns[BN_CLASS_STAGES] == 1480 * ms);
    bn_ranking_free(&r);
    bn_ranking_make(&r, &s.p, BN_RANK_LINE);
    assert_string_equal(r.items[0].name, "k.c:26");
    assert_string_equal(r.items[1].name, "k.c:30");
    bn_ranking_free(&r);
    bn_ranking_make(&r, &s.p, BN_RANK_STAGE);
    assert_string_equal(r.items[0].name, "work");
    assert_true(r.items[0].self.ns == 1420 * ms);
    assert_true(r.items[2].self.n == 0 && r.items[2].inclusive.ns == 1480 * ms); /* the root */
    bn_ranking_free(&r);
    bn_profile_free(&s.p);
}

static double number(const cJSON *o, const char *key)
{
    const cJSON *item = cJSON_GetObjectItemCaseSensitive(o, key);

    if (!cJSON_IsNumber(item))
        fail_msg("no number %s", key);
    return item->valuedouble;
}

static void test_report(void **state)
{
    struct record s;

    (void)state;
    make(&s);
    char *text = report(&s.p, BN_REPORT_MD, BN_RANK_FUNCTION);
    check_has(text, "### 1. `read` — 50.8 % CPU Time");
    check_has(text, "- **CPU Time** (inclusive): 50.8 % of all sampled CPU time, 752 ms");
    check_has(text, "8 samples, 752 ms)");
    check_has(text, "### 2. `spin` — 49.2 % CPU Time");
    check_has(text, "k.c:30 (54.9 % of its self time), k.c:31 (45.1 % of its self time)");
    check_has(text, "waiting is apart (0.0 % of all sampled CPU time)");
    check_has(text, "a sample stands for 4.00 ms to 400 ms; ");
    check_has(text, "| io | 0 | 0 ns | 60.0 ms (");
    free(text);
    text = report(&s.p, BN_REPORT_JSON, BN_RANK_FUNCTION);
    cJSON *root = cJSON_Parse(text), *hot = cJSON_GetObjectItem(root, "hotspots");
    const cJSON *read = cJSON_GetArrayItem(hot, 0);
    double effective = number(cJSON_GetObjectItem(root, "quality"), "effective_samples");
    assert_true(fabs(number(read, "self_share") - 752.0 / 1480) < 1e-12);
    assert_true(fabs(effective - 1480.0 * 1480 / (6 * 100 + 2 * 346 * 346 + 400 * 400 + 82 * 16)) < 1e-9);
    struct bn_interval kish = bn_stats_share(752.0 / 1480 * effective, effective);
    assert_true(number(read, "self_share_low") < kish.low + 1e-9 &&
                number(read, "self_share_high") > kish.high - 1e-9);
    assert_true(number(cJSON_GetArrayItem(cJSON_GetObjectItem(cJSON_GetArrayItem(hot, 1), "lines"), 0),
                       "self_ns") == 400e6);
    cJSON_Delete(root);
    free(text);
    bn_profile_free(&s.p);
}

/* Equal weights: counted, whatever the weight, and nothing says otherwise. Only times differ in the reports.
 */
static void test_equal(void **state)
{
    struct record s;
    char *picture[2] = {0};

    (void)state;
    make(&s);
    for (int i = 0; i < 2; i++) {
        for (size_t k = 0; k < s.p.n_samples; k++)
            s.p.samples[k].weight_ns = i ? 0 : 3;
        char *text = report(&s.p, BN_REPORT_MD, BN_RANK_FUNCTION);
        check_has(text, "### 1. `spin` — 91.2 % CPU Time");
        check_has(text, "- **CPU Time** (inclusive): 91.2 % of all samples, ");
        assert_null(strstr(text, "Weights"));
        free(text);
        struct bn_tree tree;
        struct bn_svg_result result;
        size_t n;
        assert_int_equal(bn_view_tree(&tree, &s.p, &(struct bn_view){BN_VIEW_BY_STACK, .layer = -1}, NULL),
                         0);
        for (size_t k = 0; k < tree.n_nodes; k++)
            tree.nodes[k].self_ns = tree.nodes[k].total_ns = 0; /* the line "CPU time" */
        FILE *f = open_memstream(&picture[i], &n);
        bn_svg_write(&tree, &(struct bn_svg_options){.title = "t"}, f, &result);
        fclose(f);
        check_has(picture[i], "<g id=\"frames\" data-samples=\"91\" data-rows=\"4\">");
        bn_tree_free(&tree);
    }
    assert_string_equal(picture[0], picture[1]);
    free(picture[0]);
    free(picture[1]);
    bn_profile_free(&s.p);
}

static void test_annotate(void **state)
{
    struct record s;
    struct bn_annotation a;
    struct bn_err err;

    (void)state;
    make(&s);
    uint32_t module =
        bn_profile_add_module(&s.p, &(struct bn_profile_module){.name = "prog", .path = "/prog"});
    bn_profile_add_address(&s.p, &(struct bn_profile_address){module, s.p.stacks[s.spin].frame, 0x10, 1, 0});
    bn_profile_add_address(&s.p, &(struct bn_profile_address){module, s.p.stacks[s.spin].frame, 0x20, 82, 0});
    assert_int_equal(bn_annotate(&a, &s.p, "spin", NULL, &err), 0);
    assert_true(a.self.n == 83 && a.self.ns == 728 * ms);
    assert_true(a.lines[0].line == 30 && a.lines[0].self.n == 1 && a.lines[0].self.ns == 400 * ms);
    /* nobody knows the time of its addresses: their number is left */
    assert_true(a.addressed.n == 83 && bn_sampled_equal(&a.addressed));
    bn_annotation_free(&a);
    bn_profile_add_address(&s.p,
                           &(struct bn_profile_address){module, s.p.stacks[s.spin].frame, 0x10, 0, 400 * ms});
    bn_profile_add_address(&s.p,
                           &(struct bn_profile_address){module, s.p.stacks[s.spin].frame, 0x20, 0, 328 * ms});
    assert_int_equal(bn_annotate(&a, &s.p, "spin", NULL, &err), 0);
    assert_true(a.addressed.ns == 728 * ms && a.addresses[0].weight_ns == 400 * ms);
    bn_annotation_free(&a);
    /* of two modules the one with more time */
    add(&s.p, synthetic_stack(&s.p, 0, "spin", "libspin.so", 0, false), 0, 1, 2000 * ms);
    assert_int_equal(bn_annotate(&a, &s.p, "spin", NULL, &err), 0);
    assert_string_equal(a.module, "libspin.so");
    assert_true(a.elsewhere.n == 83 && a.elsewhere.ns == 728 * ms);
    bn_annotation_free(&a);
    bn_profile_free(&s.p);
}

static const struct bn_flag *flag_of(struct bn_profile *p, const char *id)
{
    bn_flags_compute(p, NULL);
    for (size_t i = 0; i < p->n_flags; i++)
        if (strcmp(p->flags[i].id, id) == 0)
            return &p->flags[i];
    fail_msg("no flag %s", id);
    return NULL;
}

/* `heavy` and `light` samples of 100 and 4 ms in memcpy, as many as make 400 elsewhere. */
static void check_copies(unsigned heavy, unsigned light, unsigned others_heavy, enum bn_flag_state want)
{
    struct bn_profile p;

    bn_profile_init(&p);
    bn_profile_add_thread(&p, &(struct bn_profile_thread){.tid = 1, .pid = 1});
    p.quality.asked_hz = p.quality.achieved_hz = p.quality.steal_share = BN_UNKNOWN;
    uint32_t copy = synthetic_stack(&p, synthetic_stack(&p, 0, "copies", "prog", 0, false), "memcpy",
                                    "libc.so.6", 0, false);
    uint32_t rare = synthetic_stack(&p, synthetic_stack(&p, 0, "rare", "prog", 0, false), "memcpy",
                                    "libc.so.6", 0, false);
    uint32_t other = synthetic_stack(&p, 0, "other", "prog", 0, false);
    add(&p, rare, 0, light, 4 * ms);
    add(&p, copy, 0, heavy, 100 * ms);
    add(&p, other, 0, others_heavy, 100 * ms);
    add(&p, other, 0, 400 - heavy - light - others_heavy, 4 * ms);
    const struct bn_flag *flag = flag_of(&p, "memcpy-share");
    double copied = heavy * 100.0 + light * 4.0,
           all = (heavy + others_heavy) * 100.0 + (400 - heavy - others_heavy) * 4.0;
    if (flag->state != want || fabs(flag->value - 100 * copied / all) > 1e-9)
        fail_msg("%u, %u, %u: %d, %g: %s", heavy, light, others_heavy, flag->state, flag->value,
                 flag->evidence);
    check_has(flag->evidence, "(");
    assert_true(heavy == 0 || strstr(flag->evidence, ", most under copies"));
    bn_profile_free(&p);
}

static void test_flags(void **state)
{
    struct record s;

    (void)state;
    check_copies(20, 30, 0, BN_FLAG_RAISED); /* 5 % of the samples in `copies`, more than half of the time */
    check_copies(0, 100, 50, BN_FLAG_CLEAR); /* a quarter of the samples, 6 % of the time */
    check_copies(3, 0, 0, BN_FLAG_CLEAR);    /* 16 %, but three samples: may be chance */
    make(&s);
    s.p.samples[90].flags |= BN_SAMPLE_UNNAMED | BN_SAMPLE_TRUNCATED; /* 4 of 1480 ms */
    s.p.quality.n_unnamed = s.p.quality.n_truncated = 1;
    assert_int_equal(flag_of(&s.p, "unknown-symbols")->state, BN_FLAG_CLEAR);
    assert_true(fabs(flag_of(&s.p, "truncated-stacks")->value - 400.0 / 1480) < 1e-9);
    s.p.samples[6].flags |= BN_SAMPLE_UNNAMED; /* 346 more */
    s.p.quality.n_unnamed = 2;
    const struct bn_flag *unnamed = flag_of(&s.p, "unknown-symbols");
    assert_int_equal(unnamed->state, BN_FLAG_RAISED);
    assert_true(fabs(unnamed->value - 35000.0 / 1480) < 1e-9);
    assert_string_equal(unnamed->evidence,
                        "350 ms of 1.48 s (2 of 91 samples) have a leaf without a name; most in: libc.so.6");
    char *text = report(&s.p, BN_REPORT_MD, BN_RANK_FUNCTION);
    check_has(text, "- **Unnamed**: 23.65 % of the sampled CPU time (2 samples)");
    check_has(text, "- **Truncated stacks**: 0.27 % of the sampled CPU time (1 did not reach");
    check_has(text, "- **Joined to a stage**: 100.00 % of the sampled CPU time (");
    free(text);
    bn_profile_free(&s.p);
}

static void test_modules(void **state)
{
    struct record s;

    (void)state;
    make(&s);
    bn_profile_add_module(&s.p, &(struct bn_profile_module){.name = "light", .path = "/a", .samples = 83});
    bn_profile_add_module(&s.p, &(struct bn_profile_module){.name = "heavy", .path = "/b", .samples = 8});
    char *text = report(&s.p, BN_REPORT_MD, BN_RANK_FUNCTION); /* their time is not known */
    check_has(text, "91.2 % of the samples");
    free(text);
    s.p.modules[0].weight_ns = 728 * ms;
    s.p.modules[1].weight_ns = 752 * ms;
    text = report(&s.p, BN_REPORT_MD, BN_RANK_FUNCTION);
    check_has(text,
              "50.8 % of the sampled CPU time; build it with -g and do not strip it\n- **Module light**");
    free(text);
    bn_profile_free(&s.p);
}

static char *draw(struct bn_tree *tree, struct bn_svg_result *result)
{
    char *text = NULL;
    size_t n;
    FILE *f = open_memstream(&text, &n);

    bn_svg_write(tree, &(struct bn_svg_options){.title = "t", .min_width_px = 4}, f, result);
    fclose(f);
    return text;
}

static void test_pictures(void **state)
{
    static const struct bn_view by_stack = {.order = BN_VIEW_BY_STACK, .layer = -1};
    struct record s;
    struct bn_tree tree;
    struct bn_svg_result result;
    char *folded = NULL;
    size_t n;

    (void)state;
    make(&s);
    add(&s.p, synthetic_stack(&s.p, 0, "nothing", "prog", 0, false), 0, 7, 0);
    assert_int_equal(bn_view_tree(&tree, &s.p, &by_stack, NULL), 0);
    assert_true(tree.by_time && tree.samples == 98 && tree.ns == 1480 * ms &&
                bn_tree_whole(&tree) == 1480 * ms);
    FILE *f = open_memstream(&folded, &n);
    bn_folded_write(&tree, f);
    fclose(f);
    assert_string_equal(folded, "main;often;read 60000000\nmain;once;read 692000000\nmain;spin 728000000\n");
    free(folded);
    char *text = draw(&tree, &result);
    check_has(text, "as wide as its share of the CPU time");
    check_has(text, "data-samples=\"1480000000\" data-rows=\"4\" data-unit=\"ns\"");
    check_has(text, "data-x=\"0\" data-n=\"60000000\"><title>often (6 samples, 4.05%)\nCPU time 60.00 ms\n");
    check_has(text, "data-x=\"752000000\" data-n=\"728000000\"><title>spin (83 samples, 49.19%)\n"
                    "self 49.19% (83 samples, 728.00 ms)\nCPU time 728.00 ms\n");
    check_has(text, "x=\"609.47\""); /* 16 + 1168 * 752 / 1480 */
    check_has(text, "program 49.2%");
    check_has(text, "library 50.8%");
    check_has(text, "1 box narrower than 4 px not drawn; 0.00% of the samples' time end in them.");
    free(text);
    struct bn_caption caption = bn_caption_of_profile(&s.p, &by_stack, &tree);
    check_has(caption.quality, "98 samples of different weights: widths are CPU time, 1.48 s in all · ");
    bn_caption_free(&caption);
    bn_tree_free(&tree);
    assert_int_equal(
        bn_view_tree(&tree, &s.p, &(struct bn_view){BN_VIEW_BY_STACK, .callers = true, .layer = -1}, NULL),
        0);
    assert_true(tree.by_time && tree.ns == 1480 * ms);
    bn_tree_free(&tree);
    bn_profile_free(&s.p);
}

/* By stage the road that nine tenths of the time share is left out, however few samples went along it. */
static void test_road(void **state)
{
    struct bn_profile p;
    struct bn_tree tree;
    char *folded = NULL;
    size_t n;

    (void)state;
    bn_profile_init(&p);
    bn_profile_add_thread(&p, &(struct bn_profile_thread){.tid = 1, .pid = 1});
    uint32_t stage = bn_profile_add_stage(&p, 0, bn_profile_str(&p, "work"));
    uint32_t main_ = synthetic_stack(&p, 0, "main", "prog", 0, false);
    add(&p, synthetic_stack(&p, main_, "few", "prog", 0, false), stage, 5, 190 * ms);
    add(&p, synthetic_stack(&p, main_, "many", "prog", 0, false), stage, 50, ms);
    assert_int_equal(bn_view_tree(&tree, &p, &(struct bn_view){BN_VIEW_BY_STAGE, .layer = -1}, NULL), 0);
    FILE *f = open_memstream(&folded, &n);
    bn_folded_write(&tree, f);
    fclose(f);
    assert_string_equal(folded, "work;few 950000000\nwork;many 50000000\n");
    free(folded);
    bn_tree_free(&tree);
    bn_profile_free(&p);
}

/* Out of a hostile file: nothing but a refusal to draw. */
static void test_too_much(void **state)
{
    struct record s;
    struct bn_tree tree;
    struct bn_err err = {""};

    (void)state;
    make(&s);
    s.p.samples[0].weight_ns = s.p.samples[1].weight_ns = UINT64_MAX;
    for (int format = BN_REPORT_MD; format <= BN_REPORT_TEXT; format++)
        for (int by = BN_RANK_FUNCTION; by <= BN_RANK_LINE; by++) {
            char *text = report(&s.p, (enum bn_report_format)format, (enum bn_rank_by)by);
            if (strstr(text, "nan") || strstr(text, "inf "))
                fail_msg("%s", text);
            free(text);
        }
    bn_flags_compute(&s.p, NULL);
    assert_int_equal(bn_view_tree(&tree, &s.p, &(struct bn_view){BN_VIEW_BY_STACK, .layer = -1}, &err), -1);
    assert_string_equal(err.msg, "the samples stand for more than 104 days of CPU time: too much to draw");
    bn_tree_free(&tree);
    bn_profile_free(&s.p);
}

static char *read_all(const char *path)
{
    struct bn_buf b = {0};
    FILE *f = fopen(path, "r");

    assert_non_null(f);
    for (int c; (c = getc(f)) != EOF;)
        bn_buf_putc(&b, (char)c);
    fclose(f);
    return b.p;
}

/* The time of modules and addresses stands in the file where there is any, and only there. */
static void test_saved(void **state)
{
    struct record s;
    struct bn_profile q;
    struct bn_err err = {""};
    char path[] = "/tmp/bnprof-weigh.XXXXXX";

    (void)state;
    assert_int_equal(close(mkstemp(path)), 0);
    make(&s);
    for (int i = 0; i < 2; i++) {
        uint32_t module =
            bn_profile_add_module(&s.p, &(struct bn_profile_module){.name = "m", .path = "/m", .samples = 7});
        bn_profile_add_address(&s.p, &(struct bn_profile_address){module, 0, 0x10, 1, 0});
    }
    for (int weighs = 0; weighs < 2; weighs++) {
        s.p.modules[1].weight_ns = weighs ? 5 : 0;
        s.p.addresses[1].weight_ns = weighs ? (uint64_t)1 << 60 : 0;
        if (bn_profile_save(&s.p, path, &err) != 0)
            fail_msg("%s", err.msg);
        char *text = read_all(path);
        assert_int_equal(strstr(text, "\"samples\":7,\"weight_ns\":5,") != NULL, weighs);
        assert_int_equal(strstr(text, "\"weight_ns\":[0,\"1152921504606846976\"]") != NULL, weighs);
        assert_null(strstr(text, "\"weight_ns\":0"));
        free(text);
        if (bn_profile_load(&q, path, &err) != 0)
            fail_msg("%s", err.msg);
        assert_true(q.modules[0].weight_ns == 0 && q.modules[1].weight_ns == s.p.modules[1].weight_ns);
        assert_memory_equal(q.addresses, s.p.addresses, 2 * sizeof *q.addresses);
        bn_profile_free(&q);
    }
    unlink(path);
    bn_profile_free(&s.p);
}

static void test_cycles(void **state)
{
    struct record s;

    (void)state;
    make(&s);
    uint32_t module = bn_profile_add_module(
        &s.p, &(struct bn_profile_module){.name = "prog", .path = "/prog", .weight_ns = 740 * ms});
    bn_profile_add_address(&s.p, &(struct bn_profile_address){module, 0, 0x10, 1, 370 * ms});
    bn_weigh_by_cycles(&s.p, 148 * ms); /* a tenth of them */
    bn_weigh_close(&s.p);
    assert_true(s.p.samples[0].weight_ns == ms && s.p.samples[90].weight_ns == 400000);
    assert_true(s.p.modules[0].weight_ns == 74 * ms && s.p.addresses[0].weight_ns == 37 * ms);
    bn_weigh_by_cycles(&s.p, 0); /* not known: the asked period each, and their number tells the rest */
    bn_weigh_close(&s.p);
    assert_true(s.p.samples[0].weight_ns == 4 * ms && s.p.samples[90].weight_ns == 4 * ms);
    assert_true(s.p.modules[0].weight_ns == 0 && s.p.addresses[0].weight_ns == 0);
    bn_profile_free(&s.p);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_ranking),  cmocka_unit_test(test_report), cmocka_unit_test(test_equal),
        cmocka_unit_test(test_annotate), cmocka_unit_test(test_flags),  cmocka_unit_test(test_modules),
        cmocka_unit_test(test_pictures), cmocka_unit_test(test_road),   cmocka_unit_test(test_too_much),
        cmocka_unit_test(test_saved),    cmocka_unit_test(test_cycles),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
