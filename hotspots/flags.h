/* SPDX-License-Identifier: MIT
 * Red flags: what is wrong with a run, or with its record. docs/red-flags.md explains each to users. */
#ifndef HOTSPOTS_FLAGS_H
#define HOTSPOTS_FLAGS_H

#include "profiler/profile.h"

enum { BN_FLAG_IDS = 17 };

struct bn_thresholds {
    double value[BN_FLAG_IDS]; /* in the order of bn_flag_id */
};

/* "mock-kernel", …; NULL from BN_FLAG_IDS on. */
const char *bn_flag_id(size_t i);

void bn_thresholds_default(struct bn_thresholds *t);

/* Lines "id value", blank lines and # comments; ids that are not named keep what *t has. -1: file, line and
 * what was expected. */
int bn_thresholds_read(struct bn_thresholds *t, const char *path, struct bn_err *err);

/* Compute every flag into p->flags (raised, clear, or not computed with the reason) and the record's grade
 * into p->quality.grade. What was there is replaced. t NULL = defaults. A share of the samples' time is
 * raised only when its 95 % interval lies beyond the threshold, so that chance raises nothing. */
void bn_flags_compute(struct bn_profile *p, const struct bn_thresholds *t);

const char *bn_flag_severity_name(enum bn_flag_severity severity);

#endif
