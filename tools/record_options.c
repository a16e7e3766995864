/* SPDX-License-Identifier: MIT
 * `bnprof record`'s command line: perf's letters mean what they mean there. */
#include "tools/record_options.h"

#include <argp.h>
#include <stdlib.h>
#include <string.h>

enum key {
    KEY_FREQ = 'F',
    KEY_EVENT = 'e',
    KEY_GRAPH = 'g',
    KEY_OUT = 'o',
    KEY_PID = 'p',
    KEY_CALL_GRAPH = 256,
    KEY_STACK_DUMP,
    KEY_DURATION,
    KEY_DEBUGINFOD
};
enum { RATE_DEFAULT = 999, RATE_MAX = 1000000 };

static const struct argp_option table[] = {
    {"freq", KEY_FREQ, "HZ", 0,
     "samples per second of CPU time (default 999); max: as many as the kernel allows", 0},
    {"event", KEY_EVENT, "NAME", 0,
     "cycles, cpu-clock, timer, or auto (default): the first of them that works here", 0},
    {"call-graph", KEY_CALL_GRAPH, "MODE", 0,
     "dwarf[,BYTES]: unwind a copy of the stack (default); fp: let the kernel follow frame pointers", 0},
    {0, KEY_GRAPH, 0, 0, "the same as --call-graph dwarf", 0},
    {"stack-dump", KEY_STACK_DUMP, "BYTES", 0,
     "stack copied with each sample: a multiple of 8, at most 65528 (default 16384; 4096 for `run', whose "
     "stacks are shallow and keep frame pointers)",
     0},
    {"debuginfod", KEY_DEBUGINFOD, 0, 0,
     "get missing debug information from the servers in $DEBUGINFOD_URLS, after the run (never by itself)",
     0},
    {"pid", KEY_PID, "PID", 0,
     "record this running process, with the threads and children that it has from now on, until it ends, "
     "--duration is over or ^C",
     0},
    {"duration", KEY_DURATION, "SECONDS", 0, "with --pid: end after so long", 0},
    {"output", KEY_OUT, "DIR", 0, "folder of the recordings (default $BNPROF_DIR, else bnprof.data)", 0},
    {0},
};

static void parse_stack_dump(struct argp_state *state, struct bn_record_options *o, const char *text)
{
    uint64_t bytes;

    if (bn_parse_u64(text, 8, BN_STACK_DUMP_MAX, &bytes) != 0 || bytes % 8 != 0)
        argp_error(state, "stack dump of '%s' bytes: expected a multiple of 8 from 8 to %d", text,
                   BN_STACK_DUMP_MAX);
    else
        o->ladder.stack_dump_bytes = (uint32_t)bytes;
}

static void parse_rate(struct argp_state *state, struct bn_record_options *o, const char *text)
{
    struct bn_ladder_host host;
    uint64_t rate = RATE_DEFAULT;

    if (strcmp(text, "max") == 0) {
        bn_ladder_read_host(&host);
        rate = host.max_rate_hz ? host.max_rate_hz : RATE_DEFAULT;
    } else if (bn_parse_u64(text, 1, RATE_MAX, &rate) != 0) {
        argp_error(state, "--freq '%s': expected samples per second from 1 to %d, or max", text, RATE_MAX);
    }
    o->ladder.rate_hz = (uint32_t)rate;
}

static void parse_call_graph(struct argp_state *state, struct bn_record_options *o, const char *text)
{
    o->ladder.frame_pointers = strcmp(text, "fp") == 0;
    if (strncmp(text, "dwarf,", 6) == 0)
        parse_stack_dump(state, o, text + 6);
    else if (!o->ladder.frame_pointers && strcmp(text, "dwarf") != 0)
        argp_error(state, "--call-graph '%s': expected dwarf, dwarf,BYTES or fp", text);
}

static void parse_event(struct argp_state *state, struct bn_record_options *o, const char *text)
{
    if (!bn_ladder_event_find(text, &o->ladder.event))
        argp_error(state, "--event '%s': expected auto, cycles, cpu-clock or timer", text);
}

static void parse_duration(struct argp_state *state, struct bn_record_options *o, const char *text)
{
    char *end;

    o->seconds = strtod(text, &end);
    if (end == text || *end || !(o->seconds > 0) || o->seconds > 1e9)
        argp_error(state, "--duration '%s': expected seconds", text);
}

static error_t parse_one(int key, char *arg, struct argp_state *state)
{
    struct bn_record_options *o = state->input;
    uint64_t number;

    switch (key) {
    case KEY_FREQ:
        parse_rate(state, o, arg);
        return 0;
    case KEY_EVENT:
        parse_event(state, o, arg);
        return 0;
    case KEY_CALL_GRAPH:
        parse_call_graph(state, o, arg);
        return 0;
    case KEY_GRAPH:
        o->ladder.frame_pointers = false;
        return 0;
    case KEY_STACK_DUMP:
        parse_stack_dump(state, o, arg);
        return 0;
    case KEY_DEBUGINFOD:
        o->debuginfod = true;
        return 0;
    case KEY_PID:
        if (bn_parse_u64(arg, 1, INT32_MAX, &number) != 0)
            argp_error(state, "--pid '%s': expected the number of a process", arg);
        else
            o->pid = (pid_t)number;
        return 0;
    case KEY_DURATION:
        parse_duration(state, o, arg);
        return 0;
    case KEY_OUT:
        if (!*arg)
            argp_error(state, "-o: expected the name of a folder");
        o->dir = arg;
        return 0;
    case ARGP_KEY_ARG: /* the command's first word: the rest is the command's */
        o->command = &state->argv[state->next - 1];
        state->next = state->argc;
        return 0;
    case ARGP_KEY_END:
        if (o->pid && o->command)
            argp_error(state, "--pid takes no command");
        else if (o->seconds > 0 && !o->pid)
            argp_error(state, "--duration is for --pid: a program that is started is recorded to its end");
        else if (!o->pid && (!o->command || !*o->command[0]))
            argp_error(state, "nothing to record: expected `-- run …' or `-- COMMAND ARG…'");
        return 0;
    default:
        return ARGP_ERR_UNKNOWN;
    }
}

void bn_record_options_parse(struct bn_record_options *o, int argc, char **argv)
{
    static const struct argp argp = {
        .options = table,
        .parser = parse_one,
        .args_doc = "-- run [RUN-OPTION...]\n-- COMMAND [ARG...]\n-p PID [--duration SECONDS]",
        .doc =
            "Run the engine (`run') or any program under the profiler."
            "\vThe program's input and output are left alone; its exit status is record's. The recording "
            "goes to a new folder below bnprof.data, `latest' points to it. A program that marks its stages "
            "with <bnprof/scope.h> (docs/scopes.md) is recorded with them."};

    *o = (struct bn_record_options){.ladder = {.rate_hz = RATE_DEFAULT}};
    argp_parse(&argp, argc, argv, ARGP_IN_ORDER, NULL, o);
}
