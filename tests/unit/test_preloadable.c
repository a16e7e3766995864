/* SPDX-License-Identifier: MIT
 * Which programs the library with the CPU timers can be loaded into, and the sentence for the others. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "profiler/preloadable.h"

static char *program(const char *name)
{
    const char *build = getenv("BUILD");
    return bn_xasprintf("%s/tests/data/%s", build ? build : "build/release", name);
}

static void expect_refusal(const char *name, const char *why)
{
    struct bn_err err = {{0}};

    assert_int_equal(bn_preloadable(name, &err), -1);
    if (!strstr(err.msg, why))
        fail_msg("%s", err.msg);
}

/* Copy a program with other header bytes. */
static void forge(const char *path, size_t at, const void *bytes, size_t n, bool cut_interp)
{
    struct bn_map map;
    struct bn_err err;
    char *from = program("truth_spin");

    assert_int_equal(bn_map_open(&map, from, &err), 0);
    char *copy = bn_xmalloc(map.n);
    memcpy(copy, map.p, map.n);
    memcpy(copy + at, bytes, n);
    for (size_t i = 64; cut_interp && i + 56 <= 64 + 56 * 20; i += 56)
        if (copy[i] == 3 && copy[i + 1] == 0) /* PT_INTERP becomes PT_NULL */
            copy[i] = 0;
    int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0755);
    assert_true(fd >= 0 && write(fd, copy, map.n) == (ssize_t)map.n);
    assert_int_equal(fchmod(fd, 0755), 0);
    close(fd);
    free(copy);
    free(from);
    bn_map_close(&map);
}

static void test_refusals(void **state)
{
    char path[] = "/tmp/test_timer.XXXXXX";
    struct bn_err err = {{0}};
    char *good = program("truth_spin");
    int fd = mkstemp(path);

    (void)state;
    close(fd);
    assert_int_equal(bn_preloadable(good, &err), 0);
    assert_int_equal(bn_preloadable("sh", &err), 0);
    assert_int_equal(bn_preloadable("no-such-program-anywhere", &err), 0); /* its start will say so */
    forge(path, 4, "\2", 1, true);
    expect_refusal(path, "statically linked");
    forge(path, 4, "\1", 1, false);
    expect_refusal(path, "not a 64-bit program");
    if (geteuid() == 0) {
        forge(path, 4, "\2", 1, false);
        assert_int_equal(chown(path, 65534, 65534), 0);
        assert_int_equal(chmod(path, 04755), 0);
        expect_refusal(path, "more rights than you have");
    }
    fd = open(path, O_WRONLY | O_TRUNC | O_CLOEXEC);
    assert_true(dprintf(fd, "#! %s 100\n", good) > 0);
    close(fd);
    assert_int_equal(bn_preloadable(path, &err), 0);
    unlink(path);
    free(good);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_refusals)};

    return cmocka_run_group_tests(tests, NULL, NULL);
}
