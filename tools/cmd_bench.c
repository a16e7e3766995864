/* SPDX-License-Identifier: MIT
 * bnprof bench: how fast, and how far from the machine's limits. */
#include <signal.h>
#include <unistd.h>

#include "core/scope.h"
#include "tools/bench_options.h"
#include "tools/bench_report.h"
#include "tools/bench_run.h"
#include "tools/cmds.h"

enum { INSISTENT = 4 };

static const double busy = 0.05; /* so much of the machine for others is worth a warning */

static volatile sig_atomic_t interrupted;

/* As in `run`: the first ones end the measurement, who insists ends the program. */
static void on_interrupt(int signal_number)
{
    if (++interrupted >= INSISTENT)
        signal(signal_number, SIG_DFL);
}

static bool any_result(const struct bn_bench *b)
{
    for (size_t i = 0; i < b->n_results; i++) {
        if (b->results[i].n_repetitions)
            return true;
    }
    return false;
}

/* What was measured, on stdout; the exit status. */
static int report(const struct bn_bench *b)
{
    struct bn_err err;

    if (b->was_interrupted)
        fprintf(stderr, "bnprof: interrupted%s\n",
                any_result(b) ? ": repetitions measured so far" : " before anything was measured");
    if (any_result(b)) {
        if (b->options->json)
            bn_bench_print_json(stdout, b);
        else
            bn_bench_print(stdout, b, b->options->md);
    }
    if (any_result(b) && b->others > busy)
        fprintf(
            stderr,
            "bnprof: warning: other programs or the host had %.0f %% of the machine meanwhile: the figures "
            "are too low\n",
            b->others * 100.0);
    for (size_t i = 0; i < b->n_results; i++) {
        if (bn_bench_check(&b->results[i], &err) != 0)
            return bn_tool_fail(&err);
    }
    return b->was_interrupted ? 128 + SIGINT : BN_EXIT_DONE;
}

static int answer_list(const struct bn_bench_options *o)
{
    if (o->list_kernels)
        bn_choice_print(stdout, bn_engine_kernels);
    else if (o->list_lm_heads)
        bn_choice_print(stdout, bn_engine_lm_heads);
    else if (o->list_kv)
        bn_choice_print(stdout, bn_engine_kv);
    else
        bn_engine_print_cpu(stdout);
    return BN_EXIT_DONE;
}

int cmd_bench(int argc, char **argv)
{
    static struct bn_bench_options options;
    struct bn_bench bench = {.interrupt = &interrupted, .progress = isatty(STDERR_FILENO) == 1};
    struct bn_err err;
    bool usage;

    bn_scope_init();
    if (bn_bench_options_parse(&options, argc, argv, &err) != 0) {
        bn_tool_fail(&err);
        return BN_EXIT_USAGE;
    }
    if (options.list_kernels || options.list_lm_heads || options.list_kv || options.list_cpu)
        return answer_list(&options);
    struct sigaction action = {.sa_handler = on_interrupt, .sa_flags = SA_RESTART};
    sigaction(SIGINT, &action, NULL);
    int status;
    if (bn_bench_run(&bench, &options, &usage, &err) == 0)
        status = report(&bench);
    else
        status = usage ? bn_tool_usage("bnprof bench", "%s", err.msg) : bn_tool_fail(&err);
    bn_bench_close(&bench);
    return status;
}
