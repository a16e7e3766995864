/* SPDX-License-Identifier: MIT
 * hotspots/rank, roofline, compare, report: a record with known shares must come out as what it is. */
#include "hotspots/rank.h"
#include "hotspots/report.h"
#include "hotspots/roofline.h"

#include <setjmp.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "tests/unit/report_text.h"
#include "tests/unit/synthetic_profile.h"

static void test_functions(void **state)
{
    struct synthetic s;
    struct bn_ranking r;

    (void)state;
    synthetic_make(&s, 1);
    bn_ranking_make(&r, &s.p, BN_RANK_FUNCTION);
    assert_int_equal(r.total.n, 10000);
    assert_int_equal(r.wait.n, 1000); /* waiting is no hotspot */
    assert_null(bn_ranking_find(&r, "pool_wait", NULL));
    assert_string_equal(r.items[0].name, "i2s_gemv_c");
    assert_int_equal(r.items[0].self.n, 6000); /* with what was inlined into it */
    assert_int_equal(r.items[0].inclusive.n, 6000);
    assert_int_equal(r.items[0].stage, s.ffn);
    assert_int_equal(r.items[0].lines[0].line, 20);
    assert_int_equal(r.items[0].lines[0].self.n, 4100);
    assert_int_equal(r.items[0].lines[1].line, 30);
    assert_string_equal(r.items[1].name, "f16_gemv_c");
    assert_int_equal(r.items[1].self.n, 2000);
    const struct bn_rank_item *helper = bn_ranking_find(&r, "helper", "bnprof");
    assert_int_equal(helper->self.n, 1000);
    assert_int_equal(helper->inclusive.n, 1000); /* recursion counts once */
    const struct bn_rank_item *main_ = bn_ranking_find(&r, "main", NULL);
    assert_int_equal(main_->self.n, 0);
    assert_int_equal(main_->inclusive.n, 9000);
    assert_true(bn_ns_per_token(&r, r.items[0].decode_self_ns) == 6e6);
    uint64_t classes = 0;
    for (int c = 0; c < BN_CLASS_COUNT; c++)
        classes += r.class_ns[c];
    assert_int_equal(classes, r.total.ns);
    assert_int_equal(r.class_ns[BN_CLASS_PROJECTION], 6000000000);
    assert_int_equal(r.class_ns[BN_CLASS_LM_HEAD], 2000000000);
    bn_ranking_free(&r);
    bn_profile_free(&s.p);
}

static void test_stages_and_lines(void **state)
{
    struct synthetic s;
    struct bn_ranking r;

    (void)state;
    synthetic_make(&s, 1);
    bn_ranking_make(&r, &s.p, BN_RANK_STAGE);
    assert_string_equal(r.items[0].name, "generate;decode;forward_pass;gate_up_projection");
    assert_int_equal(r.items[0].self.n, 6000);
    const struct bn_rank_item *forward = bn_ranking_find(&r, "generate;decode;forward_pass", NULL);
    assert_int_equal(forward->self.n, 1000);
    assert_int_equal(forward->inclusive.n, 9000);
    bn_ranking_free(&r);
    bn_ranking_make(&r, &s.p, BN_RANK_LINE);
    assert_string_equal(r.items[0].name, "k.c:20");
    assert_int_equal(r.items[0].self.n, 4100);
    bn_ranking_free(&r);
    bn_profile_free(&s.p);
}

static void test_roofline(void **state)
{
    struct synthetic s;

    (void)state;
    synthetic_make(&s, 1);
    struct bn_stage_node *stage = &s.p.stages[s.ffn];
    stage->calls = 1000;
    stage->self_ns = 900000000;
    stage->total_ns = 1000000000;
    s.p.stages[s.wait].total_ns = 100000000;
    stage->bytes = 10000000000;
    stage->ops = 80000000000;
    s.p.stages[s.lm_head].bytes = 10000000000; /* moved within the caches: no limit applies */
    s.p.stages[s.lm_head].self_ns = 1;
    stage->memory_bytes = 10000000000;
    stage->int8_macs = 3000000000;
    struct bn_roofline r = bn_roofline_stage(&s.p, s.ffn);
    assert_true(r.gbytes_per_s == 10.0 &&
                r.gops_per_s == 80.0); /* waiting belongs to the time the work took */
    assert_true(isnan(r.share));       /* no limit measured: none invented */
    s.p.limits.read_bytes_per_s = 20e9;
    s.p.limits.last_cache_bytes = 1 << 20;
    s.p.model.weight_bytes = 1 << 30;
    r = bn_roofline_stage(&s.p, s.ffn);
    assert_true(fabs(r.share - 0.5) < 1e-12);
    assert_true(fabs(r.recoverable_ns - 5e8) < 1);
    assert_string_equal(r.bound, "memory");
    assert_true(isnan(bn_roofline_stage(&s.p, s.lm_head).share));
    s.p.limits.int8_macs_per_s = 5e9;
    r = bn_roofline_stage(&s.p, s.ffn);
    assert_true(fabs(r.share - 0.6) < 1e-12);
    assert_string_equal(r.bound, "int8");
    s.p.limits.int8_macs_per_s = BN_UNKNOWN;
    s.p.model.weight_bytes = 1 << 19; /* fits the cache: bandwidth is no limit */
    assert_true(isnan(bn_roofline_stage(&s.p, s.ffn).share));
    bn_profile_free(&s.p);
}

static const struct bn_compare_row *row_of(const struct bn_comparison *c, const char *name)
{
    for (size_t i = 0; i < c->n; i++)
        if (strcmp(c->rows[i].name, name) == 0)
            return &c->rows[i];
    return NULL;
}

static void test_compare(void **state)
{
    struct synthetic a, b;
    struct bn_comparison c;

    (void)state;
    synthetic_make(&a, 1);
    synthetic_make(&b, 2);
    bn_compare(&c, &a.p, &b.p, BN_RANK_FUNCTION, 5);
    const struct bn_compare_row *gemv = row_of(&c, "i2s_gemv_c");
    assert_int_equal(gemv->verdict, BN_VERDICT_SLOWER);
    assert_true(gemv->low <= 6e6 && gemv->high >= 6e6);
    /* The other kernel's share fell from 20 to 12.5 %, its time did not change: equal, not faster. */
    const struct bn_compare_row *dense = row_of(&c, "f16_gemv_c");
    assert_int_equal(dense->verdict, BN_VERDICT_EQUAL);
    assert_true(dense->current_share < dense->previous_share);
    assert_int_equal(c.rows[0].total, true);
    assert_int_equal(c.rows[0].verdict, BN_VERDICT_SLOWER);
    bn_comparison_free(&c);
    bn_compare(&c, &b.p, &a.p, BN_RANK_FUNCTION, 5);
    assert_int_equal(row_of(&c, "i2s_gemv_c")->verdict, BN_VERDICT_FASTER);
    bn_comparison_free(&c);
    bn_compare(&c, &a.p, &a.p, BN_RANK_STAGE, 5);
    for (size_t i = 0; i < c.n; i++)
        assert_int_equal(c.rows[i].verdict, BN_VERDICT_EQUAL);
    assert_int_equal(c.notes.n, 0);
    bn_comparison_free(&c);
    a.p.run.token_hash = bn_profile_str(&a.p, "0123");
    b.p.run.token_hash = bn_profile_str(&b.p, "4567");
    bn_compare(&c, &a.p, &b.p, BN_RANK_FUNCTION, 5);
    assert_non_null(strstr(c.notes.p, "did not compute the same thing"));
    bn_comparison_free(&c);
    bn_profile_free(&a.p);
    bn_profile_free(&b.p);
}

static void test_report(void **state)
{
    struct synthetic s;
    struct bn_report_options o = {.by = BN_RANK_FUNCTION, .top = 3, .compare = true};

    (void)state;
    synthetic_make(&s, 1);
    s.p.quality.grade = 'A';
    char *text = report_text(&s.p, &o);
    assert_non_null(strstr(text, "## Quality of this record: grade A"));
    assert_non_null(strstr(text, "### 1. `i2s_gemv_c` — 60.0 % CPU Time"));
    assert_non_null(strstr(text, "[generate;decode;forward_pass;gate_up_projection]"));
    assert_non_null(strstr(text, "**Per decoded token**: 6.00 ms"));
    assert_non_null(strstr(text, "**Total Hotspot Coverage**: 90.0 %"));
    assert_non_null(strstr(text, "1.82x as fast")); /* 1 / (1 - 0.9 / 2) */
    assert_non_null(strstr(text, "**Priority**: **High**"));
    assert_non_null(strstr(text, "**Previous Baseline**: None (initial baseline)"));
    free(text);
    o.format = BN_REPORT_TEXT;
    text = report_text(&s.p, &o);
    assert_non_null(strstr(text, "\n1. i2s_gemv_c — 60.0 % CPU Time\n"));
    assert_non_null(strstr(text, "Total Hotspot Coverage: 90.0 %"));
    assert_null(strstr(text, "**"));
    assert_null(strchr(text, '`'));
    assert_null(strchr(text, '#'));
    free(text);
    o.previous = &s.p;
    o.format = BN_REPORT_JSON;
    text = report_text(&s.p, &o);
    assert_non_null(strstr(text, "\"verdict\":\t\"equal\""));
    free(text);
    bn_profile_free(&s.p);
}

static void test_empty(void **state)
{
    struct bn_profile p;
    struct bn_report_options o = {.by = BN_RANK_FUNCTION, .top = 3, .compare = true, .previous = &p};

    (void)state;
    bn_profile_init(&p);
    for (int format = BN_REPORT_MD; format <= BN_REPORT_TEXT; format++)
        for (int by = BN_RANK_FUNCTION; by <= BN_RANK_LINE; by++) {
            o.format = format;
            o.by = by;
            char *text = report_text(&p, &o);
            assert_true(strlen(text) > 100);
            assert_null(strstr(text, "nan"));
            free(text);
        }
    bn_profile_free(&p);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_functions), cmocka_unit_test(test_stages_and_lines),
        cmocka_unit_test(test_roofline),  cmocka_unit_test(test_compare),
        cmocka_unit_test(test_report),    cmocka_unit_test(test_empty),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
