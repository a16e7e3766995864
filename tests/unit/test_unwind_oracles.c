/* SPDX-License-Identifier: MIT
 * The unwinder against others on the same program: the kernel's walk by frame pointers, and perf's own
 * unwinding (perf record --call-graph dwarf, perf script). Each function's share of the samples, by itself
 * and with what it calls, and each call path's share must agree as those of two independent samplings do.
 *
 * A pair of shares may differ by 5 standard deviations of the difference, which chance exceeds once in 1.7
 * million pairs; with fewer than 100 pairs in all the test fails by chance less than once in 10,000 runs.
 * Samples that fall into the same round of the program are not independent, so of n samples n / (1 + n /
 * rounds) count. On top of that a thousandth is allowed for what the methods do differently on purpose. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "profiler/profile.h"

enum { ROUNDS = 16000, MAX_PATHS = 256, MAX_FRAMES = 32, FEWEST_SAMPLES = 400, MAX_PAIRS = 48 };
#define DEVIATIONS 5.0
#define ALLOWED    0.001

/* Samples by call path: "main;gamma_;alpha" from main on. */
struct counted {
    char *path[MAX_PATHS];
    double n[MAX_PATHS];
    size_t n_paths;
    double all, outside; /* outside: without main */
};

static char folder[] = "/tmp/test_unwind_oracles.XXXXXX";
static struct counted by_rules;
static const char *why_not; /* no recording was made */

/* frames: innermost first, as they were found; what called main is left out. */
static void count_path(struct counted *c, const char *const *frames, size_t n)
{
    struct bn_buf text = {0};
    size_t depth = 0, i = 0;

    while (depth < n && strcmp(frames[depth], "main") != 0)
        depth++;
    if (depth == n) {
        c->outside++;
        return;
    }
    for (size_t k = depth + 1; k > 0; k--)
        bn_buf_printf(&text, "%s%s", text.n ? ";" : "", frames[k - 1]);
    while (i < c->n_paths && strcmp(c->path[i], text.p) != 0)
        i++;
    assert_true(i < MAX_PATHS);
    if (i == c->n_paths)
        c->path[c->n_paths++] = bn_xstrdup(text.p);
    c->n[i]++;
    c->all++;
    bn_buf_free(&text);
}

static void forget(struct counted *c)
{
    for (size_t i = 0; i < c->n_paths; i++)
        free(c->path[i]);
    *c = (struct counted){0};
}

/* ---- comparison ---- */

enum what { PATH, SELF, WITH_CALLEES };

/* Does this path count for `name`? */
static bool counts_for(const char *path, const char *name, enum what what)
{
    size_t length = strlen(name);

    if (what == PATH)
        return strcmp(path, name) == 0;
    for (const char *at = path; at; at = strchr(at, ';')) {
        at += *at == ';';
        char after = strncmp(at, name, length) == 0 ? at[length] : 'x';
        if (after == '\0' || (after == ';' && what == WITH_CALLEES))
            return true;
    }
    return false;
}

static double count_for(const struct counted *c, const char *name, enum what what)
{
    double n = 0;

    for (size_t i = 0; i < c->n_paths; i++)
        if (counts_for(c->path[i], name, what))
            n += c->n[i];
    return n;
}

static bool agree_on(const struct counted *a, const struct counted *b, const char *name, enum what what)
{
    static const char *const how[] = {"", ", self", ", with callees"};
    double k = count_for(a, name, what), l = count_for(b, name, what), n = a->all, m = b->all;
    double p = (k + l + 1) / (n + m + 2), difference = fabs(k / n - l / m);
    double variance = p * (1 - p) * ((1 + n / ROUNDS) / n + (1 + m / ROUNDS) / m);
    bool agree = difference <= DEVIATIONS * sqrt(variance) + ALLOWED;

    if (!agree)
        print_message("# %s%s: %.2f %% and %.2f %%, %.1f standard deviations\n", name, how[what], 100 * k / n,
                      100 * l / m, difference / sqrt(variance));
    return agree;
}

/* Compare everything that either of them has seen. Returns how many pairs differ. */
static size_t compare(const struct counted *a, const struct counted *b, size_t *n_pairs)
{
    static const char *const functions[] = {"main", "shared", "alpha", "beta", "gamma_", "deeper"};
    size_t n_bad = 0, n = 0;

    for (size_t i = 0; i < BN_COUNT(functions); i++, n += 2) {
        n_bad += !agree_on(a, b, functions[i], SELF);
        n_bad += !agree_on(a, b, functions[i], WITH_CALLEES);
    }
    for (size_t i = 0; i < a->n_paths; i++, n++)
        n_bad += !agree_on(a, b, a->path[i], PATH);
    for (size_t i = 0; i < b->n_paths; i++)
        if (count_for(a, b->path[i], PATH) == 0) {
            n_bad += !agree_on(a, b, b->path[i], PATH);
            n++;
        }
    *n_pairs = n;
    return n_bad;
}

static void assert_agree(const struct counted *a, const struct counted *b, const char *names)
{
    size_t n_pairs, n_bad = compare(a, b, &n_pairs);

    print_message("# %s: %.0f and %.0f samples, %zu shares compared\n", names, a->all, b->all, n_pairs);
    assert_true(a->all >= FEWEST_SAMPLES && b->all >= FEWEST_SAMPLES);
    assert_true(a->outside < 0.05 * a->all && b->outside < 0.05 * b->all);
    assert_true(n_pairs <= MAX_PAIRS && count_for(a, "gamma_", WITH_CALLEES) > 0);
    assert_int_equal(n_bad, 0);
}

/* ---- the three ---- */

static int shell(const char *command)
{
    return system(command);
}

static void skip_for(const char *why)
{
    print_message("# skipped: %s\n", why);
    skip();
}

/* Ours; inlined frames and the kernel's do not count. */
static void read_ours(const char *run, struct counted *c)
{
    char *path = bn_xasprintf("%s/%s/latest/profile.json", folder, run);
    const char *frames[BN_PROFILE_MAX_DEPTH];
    struct bn_profile p;
    struct bn_err err;

    if (bn_profile_load(&p, path, &err) != 0)
        fail_msg("%s", err.msg);
    for (size_t i = 0; i < p.n_samples; i++) {
        size_t n = 0;
        for (uint32_t s = p.samples[i].stack; s; s = p.stacks[s].parent) {
            const struct bn_frame *f = &p.frames[p.stacks[s].frame];
            if (!f->inlined && f->kind != BN_FRAME_KERNEL)
                frames[n++] = f->function;
        }
        count_path(c, frames, n);
    }
    bn_profile_free(&p);
    free(path);
}

/* perf's: a block of lines a sample, innermost frame first: "  55d0c0ffee00 function". */
static void read_theirs(FILE *f, struct counted *c)
{
    char line[512], names[MAX_FRAMES][64];
    const char *frames[MAX_FRAMES];
    size_t n = 0;

    while (fgets(line, sizeof line, f)) {
        if (n < MAX_FRAMES && sscanf(line, "%*x %63s", names[n]) == 1) {
            frames[n] = names[n];
            n++;
        } else if (line[0] == '\n' && n) {
            count_path(c, frames, n);
            n = 0;
        }
    }
    if (n)
        count_path(c, frames, n);
}

static int record_by_rules(void **state)
{
    (void)state;
    if (!mkdtemp(folder))
        return 1;
    setenv("FOLDER", folder, 1);
    char *rounds = bn_xasprintf("%d", ROUNDS);
    setenv("ROUNDS", rounds, 1);
    free(rounds);
    setenv("BUILD", "build/release", 0);
    setenv("BNPROF", "./bnprof", 0);
    if (shell("$BNPROF record --event cpu-clock -o $FOLDER/probe -- true >/dev/null 2>&1") != 0)
        why_not = "no perf events here";
    else if (shell("$BNPROF record -o $FOLDER/rules -- $BUILD/tests/data/truth_calls $ROUNDS "
                   ">/dev/null 2>$FOLDER/log") != 0)
        return 1;
    else
        read_ours("rules", &by_rules);
    return 0;
}

static int clean_up(void **state)
{
    (void)state;
    forget(&by_rules);
    return shell("rm -r $FOLDER") == 0 ? 0 : 1;
}

static void test_frame_pointers(void **state)
{
    struct counted links = {0};

    (void)state;
    if (why_not)
        skip_for(why_not);
    assert_int_equal(shell("$BNPROF record --call-graph fp -o $FOLDER/links -- "
                           "$BUILD/tests/data/truth_calls $ROUNDS >/dev/null 2>$FOLDER/log"),
                     0);
    read_ours("links", &links);
    assert_agree(&by_rules, &links, "unwind rules and frame pointers");
    forget(&links);
}

static void test_perf(void **state)
{
    struct counted theirs = {0};

    (void)state;
    if (why_not)
        skip_for(why_not);
    if (shell("perf --version >/dev/null 2>&1") != 0)
        skip_for("no perf (Debian: linux-perf)");
    if (shell("perf record -q -F 999 -e cpu-clock:u --call-graph dwarf,8192 -o $FOLDER/perf.data "
              "$BUILD/tests/data/truth_calls $ROUNDS >/dev/null 2>$FOLDER/log") != 0)
        skip_for("perf record fails here");
    FILE *f = popen("perf script -i $FOLDER/perf.data --no-inline -F ip,sym 2>/dev/null", "r");
    assert_non_null(f);
    read_theirs(f, &theirs);
    assert_int_equal(pclose(f), 0);
    assert_agree(&by_rules, &theirs, "bnprof and perf");
    forget(&theirs);
}

/* The comparison itself: a caller lost in one sample of twenty is seen. */
static void test_that_it_bites(void **state)
{
    static const char *const lost[] = {"shared", "main"}, *const whole[] = {"shared", "alpha", "main"};
    struct counted a = {0}, b = {0};
    size_t n_pairs;

    (void)state;
    for (int i = 0; i < 1500; i++) {
        count_path(&a, whole + (i % 3 != 0), i % 3 ? 2 : 3);
        if (i % 20 == 0)
            count_path(&b, lost, 2);
        else
            count_path(&b, whole + (i % 3 != 0), i % 3 ? 2 : 3);
    }
    assert_int_equal(compare(&a, &a, &n_pairs), 0);
    assert_true(compare(&a, &b, &n_pairs) > 0);
    forget(&a);
    forget(&b);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_that_it_bites),
        cmocka_unit_test(test_frame_pointers),
        cmocka_unit_test(test_perf),
    };
    return cmocka_run_group_tests(tests, record_by_rules, clean_up);
}
