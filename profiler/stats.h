/* SPDX-License-Identifier: MIT
 * Intervals and rank tests. All pure; nothing allocates unless stated. */
#ifndef PROFILER_STATS_H
#define PROFILER_STATS_H

#include <stddef.h>
#include <stdint.h>

struct bn_interval {
    double low, high;
};

/* Wilson score interval of a share: k hits of n, 95 %. n = 0: 0 … 1. */
struct bn_interval bn_stats_share(double k, double n);
/* The same with z standard deviations to either side. */
struct bn_interval bn_stats_share_z(double k, double n, double z);

/* The other way round: the shares between which k / n lies when `share` is the truth, but for a chance below
 * alpha, both sides together. By Chernoff's bound, which holds for every n (and is wider than need be), where
 * a normal approximation is wrong far out. n = 0: 0 … 1. */
struct bn_interval bn_stats_hits(double share, double n, double alpha);

/* Percentile q (0 … 1) of sorted values by linear interpolation; n >= 1. */
double bn_stats_percentile(const double *sorted, size_t n, double q);
void bn_stats_sort(double *values, size_t n);
double bn_stats_median(double *values, size_t n); /* sorts */

/* 95 % bootstrap interval of the ratio sum(num) / sum(den) over n paired units (for instance ns in a stage
 * and tokens, per block of tokens), 1000 resamples, fixed seed: the same data gives the same interval.
 * Allocates: no. n < 2: unknown (NAN). */
struct bn_interval bn_stats_bootstrap_ratio(const double *num, const double *den, size_t n);

/* Two-sided p value of the Mann-Whitney U test with tie correction (normal approximation; exact for n, m <= 8
 * without ties). Allocates scratch and frees it. n or m = 0: 1. */
double bn_stats_mann_whitney(const double *a, size_t n, const double *b, size_t m);

/* Deterministic generator, for resampling. */
uint64_t bn_stats_random(uint64_t *state);

#endif
