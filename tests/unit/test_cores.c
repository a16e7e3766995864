/* SPDX-License-Identifier: MIT
 * Cores that a process may use: siblings, affinity, quotas of both versions of control groups, odd files. */
#include "core/cores.h"

#include <errno.h>
#include <ftw.h>
#include <limits.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include <cmocka.h>

#include "core/base.h"

static char root[] = "/tmp/bn-cores-XXXXXX";

/* ---- a system of files ---- */

static void put(const char *path, const char *text)
{
    char *whole = bn_xasprintf("%s%s", root, path);

    for (char *slash = whole + strlen(root); (slash = strchr(slash + 1, '/'));) {
        *slash = '\0';
        assert_true(mkdir(whole, 0700) == 0 || errno == EEXIST);
        *slash = '/';
    }
    FILE *f = fopen(whole, "w");
    assert_non_null(f);
    fputs(text, f);
    fclose(f);
    free(whole);
}

static int remove_one(const char *path, const struct stat *st, int type, struct FTW *ftw)
{
    (void)st;
    (void)type;
    return ftw->level > 0 ? remove(path) : 0;
}

static int clear(void **state)
{
    (void)state;
    return nftw(root, remove_one, 16, FTW_DEPTH | FTW_PHYS);
}

static void put_siblings(unsigned cpu, const char *list)
{
    char path[100];

    snprintf(path, sizeof path, "/sys/devices/system/cpu/cpu%u/topology/thread_siblings_list", cpu);
    put(path, list);
}

/* CPUs first … last, every step-th. */
static unsigned usable(unsigned first, unsigned last, unsigned step)
{
    struct bn_cpus cpus;

    memset(&cpus, 0, sizeof cpus);
    for (unsigned i = first; i <= last; i += step)
        CPU_SET_S(i, sizeof cpus, cpus.sets);
    return bn_cores_usable_at(root, &cpus);
}

/* ---- topology ---- */

static void test_nothing_known(void **state)
{
    struct bn_cpus none;

    (void)state;
    memset(&none, 0, sizeof none);
    assert_int_equal(usable(0, 0, 1), 1);
    assert_int_equal(usable(0, 7, 1), 8);
    assert_int_equal(usable(8191, 8191, 1), 1);
    assert_int_equal(bn_cores_usable_at(root, &none), 1);
    assert_int_equal(bn_cores_usable_at("/nowhere/at/all", &none), 1);
}

/* Four cores of two threads each: i and i + 4, or 2i and 2i + 1. */
static void test_siblings(void **state)
{
    static const char *const far[] = {"0,4\n", "1,5\n", "2,6\n", "3,7\n"};
    static const char *const near[] = {"0-1\n", "2-3\n", "4-5\n", "6-7\n"};

    (void)state;
    for (unsigned cpu = 0; cpu < 8; cpu++)
        put_siblings(cpu, far[cpu % 4]);
    assert_int_equal(usable(0, 7, 1), 4);
    assert_int_equal(usable(0, 3, 1), 4);
    assert_int_equal(usable(4, 7, 1), 4); /* a second thread alone is its core */
    assert_int_equal(usable(0, 4, 4), 1);
    assert_int_equal(usable(3, 5, 1), 3);
    for (unsigned cpu = 0; cpu < 8; cpu++)
        put_siblings(cpu, near[cpu / 2]);
    assert_int_equal(usable(0, 7, 1), 4);
    assert_int_equal(usable(0, 3, 1), 2);
    assert_int_equal(usable(1, 7, 2), 4);
    assert_int_equal(usable(7, 7, 1), 1);
}

static void test_odd_siblings(void **state)
{
    static const char *const odd[] = {
        "", "\n", "x\n", "-1\n", "2\n", "5-\n", "1-18446744073709551616\n", "99999999999999999999,3\n"};

    (void)state;
    for (size_t i = 0; i < BN_COUNT(odd); i++) {
        put_siblings(1, odd[i]);
        unsigned n = usable(1, 1, 1);
        assert_int_equal(n, 1);
    }
    put_siblings(1, "0-99999999999\n"); /* all share one: absurd, yet no loop without end */
    put_siblings(2, "0-99999999999\n");
    assert_int_equal(usable(1, 2, 1), 1);
}

/* ---- control groups ---- */

static const char v2_mount[] = "29 23 0:26 / /sys/fs/cgroup rw,nosuid shared:4 - cgroup2 cgroup2 rw\n";

static void test_v2(void **state)
{
    (void)state;
    put("/proc/self/mountinfo", v2_mount);
    put("/proc/self/cgroup", "0::/user.slice/a/b\n");
    assert_int_equal(usable(0, 7, 1), 8);
    put("/sys/fs/cgroup/user.slice/a/b/cpu.max", "max 100000\n");
    assert_int_equal(usable(0, 7, 1), 8);
    put("/sys/fs/cgroup/user.slice/a/b/cpu.max", "400000 100000\n");
    assert_int_equal(usable(0, 7, 1), 4);
    assert_int_equal(usable(0, 1, 1), 2); /* fewer CPUs than the quota pays for */
    put("/sys/fs/cgroup/user.slice/cpu.max", "150000 100000\n");
    assert_int_equal(usable(0, 7, 1), 2); /* an ancestor's 1.5 */
    put("/sys/fs/cgroup/user.slice/a/b/cpu.max", "1000 100000\n");
    assert_int_equal(usable(0, 7, 1), 1);
    put("/proc/self/cgroup", "0::/user.slice\n");
    assert_int_equal(usable(0, 7, 1), 2); /* a child's quota is not ours */
    put("/proc/self/cgroup", "0::/\n");
    assert_int_equal(usable(0, 7, 1), 8);
    put("/sys/fs/cgroup/cpu.max", "300000 100000\n"); /* the root of a container's namespace */
    assert_int_equal(usable(0, 7, 1), 3);
}

static void test_v1(void **state)
{
    (void)state;
    put("/proc/self/mountinfo", "30 29 0:27 / /sys/fs/cgroup/systemd rw - cgroup cgroup rw,name=systemd\n"
                                "31 29 0:28 / /sys/fs/cgroup/cpuset rw - cgroup cgroup rw,cpuset\n"
                                "32 29 0:29 / /sys/fs/cgroup/cpu\\040time rw,relatime shared:9 master:1 - "
                                "cgroup cgroup rw,cpu,cpuacct\n");
    put("/proc/self/cgroup", "11:cpuset:/x\n4:cpuacct,cpu:/job/7\n1:name=systemd:/\n");
    put("/sys/fs/cgroup/cpuset/x/cpu.cfs_quota_us", "1\n");
    put("/sys/fs/cgroup/cpuset/x/cpu.cfs_period_us", "1\n");
    put("/sys/fs/cgroup/cpu time/job/7/cpu.cfs_quota_us", "-1\n");
    put("/sys/fs/cgroup/cpu time/job/7/cpu.cfs_period_us", "100000\n");
    assert_int_equal(usable(0, 7, 1), 8);
    put("/sys/fs/cgroup/cpu time/job/7/cpu.cfs_quota_us", "250000\n");
    assert_int_equal(usable(0, 7, 1), 3);
    put("/sys/fs/cgroup/cpu time/job/cpu.cfs_quota_us", "20000\n");
    put("/sys/fs/cgroup/cpu time/job/cpu.cfs_period_us", "10000\n");
    assert_int_equal(usable(0, 7, 1), 2);
}

/* Both at once, as many systems had them: the lower limit counts. */
static void test_hybrid(void **state)
{
    (void)state;
    put("/proc/self/mountinfo", "31 29 0:28 / /cg/cpu rw - cgroup cgroup rw,cpu\n"
                                "32 29 0:29 / /cg/unified rw - cgroup2 cgroup2 rw\n");
    put("/proc/self/cgroup", "4:cpu:/one\n0::/two\n");
    put("/cg/cpu/one/cpu.cfs_quota_us", "500000");
    put("/cg/cpu/one/cpu.cfs_period_us", "100000");
    assert_int_equal(usable(0, 7, 1), 5);
    put("/cg/unified/two/cpu.max", "300000 100000");
    assert_int_equal(usable(0, 7, 1), 3);
    put("/cg/unified/two/cpu.max", "700000 100000");
    assert_int_equal(usable(0, 7, 1), 5);
}

/* A container that sees only its part of the hierarchy, but is named as the host names it; and one whose
 * group lies outside what it sees. */
static void test_container(void **state)
{
    (void)state;
    put("/proc/self/mountinfo", "29 23 0:26 /docker/abc /sys/fs/cgroup ro - cgroup2 cgroup2 rw\n");
    put("/proc/self/cgroup", "0::/docker/abc/inner\n");
    put("/sys/fs/cgroup/cpu.max", "200000 100000\n");
    assert_int_equal(usable(0, 7, 1), 2);
    put("/sys/fs/cgroup/inner/cpu.max", "100000 100000\n");
    assert_int_equal(usable(0, 7, 1), 1);
    put("/proc/self/cgroup", "0::/docker/abcdef\n"); /* not below /docker/abc */
    put("/sys/fs/cgroup/def/cpu.max", "100000 100000\n");
    assert_int_equal(usable(0, 7, 1), 2);
    put("/proc/self/cgroup", "0::/../../etc\n");
    put("/etc/cpu.max", "100000 100000\n");
    assert_int_equal(usable(0, 7, 1), 2);
}

static void test_odd_groups(void **state)
{
    static const char *const limits[] = {"",
                                         "\n",
                                         "max\n",
                                         "0 100000\n",
                                         "100000\n",
                                         "1 0\n",
                                         "-5 100000\n",
                                         "1e3 1e3\n",
                                         "nan nan\n",
                                         "a b c d\n",
                                         "99999999999999999999 1\n",
                                         " 1 1\n"};
    static const char *const groups[] = {"",      "\n",    "0:\n",    "0::\n",  "0::x\n",
                                         ":::\n", "cpu\n", "4:cpu\n", "4::/y\n"};
    static const char *const mounts[] = {
        "", "\n", " - \n", "1 2 3 4 5 - cgroup2\n", "- cgroup2 a b\n", "1 2 3 - cgroup2 x y\n"};
    char *line = bn_xcalloc(1, 100001);

    (void)state;
    put("/proc/self/mountinfo", v2_mount);
    put("/proc/self/cgroup", "0::/y\n");
    for (size_t i = 0; i < BN_COUNT(limits); i++) {
        put("/sys/fs/cgroup/y/cpu.max", limits[i]);
        assert_int_equal(usable(0, 7, 1), 8);
    }
    put("/sys/fs/cgroup/y/cpu.max", "100000 100000\n");
    assert_int_equal(usable(0, 7, 1), 1);
    memset(line, 'x', 100000); /* too long to be kept; what follows still counts */
    put("/proc/self/cgroup", line);
    assert_int_equal(usable(0, 7, 1), 8);
    memcpy(line + 99990, "\n0::/y\n", 8);
    put("/proc/self/cgroup", line);
    assert_int_equal(usable(0, 7, 1), 1);
    for (size_t i = 0; i < BN_COUNT(groups); i++) {
        put("/proc/self/cgroup", groups[i]);
        assert_int_equal(usable(0, 7, 1), 8);
    }
    put("/proc/self/cgroup", "0::/y\n");
    for (size_t i = 0; i < BN_COUNT(mounts); i++) {
        put("/proc/self/mountinfo", mounts[i]);
        assert_int_equal(usable(0, 7, 1), 8);
    }
    free(line);
}

/* ---- this system ---- */

static void test_here(void **state)
{
    struct bn_cpus all, one;
    size_t cpu = 0;

    (void)state;
    assert_int_equal(bn_cpus_allowed(&all), 0);
    assert_in_range(bn_cpus_count(), 1, INT_MAX);
    assert_in_range(bn_cores_usable(), 1, bn_cpus_count());
    while (!CPU_ISSET_S(cpu, sizeof all, all.sets))
        cpu++;
    memset(&one, 0, sizeof one);
    CPU_SET_S(cpu, sizeof one, one.sets);
    assert_int_equal(sched_setaffinity(0, sizeof one, one.sets), 0);
    assert_int_equal(bn_cpus_count(), 1);
    assert_int_equal(bn_cores_usable(), 1);
    assert_int_equal(sched_setaffinity(0, sizeof all, all.sets), 0);
}

static int make_root(void **state)
{
    (void)state;
    return mkdtemp(root) ? 0 : -1;
}

static int remove_root(void **state)
{
    return clear(state) == 0 ? remove(root) : -1;
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_teardown(test_nothing_known, clear),
        cmocka_unit_test_teardown(test_siblings, clear),
        cmocka_unit_test_teardown(test_odd_siblings, clear),
        cmocka_unit_test_teardown(test_v2, clear),
        cmocka_unit_test_teardown(test_v1, clear),
        cmocka_unit_test_teardown(test_hybrid, clear),
        cmocka_unit_test_teardown(test_container, clear),
        cmocka_unit_test_teardown(test_odd_groups, clear),
        cmocka_unit_test(test_here),
    };
    return cmocka_run_group_tests(tests, make_root, remove_root);
}
