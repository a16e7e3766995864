/* SPDX-License-Identifier: MIT
 * Programs whose profile is known, recorded and joined: shares, chains, inlining, marks, threads. */
#include <linux/perf_event.h>
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

#include "profiler/join.h"
#include "profiler/raw.h"
#include "profiler/recorder.h"

static char part_path[64];

static void ignore_note(void *ctx, const char *line)
{
    (void)ctx, (void)line;
}

/* Record build/…/tests/data/<name> into part_path. Skips the test if the machine refuses perf events. */
static void record(const char *name, const char *rounds, uint32_t rate_hz, bool frame_pointers)
{
    const char *build = getenv("BUILD");
    char *program = bn_xasprintf("%s/tests/data/%s", build ? build : "build/release", name);
    char command[] = "exec \"$0\" \"$1\" >/dev/null",
         *argv[] = {"sh", "-c", command, program, (char *)rounds, NULL};
    struct bn_recorder_options o = {
        .sampler.ladder = {.rate_hz = rate_hz, .stack_dump_bytes = 16384, .frame_pointers = frame_pointers},
        .file = "/bin/sh",
        .argv = argv,
        .part_path = part_path,
        .run_id = "truth",
        .started = "2026-11-21 10:15:00 +0000",
        .command = name,
        .note = ignore_note,
    };
    struct bn_recorder_result result = {0};
    struct bn_err err = {.msg = ""};

    snprintf(part_path, sizeof part_path, "/tmp/test_truth.%d", (int)getpid());
    unlink(part_path);
    int status = access(program, X_OK) == 0 ? bn_record(&o, &result, &err)
                                            : bn_err_set(&err, "%s is missing", program);
    free(program);
    if (status != 0 && !result.ran) {
        print_message("# skipped: %s\n", err.msg);
        unlink(part_path);
        skip();
    }
    assert_int_equal(status, 0);
    assert_int_equal(result.exit_status, 0);
}

static void join(struct bn_profile *p)
{
    struct bn_err err;

    bn_profile_init(p);
    if (bn_join(p, part_path, NULL, &err) != 0)
        fail_msg("%s", err.msg);
    unlink(part_path);
}

/* Does the stack hold these functions (separated by spaces), outermost first, next to each other, as its end
 * or anywhere? */
static bool holds(const struct bn_profile *p, uint32_t stack, const char *names)
{
    const char *end = names + strlen(names);
    uint32_t at = stack;

    while (at && end > names) {
        const char *start = end;
        while (start > names && start[-1] != ' ')
            start--;
        const char *function = p->frames[p->stacks[at].frame].function;
        if (strlen(function) != (size_t)(end - start) || memcmp(function, start, (size_t)(end - start)) != 0)
            return false;
        at = p->stacks[at].parent;
        end = start > names ? start - 1 : names;
    }
    return end == names;
}

/* Samples whose stack ends with these functions; kernel frames above them do not count. */
static size_t count_ends(const struct bn_profile *p, const char *names)
{
    size_t n = 0;

    for (size_t i = 0; i < p->n_samples; i++) {
        uint32_t at = p->samples[i].stack;
        while (at && p->frames[p->stacks[at].frame].kind == BN_FRAME_KERNEL)
            at = p->stacks[at].parent;
        n += holds(p, at, names);
    }
    return n;
}

static const char *root_name(const struct bn_profile *p, uint32_t stack)
{
    while (stack && p->stacks[stack].parent)
        stack = p->stacks[stack].parent;
    return stack ? p->frames[p->stacks[stack].frame].function : "";
}

/* k of n where share s is true: within the 99.9 % bounds of the binomial distribution. */
static void assert_share(size_t k, size_t n, double s)
{
    double sigma = sqrt((double)n * s * (1 - s)), off = fabs((double)k - (double)n * s);

    if (off > 3.3 * sigma + 3)
        fail_msg("%zu of %zu samples, expected %.1f %% (off by %.1f sigma)", k, n, 100 * s, off / sigma);
}

static void test_split(void **unused)
{
    struct bn_profile p;

    (void)unused;
    record("truth_split", "1500", 1999, false);
    join(&p);
    size_t a = count_ends(&p, "main all_work work_70"), b = count_ends(&p, "main all_work work_20");
    size_t c = count_ends(&p, "main all_work work_10"), n = a + b + c;
    print_message("# %zu samples: %zu %zu %zu\n", p.n_samples, a, b, c);
    assert_true(n > 300);
    assert_true(n * 100 >= (p.n_samples - 30) * 98); /* the shell and the start take a few */
    assert_share(a, n, 0.7);
    assert_share(b, n, 0.2);
    assert_share(c, n, 0.1);
    assert_true(p.quality.n_truncated * 100 <= p.n_samples * 2);
    assert_true(p.quality.n_unnamed * 100 <= p.n_samples * 2);
    bn_profile_free(&p);
}

/* The sum of the weights is the time on the CPU, whatever the rate. */
static void test_rates(void **unused)
{
    static const uint32_t rates[] = {99, 499, 999, 4999};

    (void)unused;
    for (size_t i = 0; i < BN_COUNT(rates); i++) {
        struct bn_profile p;
        uint64_t sum = 0;
        record("truth_split", "1000", rates[i], false);
        join(&p);
        for (size_t k = 0; k < p.n_samples; k++)
            sum += p.samples[k].weight_ns;
        double cpu = (double)p.quality.user_ns + (p.quality.kernel_sampled ? (double)p.quality.system_ns : 0);
        print_message("# %u Hz: %zu samples, weights %.1f %% of CPU time\n", rates[i], p.n_samples,
                      100 * (double)sum / cpu);
        assert_true(fabs((double)sum / cpu - 1) < 0.10 + 2e9 / rates[i] / cpu);
        bn_profile_free(&p);
    }
}

static void test_inline(void **unused)
{
    struct bn_profile p;

    (void)unused;
    record("truth_inline", "500", 999, false);
    join(&p);
    size_t n = count_ends(&p, "main outer_part middle_part inner_part"), lines = 0;
    assert_true(n > 100 && n * 100 >= (p.n_samples - 20) * 95);
    for (size_t i = 0; i < p.n_stacks; i++) {
        const struct bn_frame *f = i ? &p.frames[p.stacks[i].frame] : NULL;
        const struct bn_frame *up =
            i && p.stacks[i].parent ? &p.frames[p.stacks[p.stacks[i].parent].frame] : NULL;
        if (!f || strcmp(f->function, "middle_part") != 0)
            continue;
        assert_true(f->inlined && f->line == 21); /* where it calls inner_part */
        assert_true(up && !up->inlined && up->line == 27);
        assert_non_null(strstr(f->file, "truth_inline.c"));
        lines++;
    }
    assert_true(lines > 0);
    bn_profile_free(&p);
}

/* Ten thousand levels: every such stack is marked as cut off. A frame larger than the copy: the kernel's walk
 * of the frame pointers leads over it, right to main. */
static void test_deep(void **unused)
{
    struct bn_profile p;
    size_t marked = 0, whole = 0;

    (void)unused;
    record("truth_deep", "100", 999, false);
    join(&p);
    for (size_t i = 0; i < p.n_samples; i++) {
        const struct bn_sample *s = &p.samples[i];
        if (!holds(&p, s->stack, "descend descend spin") && !holds(&p, s->stack, "large_frame spin"))
            continue;
        const char *root = root_name(&p, s->stack);
        bool mark = strcmp(root, "[truncated]") == 0 || strncmp(root, "[unwind failed: ", 16) == 0;
        assert_int_equal(mark, (s->flags & BN_SAMPLE_TRUNCATED) != 0);
        marked += mark;
        whole += !mark;
        if (!mark)
            assert_true(holds(&p, s->stack, "main large_frame spin"));
    }
    print_message("# deep: %zu marked, %zu whole\n", marked, whole);
    assert_true(marked > 50 && whole > 50);
    assert_true(p.quality.n_truncated >= marked);
    assert_non_null(bn_profile_fact(&p, "stacks_broken_off"));
    bn_profile_free(&p);
}

static void test_signal(void **unused)
{
    struct bn_profile p;

    (void)unused;
    record("truth_signal", "200", 999, false);
    join(&p);
    size_t n = count_ends(&p, "handler spin_in_handler"), through = 0;
    for (size_t i = 0; i < p.n_samples; i++)
        for (uint32_t at = p.samples[i].stack; at; at = p.stacks[at].parent)
            if (holds(&p, at, "main interrupted_work __restore_rt on_ill handler spin_in_handler") ||
                holds(&p, at, "main interrupted_work [signal frame] on_ill handler spin_in_handler"))
                through++;
    assert_true(n > 50);
    assert_true(through * 100 >= n * 99);
    bn_profile_free(&p);
}

static void test_threads(void **unused)
{
    struct bn_profile p;
    size_t alpha = 0, beta = 0, brief = 0;

    (void)unused;
    record("truth_threads", "150", 999, false);
    join(&p);
    for (size_t i = 0; i < p.n_threads; i++)
        brief += p.threads[i].name && strcmp(p.threads[i].name, "brief") == 0;
    assert_int_equal(brief, 20); /* too short for a sample, but there */
    for (size_t i = 0; i < p.n_samples; i++) {
        const struct bn_sample *s = &p.samples[i];
        const char *name = p.threads[s->thread].name;
        bool in_alpha = holds(&p, s->stack, "alpha work_of_alpha spin");
        bool in_beta = holds(&p, s->stack, "beta work_of_beta spin");
        assert_true(!in_alpha || strcmp(name, "alpha") == 0);
        assert_true(!in_beta || strcmp(name, "beta") == 0);
        alpha += in_alpha;
        beta += in_beta;
        if (in_alpha || in_beta)
            assert_false(s->flags & BN_SAMPLE_TRUNCATED);
    }
    assert_true(alpha > 50 && beta > 50);
    bn_profile_free(&p);
}

/* Frame pointers: the same shares. A leaf function without a frame of its own hides its caller, so all_work
 * may be missing; the leaf and main may not. */
static void test_frame_pointers(void **unused)
{
    struct bn_profile p;

    (void)unused;
    record("truth_split", "1000", 1999, true);
    join(&p);
    size_t a = count_ends(&p, "main work_70") + count_ends(&p, "main all_work work_70");
    size_t b = count_ends(&p, "main work_20") + count_ends(&p, "main all_work work_20");
    assert_true(a > 200);
    assert_share(a, a + b, 7.0 / 9);
    assert_true(p.quality.n_truncated * 100 <= p.n_samples * 5);
    bn_profile_free(&p);
}

/* ---- hostile: a real recording whose blocks are changed at random ---- */

static uint64_t next_random(uint64_t *seed)
{
    *seed = *seed * 6364136223846793005u + 1442695040888963407u;
    return *seed >> 33;
}

static void change(const char *from, const char *to, uint64_t *seed)
{
    struct bn_raw_reader reader;
    struct bn_raw_block block;
    struct bn_raw_writer w;
    const uint8_t *payload;

    unlink(to);
    assert_int_equal(bn_raw_open(&reader, from, NULL), 0);
    assert_int_equal(bn_raw_create(&w, to, NULL), 0);
    while (bn_raw_next(&reader, &block, &payload) == 1) {
        size_t n = block.payload_bytes;
        uint8_t *copy = bn_xmalloc(n + 1);
        memcpy(copy, payload, n);
        for (uint64_t k = block.kind == BN_RAW_HEADER ? 0 : next_random(seed) % 200; k > 0 && n > 0; k--)
            copy[next_random(seed) % n] = (uint8_t)next_random(seed);
        if (next_random(seed) % 20 == 0 && n > 0)
            n = next_random(seed) % n;
        bn_raw_append(&w, (enum bn_raw_kind)block.kind, NULL, 0, copy, n);
        free(copy);
    }
    bn_raw_close_reader(&reader);
    assert_int_equal(bn_raw_close(&w, NULL), 0);
}

static void test_hostile(void **unused)
{
    uint64_t seed = 5;
    char original[80], changed[80];

    (void)unused;
    record("truth_threads", "20", 4999, false);
    snprintf(original, sizeof original, "%s", part_path);
    snprintf(changed, sizeof changed, "%s.changed", part_path);
    for (int round = 0; round < 25; round++) {
        struct bn_profile p;
        change(original, changed, &seed);
        bn_profile_init(&p);
        if (bn_join(&p, changed, NULL, NULL) == 0)
            assert_true(p.quality.n_samples == p.n_samples);
        bn_profile_free(&p);
    }
    unlink(original);
    unlink(changed);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_split),   cmocka_unit_test(test_rates),          cmocka_unit_test(test_inline),
        cmocka_unit_test(test_deep),    cmocka_unit_test(test_signal),         cmocka_unit_test(test_threads),
        cmocka_unit_test(test_hostile), cmocka_unit_test(test_frame_pointers),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
