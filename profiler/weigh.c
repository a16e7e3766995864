/* SPDX-License-Identifier: MIT
 * Weights: settled at the end of joining, summed up for reading. */
#include "profiler/weigh.h"

struct bn_sampled bn_profile_sampled(const struct bn_profile *p, uint32_t flags)
{
    struct bn_sampled sum = {0};

    for (size_t i = 0; i < p->n_samples; i++)
        if ((p->samples[i].flags & flags) == flags)
            bn_sampled_add(&sum, p->samples[i].weight_ns);
    return sum;
}

double bn_profile_percent(const struct bn_profile *p, enum bn_sample_flag flag)
{
    const struct bn_profile_quality *q = &p->quality;
    struct bn_sampled all = bn_profile_sampled(p, 0), part = bn_profile_sampled(p, flag);
    uint64_t n = flag == BN_SAMPLE_TRUNCATED ? q->n_truncated
                 : flag == BN_SAMPLE_UNNAMED ? q->n_unnamed
                                             : q->n_joined;

    if (!bn_sampled_equal(&all))
        return 100 * bn_sampled_share(&part, &all);
    return q->n_samples ? 100.0 * (double)n / (double)q->n_samples : 0;
}

static uint64_t scaled(uint64_t weight, double scale)
{
    double ns = (double)weight * scale;

    return ns < 0x1p63 ? (uint64_t)ns : (uint64_t)INT64_MAX; /* out of a damaged recording */
}

void bn_weigh_by_cycles(struct bn_profile *p, uint64_t cpu_ns)
{
    struct bn_sampled all = bn_profile_sampled(p, 0);
    uint64_t asked_ns = p->quality.asked_hz > 0 ? scaled(1, 1e9 / p->quality.asked_hz) : 0;
    double scale = all.ns > 0 ? (double)cpu_ns / (double)all.ns : 0;

    for (size_t i = 0; i < p->n_samples; i++)
        p->samples[i].weight_ns = scale > 0 ? scaled(p->samples[i].weight_ns, scale) : asked_ns;
    for (size_t i = 0; i < p->n_modules; i++)
        p->modules[i].weight_ns = scaled(p->modules[i].weight_ns, scale);
    for (size_t i = 0; i < p->n_addresses; i++)
        p->addresses[i].weight_ns = scaled(p->addresses[i].weight_ns, scale);
}

void bn_weigh_close(struct bn_profile *p)
{
    for (size_t i = 0; i < p->n_samples; i++) /* however few its cycles, it stands for something */
        p->samples[i].weight_ns += p->samples[i].weight_ns == 0;
    struct bn_sampled all = bn_profile_sampled(p, 0);
    if (!bn_sampled_equal(&all))
        return;
    for (size_t i = 0; i < p->n_modules; i++)
        p->modules[i].weight_ns = 0;
    for (size_t i = 0; i < p->n_addresses; i++)
        p->addresses[i].weight_ns = 0;
}
