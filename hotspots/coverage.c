/* SPDX-License-Identifier: MIT
 * Sums over samples and threads. */
#include "hotspots/coverage.h"

#include <stdlib.h>

/* A sample stands for a period that a thread has run, so this cannot be but by an error; the clocks of
 * samples and of CPU time differ by a little. */
static bool more_than_there_was(const struct bn_profile_quality *q, uint64_t sampled_ns)
{
    static const double clocks = 1.02;
    double period_ns = q->asked_hz > 0 ? 1e9 / q->asked_hz : 0, most_ns = (double)bn_profile_cpu_ns(q);

    return most_ns > 0 && (double)sampled_ns > clocks * most_ns + period_ns;
}

struct bn_coverage bn_coverage_of(const struct bn_profile *p)
{
    const struct bn_profile_quality *q = &p->quality;
    struct bn_coverage c = {.seen_ns = bn_profile_seen_ns(q), .unreached_ns = q->unreached_ns};
    bool *sampled = bn_xcalloc(p->n_threads + 1, sizeof *sampled);

    for (size_t i = 0; i < p->n_samples; i++) {
        c.sampled_ns += p->samples[i].weight_ns;
        sampled[p->samples[i].thread] = true;
    }
    for (size_t i = 0; i < p->n_threads; i++) {
        if (sampled[i] || p->threads[i].cpu_ns == 0)
            continue;
        c.n_short++;
        c.short_ns += p->threads[i].cpu_ns;
    }
    free(sampled);
    c.impossible = more_than_there_was(q, c.sampled_ns);
    return c;
}

struct bn_sampled bn_coverage_module(const struct bn_profile_module *m)
{
    return (struct bn_sampled){.n = m->samples, .ns = m->weight_ns};
}

struct bn_sampled bn_coverage_modules(const struct bn_profile *p)
{
    bool known = false;

    for (size_t i = 0; i < p->n_modules; i++)
        known = known || p->modules[i].weight_ns > 0;
    return known ? bn_profile_sampled(p, 0) : (struct bn_sampled){.n = p->n_samples};
}
