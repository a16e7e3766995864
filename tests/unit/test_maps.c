/* SPDX-License-Identifier: MIT
 * Mappings over time: overlap, fork, exec, reused process numbers. */
#include <linux/perf_event.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "profiler/maps.h"

static void map(struct bn_maps *maps, int32_t pid, uint64_t start, uint64_t length, const char *name)
{
    bn_maps_apply(maps, &(struct bn_record){.type = PERF_RECORD_MMAP2,
                                            .pid = pid,
                                            .tid = pid,
                                            .start = start,
                                            .length = length,
                                            .executable = true,
                                            .text = name});
}

static void task(struct bn_maps *maps, uint32_t type, int32_t pid, int32_t parent)
{
    bn_maps_apply(maps,
                  &(struct bn_record){
                      .type = type, .pid = pid, .tid = pid, .parent_pid = parent, .parent_tid = parent});
}

static void exec(struct bn_maps *maps, int32_t pid)
{
    bn_maps_apply(maps, &(struct bn_record){.type = PERF_RECORD_COMM,
                                            .misc = PERF_RECORD_MISC_COMM_EXEC,
                                            .pid = pid,
                                            .tid = pid,
                                            .text = "x"});
}

/* Name of the file at an address, "" = none. */
static const char *at(struct bn_maps *maps, int32_t pid, uint64_t address)
{
    struct bn_place place = bn_maps_find(maps, bn_maps_process(maps, pid), address);
    return place.image ? place.image->name : "";
}

static void test_overlap(void **unused)
{
    struct bn_maps maps;

    (void)unused;
    bn_maps_init(&maps);
    map(&maps, 1, 0x1000, 0x9000, "/nowhere/a");
    assert_string_equal(at(&maps, 1, 0x0fff), "");
    assert_string_equal(at(&maps, 1, 0x1000), "a");
    assert_string_equal(at(&maps, 1, 0x9fff), "a");
    assert_string_equal(at(&maps, 1, 0xa000), "");
    uint32_t generation = bn_maps_process(&maps, 1)->generation;

    map(&maps, 1, 0x3000, 0x1000, "/nowhere/b"); /* inside: a splits */
    assert_string_equal(at(&maps, 1, 0x2fff), "a");
    assert_string_equal(at(&maps, 1, 0x3000), "b");
    assert_string_equal(at(&maps, 1, 0x3fff), "b");
    assert_string_equal(at(&maps, 1, 0x4000), "a");
    assert_true(bn_maps_process(&maps, 1)->generation > generation);
    const struct bn_process *p = bn_maps_process(&maps, 1);
    assert_int_equal(p->n, 3);
    assert_int_equal(p->mappings[2].file_offset, 0x3000); /* the right part begins further into the file */

    map(&maps, 1, 0x0800, 0x3000, "/nowhere/c"); /* over the left part and the beginning of b */
    assert_string_equal(at(&maps, 1, 0x0800), "c");
    assert_string_equal(at(&maps, 1, 0x37ff), "c");
    assert_string_equal(at(&maps, 1, 0x3800), "b");
    map(&maps, 1, 0x0000, 0x10000, "/nowhere/d"); /* over all */
    assert_int_equal(bn_maps_process(&maps, 1)->n, 1);
    assert_string_equal(at(&maps, 1, 0x9999), "d");

    /* Data mapped over code takes the code away. */
    bn_maps_apply(&maps, &(struct bn_record){.type = PERF_RECORD_MMAP2,
                                             .pid = 1,
                                             .start = 0x5000,
                                             .length = 0x1000,
                                             .executable = false,
                                             .text = "/nowhere/e"});
    assert_string_equal(at(&maps, 1, 0x5000), "");
    assert_string_equal(at(&maps, 1, 0x6000), "d");
    bn_maps_free(&maps);
}

/* dlopen A, dlclose, dlopen B at the same place: each time the right one. */
static void test_reload(void **unused)
{
    struct bn_maps maps;

    (void)unused;
    bn_maps_init(&maps);
    map(&maps, 1, 0x7000, 0x1000, "/nowhere/libone.so");
    assert_string_equal(at(&maps, 1, 0x7800), "libone.so");
    map(&maps, 1, 0x7000, 0x1000, "/nowhere/libtwo.so");
    assert_string_equal(at(&maps, 1, 0x7800), "libtwo.so");
    assert_int_equal(bn_maps_process(&maps, 1)->n, 1);
    bn_maps_free(&maps);
}

static void test_fork_and_exec(void **unused)
{
    struct bn_maps maps;

    (void)unused;
    bn_maps_init(&maps);
    map(&maps, 1, 0x1000, 0x1000, "/nowhere/parent");
    task(&maps, PERF_RECORD_FORK, 2, 1);
    assert_string_equal(at(&maps, 2, 0x1800), "parent");
    map(&maps, 2, 0x1000, 0x1000, "/nowhere/own"); /* the child's change is its own */
    assert_string_equal(at(&maps, 1, 0x1800), "parent");
    assert_string_equal(at(&maps, 2, 0x1800), "own");
    exec(&maps, 2);
    assert_string_equal(at(&maps, 2, 0x1800), "");
    map(&maps, 2, 0x4000, 0x1000, "/nowhere/child");
    assert_string_equal(at(&maps, 2, 0x4000), "child");

    /* A new thread changes nothing; a new name without exec neither. */
    bn_maps_apply(&maps, &(struct bn_record){
                             .type = PERF_RECORD_FORK, .pid = 2, .tid = 3, .parent_pid = 2, .parent_tid = 2});
    bn_maps_apply(&maps, &(struct bn_record){.type = PERF_RECORD_COMM, .pid = 2, .tid = 3, .text = "worker"});
    assert_string_equal(at(&maps, 2, 0x4000), "child");

    /* The number is used again: the new process has its parent's mappings, not the old one's. */
    uint32_t serial = bn_maps_process(&maps, 2)->serial;
    task(&maps, PERF_RECORD_EXIT, 2, 1);
    task(&maps, PERF_RECORD_FORK, 2, 1);
    assert_int_not_equal(bn_maps_process(&maps, 2)->serial, serial);
    assert_string_equal(at(&maps, 2, 0x4000), "");
    assert_string_equal(at(&maps, 2, 0x1800), "parent");
    bn_maps_free(&maps);
}

/* Many processes: the table of numbers grows. */
static void test_many(void **unused)
{
    struct bn_maps maps;
    char name[32];

    (void)unused;
    bn_maps_init(&maps);
    for (int32_t pid = 1; pid <= 1000; pid++) {
        snprintf(name, sizeof name, "/nowhere/f%d", pid % 10);
        map(&maps, pid, 0x1000, 0x1000, name);
    }
    assert_int_equal(maps.n_processes, 1000);
    assert_int_equal(maps.n_files, 10);
    for (int32_t pid = 1; pid <= 1000; pid++) {
        snprintf(name, sizeof name, "f%d", pid % 10);
        assert_string_equal(at(&maps, pid, 0x1000), name);
    }
    bn_maps_free(&maps);
}

static bool all_gone(int32_t pid)
{
    return pid != 21;
}

/* The mappings of a process go a while after its last thread, and not at all while it lives. */
static void test_forget(void **unused)
{
    static const char path[] = "/x";
    struct bn_maps maps;

    (void)unused;
    bn_maps_init(&maps);
    for (int32_t pid = 20; pid <= 22; pid++) {
        struct bn_record m = {.type = PERF_RECORD_MMAP2,
                              .pid = pid,
                              .tid = pid,
                              .start = 0x1000,
                              .length = 0x1000,
                              .executable = true,
                              .text = path};
        bn_maps_apply(&maps, &m);
    }
    struct bn_record thread = {
        .type = PERF_RECORD_FORK, .pid = 22, .parent_pid = 22, .tid = 23, .parent_tid = 22};
    bn_maps_apply(&maps, &thread);
    for (int32_t pid = 20; pid <= 22; pid++)
        bn_maps_apply(&maps,
                      &(struct bn_record){.type = PERF_RECORD_EXIT, .pid = pid, .tid = pid, .t_ns = 100});
    bn_maps_forget(&maps, 100, all_gone);
    assert_int_equal(bn_maps_process(&maps, 20)->n, 1); /* too early */
    bn_maps_forget(&maps, 200, all_gone);
    assert_int_equal(bn_maps_process(&maps, 20)->n, 0);
    assert_int_equal(bn_maps_process(&maps, 21)->n, 1); /* lives, for all that was heard */
    assert_int_equal(bn_maps_process(&maps, 22)->n, 1); /* has another thread */
    bn_maps_apply(&maps, &(struct bn_record){.type = PERF_RECORD_EXIT, .pid = 22, .tid = 23, .t_ns = 300});
    bn_maps_forget(&maps, 400, all_gone);
    assert_int_equal(bn_maps_process(&maps, 22)->n, 0);
    bn_maps_free(&maps);
}

static void test_senseless(void **unused)
{
    struct bn_maps maps;

    (void)unused;
    bn_maps_init(&maps);
    map(&maps, 1, UINT64_MAX - 0x10, 0x1000, "/nowhere/wraps");
    map(&maps, 1, 0x1000, 0, "/nowhere/empty");
    map(&maps, -1, 0x1000, 0x1000, "[kernel.kallsyms]");
    assert_string_equal(at(&maps, 1, 0x1000), "");
    assert_string_equal(at(&maps, 1, UINT64_MAX), "");
    map(&maps, 1, 0, UINT64_MAX, "/nowhere/everything");
    assert_string_equal(at(&maps, 1, 0x1000), "everything");
    map(&maps, 1, 0x1000, 0x1000, ""); /* a name must not be needed */
    assert_string_equal(at(&maps, 1, 0x1000), "");
    assert_string_equal(at(&maps, 1, 0x2000), "everything");
    bn_maps_free(&maps);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_overlap), cmocka_unit_test(test_reload), cmocka_unit_test(test_fork_and_exec),
        cmocka_unit_test(test_many),    cmocka_unit_test(test_forget), cmocka_unit_test(test_senseless),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
