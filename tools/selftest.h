/* SPDX-License-Identifier: MIT
 * What `bnprof selftest` is made of: recording one truth program, and printing what came out. */
#ifndef TOOLS_SELFTEST_H
#define TOOLS_SELFTEST_H

#include "profiler/ladder.h"
#include "profiler/truth_check.h"

/* A program, and what its record is checked for. */
struct bn_selftest_step {
    const char *program;
    uint32_t cpu_ms, rate_hz;
    struct {
        const char *name; /* of the row; NULL = the check's own */
        bn_truth_check *check;
    } checks[2];
    bool needs_lines, needs_exec;
};

struct bn_selftest {
    enum bn_ladder_event event;
    char *dir, *part;   /* a folder of its own, and profile.part in it */
    char *own;          /* this program's file */
    struct bn_buf told; /* notes for the user, each once */
    char *ladder;       /* the step of the permission ladder; NULL = nothing was recorded yet */
    bool refused;       /* nothing can be recorded or named here; the last row says why */
    int stopped;        /* a program was ended by this signal from outside; 0 = no */
    struct bn_truth_report report;
};

/* Record the program for at most wall_ms and check the record: one row or more. */
void bn_selftest_step(struct bn_selftest *t, const struct bn_selftest_step *step, uint64_t wall_ms);
/* What its first row is called. */
const char *bn_selftest_step_name(const struct bn_selftest_step *step);

/* The table, as far as it goes: rows from *n_printed on, the head before the first. */
void bn_selftest_print_rows(FILE *f, const struct bn_selftest *t, size_t *n_printed);
/* The last line of the table. */
void bn_selftest_print_sum(FILE *f, const struct bn_truth_report *report);
/* All of it as one JSON object. */
void bn_selftest_print_json(FILE *f, const struct bn_selftest *t);

#endif
