/* SPDX-License-Identifier: MIT
 * The CPU time that each sample of a new record stands for, once all are there. */
#ifndef PROFILER_WEIGH_H
#define PROFILER_WEIGH_H

#include "profiler/profile.h"

/* The weights are numbers of cycles: divide the program's CPU time among samples, modules and addresses in
 * proportion. cpu_ns 0 = unknown: each sample stands for the asked period. */
void bn_weigh_by_cycles(struct bn_profile *p, uint64_t cpu_ns);

/* Last of all. Where all samples weigh the same, modules and addresses are left with their numbers. */
void bn_weigh_close(struct bn_profile *p);

#endif
