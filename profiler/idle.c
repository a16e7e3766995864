/* SPDX-License-Identifier: MIT
 * The recorder's division of idle workers' time (profiler/scope_follow), applied to the record. */
#include "profiler/idle.h"

#include <string.h>

uint32_t bn_idle_stage(struct bn_profile *p, uint32_t stage)
{
    if (stage && strcmp(p->stages[stage].name, "wait") == 0)
        return stage;
    return bn_profile_add_stage(p, stage, "wait");
}

/* Of *from as much as there is of ns goes to *to. */
static void move_ns(uint64_t *from, uint64_t *to, uint64_t ns)
{
    ns = ns < *from ? ns : *from;
    *from -= ns;
    *to += ns;
}

void bn_idle_divide(struct bn_profile *p, const struct bn_part_info *info)
{
    uint32_t idle = bn_profile_find_stage(p, 0, "wait");

    for (uint32_t node = 1; node < info->n_nodes && idle != BN_NONE; node++) {
        const struct bn_part_idle *i = &info->idle[node];
        if (i->waited_ns + i->asleep_ns + i->preempted_ns == 0)
            continue;
        uint32_t to = bn_idle_stage(p, info->stage_of_node[node]);
        struct bn_stage_node *all = &p->stages[idle], *here = &p->stages[to];
        if (to == idle)
            continue;
        move_ns(&all->worker_ns, &here->worker_ns, i->waited_ns);
        move_ns(&all->asleep_ns, &here->asleep_ns, i->asleep_ns);
        move_ns(&all->preempted_ns, &here->preempted_ns, i->preempted_ns);
    }
}
