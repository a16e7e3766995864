/* SPDX-License-Identifier: MIT
 * Folded stacks: tolerant reading, strict writing. */
#include "flamegraphs/folded.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

static struct bn_folded_report read_bytes(struct bn_tree *tree, const char *bytes, size_t n)
{
    struct bn_folded_report report;
    struct bn_err err;
    FILE *f = tmpfile();

    assert_non_null(f);
    fwrite(bytes, 1, n, f);
    rewind(f);
    bn_tree_init(tree);
    assert_int_equal(bn_folded_read(tree, f, "test", &report, &err), 0);
    bn_tree_finish(tree);
    fclose(f);
    return report;
}

static struct bn_folded_report read_text(struct bn_tree *tree, const char *text)
{
    return read_bytes(tree, text, strlen(text));
}

/* The tree as folded text; the caller frees it. */
static char *write_text(const struct bn_tree *tree)
{
    char *text = NULL;
    size_t n = 0;
    FILE *f = open_memstream(&text, &n);

    bn_folded_write(tree, f);
    fclose(f);
    return text;
}

static void check_round(const char *in, const char *want)
{
    struct bn_tree tree;

    read_text(&tree, in);
    char *out = write_text(&tree);
    assert_string_equal(out, want);
    free(out);
    bn_tree_free(&tree);
}

static void test_lines_are_merged_and_sorted(void **state)
{
    (void)state;
    check_round("b;c 1\na;foo 40\na;foo2;x 40\na;foo;y 40\nb;c 2\n",
                "a;foo 40\na;foo2;x 40\na;foo;y 40\nb;c 3\n");
}

static void test_what_others_write_is_read(void **state)
{
    struct bn_tree tree;
    (void)state;

    check_round("# by some tool\n\na;b 2\r\na;b 3", "a;b 5\n");
    check_round("a;operator new(unsigned long) 2\n", "a;operator new(unsigned long) 2\n");
    check_round("swapper;-;x 1\n", "swapper;-;x 1\n");
    check_round("#x;b 4\n", "_x;b 4\n");
    check_round("a;;b 1\n;c 1\nd; 1\n", "[unknown];c 1\na;[unknown];b 1\nd 1\n");
    struct bn_folded_report r = read_text(&tree, "a;b 2.75\na;c 10 20\na;d 7.5 30\n");
    assert_int_equal(r.n_lines, 3);
    assert_int_equal(r.n_skipped, 0);
    assert_int_equal(r.n_fractions, 1);
    assert_int_equal(r.n_two_counts, 2);
    assert_int_equal(tree.samples, 52);
    bn_tree_free(&tree);
}

static void test_annotations_give_the_kind(void **state)
{
    struct bn_tree tree;
    (void)state;

    read_text(&tree, "app;read_[k];copy_[k] 1\napp;f_[i] 1\napp;[unknown] 1\napp;gemv_x_avx2 1\n");
    assert_string_equal(tree.nodes[2].name, "read");
    assert_int_equal(tree.nodes[2].kind, BN_TREE_KERNEL);
    assert_int_equal(tree.nodes[3].kind, BN_TREE_KERNEL);
    assert_string_equal(tree.nodes[4].name, "f");
    assert_true(tree.nodes[4].inlined);
    assert_int_equal(tree.nodes[5].kind, BN_TREE_UNKNOWN);
    assert_int_equal(tree.nodes[6].kind, BN_TREE_COMPUTE);
    bn_tree_free(&tree);
}

static void test_hostile_lines_are_skipped_and_counted(void **state)
{
    static const char text[] = "a;b 1\n"
                               "no count\n"
                               "a;b -3\n"
                               " 12\n"
                               "12\n"
                               "a;b 99999999999999999999999\n"
                               "a;b 18446744073709551615\n"
                               "a;b 9007199254740991\n"
                               "zero\0byte 3\n"
                               "a;b 0\n"
                               "a;b 4\n";
    struct bn_tree tree;
    (void)state;

    struct bn_folded_report r = read_bytes(&tree, text, sizeof text - 1);
    assert_int_equal(tree.samples, 5);
    assert_int_equal(r.n_lines, 2);
    assert_int_equal(r.n_skipped, 8);
    assert_int_equal(r.first_skipped, 2);
    assert_string_equal(r.reason, "no count at its end");
    assert_int_equal(tree.n_nodes, 3); /* skipped lines leave no boxes behind */
    bn_tree_free(&tree);
}

static void test_long_lines_and_names(void **state)
{
    struct bn_tree tree;
    size_t n = (1 << 20) + 100;
    char *text = malloc(n + 5000);
    (void)state;

    memset(text, 'x', n);
    memcpy(text + n, " 7\n", 3);
    memset(text + n + 3, 'y', 4096);
    memcpy(text + n + 3 + 4096, ";z 2\n", 5);
    struct bn_folded_report r = read_bytes(&tree, text, n + 3 + 4096 + 5);
    assert_int_equal(r.n_skipped, 1);
    assert_int_equal(r.first_skipped, 1);
    assert_int_equal(tree.samples, 2);
    assert_int_equal(strlen(tree.nodes[1].name), 4096);
    bn_tree_free(&tree);

    for (size_t i = 0; i < 200000; i++)
        memcpy(text + 2 * i, "f;", 2);
    memcpy(text + 400000, "g 1\n", 4);
    read_bytes(&tree, text, 400004);
    assert_int_equal(tree.samples, 1);
    assert_int_equal(tree.n_nodes, BN_TREE_MAX_DEPTH + 1);
    bn_tree_free(&tree);
    free(text);
}

static void test_a_folder_is_an_error(void **state)
{
    struct bn_folded_report report;
    struct bn_tree tree;
    struct bn_err err;
    FILE *f = fopen("/", "r");
    (void)state;

    assert_non_null(f);
    bn_tree_init(&tree);
    assert_int_equal(bn_folded_read(&tree, f, "/", &report, &err), -1);
    assert_non_null(strstr(err.msg, "/: cannot be read"));
    bn_tree_free(&tree);
    fclose(f);
}

static void add_names(struct bn_tree *tree, const char *first, const char *second, uint64_t samples)
{
    uint32_t node = bn_tree_child(tree, 0, &(struct bn_tree_frame){.name = bn_str_from(first)});

    if (second)
        node = bn_tree_child(tree, node, &(struct bn_tree_frame){.name = bn_str_from(second)});
    bn_tree_add(tree, node, samples, 0);
}

static void test_written_names_are_safe(void **state)
{
    struct bn_tree tree;
    (void)state;

    bn_tree_init(&tree);
    bn_tree_add(&tree, 0, 9, 0);
    add_names(&tree, "a;b", NULL, 1);
    add_names(&tree, "a:b", NULL, 2); /* the same line once it is safe */
    add_names(&tree, "tab\there\nand\x7f", "leaf 12", 3);
    add_names(&tree, "leaf 12", "x", 4);
    add_names(&tree, "bad \xff\xc3 utf\xc3\xa4", "", 5);
    bn_tree_finish(&tree);
    char *out = write_text(&tree);
    assert_string_equal(out, "[unknown] 9\n"
                             "a:b 3\n"
                             "bad ?? utf\xc3\xa4;[unknown] 5\n"
                             "leaf 12;x 4\n"
                             "tab here and ;leaf_12 3\n");
    struct bn_tree again;
    struct bn_folded_report r = read_text(&again, out);
    assert_int_equal(r.n_skipped + r.n_two_counts + r.n_fractions, 0);
    char *second = write_text(&again);
    assert_string_equal(second, out);
    bn_tree_free(&again);
    bn_tree_free(&tree);
    free(second);
    free(out);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_lines_are_merged_and_sorted),
        cmocka_unit_test(test_what_others_write_is_read),
        cmocka_unit_test(test_annotations_give_the_kind),
        cmocka_unit_test(test_hostile_lines_are_skipped_and_counted),
        cmocka_unit_test(test_long_lines_and_names),
        cmocka_unit_test(test_a_folder_is_an_error),
        cmocka_unit_test(test_written_names_are_safe),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
