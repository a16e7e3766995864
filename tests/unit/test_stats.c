/* SPDX-License-Identifier: MIT
 * profiler/stats against published values and against its own promise: 95 % intervals that cover. */
#include "profiler/stats.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

static void near(double got, double want, double within)
{
    if (!(fabs(got - want) <= within))
        fail_msg("%.9g, expected %.9g within %.1g", got, want, within);
}

static void test_share(void **state)
{
    struct bn_interval i = bn_stats_share(10, 100); /* Wilson, without continuity: 0.0552 … 0.1744 */

    (void)state;
    near(i.low, 0.05523, 5e-5);
    near(i.high, 0.17437, 5e-5);
    i = bn_stats_share(0, 20);
    near(i.low, 0, 0);
    near(i.high, 0.16113, 5e-5);
    i = bn_stats_share(20, 20);
    near(i.high, 1, 0);
    i = bn_stats_share(0, 0);
    near(i.low, 0, 0);
    near(i.high, 1, 0);
}

/* P(k hits of n), exactly. */
static double binomial(unsigned k, unsigned n, double share)
{
    double log_p = lgamma(n + 1.0) - lgamma(k + 1.0) - lgamma(n - k + 1.0);

    return exp(log_p + k * log(share) + (n - k) * log(1 - share));
}

/* What lies outside of the bounds is rarer than promised, for every n and far out; and they are not wider
 * than seven standard deviations and a bit. */
static void test_hits(void **state)
{
    static const double shares[] = {0.002, 0.02, 0.1, 0.2, 0.5, 0.7, 0.97}, alphas[] = {0.05, 1e-3, 2e-6};
    static const unsigned ns[] = {1, 7, 20, 100, 999, 5000};

    (void)state;
    for (size_t s = 0; s < sizeof shares / sizeof *shares; s++)
        for (size_t a = 0; a < sizeof alphas / sizeof *alphas; a++)
            for (size_t i = 0; i < sizeof ns / sizeof *ns; i++) {
                unsigned n = ns[i];
                struct bn_interval in = bn_stats_hits(shares[s], n, alphas[a]);
                double outside = 0, sigma = sqrt(shares[s] * (1 - shares[s]) / n);
                for (unsigned k = 0; k <= n; k++)
                    outside +=
                        (double)k / n < in.low || (double)k / n > in.high ? binomial(k, n, shares[s]) : 0;
                if (outside > alphas[a])
                    fail_msg("%.3f of %u: %.3g outside, promised %.3g", shares[s], n, outside, alphas[a]);
                assert_true(in.low <= shares[s] && shares[s] <= in.high);
                assert_true(in.high - shares[s] <= 7 * sigma + 16.0 / n);
                assert_true(shares[s] - in.low <= 7 * sigma + 16.0 / n);
            }
}

static void test_hits_edges(void **state)
{
    struct bn_interval i = bn_stats_hits(0.3, 0, 0.01);

    (void)state;
    near(i.low, 0, 0);
    near(i.high, 1, 0);
    i = bn_stats_hits(0, 100, 0.01); /* what cannot be is never hit */
    near(i.low, 0, 0);
    near(i.high, 0, 0);
    i = bn_stats_hits(1, 100, 0.01);
    near(i.low, 1, 0);
    near(i.high, 1, 0);
}

static void test_percentiles(void **state)
{
    double v[] = {5, 1, 4, 2, 3};

    (void)state;
    near(bn_stats_median(v, 5), 3, 0);
    near(v[0], 1, 0);
    near(bn_stats_percentile(v, 5, 0.25), 2, 0);
    near(bn_stats_percentile(v, 5, 0.9), 4.6, 1e-12);
    near(bn_stats_percentile(v, 5, 1), 5, 0);
    near(bn_stats_percentile(v, 1, 0.5), 1, 0);
}

/* Two-sided exact p = 2 * (orders with U as small) / C(n+m, n). */
static void test_mann_whitney(void **state)
{
    const double a[] = {1, 2, 3, 4, 5}, b[] = {6, 7, 8, 9, 10}, c[] = {1.5, 2.5, 6.5, 9.5, 11};
    const double same[] = {3, 3, 3, 3};
    double many_a[50], many_b[50];

    (void)state;
    near(bn_stats_mann_whitney(a, 5, b, 5), 2.0 / 252, 1e-12); /* U = 0 */
    near(bn_stats_mann_whitney(b, 5, a, 5), 2.0 / 252, 1e-12);
    near(bn_stats_mann_whitney(a, 3, b, 3), 2.0 / 20, 1e-12);   /* three runs can never reach 5 % */
    near(bn_stats_mann_whitney(a, 5, c, 5), 78.0 / 252, 1e-12); /* U = 7: 1+1+2+3+5+7+9+11 = 39 orders */
    near(bn_stats_mann_whitney(same, 4, same, 4), 1, 1e-12);
    near(bn_stats_mann_whitney(a, 5, b, 0), 1, 0);
    for (int i = 0; i < 50; i++) {
        many_a[i] = i;
        many_b[i] = i + 0.5;
    }
    assert_true(bn_stats_mann_whitney(many_a, 50, many_b, 50) > 0.8);
    for (int i = 0; i < 50; i++)
        many_b[i] = i + 25;
    assert_true(bn_stats_mann_whitney(many_a, 50, many_b, 50) < 1e-6);
}

/* Of 300 experiments with a known ratio, about 95 % of the intervals must hold it. */
static void test_bootstrap(void **state)
{
    uint64_t random = 7;
    int covered = 0;

    (void)state;
    for (int e = 0; e < 300; e++) {
        double num[40], den[40];
        for (int i = 0; i < 40; i++) {
            double noise = 0;
            for (int k = 0; k < 12; k++)
                noise += (double)(bn_stats_random(&random) >> 11) / 9007199254740992.0 - 0.5;
            den[i] = 25;
            num[i] = 25 * (3 + 0.4 * noise);
        }
        struct bn_interval i = bn_stats_bootstrap_ratio(num, den, 40);
        covered += i.low <= 3 && i.high >= 3;
    }
    assert_in_range(covered, 270, 297);
    double one = 1;
    assert_true(isnan(bn_stats_bootstrap_ratio(&one, &one, 1).low));
}

static struct bn_sampled sampled(const uint64_t *ns, size_t n)
{
    struct bn_sampled s = {0};

    for (size_t i = 0; i < n; i++)
        bn_sampled_add(&s, ns[i]);
    return s;
}

static void test_sampled(void **state)
{
    static const uint64_t ns[] = {4, 4, 4, 88};
    struct bn_sampled none = {0}, all = sampled(ns, 4), light = sampled(ns, 3), heavy = sampled(ns + 3, 1),
                      joined = {0};

    (void)state;
    assert_true(all.n == 4 && all.ns == 100 && all.least_ns == 4 && all.most_ns == 88);
    near(all.squares, 48 + 7744, 0);
    assert_true(bn_sampled_equal(&none) && bn_sampled_equal(&light) && !bn_sampled_equal(&all));
    near(bn_sampled_share(&heavy, &all), 0.88, 0);
    near(bn_sampled_share(&light, &all), 0.12, 0);
    near(bn_sampled_share(&none, &none), 0, 0);
    near(bn_sampled_effective(&all), 10000.0 / 7792, 1e-12);
    near(bn_sampled_effective(&light), 3, 0);
    near(bn_sampled_effective(&none), 0, 0);
    assert_true(bn_sampled_compare(&heavy, &light) > 0 && bn_sampled_compare(&light, &heavy) < 0);
    assert_true(bn_sampled_compare(&light, &light) == 0 && bn_sampled_compare(&none, &light) < 0);
    bn_sampled_join(&joined, &none);
    bn_sampled_join(&joined, &heavy);
    bn_sampled_join(&joined, &light);
    bn_sampled_join(&joined, &none);
    assert_memory_equal(&joined, &all, sizeof all);
    /* without weights there is their number */
    static const uint64_t zeros[] = {0, 0, 0, 0};
    struct bn_sampled many = sampled(zeros, 4), one = sampled(zeros, 1);
    near(bn_sampled_share(&one, &many), 0.25, 0);
    near(bn_sampled_effective(&many), 4, 0);
    assert_true(bn_sampled_compare(&many, &one) > 0);
    /* what no record can hold */
    static const uint64_t huge[] = {UINT64_MAX, UINT64_MAX, 1};
    struct bn_sampled too_much = sampled(huge, 3), part = sampled(huge, 1);
    assert_true(too_much.ns == UINT64_MAX);
    near(bn_sampled_share(&part, &too_much), 1, 0);
    struct bn_interval in = bn_sampled_interval(&part, &too_much, BN_Z95);
    assert_true(in.low >= 0 && in.low <= in.high && in.high <= 1);
}

/* Equal weights, whatever they are: the very numbers of bn_stats_share. */
static void test_sampled_equal(void **state)
{
    static const uint64_t weights[] = {0, 1, 1001001, 4000000, (uint64_t)1 << 60};

    (void)state;
    for (size_t w = 0; w < sizeof weights / sizeof *weights; w++)
        for (unsigned n = 0; n < 60; n++) {
            struct bn_sampled all = {0}, part = {0};
            for (unsigned i = 0; i < n; i++)
                bn_sampled_add(&all, weights[w]);
            for (unsigned k = 0; k <= n; k++) {
                struct bn_interval got = bn_sampled_interval(&part, &all, BN_Z95),
                                   want = bn_stats_share(k, n);
                assert_true(got.low == want.low && got.high == want.high);
                assert_true(n == 0 || bn_sampled_share(&part, &all) == (double)k / n);
                bn_sampled_add(&part, weights[w]);
            }
        }
}

/* Samples are drawn: in the part with probability p_in, and then of one weight out of `in`, else of one out
 * of `out`. How many of 1000 draws of n samples have intervals that hold the true share? */
static int covered(unsigned n, double p_in, const uint64_t in[2], const uint64_t out[2])
{
    double mean_in = ((double)in[0] + (double)in[1]) / 2, mean_out = ((double)out[0] + (double)out[1]) / 2;
    double truth = p_in * mean_in / (p_in * mean_in + (1 - p_in) * mean_out);
    uint64_t random = 11;
    int hits = 0;

    for (int draw = 0; draw < 1000; draw++) {
        struct bn_sampled all = {0}, part = {0};
        for (unsigned i = 0; i < n; i++) {
            bool inside = (double)(bn_stats_random(&random) >> 11) * 0x1p-53 < p_in;
            uint64_t ns = (inside ? in : out)[bn_stats_random(&random) >> 63];
            bn_sampled_add(&all, ns);
            if (inside)
                bn_sampled_add(&part, ns);
        }
        struct bn_interval i = bn_sampled_interval(&part, &all, BN_Z95);
        hits += i.low <= truth && truth <= i.high;
    }
    return hits;
}

/* 95 % hold, also where the part's samples are the heavy ones, for which Kish's formula alone promises too
 * much, and where the weights have nothing to do with the part. */
static void test_sampled_interval(void **state)
{
    static const uint64_t light[] = {4, 4}, heavy[] = {60, 100}, mixed[] = {4, 40};
    struct bn_sampled all = {0}, part = {0};

    (void)state;
    assert_in_range(covered(190, 0.05, heavy, light), 930, 1000);
    assert_in_range(covered(1000, 0.01, heavy, light), 930, 1000);
    assert_in_range(covered(190, 0.95, light, heavy), 930, 1000);
    assert_in_range(covered(500, 0.1, light, heavy), 930, 1000);
    assert_in_range(covered(300, 0.3, mixed, mixed), 930, 1000);
    assert_in_range(covered(2000, 0.02, mixed, mixed), 930, 1000);
    /* a single heavy sample among a thousand, a tenth of the time: seen as what it is, one */
    for (int i = 0; i < 900; i++)
        bn_sampled_add(&all, 1);
    bn_sampled_add(&all, 100);
    bn_sampled_add(&part, 100);
    struct bn_interval in = bn_sampled_interval(&part, &all, BN_Z95);
    struct bn_interval kish = bn_stats_share(0.1 * bn_sampled_effective(&all), bn_sampled_effective(&all));
    near(bn_sampled_effective(&all), 1e6 / 10900, 1e-9);
    assert_true(in.low < 0.03 && in.low < kish.low && in.high > 0.3 && in.high > kish.high);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_share),
        cmocka_unit_test(test_hits),
        cmocka_unit_test(test_hits_edges),
        cmocka_unit_test(test_percentiles),
        cmocka_unit_test(test_mann_whitney),
        cmocka_unit_test(test_bootstrap),
        cmocka_unit_test(test_sampled),
        cmocka_unit_test(test_sampled_equal),
        cmocka_unit_test(test_sampled_interval),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
