/* SPDX-License-Identifier: MIT
 * Merging stacks into a tree. */
#include "flamegraphs/tree.h"

#include <setjmp.h>
#include <stdarg.h>
#include <string.h>

#include <cmocka.h>

static uint32_t child(struct bn_tree *tree, uint32_t parent, const char *name, enum bn_tree_kind kind)
{
    return bn_tree_child(tree, parent, &(struct bn_tree_frame){.name = bn_str_from(name), .kind = kind});
}

/* "a;b;c" as program frames. */
static void add(struct bn_tree *tree, const char *stack, uint64_t samples)
{
    char text[256];
    uint32_t node = 0;

    snprintf(text, sizeof text, "%s", stack);
    for (char *name = strtok(text, ";"); name; name = strtok(NULL, ";"))
        node = child(tree, node, name, BN_TREE_PROGRAM);
    assert_int_equal(bn_tree_add(tree, node, samples, samples * 1000), 0);
}

static const struct bn_tree_node *find(const struct bn_tree *tree, const char *path)
{
    char text[256];
    uint32_t node = 0;

    snprintf(text, sizeof text, "%s", path);
    for (char *name = strtok(text, ";"); name; name = strtok(NULL, ";")) {
        uint32_t i = tree->nodes[node].first_child;
        while (i != (uint32_t)BN_TREE_NO_NODE && strcmp(tree->nodes[i].name, name) != 0)
            i = tree->nodes[i].next_sibling;
        if (i == (uint32_t)BN_TREE_NO_NODE)
            return NULL;
        node = i;
    }
    return &tree->nodes[node];
}

static size_t count_children(const struct bn_tree *tree, const struct bn_tree_node *node)
{
    size_t n = 0;

    for (uint32_t i = node->first_child; i != (uint32_t)BN_TREE_NO_NODE; i = tree->nodes[i].next_sibling)
        n++;
    return n;
}

/* The order of bytes in sorted lines puts "a;foo2" between "a;foo" and "a;foo;y": a merge of neighbours
 * splits foo. */
static void test_similar_names_stay_one_box_each(void **state)
{
    static const char *const stacks[] = {"a;foo",          "a;foo2;x", "a;foo;y",
                                         "a;foo.part.0;y", "a;foo-1",  "a;foo;z"};
    (void)state;

    for (size_t first = 0; first < BN_COUNT(stacks); first++) {
        struct bn_tree tree;
        bn_tree_init(&tree);
        for (size_t i = 0; i < BN_COUNT(stacks); i++)
            add(&tree, stacks[(first + i) % BN_COUNT(stacks)], 40);
        bn_tree_finish(&tree);
        assert_int_equal(tree.samples, 240);
        assert_int_equal(count_children(&tree, find(&tree, "a")), 4);
        assert_int_equal(find(&tree, "a;foo")->total, 120);
        assert_int_equal(find(&tree, "a;foo")->self, 40);
        assert_int_equal(find(&tree, "a;foo")->total_ns, 120000);
        assert_int_equal(find(&tree, "a;foo2")->total, 40);
        assert_int_equal(find(&tree, "a;foo.part.0;y")->self, 40);
        bn_tree_free(&tree);
    }
}

static void test_siblings_are_in_byte_order(void **state)
{
    static const char *const want[] = {"B", "a", "foo", "foo-1", "foo.part.0", "foo2", "\xc3\xa4"};
    struct bn_tree tree;
    (void)state;

    bn_tree_init(&tree);
    for (size_t i = 0; i < BN_COUNT(want); i++)
        add(&tree, want[(i * 3 + 2) % BN_COUNT(want)], 1);
    bn_tree_finish(&tree);
    uint32_t node = tree.nodes[0].first_child;
    for (size_t i = 0; i < BN_COUNT(want); i++, node = tree.nodes[node].next_sibling)
        assert_string_equal(tree.nodes[node].name, want[i]);
    assert_int_equal(node, (uint32_t)BN_TREE_NO_NODE);
    bn_tree_free(&tree);
}

static void test_kind_separates_stage_from_function(void **state)
{
    struct bn_tree tree;
    (void)state;

    bn_tree_init(&tree);
    uint32_t stage = child(&tree, 0, "attention_softmax", BN_TREE_STAGE);
    uint32_t function = child(&tree, 0, "attention_softmax", BN_TREE_PROGRAM);
    assert_int_not_equal(stage, function);
    assert_int_equal(stage, child(&tree, 0, "attention_softmax", BN_TREE_STAGE));
    bn_tree_free(&tree);
}

static void test_facts_are_merged(void **state)
{
    struct bn_tree tree;
    struct bn_tree_frame f = {
        .name = BN_STR("f"), .module = "a", .file = "x.c", .line_min = 20, .line_max = 20};
    (void)state;

    bn_tree_init(&tree);
    f.inlined = true;
    uint32_t node = bn_tree_child(&tree, 0, &f);
    f.line_min = f.line_max = 7;
    f.inlined = false;
    bn_tree_child(&tree, 0, &f);
    assert_int_equal(tree.nodes[node].line_min, 7);
    assert_int_equal(tree.nodes[node].line_max, 20);
    assert_false(tree.nodes[node].inlined);
    assert_string_equal(tree.nodes[node].module, "a");
    f.module = "b";
    bn_tree_child(&tree, 0, &f);
    f.module = "a";
    bn_tree_child(&tree, 0, &f);
    assert_null(tree.nodes[node].module);
    assert_string_equal(tree.nodes[node].file, "x.c");
    bn_tree_add(&tree, node, 1, 0);
    bn_tree_finish(&tree);

    struct bn_tree copy;
    bn_tree_copy(&copy, &tree, NULL);
    node = bn_tree_child(&copy, 0, &f);
    assert_null(copy.nodes[node].module); /* "several" survives the copy */
    bn_tree_free(&copy);
    bn_tree_free(&tree);
}

static void test_total_stays_exact(void **state)
{
    struct bn_tree tree;
    (void)state;

    bn_tree_init(&tree);
    uint32_t node = child(&tree, 0, "f", BN_TREE_PROGRAM);
    assert_int_equal(bn_tree_add(&tree, node, BN_TREE_MAX - 1, UINT64_MAX), 0);
    assert_int_equal(bn_tree_add(&tree, node, 2, 1), -1);
    assert_int_equal(bn_tree_add(&tree, node, UINT64_MAX, 1), -1);
    assert_int_equal(bn_tree_add(&tree, node, 1, 1), 0);
    bn_tree_finish(&tree);
    assert_true(tree.nodes[0].total == BN_TREE_MAX);
    assert_true(tree.nodes[0].total_ns == UINT64_MAX);
    bn_tree_free(&tree);
}

static void test_depth_is_bounded(void **state)
{
    struct bn_tree tree;
    uint32_t node = 0;
    (void)state;

    bn_tree_init(&tree);
    for (int i = 0; i < 100000; i++)
        node = child(&tree, node, "f", BN_TREE_PROGRAM);
    bn_tree_add(&tree, node, 3, 0);
    bn_tree_finish(&tree);
    assert_int_equal(tree.nodes[node].depth, BN_TREE_MAX_DEPTH);
    assert_string_equal(tree.nodes[node].name, "[deeper]");
    assert_int_equal(tree.nodes[0].total, 3);
    bn_tree_free(&tree);
}

static void test_copy_leaves_out_boxes_but_no_leaf(void **state)
{
    struct bn_tree tree, copy;
    (void)state;

    bn_tree_init(&tree);
    add(&tree, "main;loop;work", 9);
    add(&tree, "main;loop", 1);
    add(&tree, "main", 2);
    bn_tree_finish(&tree);
    bool drop[4] = {false, true, true, false};
    bn_tree_copy(&copy, &tree, drop);
    bn_tree_finish(&copy);
    assert_int_equal(copy.samples, 12);
    assert_int_equal(count_children(&copy, &copy.nodes[0]), 3);
    assert_int_equal(find(&copy, "work")->total, 9);
    assert_int_equal(find(&copy, "loop")->total, 1);
    assert_int_equal(find(&copy, "main")->total, 2);
    bn_tree_free(&copy);
    bn_tree_free(&tree);
}

static void test_callers_begin_at_the_leaf(void **state)
{
    struct bn_tree tree, callers;
    (void)state;

    bn_tree_init(&tree);
    add(&tree, "main;a;copy", 3);
    add(&tree, "main;b;copy", 4);
    add(&tree, "main;b", 1);
    bn_tree_finish(&tree);
    bn_tree_callers(&callers, &tree);
    bn_tree_finish(&callers);
    assert_int_equal(callers.samples, 8);
    assert_int_equal(find(&callers, "copy")->total, 7);
    assert_int_equal(find(&callers, "copy;a;main")->total, 3);
    assert_int_equal(find(&callers, "b;main")->total, 1);
    bn_tree_free(&callers);
    bn_tree_free(&tree);
}

static void test_compute_names(void **state)
{
    static const char *const yes[] = {"i2s_gemv_avx512vnni", "dot_f16_avx2", "i2s_gemm_neon",
                                      "i2s_gemv_avx2.part.0", "i2s_gemv_mock"};
    static const char *const no[] = {"main",   "avx2",        "_avx2", "__strlen_avx2",
                                     "rows_c", "memcpy.avx2", "f_",    ""};
    (void)state;

    for (size_t i = 0; i < BN_COUNT(yes); i++)
        assert_true(bn_tree_is_compute_name(yes[i], strlen(yes[i])));
    for (size_t i = 0; i < BN_COUNT(no); i++)
        assert_false(bn_tree_is_compute_name(no[i], strlen(no[i])));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_similar_names_stay_one_box_each),
        cmocka_unit_test(test_siblings_are_in_byte_order),
        cmocka_unit_test(test_kind_separates_stage_from_function),
        cmocka_unit_test(test_facts_are_merged),
        cmocka_unit_test(test_total_stays_exact),
        cmocka_unit_test(test_depth_is_bounded),
        cmocka_unit_test(test_copy_leaves_out_boxes_but_no_leaf),
        cmocka_unit_test(test_callers_begin_at_the_leaf),
        cmocka_unit_test(test_compute_names),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
