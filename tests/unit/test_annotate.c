/* SPDX-License-Identifier: MIT
 * Lines of a function in a record built by hand: inlined code, recursion, callers, names that several have.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "hotspots/annotate.h"
#include "synthetic_profile.h"

/* main:10 calls f:20, into which g:30 and, in that, h:40 are inlined; f also calls itself at 21. */
static void make(struct bn_profile *p)
{
    bn_profile_init(p);
    bn_profile_add_thread(p, &(struct bn_profile_thread){.tid = 1, .pid = 1});
    uint32_t main_ = synthetic_stack(p, 0, "main", "prog", 10, false);
    uint32_t f = synthetic_stack(p, main_, "f", "prog", 20, false);
    uint32_t g = synthetic_stack(p, f, "g", "prog", 30, true);
    uint32_t h = synthetic_stack(p, g, "h", "prog", 40, true);
    uint32_t again =
        synthetic_stack(p, synthetic_stack(p, main_, "f", "prog", 21, false), "f", "prog", 21, false);
    uint32_t other = synthetic_stack(p, main_, "f", "libother.so", 7, false);

    synthetic_samples(p, f, 0, 0, 5);
    synthetic_samples(p, g, 0, 0, 3);
    synthetic_samples(p, h, 0, 0, 2);
    synthetic_samples(p, again, 0, 0, 4);
    synthetic_samples(p, other, 0, 0, 6);
    synthetic_samples(p, main_, 0, 0, 1);
    p->quality.n_samples = p->n_samples;
}

static const struct bn_annotated_line *line(const struct bn_annotation *a, const char *function,
                                            uint32_t number)
{
    for (size_t i = 0; i < a->n_lines; i++)
        if (strcmp(a->lines[i].function, function) == 0 && a->lines[i].line == number)
            return &a->lines[i];
    fail_msg("no line %s:%u", function, number);
    return NULL;
}

static void expect(const struct bn_annotation *a, const char *function, uint32_t number, uint64_t self,
                   uint64_t inclusive)
{
    const struct bn_annotated_line *l = line(a, function, number);

    if (l->self.n != self || l->inclusive.n != inclusive)
        fail_msg("%s:%u: %d and %d, expected %d and %d", function, number, (int)l->self.n,
                 (int)l->inclusive.n, (int)self, (int)inclusive);
}

static void test_lines(void **unused)
{
    struct bn_profile p;
    struct bn_annotation a;
    struct bn_err err;

    (void)unused;
    make(&p);
    assert_int_equal(bn_annotate(&a, &p, "f", "prog", &err), 0);
    assert_false(a.inlined);
    assert_int_equal(a.self.n, 14);
    assert_int_equal(a.inclusive.n, 14);
    assert_int_equal(a.n_lines, 4);
    expect(&a, "f", 20, 5, 10);
    expect(&a, "f", 21, 4, 4); /* twice on the stack, counted once */
    expect(&a, "g", 30, 3, 5);
    expect(&a, "h", 40, 2, 2);
    assert_string_equal(a.lines[0].function, "f");
    bn_annotation_free(&a);

    assert_int_equal(bn_annotate(&a, &p, "g", NULL, &err), 0);
    assert_true(a.inlined);
    assert_string_equal(a.caller, "f");
    assert_int_equal(a.self.n, 5);
    assert_int_equal(a.n_lines, 2);
    bn_annotation_free(&a);

    assert_int_equal(bn_annotate(&a, &p, "main", NULL, &err), 0);
    assert_int_equal(a.self.n, 1);
    assert_int_equal(a.inclusive.n, 21);
    expect(&a, "main", 10, 1, 21);
    bn_annotation_free(&a);
    bn_profile_free(&p);
}

static void test_which(void **unused)
{
    struct bn_profile p;
    struct bn_annotation a;
    struct bn_err err;

    (void)unused;
    make(&p);
    uint32_t long_name = bn_profile_add_frame(
        &p,
        &(struct bn_frame){.function = "ns::Type::method", .raw = "_ZN2ns4Type6methodEv", .module = "prog"});
    synthetic_samples(&p, bn_profile_add_stack(&p, 0, long_name), 0, 0, 1);
    uint32_t mark =
        bn_profile_add_frame(&p, &(struct bn_frame){.function = "[truncated]", .kind = BN_FRAME_MARK});
    synthetic_samples(&p, bn_profile_add_stack(&p, 0, mark), 0, 0, 1);
    bn_profile_add_frame(&p, &(struct bn_frame){.function = "never", .module = "prog"});

    /* exact beats part; of two modules the one with more samples, the other is told */
    assert_int_equal(bn_annotate(&a, &p, "f", NULL, &err), 0);
    assert_string_equal(a.module, "prog");
    assert_string_equal(a.other, "libother.so");
    assert_int_equal(a.elsewhere.n, 6);
    bn_annotation_free(&a);
    assert_int_equal(bn_annotate(&a, &p, "f", "libother.so", &err), 0);
    assert_int_equal(a.self.n, 6);
    assert_null(a.other);
    bn_annotation_free(&a);
    assert_int_equal(bn_annotate(&a, &p, "_ZN2ns4Type6methodEv", NULL, &err), 0);
    assert_string_equal(a.function, "ns::Type::method");
    bn_annotation_free(&a);
    assert_int_equal(bn_annotate(&a, &p, "Type::", NULL, &err), 0);
    bn_annotation_free(&a);
    assert_int_equal(bn_annotate(&a, &p, "m", NULL, &err), -1); /* main, ns::Type::method */
    assert_non_null(strstr(err.msg, "main, ns::Type::method"));
    bn_annotation_free(&a);
    static const char *const none[] = {"truncated", "never", "[truncated]"};
    for (size_t i = 0; i < BN_COUNT(none); i++) {
        assert_int_equal(bn_annotate(&a, &p, none[i], NULL, &err), -1);
        assert_non_null(strstr(err.msg, "no samples in a function"));
        bn_annotation_free(&a);
    }
    bn_profile_free(&p);
}

static void test_addresses(void **unused)
{
    struct bn_profile p;
    struct bn_annotation a;
    struct bn_err err;

    (void)unused;
    make(&p);
    uint32_t module = bn_profile_add_module(&p, &(struct bn_profile_module){.name = "prog", .path = "/prog"});
    uint32_t f = p.stacks[2].frame, other = p.stacks[1].frame;
    assert_string_equal(p.frames[f].function, "f");
    bn_profile_add_address(&p, &(struct bn_profile_address){module, f, 0x30, 2, 0});
    bn_profile_add_address(&p, &(struct bn_profile_address){module, f, 0x10, 9, 0});
    bn_profile_add_address(&p, &(struct bn_profile_address){module, f, 0x20, 0, 0});
    bn_profile_add_address(&p, &(struct bn_profile_address){module, other, 0x05, 1, 0});
    assert_int_equal(bn_annotate(&a, &p, "f", "prog", &err), 0);
    assert_int_equal(a.n_addresses, 2);
    assert_int_equal(a.addresses[0].vaddr, 0x10);
    assert_int_equal(a.addresses[1].vaddr, 0x30);
    bn_annotation_free(&a);
    bn_profile_free(&p);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_lines),
        cmocka_unit_test(test_which),
        cmocka_unit_test(test_addresses),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
