/* SPDX-License-Identifier: MIT
 * A recording by stage, stack and thread: which frames are drawn where. */
#include "flamegraphs/view.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "flamegraphs/folded.h"

static uint32_t stage_of(struct bn_profile *p, const char *path)
{
    char text[256];
    uint32_t stage = 0;

    snprintf(text, sizeof text, "%s", path);
    for (char *name = strtok(text, ";"); name; name = strtok(NULL, ";"))
        stage = bn_profile_add_stage(p, stage, name);
    return stage;
}

/* "main;write@libc.so.6;ksys_write@[kernel];+inlined"; names in brackets are marks, or unknown code in a
 * module. */
static uint32_t stack_of(struct bn_profile *p, const char *frames)
{
    char text[512];
    uint32_t stack = 0;

    snprintf(text, sizeof text, "%s", frames);
    for (char *name = strtok(text, ";"); name; name = strtok(NULL, ";")) {
        char *module = strchr(name, '@');
        struct bn_frame f = {.module = module ? module + 1 : "prog", .kind = BN_FRAME_USER};
        if (module)
            *module = '\0';
        if (name[0] == '[')
            f.kind = module ? BN_FRAME_UNKNOWN : BN_FRAME_MARK;
        if (strcmp(f.module, "[kernel]") == 0)
            f.kind = BN_FRAME_KERNEL;
        f.inlined = name[0] == '+';
        f.function = f.inlined ? name + 1 : name;
        stack = bn_profile_add_stack(p, stack, bn_profile_add_frame(p, &f));
    }
    return stack;
}

/* stage NULL: not joined. */
static void add_at(struct bn_profile *p, const char *stage, const char *frames, unsigned n, uint32_t thread,
                   int32_t layer)
{
    struct bn_sample s = {.weight_ns = 1000,
                          .thread = thread,
                          .stack = stack_of(p, frames),
                          .stage = stage ? stage_of(p, stage) : 0,
                          .layer = layer,
                          .flags = stage ? BN_SAMPLE_JOINED : 0};

    while (n-- > 0)
        bn_profile_add_sample(p, &s);
}

static void add(struct bn_profile *p, const char *stage, const char *frames, unsigned n)
{
    add_at(p, stage, frames, n, 0, -1);
}

static void start(struct bn_profile *p)
{
    bn_profile_init(p);
    bn_profile_add_thread(p, &(struct bn_profile_thread){.tid = 7, .name = "main"});
    bn_profile_add_thread(p, &(struct bn_profile_thread){.tid = 8, .name = "worker"});
    bn_profile_add_thread(p, &(struct bn_profile_thread){.tid = 9, .name = "worker"});
}

/* Compare the view, as folded stacks. */
static void check_view(const struct bn_profile *p, struct bn_view view, const char *want)
{
    struct bn_tree tree;
    struct bn_err err = {{0}};
    char *text = NULL;
    size_t n = 0;

    if (bn_view_tree(&tree, p, &view, &err) != 0)
        fail_msg("%s", err.msg);
    FILE *f = open_memstream(&text, &n);
    bn_folded_write(&tree, f);
    fclose(f);
    assert_string_equal(text, want);
    free(text);
    bn_tree_free(&tree);
}

static const struct bn_view by_stage = {.order = BN_VIEW_BY_STAGE, .layer = -1};
static const struct bn_view by_stack = {.order = BN_VIEW_BY_STACK, .layer = -1};

#define MAIN   "_start;libc_main@libc.so.6;main;forward;"
#define WORKER "clone@libc.so.6;worker_main;"

/* Whatever road the threads came on, one kernel is one box; those who left the road keep what lies beyond it.
 */
static void test_caller_and_workers_meet_in_one_box(void **state)
{
    struct bn_profile p;
    (void)state;

    start(&p);
    add(&p, "ffn;gate_up", MAIN "matmul;pool_run;rows;i2s_gemv_avx2", 95);
    add(&p, "ffn;gate_up", MAIN "scope_enter;clock_gettime@[vdso]", 3);
    add(&p, "ffn;gate_up", MAIN "matmul", 2);
    add(&p, "ffn;gate_up", WORKER "rows;i2s_gemv_avx2;+dot", 99);
    add(&p, "ffn;gate_up", WORKER "rows", 1);
    check_view(&p, by_stage,
               "ffn;gate_up;i2s_gemv_avx2 95\n"
               "ffn;gate_up;i2s_gemv_avx2;dot 99\n"
               "ffn;gate_up;matmul 2\n"
               "ffn;gate_up;rows 1\n"
               "ffn;gate_up;scope_enter;clock_gettime 3\n");
    bn_profile_free(&p);
}

static void test_a_fork_in_the_road_is_drawn(void **state)
{
    struct bn_profile p;
    (void)state;

    start(&p);
    add(&p, "attention", MAIN "attend;heads;dot_f16_avx2", 60);
    add(&p, "attention", MAIN "attend;heads;axpy_f16_avx2", 40);
    add(&p, "attention", WORKER "heads;dot_f16_avx2", 30);
    add(&p, "attention", WORKER "heads;axpy_f16_avx2", 20);
    check_view(&p, by_stage, "attention;heads;axpy_f16_avx2 60\nattention;heads;dot_f16_avx2 90\n");
    bn_profile_free(&p);
}

/* The road ends at the program's own code: who called the library, and who faulted, is part of the picture.
 */
static void test_own_code_is_kept_before_libraries_and_kernel(void **state)
{
    struct bn_profile p;
    (void)state;

    start(&p);
    add(&p, "load", MAIN "repack;page_fault@[kernel];clear_page@[kernel]", 100);
    add(&p, "sample", MAIN "pick;qsort@libc.so.6;msort@libc.so.6", 100);
    add(&p, "norm", MAIN "soft;+fast_exp", 100);
    add(&p, "leaf", MAIN "f", 1);
    add(&p, "gone", "[truncated];pick;qsort@libc.so.6", 5);
    add(&p, "blank", "", 2);
    add(&p, "lib", "[libz.so]@libz.so", 3);
    check_view(&p, by_stage,
               "blank 2\n"
               "gone;[truncated];pick;qsort 5\n"
               "leaf;f 1\n"
               "lib;[libz.so] 3\n"
               "load;repack;page_fault;clear_page 100\n"
               "norm;soft;fast_exp 100\n"
               "sample;pick;qsort;msort 100\n");
    bn_profile_free(&p);
}

static void test_no_stage_and_unknown_stage_stay_apart(void **state)
{
    struct bn_profile p;
    (void)state;

    start(&p);
    add(&p, "decode", "main;f", 4);
    add(&p, "", "main;g", 3);
    add(&p, NULL, "main;h", 2);
    check_view(&p, by_stage, "[no stage];main;g 3\n[stage unknown];main;h 2\ndecode;f 4\n");
    bn_profile_free(&p);
}

static void test_stack_thread_and_callers(void **state)
{
    struct bn_profile p;
    (void)state;

    start(&p);
    add_at(&p, "decode", "main;f", 4, 0, -1);
    add_at(&p, "decode", "go;f", 3, 1, -1);
    add_at(&p, "decode;wait", "go;sleep", 2, 2, -1);
    check_view(&p, by_stack, "go;f 3\ngo;sleep 2\nmain;f 4\n");
    check_view(&p, (struct bn_view){.order = BN_VIEW_BY_THREAD, .layer = -1},
               "main;main;f 4\nworker/8;go;f 3\nworker/9;go;sleep 2\n");
    check_view(&p, (struct bn_view){.order = BN_VIEW_BY_STACK, .callers = true, .layer = -1},
               "f;go 3\nf;main 4\nsleep;go 2\n");
    check_view(&p, (struct bn_view){.order = BN_VIEW_BY_STAGE, .callers = true, .layer = -1},
               "f;decode 7\nsleep;wait;decode 2\n");
    bn_profile_free(&p);
}

static void test_waiting_has_its_own_kind(void **state)
{
    struct bn_profile p;
    struct bn_tree tree;
    (void)state;

    start(&p);
    add(&p, "decode;wait", "go;pool_wait;futex@[kernel]", 10);
    assert_int_equal(bn_view_tree(&tree, &p, &by_stage, NULL), 0);
    assert_int_equal(tree.n_nodes, 5); /* all, decode, wait, pool_wait, futex */
    assert_int_equal(tree.nodes[1].kind, BN_TREE_STAGE);
    for (size_t i = 2; i < 5; i++)
        assert_int_equal(tree.nodes[i].kind, BN_TREE_WAIT);
    bn_tree_free(&tree);
    assert_int_equal(bn_view_tree(&tree, &p, &by_stack, NULL), 0);
    assert_int_equal(tree.nodes[2].kind, BN_TREE_PROGRAM);
    assert_int_equal(tree.nodes[3].kind, BN_TREE_WAIT);
    bn_tree_free(&tree);
    bn_profile_free(&p);
}

static void test_the_pieces_of_a_kernel_belong_to_it(void **state)
{
    struct bn_profile p;
    struct bn_tree tree;
    (void)state;

    start(&p);
    add(&p, "decode", "rows;i2s_gemv_avx2;+dot;helper;memset@libc.so.6", 10);
    assert_int_equal(bn_view_tree(&tree, &p, &by_stack, NULL), 0);
    static const enum bn_tree_kind want[] = {BN_TREE_ROOT,    BN_TREE_PROGRAM, BN_TREE_COMPUTE,
                                             BN_TREE_COMPUTE, BN_TREE_COMPUTE, BN_TREE_LIBRARY};
    assert_int_equal(tree.n_nodes, BN_COUNT(want));
    for (size_t i = 0; i < BN_COUNT(want); i++)
        assert_int_equal(tree.nodes[i].kind, want[i]);
    bn_tree_free(&tree);
    bn_profile_free(&p);
}

static void check_refused(const struct bn_profile *p, struct bn_view view, const char *want)
{
    struct bn_tree tree;
    struct bn_err err;

    assert_int_equal(bn_view_tree(&tree, p, &view, &err), -1);
    assert_string_equal(err.msg, want);
    bn_tree_free(&tree);
}

static void test_phase_and_layer(void **state)
{
    struct bn_profile p;
    struct bn_view view = by_stage;
    (void)state;

    start(&p);
    check_refused(&p, by_stage,
                  "this recording has no stages: the program has no scoped timers; draw it by stack");
    view.order = BN_VIEW_BY_STACK;
    view.layer = 0;
    check_refused(&p, view, "no layers in this recording");
    add_at(&p, "generate;decode", "main;a", 1, 0, -1);
    add_at(&p, "generate;decode;ffn", "main;b", 2, 0, 0);
    add_at(&p, "generate;prefill;ffn", "main;c", 4, 0, 1);
    add_at(&p, NULL, "main;d", 8, 0, -1);
    view = by_stage;
    view.phase = "decode";
    check_view(&p, view, "generate;decode;a 1\ngenerate;decode;ffn;b 2\n");
    view.layer = 1;
    check_view(&p, view, "");
    view.phase = NULL;
    check_view(&p, view, "generate;prefill;ffn;c 4\n");
    view.layer = 2;
    check_refused(&p, view, "no layer 2 in this recording; the last one is 1");
    view.phase = "ffm";
    check_refused(&p, view, "no stage 'ffm' in this recording; it has generate, decode, ffn, prefill");
    bn_profile_free(&p);
}

static void test_kinds(void **state)
{
    static const struct {
        const char *function, *module;
        enum bn_frame_kind frame_kind;
        enum bn_tree_kind want;
    } cases[] = {
        {"rows", "prog", BN_FRAME_USER, BN_TREE_PROGRAM},
        {"rows", NULL, BN_FRAME_USER, BN_TREE_PROGRAM},
        {"i2s_gemv_c", "prog", BN_FRAME_USER, BN_TREE_COMPUTE}, /* dispatched */
        {"i2s_gemv_c.constprop.0", "prog", BN_FRAME_USER, BN_TREE_COMPUTE},
        {"i2s_gemv_cold", "prog", BN_FRAME_USER, BN_TREE_PROGRAM},
        {"dot_f16_avx2", "prog", BN_FRAME_USER, BN_TREE_COMPUTE}, /* by its name */
        {"__memmove_avx2", "libc.so.6", BN_FRAME_USER, BN_TREE_LIBRARY},
        {"clock_gettime", "[vdso]", BN_FRAME_USER, BN_TREE_LIBRARY},
        {"schedule", "[kernel]", BN_FRAME_KERNEL, BN_TREE_KERNEL},
        {"[unknown]", "prog", BN_FRAME_UNKNOWN, BN_TREE_UNKNOWN},
        {"[truncated]", NULL, BN_FRAME_MARK, BN_TREE_MARK},
    };
    struct bn_kernel_use use = {"i2s_gemv_c", 5};
    struct bn_profile p = {.kernels = &use, .n_kernels = 1};
    (void)state;

    for (size_t i = 0; i < BN_COUNT(cases); i++) {
        struct bn_frame f = {
            .function = cases[i].function, .module = cases[i].module, .kind = cases[i].frame_kind};
        assert_int_equal(bn_view_kind(&p, &f), cases[i].want);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_caller_and_workers_meet_in_one_box),
        cmocka_unit_test(test_a_fork_in_the_road_is_drawn),
        cmocka_unit_test(test_own_code_is_kept_before_libraries_and_kernel),
        cmocka_unit_test(test_no_stage_and_unknown_stage_stay_apart),
        cmocka_unit_test(test_stack_thread_and_callers),
        cmocka_unit_test(test_waiting_has_its_own_kind),
        cmocka_unit_test(test_the_pieces_of_a_kernel_belong_to_it),
        cmocka_unit_test(test_phase_and_layer),
        cmocka_unit_test(test_kinds),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
