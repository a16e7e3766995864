/* SPDX-License-Identifier: MIT
 * Intervals and rank tests. */
#include "profiler/stats.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "core/base.h"

struct bn_interval bn_stats_share(double k, double n)
{
    return bn_stats_share_z(k, n, BN_Z95);
}

struct bn_interval bn_stats_share_z(double k, double n, double z)
{
    if (!(n > 0))
        return (struct bn_interval){0, 1};
    double z2 = z * z, p = k / n;
    double middle = (p + z2 / (2 * n)) / (1 + z2 / n);
    double half = z / (1 + z2 / n) * sqrt(p * (1 - p) / n + z2 / (4 * n * n));
    return (struct bn_interval){k <= 0 ? 0 : fmax(0, middle - half), k >= n ? 1 : fmin(1, middle + half)};
}

/* Kullback-Leibler divergence of two coins. */
static double divergence(double q, double p)
{
    double heads = q > 0 ? q * log(q / p) : 0, tails = q < 1 ? (1 - q) * log((1 - q) / (1 - p)) : 0;

    return heads + tails;
}

/* P(k/n beyond q) <= exp(-n D(q || share)): the q at which that is alpha / 2, by bisection. */
static double beyond(double share, double far, double most)
{
    double near = share;

    if (divergence(far, share) <= most)
        return far;
    for (int i = 0; i < 60; i++) {
        double middle = (near + far) / 2;
        *(divergence(middle, share) > most ? &far : &near) = middle;
    }
    return far;
}

struct bn_interval bn_stats_hits(double share, double n, double alpha)
{
    if (!(n > 0) || !(share > 0) || !(share < 1))
        return (struct bn_interval){n > 0 && share >= 1 ? 1 : 0, n > 0 && share <= 0 ? 0 : 1};
    double most = log(2 / alpha) / n;
    return (struct bn_interval){beyond(share, 0, most), beyond(share, 1, most)};
}

/* ---- samples that weigh differently ---- */

static uint64_t saturated(uint64_t a, uint64_t b)
{
    return a > UINT64_MAX - b ? UINT64_MAX : a + b;
}

void bn_sampled_join(struct bn_sampled *w, const struct bn_sampled *more)
{
    if (more->n == 0)
        return;
    if (w->n == 0 || more->least_ns < w->least_ns)
        w->least_ns = more->least_ns;
    if (more->most_ns > w->most_ns)
        w->most_ns = more->most_ns;
    w->n = saturated(w->n, more->n);
    w->ns = saturated(w->ns, more->ns);
    w->squares += more->squares;
}

void bn_sampled_add(struct bn_sampled *w, uint64_t sample_ns)
{
    bn_sampled_join(
        w, &(struct bn_sampled){1, sample_ns, sample_ns, sample_ns, (double)sample_ns * (double)sample_ns});
}

bool bn_sampled_equal(const struct bn_sampled *w)
{
    return w->least_ns == w->most_ns;
}

/* Numbers are divided where times would give the same: equal weights leave no trace, not even of rounding. */
double bn_sampled_share(const struct bn_sampled *part, const struct bn_sampled *whole)
{
    if (whole->n == 0)
        return 0;
    return bn_sampled_equal(whole) ? (double)part->n / (double)whole->n
                                   : (double)part->ns / (double)whole->ns;
}

int bn_sampled_compare(const struct bn_sampled *x, const struct bn_sampled *y)
{
    return x->ns != y->ns ? (x->ns > y->ns) - (x->ns < y->ns) : (x->n > y->n) - (x->n < y->n);
}

double bn_sampled_effective(const struct bn_sampled *w)
{
    double sum = (double)w->ns;

    return bn_sampled_equal(w) ? (double)w->n : fmin((double)w->n, sum * sum / w->squares);
}

/* The share is a ratio of two sums over the samples. Its variance, to first order, is the sum of the squares
 * of weight times (1 - share) in the part and weight times share outside of it, over the square of the whole;
 * n equal samples have share (1 - share) / n. */
struct bn_interval bn_sampled_interval(const struct bn_sampled *part, const struct bn_sampled *whole,
                                       double z)
{
    double p = bn_sampled_share(part, whole), q = 1 - p, n = bn_sampled_effective(whole);
    double outside = fmax(0, whole->squares - part->squares);
    double spread = q * q * part->squares + p * p * outside, sum = (double)whole->ns;

    if (bn_sampled_equal(whole))
        return bn_stats_share_z((double)part->n, (double)whole->n, z);
    if (p > 0 && q > 0 && spread > 0)
        n = fmin(n, p * q * sum * sum / spread);
    return bn_stats_share_z(p * n, n, z);
}

static int compare_doubles(const void *a, const void *b)
{
    double x, y;

    memcpy(&x, a, sizeof x);
    memcpy(&y, b, sizeof y);
    return (x > y) - (x < y);
}

void bn_stats_sort(double *values, size_t n)
{
    qsort(values, n, sizeof *values, compare_doubles);
}

double bn_stats_percentile(const double *sorted, size_t n, double q)
{
    double at = q * (double)(n - 1);
    size_t low = (size_t)at;

    if (low + 1 >= n)
        return sorted[n - 1];
    return sorted[low] + (at - (double)low) * (sorted[low + 1] - sorted[low]);
}

double bn_stats_median(double *values, size_t n)
{
    bn_stats_sort(values, n);
    return bn_stats_percentile(values, n, 0.5);
}

/* splitmix64: one addition and a finaliser a number, any seed will do. */
uint64_t bn_stats_random(uint64_t *state)
{
    uint64_t z = *state += 0x9e3779b97f4a7c15u;

    z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9u;
    z = (z ^ (z >> 27)) * 0x94d049bb133111ebu;
    return z ^ (z >> 31);
}

/* Percentile bootstrap: resample the units with replacement, take the ratio of the sums each time. */
struct bn_interval bn_stats_bootstrap_ratio(const double *num, const double *den, size_t n)
{
    enum { RESAMPLES = 1000 };
    double ratios[RESAMPLES];
    uint64_t state = 42;

    if (n < 2)
        return (struct bn_interval){NAN, NAN};
    for (int r = 0; r < RESAMPLES; r++) {
        double sum_num = 0, sum_den = 0;
        for (size_t i = 0; i < n; i++) {
            size_t pick = (size_t)(((__uint128_t)bn_stats_random(&state) * n) >> 64);
            sum_num += num[pick];
            sum_den += den[pick];
        }
        ratios[r] = sum_den > 0 ? sum_num / sum_den : 0;
    }
    bn_stats_sort(ratios, RESAMPLES);
    return (struct bn_interval){bn_stats_percentile(ratios, RESAMPLES, 0.025),
                                bn_stats_percentile(ratios, RESAMPLES, 0.975)};
}

/* ---- Mann-Whitney ---- */

struct ranked {
    double value;
    bool in_a;
};

static int compare_ranked(const void *a, const void *b)
{
    const struct ranked *x = a, *y = b;

    return (x->value > y->value) - (x->value < y->value);
}

/* How many of the C(n + m, n) orders have U <= u, as a share. The counts fit 64 bits for n, m <= 8. */
static double exact_tail(size_t n, size_t m, size_t u_max)
{
    uint64_t count[9][65] = {{0}}; /* [elements of a placed][U so far] */
    uint64_t all = 0, tail = 0;

    /* Walk the merged order: placing an element of a adds the number of b's before it. Sum over b's one at a
     * time. */
    count[0][0] = 1;
    for (size_t b = 0; b <= m; b++)
        for (size_t a = 1; a <= n; a++)
            for (size_t u = b; u <= n * m; u++)
                count[a][u] += count[a - 1][u - b];
    for (size_t u = 0; u <= n * m; u++) {
        all += count[n][u];
        tail += u <= u_max ? count[n][u] : 0;
    }
    return (double)tail / (double)all;
}

static double normal_p(double u, double n, double m, double ties)
{
    double total = n + m;
    double variance = n * m / 12 * (total + 1 - ties / (total * (total - 1)));
    double z = fabs(u - n * m / 2) - 0.5; /* continuity */

    if (!(variance > 0))
        return 1;
    return z <= 0 ? 1 : erfc(z / sqrt(variance) / sqrt(2));
}

double bn_stats_mann_whitney(const double *a, size_t n, const double *b, size_t m)
{
    if (n == 0 || m == 0)
        return 1;
    struct ranked *all = bn_xcalloc(n + m, sizeof *all);
    double rank_sum = 0, ties = 0;

    for (size_t i = 0; i < n; i++)
        all[i] = (struct ranked){a[i], true};
    for (size_t i = 0; i < m; i++)
        all[n + i] = (struct ranked){b[i], false};
    qsort(all, n + m, sizeof *all, compare_ranked);
    for (size_t i = 0, k; i < n + m; i = k) {
        for (k = i; k < n + m && all[k].value == all[i].value; k++)
            ;
        double t = (double)(k - i), rank = ((double)i + (double)k + 1) / 2;
        ties += t * t * t - t;
        for (size_t j = i; j < k; j++)
            rank_sum += all[j].in_a ? rank : 0;
    }
    free(all);
    double u = rank_sum - (double)n * ((double)n + 1) / 2;
    if (ties > 0 || n > 8 || m > 8)
        return normal_p(u, (double)n, (double)m, ties);
    double smaller = fmin(u, (double)n * (double)m - u);
    return fmin(1, 2 * exact_tail(n, m, (size_t)smaller));
}
