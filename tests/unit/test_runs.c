/* SPDX-License-Identifier: MIT
 * Run folders: names that are never taken twice, order, what RUN may be, which run is "previous". */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

#include "profiler/profile.h"
#include "profiler/runs.h"
#include "tools/runs_cli.h"

static char folder[64];

static int enter_folder(void **state)
{
    (void)state;
    strcpy(folder, "/tmp/bn-runs.XXXXXX");
    unsetenv("BNPROF_DIR");
    setenv("TZ", "UTC", 1);
    return mkdtemp(folder) && chdir(folder) == 0 ? 0 : -1;
}

static int leave_folder(void **state)
{
    char *command = bn_xasprintf("rm -rf %s", folder);
    (void)state;
    int status = chdir("/") == 0 ? system(command) : -1;
    free(command);
    return status;
}

/* A run folder with a record in it. */
static void make_run_at(const char *id, const char *key, uint64_t started_ns, const char *started)
{
    struct bn_profile p;
    struct bn_err err;
    char *dir = bn_xasprintf("bnprof.data/%s", id), *json = bn_xasprintf("%s/profile.json", dir);

    mkdir("bnprof.data", 0777);
    assert_int_equal(mkdir(dir, 0777), 0);
    bn_profile_init(&p);
    p.run_id = bn_profile_str(&p, id);
    p.config_key = bn_profile_str(&p, key);
    p.started_ns = started_ns;
    p.started = bn_profile_str(&p, started);
    assert_int_equal(bn_profile_save(&p, json, &err), 0);
    bn_profile_free(&p);
    free(dir);
    free(json);
}

static void make_run(const char *id, const char *key)
{
    make_run_at(id, key, 0, NULL);
}

static void make_file(const char *path)
{
    FILE *f = fopen(path, "w");
    assert_non_null(f);
    fclose(f);
}

static void test_base(void **state)
{
    (void)state;
    assert_string_equal(bn_runs_base(NULL), "bnprof.data");
    setenv("BNPROF_DIR", "elsewhere", 1);
    assert_string_equal(bn_runs_base(NULL), "elsewhere");
    assert_string_equal(bn_runs_base("here"), "here");
    unsetenv("BNPROF_DIR");
}

static void test_create(void **state)
{
    static const char *const want[] = {"19700101-000000-i2s", "19700101-000000-i2s-2",
                                       "19700101-000000-i2s-3"};
    struct bn_err err;
    char *dir, *id, target[64] = "";
    (void)state;

    for (size_t i = 0; i < BN_COUNT(want); i++) {
        assert_int_equal(bn_runs_create_dir("a/b", "i2s", 0, &dir, &id, &err), 0);
        assert_string_equal(id, want[i]);
        assert_int_equal(access(dir, W_OK), 0);
        assert_int_equal(bn_runs_set_latest("a/b", id, &err), 0);
        free(dir);
        free(id);
    }
    assert_int_equal(readlink("a/b/latest", target, sizeof target - 1), strlen(want[2]));
    assert_string_equal(target, want[2]);
    assert_int_equal(bn_runs_create_dir("a/b", "../e vil\n", 0, &dir, &id, &err), 0);
    assert_string_equal(id, "19700101-000000-_._e_vil_");
    free(dir);
    free(id);
    make_file("file");
    assert_int_equal(bn_runs_create_dir("file", "i2s", 0, &dir, &id, &err), -1);
    assert_non_null(strstr(err.msg, "file"));
    assert_null(dir);
}

static int order(char *a, uint64_t a_ns, int64_t a_changed, char *b, uint64_t b_ns, int64_t b_changed)
{
    struct bn_run_entry x = {.id = a, .started_ns = a_ns, .changed_ns = a_changed},
                        y = {.id = b, .started_ns = b_ns, .changed_ns = b_changed};

    assert_int_equal(bn_runs_compare(&x, &y), -bn_runs_compare(&y, &x));
    return bn_runs_compare(&x, &y);
}

static void test_order(void **state)
{
    (void)state;
    assert_true(order("20261121-101500-zz", 1, 9, "20261121-101500-aa", 2, 8) < 0);
    assert_true(order("20261121-154500-i2s", 1, 9, "20261121-101500-i2s", 2, 8) < 0); /* another time zone */
    assert_true(order("20261121-101500-i2s-9", 5, 9, "20261121-101500-i2s-10", 5, 8) < 0);
    assert_true(order("20261121-101500-i2s", 5, 9, "20261121-101500-i2s-2", 5, 8) < 0);
    assert_true(order("20261121-101500-z", 5, 8, "20261121-101500-a", 5, 9) < 0);
    assert_true(order("20261121-101500-a", 5, 8, "20261121-101500-z", 5, 8) < 0);
    assert_int_equal(order("20261121-101500-i2s", 5, 8, "20261121-101500-i2s", 5, 8), 0);
    assert_true(order("~", UINT64_MAX, 0, "20991231-235959-x", 7, 0) > 0);
    assert_true(bn_runs_is_id("20261121-101500-i2s"));
    assert_false(bn_runs_is_id("20261121-101500-"));
    assert_false(bn_runs_is_id("latest"));
    assert_false(bn_runs_is_id(""));
}

static void expect_run(const char *spec, const char *want)
{
    struct bn_err err = {""};
    char *dir, *file;

    int status = bn_runs_resolve("bnprof.data", spec, &dir, &file, &err);
    if (want && (status != 0 || strcmp(dir, want) != 0))
        fail_msg("%s: %s, expected %s", spec ? spec : "NULL", status ? err.msg : dir, want);
    if (!want)
        assert_int_equal(status, -1);
    free(dir);
    free(file);
}

static void test_resolve(void **state)
{
    struct bn_run_list list;
    struct bn_err err;
    char *dir, *file;
    (void)state;

    assert_int_equal(bn_runs_resolve("bnprof.data", NULL, &dir, &file, &err), -1);
    assert_string_equal(err.msg, "no recording in bnprof.data; make one with: bnprof record -- run");
    make_run("20261121-101500-i2s-9", "k");
    make_run("20261121-101500-i2s-10", "k");
    make_run("20261120-101500-i2s", "k");
    mkdir("bnprof.data/20261122-000000-empty", 0777);
    mkdir("bnprof.data/20261119-000000-cut", 0777);
    make_file("bnprof.data/20261119-000000-cut/profile.part");
    assert_int_equal(bn_runs_list(&list, "bnprof.data", &err), 0);
    assert_int_equal(list.n, 4);
    assert_string_equal(list.entries[0].id, "20261121-101500-i2s-10");
    assert_true(list.entries[3].partial);
    assert_false(list.entries[3].recording);
    bn_run_list_free(&list);
    expect_run(NULL, "bnprof.data/20261121-101500-i2s-10");
    expect_run("latest", "bnprof.data/20261121-101500-i2s-10");
    expect_run("latest~0", "bnprof.data/20261121-101500-i2s-10");
    expect_run("latest~2", "bnprof.data/20261120-101500-i2s");
    expect_run("latest~3", "bnprof.data/20261119-000000-cut");
    expect_run("latest~4", NULL);
    expect_run("latest~x", NULL);
    expect_run("20261120-101500-i2s", "bnprof.data/20261120-101500-i2s");
    expect_run("bnprof.data/20261120-101500-i2s", "bnprof.data/20261120-101500-i2s");
    expect_run("bnprof.data/20261120-101500-i2s/profile.json", "bnprof.data/20261120-101500-i2s");
    expect_run("20250101-000000-i2s", NULL);
    expect_run("", NULL);
}

static void test_recording_is_left_alone(void **state)
{
    struct bn_run_list list;
    struct bn_err err;
    char *dir, *file;
    (void)state;

    mkdir("bnprof.data", 0777);
    mkdir("bnprof.data/20261122-101500-i2s", 0777);
    make_file("bnprof.data/20261122-101500-i2s/profile.part");
    FILE *part = fopen("bnprof.data/20261122-101500-i2s/profile.part", "r");
    assert_int_equal(flock(fileno(part), LOCK_EX | LOCK_NB), 0);
    assert_int_equal(bn_runs_list(&list, "bnprof.data", &err), 0);
    assert_true(list.entries[0].recording);
    bn_run_list_free(&list);
    assert_int_equal(bn_runs_resolve("bnprof.data", NULL, &dir, &file, &err), -1);
    assert_non_null(strstr(err.msg, "20261122-101500-i2s is still being recorded"));
    make_run("20261121-101500-i2s", "k");
    expect_run("latest", "bnprof.data/20261121-101500-i2s");
    fclose(part);
    expect_run("latest", "bnprof.data/20261122-101500-i2s");
}

static void expect_previous(const char *spec, const char *want)
{
    struct bn_profile current, previous;
    struct bn_err err = {""};
    char *dir;

    assert_int_equal(bn_tool_load_run(spec, &current, &dir, &err), 0);
    int found = bn_tool_load_previous(&current, dir, &previous, NULL, &err);
    assert_int_equal(found, want != NULL);
    if (want)
        assert_string_equal(previous.run_id, want);
    bn_profile_free(&current);
    bn_profile_free(&previous);
    free(dir);
}

static void test_previous(void **state)
{
    struct bn_profile p;
    struct bn_err err;
    (void)state;

    make_run("20261121-101500-i2s", "a");
    make_run("20261121-101501-i2s", "b");
    make_run("20261121-101501-i2s-2", "a");
    make_run("20261121-101502-i2s", "a");
    expect_previous(NULL, "20261121-101501-i2s-2");
    expect_previous("latest~1", "20261121-101500-i2s");
    expect_previous("20261121-101501-i2s", NULL); /* the only one with b */
    expect_previous("20261121-101500-i2s", NULL); /* the oldest */
    assert_int_equal(symlink("20261121-101502-i2s", "bnprof.data/latest"), 0);
    expect_previous("bnprof.data/latest", "20261121-101501-i2s-2");
    assert_int_equal(rename("bnprof.data/20261121-101501-i2s-2/profile.json", "lone.json"), 0);
    expect_previous("lone.json", "20261121-101500-i2s");
    expect_previous("latest", "20261121-101500-i2s"); /* an emptied folder is no run */
    assert_int_equal(bn_tool_load_run("previous", &p, NULL, &err), 0);
    assert_string_equal(p.run_id, "20261121-101500-i2s");
    bn_profile_free(&p);
}

/* The order in which bnprof list shows the runs. */
static void expect_list(const char *const *want, size_t n)
{
    struct bn_run_list list;
    struct bn_err err;

    assert_int_equal(bn_runs_list(&list, "bnprof.data", &err), 0);
    assert_int_equal(list.n, n);
    for (size_t i = 0; i < n; i++) {
        char *spec = bn_xasprintf("latest~%zu", i), *dir = bn_xasprintf("bnprof.data/%s", want[i]);
        assert_string_equal(list.entries[i].id, want[i]);
        expect_run(spec, dir);
        free(spec);
        free(dir);
    }
    bn_run_list_free(&list);
}

#define EXPECT_LIST(...)                                                                                     \
    expect_list((const char *const[]){__VA_ARGS__},                                                          \
                sizeof((const char *const[]){__VA_ARGS__}) / sizeof(const char *))

/* Names are local time: an hour that comes twice, a journey, two runs in a second. What counts is the time.
 */
static void test_names_are_no_order(void **state)
{
    const uint64_t t = 1795255200000000000u; /* 2026-11-21 10:00:00 UTC */
    (void)state;

    make_run_at("20261121-153000-india", "a", t, "2026-11-21 15:30:00 +0530");
    make_run_at("20261121-100001-zz", "a", t + 1000000000, "2026-11-21 10:00:01 +0000");
    make_run_at("20261121-100001-aa", "a", t + 1300000000, "2026-11-21 10:00:01 +0000");
    make_run_at("20261121-105959-old", "a", 0, "2026-11-21 10:59:59 +0100"); /* as older ones wrote it */
    make_run("20261121-095900-nothing", "a");
    EXPECT_LIST("20261121-100001-aa", "20261121-100001-zz", "20261121-153000-india", "20261121-105959-old",
                "20261121-095900-nothing");
    expect_previous("latest", "20261121-100001-zz");
    expect_previous("20261121-100001-zz", "20261121-153000-india");
    setenv("TZ", "Asia/Kolkata", 1);
    EXPECT_LIST("20261121-100001-aa", "20261121-100001-zz", "20261121-153000-india", "20261121-105959-old",
                "20261121-095900-nothing");
    setenv("TZ", "UTC", 1);
}

/* A clock that was set back, recordings that overlap: the link names the one that was finished last. */
static void test_link_is_latest(void **state)
{
    struct bn_err err;
    (void)state;

    make_run_at("20261121-100000-a", "k", 1000, NULL);
    make_run_at("20261121-100001-b", "k", 2000, NULL);
    make_run_at("20261121-100002-c", "k", 3000, NULL);
    EXPECT_LIST("20261121-100002-c", "20261121-100001-b", "20261121-100000-a");
    assert_int_equal(bn_runs_set_latest("bnprof.data", "20261121-100000-a", &err), 0);
    EXPECT_LIST("20261121-100000-a", "20261121-100002-c", "20261121-100001-b");
    expect_previous("latest", "20261121-100002-c");
    mkdir("bnprof.data/20261121-100003-cut", 0777);
    make_file("bnprof.data/20261121-100003-cut/profile.part");
    EXPECT_LIST("20261121-100003-cut", "20261121-100000-a", "20261121-100002-c", "20261121-100001-b");
    /* A link that leads nowhere, out of the folder or to no finished run is none. */
    static const char *const bad[] = {"20261121-100009-gone", "../20261121-100000-a", "20261121-100003-cut",
                                      "."};
    for (size_t i = 0; i < BN_COUNT(bad); i++) {
        assert_int_equal(bn_runs_set_latest("bnprof.data", bad[i], &err), 0);
        assert_null(bn_runs_latest("bnprof.data"));
        EXPECT_LIST("20261121-100003-cut", "20261121-100002-c", "20261121-100001-b", "20261121-100000-a");
    }
}

int main(void)
{
#define EACH(f) cmocka_unit_test_setup_teardown(f, enter_folder, leave_folder)
    const struct CMUnitTest tests[] = {
        EACH(test_base),
        EACH(test_create),
        EACH(test_order),
        EACH(test_resolve),
        EACH(test_previous),
        EACH(test_recording_is_left_alone),
        EACH(test_names_are_no_order),
        EACH(test_link_is_latest),
    };
    return cmocka_run_group_tests_name("runs", tests, NULL, NULL);
}
