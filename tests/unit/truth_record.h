/* SPDX-License-Identifier: MIT
 * A record of a truth program, by hand, and the row that a check makes of it. */
#ifndef TESTS_UNIT_TRUTH_RECORD_H
#define TESTS_UNIT_TRUTH_RECORD_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "profiler/truth_check.h"

static const struct bn_truth_expected expected = {
    .shares = {0.7, 0.2, 0.1},
    .lines = {.first = 10, .last = 17, .inner_call = 22, .middle_call = 30},
    .file = "truth.c",
    .levels = 5,
    .most_callers = 8,
    .n_threads = 3,
    .length_us = {50, 500, 5000},
    .edge_us = 1,
    .n_cpus = 2,
};

static struct bn_profile p;
static struct bn_truth_report report;

/* Asked for 1000 samples a second, of one second of user code. */
static inline int set_up(void **state)
{
    (void)state;
    report.n = 0;
    bn_profile_init(&p);
    p.quality.event = bn_profile_str(&p, "cpu-clock");
    p.quality.asked_hz = 1000;
    p.quality.user_ns = p.quality.duration_ns = 1000000000;
    p.quality.steal_share = 0;
    p.quality.kernel_sampled = true;
    bn_profile_add_thread(&p, &(struct bn_profile_thread){.tid = 1, .pid = 1, .cpu_ns = 900000000});
    return 0;
}

static inline int tear_down(void **state)
{
    (void)state;
    bn_profile_free(&p);
    return 0;
}

static inline uint32_t frame_at(uint32_t parent, const char *function, const char *module, uint32_t line,
                                bool inlined, enum bn_frame_kind kind)
{
    struct bn_frame f = {.function = bn_profile_str(&p, function),
                         .module = bn_profile_str(&p, module),
                         .file = line ? bn_profile_str(&p, "profiler/truth.c") : NULL,
                         .line = line,
                         .inlined = inlined,
                         .kind = kind};

    return bn_profile_add_stack(&p, parent, bn_profile_add_frame(&p, &f));
}

static inline uint32_t call(uint32_t parent, const char *function)
{
    return frame_at(parent, function, "bnprof", 0, false, BN_FRAME_USER);
}

static inline void add_samples(struct bn_sample s, unsigned n)
{
    s.weight_ns = s.weight_ns ? s.weight_ns : 1000000;
    for (unsigned i = 0; i < n; i++)
        bn_profile_add_sample(&p, &s);
}

static inline void in_stack(uint32_t stack, unsigned n)
{
    add_samples((struct bn_sample){.stack = stack, .layer = -1}, n);
}

static inline void assert_row(size_t i, enum bn_truth_verdict verdict, const char *why)
{
    assert_true(i < report.n);
    const struct bn_truth_row *row = &report.rows[i];
    if (row->verdict != verdict || !strstr(row->why, why))
        fail_msg("%s: %s, %s: '%s', expected %s: '%s'", row->name, row->measured,
                 bn_truth_verdict_name(row->verdict), row->why, bn_truth_verdict_name(verdict), why);
}

static inline void judge(bn_truth_check *check, const char *name)
{
    report.n = 0;
    check(&report, name, &p, &expected);
}

#endif
