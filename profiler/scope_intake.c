/* SPDX-License-Identifier: MIT
 * Scopes and the kernel's records, matched by process and thread. */
#include "profiler/scope_intake.h"

#include <errno.h>
#include <signal.h>

static uint64_t earlier(uint64_t a, uint64_t b)
{
    return a < b ? a : b;
}

/* Not told before there are some, so that the exec that began the program is none of its own. */
void bn_scope_intake_owner(const struct bn_scope_reader *r, struct bn_intake *in)
{
    const struct bn_scope_shared *region = r->region;

    if (!region || in->scopes_pid != 0 || atomic_load(&region->threads[0].tid) == 0)
        return;
    in->scopes_ns = atomic_load(&region->threads[0].start_ns);
    in->scopes_pid = atomic_load(&region->pid);
}

void bn_scope_intake_look(struct bn_scope_reader *r, const struct bn_intake *in, uint64_t now_ns)
{
    if (in->scopes_pid > 0 && !r->gone_ns && kill(in->scopes_pid, 0) != 0 && errno == ESRCH)
        r->gone_ns = now_ns;
}

/* Both by time: a thread's time off the CPUs comes, when it has ended, between the samples before and after.
 */
static void place_all(struct bn_scope_reader *r, struct bn_intake *in)
{
    size_t sample = 0, gap = 0;

    while (sample < in->n_samples || gap < in->off_cpu.n_gaps) {
        struct bn_intake_sample *s = sample < in->n_samples ? &in->samples[sample] : NULL;
        struct bn_off_cpu_gap *g = gap < in->off_cpu.n_gaps ? &in->off_cpu.gaps[gap] : NULL;
        if (s && (!g || s->t_ns < g->t_ns + g->dt_ns)) {
            if (s->pid == in->scopes_pid && s->t_ns < in->exec_ns)
                bn_scope_reader_mark(r, s->tid, s->t_ns, &s->raw);
            sample++;
        } else {
            if (g->t_ns < in->exec_ns)
                bn_scope_reader_mark_gap(r, g->tid, g, &g->place);
            gap++;
        }
    }
}

void bn_scope_intake_place(struct bn_scope_reader *r, struct bn_intake *in, uint64_t horizon_ns)
{
    uint64_t until_ns = r->end_ns ? earlier(horizon_ns, r->end_ns) : horizon_ns;
    int32_t tid;

    for (uint32_t slot = 0; in->scopes_pid && slot < BN_SCOPE_MAX_THREADS; slot++)
        if ((tid = bn_scope_reader_tid(r, slot)) != 0)
            bn_intake_off_cpu_so_far(in, in->scopes_pid, tid, until_ns);
    place_all(r, in);
}

static uint64_t process_end(const struct bn_scope_reader *r, const struct bn_intake *in, uint64_t now_ns)
{
    uint64_t end_ns = earlier(now_ns, in->exec_ns);

    return r->gone_ns ? earlier(r->gone_ns, end_ns) : end_ns;
}

uint64_t bn_scope_intake_end(const struct bn_scope_reader *r, const struct bn_intake *in, uint64_t end_ns)
{
    int32_t pid = in->scopes_pid;

    return process_end(r, in, earlier(end_ns, bn_intake_thread_end(in, pid, pid)));
}

void bn_scope_intake_ends(const struct bn_scope_reader *r, const struct bn_intake *in, uint64_t now_ns,
                          uint64_t *until_ns)
{
    uint64_t all_ns = process_end(r, in, now_ns);

    for (uint32_t slot = 0; slot < BN_SCOPE_MAX_THREADS; slot++) {
        int32_t tid = bn_scope_reader_tid(r, slot);
        until_ns[slot] = tid ? earlier(all_ns, bn_intake_thread_end(in, in->scopes_pid, tid)) : 0;
    }
}
