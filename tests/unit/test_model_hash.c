/* SPDX-License-Identifier: MIT
 * The hash of a model file: right, remembered, and forgotten when the file changes. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <dirent.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "core/builtin.h"
#include "core/digest.h"
#include "tools/model_hash.h"

static char dir[] = "/tmp/bnprof-hash.XXXXXX";
static char model[64], cache[64];

static int set_up(void **state)
{
    (void)state;
    if (!mkdtemp(dir))
        return -1;
    snprintf(model, sizeof model, "%s/model", dir);
    snprintf(cache, sizeof cache, "%s/bnprof", dir);
    return setenv("XDG_CACHE_HOME", dir, 1);
}

/* Write the model; its time stamp is `age` seconds old. */
static void put_model(const char *text, int age)
{
    FILE *f = fopen(model, "w");
    struct timespec times[2] = {{.tv_sec = time(NULL) - age}, {.tv_sec = time(NULL) - age}};

    assert_non_null(f);
    fputs(text, f);
    fclose(f);
    assert_int_equal(utimensat(AT_FDCWD, model, times, 0), 0);
}

/* Number of files in the cache; each is overwritten with text unless that is NULL. */
static int cache_files(const char *text)
{
    DIR *d = opendir(cache);
    int n = 0;

    for (struct dirent *e; d && (e = readdir(d));) {
        if (e->d_name[0] == '.')
            continue;
        char *path = bn_xasprintf("%s/%s", cache, e->d_name);
        FILE *f = text ? fopen(path, "w") : NULL;
        if (f) {
            fputs(text, f);
            fclose(f);
        }
        free(path);
        n++;
    }
    if (d)
        closedir(d);
    return n;
}

static int tear_down(void **state)
{
    char *command = bn_xasprintf("rm -r %s", dir);

    (void)state;
    int status = system(command);
    free(command);
    return status;
}

static const char abc[] = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";
static const char fake[] = "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef";

static void test_remembers(void **state)
{
    char hex[65];
    struct bn_err err;

    (void)state;
    put_model("abc", 60);
    assert_int_equal(bn_model_sha256(model, hex, &err), 0);
    assert_string_equal(hex, abc);
    assert_int_equal(cache_files(fake), 1);
    assert_int_equal(bn_model_sha256(model, hex, &err), 0);
    assert_string_equal(hex, fake); /* it did not read the file again */
    assert_int_equal(cache_files("0123 nonsense"), 1);
    assert_int_equal(bn_model_sha256(model, hex, &err), 0);
    assert_string_equal(hex, abc); /* a damaged cache counts for nothing */
    put_model("abc", 30);
    assert_int_equal(cache_files(fake), 1);
    assert_int_equal(bn_model_sha256(model, hex, &err), 0);
    assert_string_equal(hex, abc); /* another time stamp is another file */
}

static void test_fresh_file_is_not_remembered(void **state)
{
    char hex[65];
    struct bn_err err;
    int before = cache_files(NULL);

    (void)state;
    put_model("abc", 0);
    assert_int_equal(bn_model_sha256(model, hex, &err), 0);
    assert_string_equal(hex, abc);
    assert_int_equal(cache_files(NULL), before);
}

static void test_others(void **state)
{
    char hex[65], want[65];
    struct bn_err err;

    (void)state;
    struct bn_str builtin = bn_builtin_model();
    bn_sha256_hex(builtin.p, builtin.n, want);
    assert_int_equal(bn_model_sha256(BN_BUILTIN_LABEL, hex, &err), 0);
    assert_string_equal(hex, want);
    assert_int_equal(bn_model_sha256("/nonexistent/model", hex, &err), -1);
    assert_non_null(strstr(err.msg, "/nonexistent/model"));
    put_model("abc", 90);
    setenv("XDG_CACHE_HOME", "/proc/nowhere", 1); /* no cache is no error */
    assert_int_equal(bn_model_sha256(model, hex, &err), 0);
    assert_string_equal(hex, abc);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_remembers),
        cmocka_unit_test(test_fresh_file_is_not_remembered),
        cmocka_unit_test(test_others),
    };

    return cmocka_run_group_tests(tests, set_up, tear_down);
}
