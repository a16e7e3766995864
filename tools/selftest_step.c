/* SPDX-License-Identifier: MIT
 * One truth program of the self-test: recorded, joined, checked. */
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/statvfs.h>
#include <unistd.h>

#include "profiler/join.h"
#include "profiler/recorder.h"
#include "tools/selftest.h"

const char *bn_selftest_step_name(const struct bn_selftest_step *step)
{
    return step->checks[0].name ? step->checks[0].name : step->program;
}

static struct bn_truth_row *only_row(struct bn_selftest *t, const struct bn_selftest_step *step)
{
    return bn_truth_add(&t->report, bn_selftest_step_name(step));
}

/* ---- record ---- */

static void note(void *ctx, const char *line)
{
    struct bn_selftest *t = ctx;

    if (t->told.p && strstr(t->told.p, line))
        return;
    bn_buf_printf(&t->told, "%s\n", line);
    fprintf(stderr, "bnprof: %s\n", line);
}

static int record(struct bn_selftest *t, const struct bn_selftest_step *step, uint64_t wall_ms,
                  struct bn_recorder_result *result, struct bn_err *err)
{
    char program[32], cpu[16], wall[24];
    char *argv[] = {"bnprof",    "selftest", "--truth",  program, "--cpu-ms", cpu,
                    "--wall-ms", wall,       "--folder", t->dir,  NULL};
    struct bn_recorder_options o = {
        .sampler.ladder = {.event = t->event,
                           .rate_hz = step->rate_hz,
                           .stack_dump_bytes = BN_STACK_DUMP_DEFAULT},
        .file = t->own,
        .argv = argv,
        .part_path = t->part,
        .run_id = "selftest",
        .started = "",
        .command = "bnprof selftest",
        .ctx = t,
        .note = note,
    };

    snprintf(program, sizeof program, "%s", step->program);
    snprintf(cpu, sizeof cpu, "%u", step->cpu_ms);
    snprintf(wall, sizeof wall, "%llu", (unsigned long long)wall_ms);
    unlink(t->part);
    return bn_record(&o, result, err);
}

/* ---- check ---- */

static const char no_symbols[] = "this program has no symbols: it was stripped";

/* Names of this program's own functions are what the checks look for. */
static const char *lacking(const struct bn_selftest *t, const struct bn_selftest_step *step,
                           const struct bn_profile *p)
{
    const char *slash = strrchr(t->own, '/');

    for (size_t i = 0; i < p->n_modules; i++) {
        const struct bn_profile_module *m = &p->modules[i];
        if (strcmp(m->name, slash ? slash + 1 : t->own) != 0 || m->state != BN_MODULE_READ)
            continue;
        if (!m->symbols)
            return no_symbols;
        if (step->needs_lines && !m->debug_info)
            return "this program has no debug information: it was stripped";
    }
    return NULL;
}

static void judge(struct bn_selftest *t, const struct bn_selftest_step *step)
{
    const struct bn_truth_expected expected = bn_truth_expected(t->dir);
    struct bn_profile p;
    struct bn_err err;

    bn_profile_init(&p);
    if (bn_join(&p, t->part, NULL, &err) != 0) {
        bn_truth_fail(only_row(t, step), "%s", err.msg);
    } else {
        const char *why = lacking(t, step, &p);
        if (!t->ladder)
            t->ladder = bn_xstrdup(p.quality.ladder ? p.quality.ladder : "unknown");
        t->refused = why == no_symbols;
        if (why)
            bn_truth_skip(only_row(t, step), "%s", why);
        for (size_t i = 0; !why && i < BN_COUNT(step->checks) && step->checks[i].check; i++)
            step->checks[i].check(&t->report, step->checks[i].name, &p, &expected);
    }
    bn_profile_free(&p);
}

/* The program left a line about why it cannot be tried. */
static void read_why(const struct bn_selftest *t, char *line, size_t size)
{
    char *path = bn_xasprintf("%s/" BN_TRUTH_WHY, t->dir);
    FILE *f = fopen(path, "re");

    if (!f || !fgets(line, (int)size, f))
        snprintf(line, size, "it cannot be tried here");
    if (f)
        fclose(f);
    unlink(path);
    free(path);
}

/* Code cannot be loaded from there. */
static bool forbids_exec(const char *dir)
{
    struct statvfs fs;

    return statvfs(dir, &fs) == 0 && (fs.f_flag & ST_NOEXEC);
}

/* The program has ended, or was never started: what is there to check? */
static void settle(struct bn_selftest *t, const struct bn_selftest_step *step,
                   const struct bn_recorder_result *result)
{
    int status = result->exit_status;
    char why[256];

    if (status == 128 + SIGINT || status == 128 + SIGTERM || status == 128 + SIGHUP) {
        t->stopped = status - 128;
    } else if (status == BN_TRUTH_CANNOT) {
        read_why(t, why, sizeof why);
        bn_truth_skip(only_row(t, step), "%s", why);
    } else if (status == 128 + SIGALRM) {
        bn_truth_fail(only_row(t, step), "the program hung, and was ended");
    } else if (status != 0) {
        bn_truth_fail(only_row(t, step), "the program ended with status %d", status);
    } else {
        judge(t, step);
    }
}

void bn_selftest_step(struct bn_selftest *t, const struct bn_selftest_step *step, uint64_t wall_ms)
{
    struct bn_recorder_result result = {0};
    struct bn_err err;

    if (step->needs_exec && forbids_exec(t->dir)) {
        bn_truth_skip(only_row(t, step), "%s is mounted noexec; TMPDIR can name another folder", t->dir);
        return;
    }
    if (record(t, step, wall_ms, &result, &err) == 0) {
        settle(t, step, &result);
        return;
    }
    t->refused = !result.ran;
    (result.ran ? bn_truth_fail : bn_truth_skip)(only_row(t, step), "%s", err.msg);
}
