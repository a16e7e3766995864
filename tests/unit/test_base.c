/* SPDX-License-Identifier: MIT
 * core/base: messages, arenas, buffers, numbers, files that appear whole or not at all. */
#include "core/base.h"

#include <fcntl.h>
#include <setjmp.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

static char folder[] = "/tmp/bnprof-test-base.XXXXXX";

static char *in_folder(const char *name)
{
    return bn_xasprintf("%s/%s", folder, name);
}

static void test_err(void **state)
{
    struct bn_err err;

    (void)state;
    assert_int_equal(bn_err_set(&err, "tensor %s: bad\nname\x1b[2J", "x\ty"), -1);
    assert_string_equal(err.msg, "tensor x?y: bad?name?[2J");
    assert_int_equal(bn_err_prefix(&err, "f.gguf"), -1);
    assert_string_equal(err.msg, "f.gguf: tensor x?y: bad?name?[2J");
    char longer[2000];
    memset(longer, 'a', sizeof longer);
    longer[sizeof longer - 1] = '\0';
    bn_err_set(&err, "%s", longer);
    assert_int_equal(strlen(err.msg), sizeof err.msg - 1);
    bn_err_prefix(&err, "%s", longer);
    assert_int_equal(strlen(err.msg), sizeof err.msg - 1);
    assert_int_equal(bn_err_set(NULL, "nobody listens"), -1);
}

static void test_arena(void **state)
{
    struct bn_arena arena = {0};
    static const size_t sizes[] = {1, 15, 16, 63, 64, 65, 4096, 70000, 0, 3};

    (void)state;
    for (int round = 0; round < 50; round++) {
        for (size_t i = 0; i < BN_COUNT(sizes); i++) {
            unsigned char *p = bn_arena_alloc(&arena, sizes[i]);
            assert_non_null(p);
            assert_int_equal((uintptr_t)p % (sizes[i] >= 64 ? 64 : 16), 0);
            for (size_t k = 0; k < sizes[i]; k++)
                assert_int_equal(p[k], 0);
            memset(p, 0xff, sizes[i]);
        }
    }
    assert_string_equal(bn_arena_strndup(&arena, "hello", 4), "hell");
    bn_arena_free(&arena);
    bn_arena_free(&arena);
    assert_int_equal(arena.used_bytes, 0);
}

static void test_buf(void **state)
{
    struct bn_buf buf = {0};

    (void)state;
    for (int i = 0; i < 1000; i++)
        bn_buf_printf(&buf, "%d,", i % 10);
    assert_int_equal(buf.n, 2000);
    assert_memory_equal(buf.p + 1994, "7,8,9,", 7);
    bn_buf_putc(&buf, '\0');
    bn_buf_puts(&buf, "end");
    assert_int_equal(buf.n, 2004);
    bn_buf_free(&buf);
    assert_null(buf.p);
}

static void test_parse(void **state)
{
    static const char *const bad[] = {"",     " 1",  "1 ",  "-1", "+1",
                                      "0x10", "1e3", "101", "9",  "99999999999999999999"};
    uint64_t u = 0;
    double d = 0;

    (void)state;
    for (size_t i = 0; i < BN_COUNT(bad); i++)
        assert_int_equal(bn_parse_u64(bad[i], 10, 100, &u), -1);
    assert_int_equal(bn_parse_u64("10", 10, 100, &u), 0);
    assert_int_equal(u, 10);
    assert_int_equal(bn_parse_double("0.75", 0, 1, &d), 0);
    assert_true(d == 0.75);
    assert_int_equal(bn_parse_double("nan", 0, 1, &d), -1);
    assert_int_equal(bn_parse_double("1.5", 0, 1, &d), -1);
    assert_int_equal(bn_parse_double("0.5x", 0, 1, &d), -1);
}

/* What is no plain file is written to, not replaced. */
static void test_out_device(void **state)
{
    char *path = in_folder("pipe"), got[8] = "";
    struct bn_out out;
    struct bn_err err;
    struct stat there;

    (void)state;
    assert_int_equal(mkfifo(path, 0600), 0);
    int reader = open(path, O_RDONLY | O_NONBLOCK);
    assert_true(reader >= 0);
    assert_int_equal(bn_out_open(&out, path, &err), 0);
    fputs("whole", out.f);
    assert_int_equal(bn_out_commit(&out, &err), 0);
    assert_int_equal(read(reader, got, sizeof got), 5);
    assert_memory_equal(got, "whole", 5);
    assert_int_equal(stat(path, &there), 0);
    assert_true(S_ISFIFO(there.st_mode));
    close(reader);
    unlink(path);
    free(path);
    if (stat("/dev/full", &there) != 0 || !S_ISCHR(there.st_mode) || access("/dev/full", W_OK) != 0)
        return; /* a container without it */
    assert_int_equal(bn_out_open(&out, "/dev/full", &err), 0);
    fputs("whole", out.f);
    assert_int_equal(bn_out_commit(&out, &err), -1);
    assert_string_equal(err.msg, "/dev/full: cannot be written: No space left on device");
    assert_true(stat("/dev/full", &there) == 0 && S_ISCHR(there.st_mode));
}

/* The link stays, what it leads to is replaced whole. */
static void test_out_link(void **state)
{
    char *path = in_folder("out.txt"), *link = in_folder("link");
    struct bn_out out;
    struct bn_err err;
    struct bn_map map;
    struct stat there;

    (void)state;
    assert_int_equal(bn_out_open(&out, path, &err), 0);
    assert_int_equal(bn_out_commit(&out, &err), 0);
    assert_int_equal(symlink("out.txt", link), 0);
    assert_int_equal(bn_out_open(&out, link, &err), 0);
    fputs("through", out.f);
    assert_int_equal(bn_out_commit(&out, &err), 0);
    assert_true(lstat(link, &there) == 0 && S_ISLNK(there.st_mode));
    assert_int_equal(bn_map_open(&map, path, &err), 0);
    assert_int_equal(map.n, 7);
    assert_memory_equal(map.p, "through", 7);
    bn_map_close(&map);
    unlink(path); /* a link to nothing: the file comes in its place */
    assert_int_equal(bn_out_open(&out, link, &err), 0);
    assert_int_equal(bn_out_commit(&out, &err), 0);
    assert_int_equal(access(link, R_OK), 0);
    unlink(link);
    free(link);
    free(path);
}

static void test_out(void **state)
{
    char *path = in_folder("out.txt");
    struct bn_out out;
    struct bn_err err;
    struct bn_map map;

    (void)state;
    assert_int_equal(bn_out_open(&out, path, &err), 0);
    fputs("whole", out.f);
    assert_int_equal(access(path, F_OK), -1); /* not there before it is complete */
    assert_int_equal(bn_out_commit(&out, &err), 0);
    assert_int_equal(bn_map_open(&map, path, &err), 0);
    assert_int_equal(map.n, 5);
    assert_memory_equal(map.p, "whole", 5);
    bn_map_close(&map);
    assert_int_equal(bn_out_open(&out, path, &err), 0);
    fputs("half", out.f);
    bn_out_abort(&out);
    assert_int_equal(bn_map_open(&map, path, &err), 0);
    assert_memory_equal(map.p, "whole", 5); /* the old one stands */
    bn_map_close(&map);
    char *command = bn_xasprintf("ls %s | wc -l | grep -qx 1", folder);
    assert_int_equal(system(command), 0); /* no temporary file is left */
    free(command);
    assert_int_equal(bn_out_open(&out, "/nonexistent/folder/x", &err), -1);
    assert_non_null(strstr(err.msg, "/nonexistent/folder/x: cannot be written"));
    unlink(path);
    free(path);
}

static void test_map_errors(void **state)
{
    struct bn_map map;
    struct bn_err err;

    (void)state;
    assert_int_equal(bn_map_open(&map, "/nonexistent", &err), -1);
    assert_string_equal(err.msg, "/nonexistent: No such file or directory");
    assert_int_equal(bn_map_open(&map, "/tmp", &err), -1);
    assert_non_null(strstr(err.msg, "is a directory"));
    char *fifo = in_folder("fifo");
    assert_int_equal(mkfifo(fifo, 0600), 0);
    assert_int_equal(bn_map_open(&map, fifo, &err), -1); /* nobody writes: must not wait for one */
    assert_non_null(strstr(err.msg, "no regular file"));
    unlink(fifo);
    free(fifo);
    assert_int_equal(bn_map_open(&map, "/dev/null", &err), -1);
    assert_non_null(strstr(err.msg, "no regular file"));
}

static int make_folder(void **state)
{
    (void)state;
    return mkdtemp(folder) ? 0 : -1;
}

static int remove_folder(void **state)
{
    (void)state;
    return rmdir(folder);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_err),      cmocka_unit_test(test_arena),      cmocka_unit_test(test_buf),
        cmocka_unit_test(test_parse),    cmocka_unit_test(test_out),        cmocka_unit_test(test_out_device),
        cmocka_unit_test(test_out_link), cmocka_unit_test(test_map_errors),
    };
    return cmocka_run_group_tests(tests, make_folder, remove_folder);
}
