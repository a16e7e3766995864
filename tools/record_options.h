/* SPDX-License-Identifier: MIT
 * The options of `bnprof record`. */
#ifndef TOOLS_RECORD_OPTIONS_H
#define TOOLS_RECORD_OPTIONS_H

#include "profiler/ladder.h"

struct bn_record_options {
    struct bn_ladder_options ladder; /* stack_dump_bytes 0 = not given */
    const char *dir;                 /* -o, or NULL */
    bool debuginfod;                 /* ask servers for missing debug information */
    char **command;                  /* NULL-terminated, at least one word; points into argv. NULL: attach */
    pid_t pid;                       /* -p, or 0 */
    double seconds;                  /* --duration, or 0 */
};

/* A wrong command line ends the program with status 2 and a line on stderr, --help with 0 (argp's way). */
void bn_record_options_parse(struct bn_record_options *o, int argc, char **argv);

#endif
