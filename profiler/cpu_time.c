/* SPDX-License-Identifier: MIT
 * Sums and proportions; no clock is read here. */
#include "profiler/cpu_time.h"

enum { MOST = 90 }; /* percent of the time whose division speaks for the rest */

static uint64_t part_of(uint64_t whole, uint64_t part, uint64_t sum)
{
    double share = (double)part / (double)sum;
    uint64_t ns = (uint64_t)((double)whole * share + 0.5);

    return ns < whole ? ns : whole;
}

struct bn_cpu_time bn_cpu_time_settle(const struct bn_cpu_counts *c)
{
    struct bn_cpu_time t = {.cpu_ns = c->covered_ns};
    uint64_t told_ns = c->user_ns + c->system_ns;

    if (!c->all_covered && told_ns > c->covered_ns + c->slack_ns)
        t.unreached_ns = told_ns - c->covered_ns;
    t.cpu_ns += t.unreached_ns;
    if (told_ns == 0)
        return t;
    if (told_ns >= t.cpu_ns || bn_cpu_time_divided(t.cpu_ns, c->user_ns, c->system_ns) ||
        t.cpu_ns - told_ns <= c->slack_ns) {
        t.user_ns = part_of(t.cpu_ns, c->user_ns, told_ns);
        t.system_ns = t.cpu_ns - t.user_ns;
    } else {
        t.user_ns = c->user_ns;
        t.system_ns = c->system_ns;
    }
    return t;
}

void bn_cpu_time_correct(struct bn_cpu_time *t, uint64_t sampled_ns)
{
    uint64_t most_ns = t->cpu_ns - t->unreached_ns, user_ns = sampled_ns < most_ns ? sampled_ns : most_ns;

    if (user_ns <= t->user_ns || !bn_cpu_time_divided(t->cpu_ns, t->user_ns, t->system_ns))
        return;
    t->user_ns = user_ns;
    t->system_ns = t->cpu_ns - user_ns;
}

bool bn_cpu_time_divided(uint64_t cpu_ns, uint64_t user_ns, uint64_t system_ns)
{
    return user_ns + system_ns > 0 && (double)(user_ns + system_ns) * 100 >= (double)cpu_ns * MOST;
}
