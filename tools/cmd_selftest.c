/* SPDX-License-Identifier: MIT
 * bnprof selftest: record programs whose profile is known, on this host, and say whether the records are
 * right. The programs are in this binary: it runs itself with a hidden option. */
#include <argp.h>
#include <errno.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "tools/cmds.h"
#include "tools/selftest.h"

enum {
    RATE_HZ = 1999,          /* where a check does not need its own */
    PROGRAMS_END_MS = 34000, /* so that all of it ends within 45 s, however busy the machine */
    JOIN_MS = 400,           /* of CPU time, between one program and the next */
    MS_MAX = 60000,
};

static const struct bn_selftest_step steps[] = {
    {"split", 1500, 4999, {{NULL, bn_truth_check_split}, {"4999 Hz", bn_truth_check_rate}}, false, false},
    {"split", 1000, 999, {{"999 Hz", bn_truth_check_rate}}, false, false},
    {"split", 1500, 499, {{"499 Hz", bn_truth_check_rate}}, false, false},
    {"split", 3000, 99, {{"99 Hz", bn_truth_check_rate}}, false, false},
    {"recursion", 400, RATE_HZ, {{NULL, bn_truth_check_recursion}}, false, false},
    {"inlines", 300, RATE_HZ, {{"inlines", bn_truth_check_inlines}}, true, false},
    {"swap", 500, RATE_HZ, {{"dlopen swap", bn_truth_check_swap}}, false, true},
    {"signal", 400, RATE_HZ, {{"signal frame", bn_truth_check_signal}}, false, false},
    {"threads", 500, 999, {{"short threads", bn_truth_check_threads}}, false, false},
    {"stages", 1500, 4999, {{NULL, bn_truth_check_stages}}, false, false},
};

struct options {
    enum bn_ladder_event event;
    bool json;
    const char *truth, *folder; /* hidden: be that program */
    struct bn_truth_budget budget;
};

/* ---- command line ---- */

enum key { KEY_JSON = 256, KEY_TRUTH, KEY_CPU_MS, KEY_WALL_MS, KEY_FOLDER };

static const struct argp_option table[] = {
    {"event", 'e', "NAME", 0, "the source of samples: auto (default), cycles, cpu-clock, timer", 0},
    {"json", KEY_JSON, 0, 0, "one JSON object instead of the table", 0},
    {"truth", KEY_TRUTH, "NAME", OPTION_HIDDEN, 0, 0},
    {"cpu-ms", KEY_CPU_MS, "MS", OPTION_HIDDEN, 0, 0},
    {"wall-ms", KEY_WALL_MS, "MS", OPTION_HIDDEN, 0, 0},
    {"folder", KEY_FOLDER, "DIR", OPTION_HIDDEN, 0, 0},
    {0},
};

static void parse_ms(struct argp_state *state, const char *text, uint64_t *ms)
{
    if (bn_parse_u64(text, 1, MS_MAX, ms) != 0)
        argp_error(state, "'%s': expected milliseconds from 1 to %d", text, MS_MAX);
}

static error_t parse_one(int key, char *arg, struct argp_state *state)
{
    struct options *o = state->input;

    switch (key) {
    case 'e':
        if (!bn_ladder_event_find(arg, &o->event))
            argp_error(state, "--event '%s': expected auto, cycles, cpu-clock or timer", arg);
        return 0;
    case KEY_JSON:
        o->json = true;
        return 0;
    case KEY_TRUTH:
        o->truth = arg;
        return 0;
    case KEY_CPU_MS:
        parse_ms(state, arg, &o->budget.cpu_ms);
        return 0;
    case KEY_WALL_MS:
        parse_ms(state, arg, &o->budget.wall_ms);
        return 0;
    case KEY_FOLDER:
        o->folder = arg;
        return 0;
    case ARGP_KEY_ARG:
        argp_error(state, "no argument expected, '%s' is one", arg);
        return 0;
    default:
        return ARGP_ERR_UNKNOWN;
    }
}

static const struct argp argp = {
    .options = table,
    .parser = parse_one,
    .doc =
        "Record programs whose profile is known, on this host, and compare."
        "\vFor each check: what was expected, what was measured, and pass, FAIL or skipped with the reason. "
        "The status is 0 when something could be tried and all of that passed, else 1. Takes about eleven "
        "seconds of CPU time, and less than 45 s on a busy machine. docs/selftest.md tells what the programs "
        "do, and what each check would notice."};

/* ---- the folder ---- */

static int make_folder(struct bn_selftest *t, struct bn_err *err)
{
    const char *tmp = getenv("TMPDIR");

    t->dir = bn_xasprintf("%s/bnprof-selftest.XXXXXX", tmp && *tmp ? tmp : "/tmp");
    if (!mkdtemp(t->dir))
        return bn_err_set(err, "%s: %s", t->dir, strerror(errno));
    t->part = bn_xasprintf("%s/profile.part", t->dir);
    return 0;
}

static void remove_folder(const struct bn_selftest *t)
{
    static const char *const files[] = {"profile.part", BN_TRUTH_FIRST, BN_TRUTH_OTHER, BN_TRUTH_WHY,
                                        BN_TRUTH_COUNT};

    for (size_t i = 0; i < BN_COUNT(files); i++) {
        char *path = bn_xasprintf("%s/%s", t->dir, files[i]);
        unlink(path);
        free(path);
    }
    rmdir(t->dir);
}

/* ---- all of them ---- */

static volatile sig_atomic_t stopped; /* by this signal */

static void on_stop(int number)
{
    stopped = number;
}

static void catch_stops(void)
{
    const struct sigaction stop = {.sa_handler = on_stop};

    sigaction(SIGINT, &stop, NULL);
    sigaction(SIGTERM, &stop, NULL);
    sigaction(SIGHUP, &stop, NULL);
    signal(SIGPIPE, SIG_IGN); /* a closed stdout is told at the end, when the folder is gone */
}

/* What is left of the time, in parts like the CPU time of this and the later steps, which
 * need some between them. 0: nothing. */
static uint64_t wall_ms_of(size_t step, uint64_t start_ns)
{
    uint64_t used_ms = (bn_now_ns() - start_ns) / 1000000u, cpu_ms = 0;

    for (size_t i = step; i < BN_COUNT(steps); i++)
        cpu_ms += steps[i].cpu_ms + JOIN_MS;
    return used_ms < PROGRAMS_END_MS ? (PROGRAMS_END_MS - used_ms) * steps[step].cpu_ms / cpu_ms : 0;
}

static void run_steps(struct bn_selftest *t, bool print)
{
    bool terminal = isatty(STDERR_FILENO);
    uint64_t start_ns = bn_now_ns();
    size_t n_printed = 0;

    for (size_t i = 0; i < BN_COUNT(steps) && !stopped && !t->stopped && !t->refused; i++) {
        uint64_t wall_ms = wall_ms_of(i, start_ns);
        if (terminal)
            fprintf(stderr, "\rbnprof: %zu of %zu: %s\033[K\r", i + 1, BN_COUNT(steps),
                    bn_selftest_step_name(&steps[i]));
        if (wall_ms > 0)
            bn_selftest_step(t, &steps[i], wall_ms);
        else
            bn_truth_skip(bn_truth_add(&t->report, bn_selftest_step_name(&steps[i])),
                          "the machine is too busy: %d s are over", PROGRAMS_END_MS / 1000);
        if (terminal)
            fprintf(stderr, "\033[K");
        if (print)
            bn_selftest_print_rows(stdout, t, &n_printed);
    }
    if (!stopped)
        stopped = t->stopped;
}

static int run_all(struct bn_selftest *t, bool json)
{
    run_steps(t, !json);
    if (stopped)
        return BN_EXIT_FAILED;
    if (json)
        bn_selftest_print_json(stdout, t);
    else
        bn_selftest_print_sum(stdout, &t->report);
    bool right =
        bn_truth_count(&t->report, BN_TRUTH_FAIL) == 0 && bn_truth_count(&t->report, BN_TRUTH_PASS) > 0;
    return right ? BN_EXIT_DONE : BN_EXIT_FAILED;
}

int cmd_selftest(int argc, char **argv)
{
    struct options o = {.budget = {.cpu_ms = 500, .wall_ms = 10000}};
    struct bn_selftest t = {0};
    struct bn_err err;

    if (argp_parse(&argp, argc, argv, 0, NULL, &o) != 0)
        return BN_EXIT_USAGE;
    if (o.truth)
        return bn_truth_run(o.truth, &o.budget, o.folder ? o.folder : ".");
#ifndef __x86_64__
    bn_err_set(&err, "selftest: stacks can be unwound on x86-64 only");
    return bn_tool_fail(&err);
#endif
    catch_stops();
    t.event = o.event;
    int status = make_folder(&t, &err) == 0 ? BN_EXIT_DONE : bn_tool_fail(&err);
    if (status == BN_EXIT_DONE) {
        t.own = bn_tool_own_path();
        status = run_all(&t, o.json);
        remove_folder(&t);
    }
    free(t.dir);
    free(t.part);
    free(t.own);
    free(t.ladder);
    bn_buf_free(&t.told);
    if (stopped) {
        signal(stopped, SIG_DFL);
        raise(stopped);
    }
    return status;
}
