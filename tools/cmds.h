/* SPDX-License-Identifier: MIT
 * The commands: one function a file, listed in tools/bnprof.c's table.
 *
 * A command gets its own name as argv[0] ("bnprof run") and returns the exit status:
 * 0 done, 1 failed, 2 bad command line, 3 red flag or gate under --strict, 4 nothing to compare with.
 * stdout is the result, stderr is talk. To add one: a file cmd_<name>.c, a line here, a line in the table. */
#ifndef TOOLS_CMDS_H
#define TOOLS_CMDS_H

#include "core/base.h"

enum { BN_EXIT_DONE = 0, BN_EXIT_FAILED = 1, BN_EXIT_USAGE = 2, BN_EXIT_GATE = 3, BN_EXIT_NO_BASELINE = 4 };

int cmd_run(int argc, char **argv);
int cmd_bench(int argc, char **argv);
int cmd_record(int argc, char **argv);
int cmd_svg(int argc, char **argv);
int cmd_hotspots(int argc, char **argv);
int cmd_annotate(int argc, char **argv);
int cmd_flags(int argc, char **argv);
int cmd_stages(int argc, char **argv);
int cmd_list(int argc, char **argv);
int cmd_inspect(int argc, char **argv);
int cmd_synth(int argc, char **argv);
int cmd_tokenize(int argc, char **argv);
int cmd_selftest(int argc, char **argv);
int cmd_fingerprint(int argc, char **argv);

/* ---- shared by commands (tools/bnprof.c) ---- */

/* "bnprof: MESSAGE" on stderr; returns BN_EXIT_FAILED. */
int bn_tool_fail(const struct bn_err *err);
/* "bnprof: try 'NAME --help'" after a message; returns BN_EXIT_USAGE. */
int bn_tool_usage(const char *command, const char *format, ...) BN_PRINTF(2, 3);
/* Flush stdout and check it (disk full, closed pipe): `status`, or BN_EXIT_FAILED with a message. */
int bn_tool_finish(int status);

/* This program's file, so that the program's name stays bnprof; /proc/self/exe if the file was replaced. The
 * caller frees. */
char *bn_tool_own_path(void);

#define BN_VERSION "0.1.0"

#endif
