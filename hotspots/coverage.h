/* SPDX-License-Identifier: MIT
 * How much of the program's CPU time the samples stand for, and what they cannot: each thread's period begins
 * with the thread, so one that ends within its first period has no sample, however many there are of them. */
#ifndef HOTSPOTS_COVERAGE_H
#define HOTSPOTS_COVERAGE_H

#include "profiler/profile.h"

struct bn_coverage {
    uint64_t sampled_ns;   /* what the samples stand for */
    uint64_t seen_ns;      /* CPU time that samples can stand for; 0 = unknown */
    uint64_t unreached_ns; /* part of the program's CPU time, at least: the source was not there */
    bool impossible;   /* samples stand for more than the CPU time of the program: an error of the record */
    uint64_t n_short;  /* threads that ran, by the records of switches, and have no sample */
    uint64_t short_ns; /* their CPU time */
};

struct bn_coverage bn_coverage_of(const struct bn_profile *p);

/* A module's samples, and what its share is of: all, or only their number where the record does not tell the
 * modules' time. */
struct bn_sampled bn_coverage_module(const struct bn_profile_module *m);
struct bn_sampled bn_coverage_modules(const struct bn_profile *p);

#endif
