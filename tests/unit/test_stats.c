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

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_share),        cmocka_unit_test(test_hits),
        cmocka_unit_test(test_hits_edges),   cmocka_unit_test(test_percentiles),
        cmocka_unit_test(test_mann_whitney), cmocka_unit_test(test_bootstrap),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
