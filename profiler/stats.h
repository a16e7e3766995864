/* SPDX-License-Identifier: MIT
 * Intervals and rank tests. All pure; nothing allocates unless stated. */
#ifndef PROFILER_STATS_H
#define PROFILER_STATS_H

#include <stdbool.h>
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

/* Samples, and the CPU time that they stand for. All zero: none. */
struct bn_sampled {
    uint64_t n, ns;             /* sums beyond UINT64_MAX stay there */
    uint64_t least_ns, most_ns; /* that one of them stands for */
    double squares;             /* sum of the squares of what each stands for */
};
void bn_sampled_add(struct bn_sampled *w, uint64_t sample_ns);
/* Those of both. */
void bn_sampled_join(struct bn_sampled *w, const struct bn_sampled *more);
/* Do all of them stand for the same time? Then their number says all. True for none. */
bool bn_sampled_equal(const struct bn_sampled *w);
/* Part of the time, 0 … 1; of the number where that is the same. 0 if there is no whole. */
double bn_sampled_share(const struct bn_sampled *part, const struct bn_sampled *whole);
/* Order by time, then by number: below, equal to or above 0 for x below, as and above y. */
int bn_sampled_compare(const struct bn_sampled *x, const struct bn_sampled *y);
/* So many samples of one weight would say as much about a share (Kish): their number where they are equal. */
double bn_sampled_effective(const struct bn_sampled *w);
/* Wilson score interval of the share, z standard deviations to either side (BN_Z95: 95 %), of samples that
 * may weigh differently. It is that of so many equal samples as Kish's formula gives or, if that is fewer, as
 * have the share's variance as the samples themselves show it: a few heavy ones in the part are seen as few.
 * Equal ones: bn_stats_share_z of their numbers. The part's samples are among the whole's. */
#define BN_Z95 1.959963984540054
struct bn_interval bn_sampled_interval(const struct bn_sampled *part, const struct bn_sampled *whole,
                                       double z);

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
