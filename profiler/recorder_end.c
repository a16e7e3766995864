/* SPDX-License-Identifier: MIT
 * Events count what they covered exactly, but not what ran where they could not be; the kernel accounts for
 * everything, but only of processes that can be asked. */
#include "profiler/recorder_end.h"

#include <stdlib.h>
#include <unistd.h>

#include "profiler/timer_proc.h"

enum {
    SLACK_NS = 10000000,      /* a child of ours until it becomes the program */
    THREAD_SLACK_NS = 50000,  /* the first and the last moments of each thread */
    TICKS_SLACK_NS = 20000000 /* a reading of /proc: user and kernel time, each rounded down to a tick */
};

struct bn_left_behind bn_left_behind_find(const struct bn_intake *in, pid_t program)
{
    struct bn_left_behind left = {0};
    struct bn_attach_usage usage;
    size_t n = bn_intake_living(in, &left.pids);

    for (size_t i = 0; i < n; i++)
        if (left.pids[i] != program && left.pids[i] > 0 && bn_attach_usage(left.pids[i], &usage) &&
            !usage.ended)
            left.pids[left.n++] = left.pids[i];
    return left;
}

char *bn_left_behind_text(const struct bn_left_behind *left, const struct bn_intake *in)
{
    enum { NAMED = 5 };
    struct bn_buf b = {0};

    if (left->n == 0)
        return NULL;
    bn_buf_printf(&b,
                  left->n == 1 ? "1 process ran on when the program had ended, recorded until then: "
                               : "%zu processes ran on when the program had ended, recorded until then: ",
                  left->n);
    for (size_t i = 0; i < left->n && i < NAMED; i++) {
        const char *name = bn_intake_name(in, left->pids[i]);
        bn_buf_printf(&b, "%s%s (%d)", i ? ", " : "", *name ? name : "unnamed", (int)left->pids[i]);
    }
    if (left->n > NAMED)
        bn_buf_puts(&b, ", …");
    return b.p;
}

/* What those left behind used, and what the children used that they waited for. All of it was recorded: they
 * were born under the recorder's eyes. */
static void add_left_behind(struct bn_cpu_counts *counts, const struct bn_left_behind *left)
{
    struct bn_attach_usage usage;

    for (size_t i = 0; i < left->n; i++) {
        if (!bn_attach_usage(left->pids[i], &usage))
            continue;
        counts->user_ns += usage.user_ns + usage.waited_user_ns;
        counts->system_ns += usage.system_ns + usage.waited_system_ns;
        counts->slack_ns += TICKS_SLACK_NS;
    }
}

/* By what each process says of itself, and by what was waited for: the one lacks processes without timers,
 * the other those that nobody waited for. Programs write the first, so it is not believed beyond what the
 * machine has. */
static uint64_t used_with_timers(const struct bn_timer *t, const struct bn_intake *in,
                                 const struct bn_launch_end *end, const struct bn_left_behind *left)
{
    uint64_t most_ns = (bn_now_ns() - in->start_ns) * (uint64_t)sysconf(_SC_NPROCESSORS_CONF);
    uint64_t told_ns = bn_timer_used_ns(t), sum_ns = end->user_ns + end->system_ns;
    struct bn_attach_usage usage;

    for (size_t i = 0; i < left->n; i++)
        if (bn_attach_usage(left->pids[i], &usage))
            sum_ns += bn_timer_process_ns(left->pids[i]) + usage.waited_user_ns + usage.waited_system_ns;
    if (told_ns > most_ns)
        return sum_ns;
    return told_ns > sum_ns ? told_ns : sum_ns;
}

static struct bn_launch_end end_of(const struct bn_attach_usage *used, bool with_waited)
{
    return (struct bn_launch_end){
        .user_ns = used->user_ns + (with_waited ? used->waited_user_ns : 0),
        .system_ns = used->system_ns + (with_waited ? used->waited_system_ns : 0),
        .major_faults = used->major_faults,
        .minor_faults = used->minor_faults,
    };
}

/* What can have run on all processors since the events were stopped. */
static uint64_t run_since(uint64_t end_ns)
{
    return (bn_now_ns() - end_ns) * (uint64_t)sysconf(_SC_NPROCESSORS_CONF);
}

struct bn_cpu_time bn_recorder_cpu_launched(const struct bn_perf *s, const struct bn_intake *in,
                                            const struct bn_left_behind *left, pid_t running, uint64_t end_ns,
                                            struct bn_launch_end *end)
{
    struct bn_attach_usage used;

    if (running && bn_attach_usage(running, &used))
        *end = end_of(&used, true);
    struct bn_cpu_counts counts = {.covered_ns = bn_perf_covered_ns(s),
                                   .user_ns = end->user_ns,
                                   .system_ns = end->system_ns,
                                   .slack_ns = SLACK_NS + in->n_threads * THREAD_SLACK_NS};
    add_left_behind(&counts, left);
    counts.slack_ns += (counts.user_ns + counts.system_ns) / 50;
    if (running || left->n)
        counts.slack_ns += run_since(end_ns);
    counts.all_covered = s->timer != NULL; /* where timers are not is not known */
    if (s->timer)
        counts.covered_ns = used_with_timers(s->timer, in, end, left);
    return bn_cpu_time_settle(&counts);
}

struct bn_cpu_time bn_recorder_cpu_attached(const struct bn_perf *s, const struct bn_attach *a,
                                            const struct bn_left_behind *left, struct bn_launch_end *end)
{
    struct bn_attach_usage used = bn_attach_used(a);

    *end = end_of(&used, false);
    struct bn_cpu_counts counts = {.covered_ns = bn_perf_covered_ns(s),
                                   .user_ns = used.user_ns,
                                   .system_ns = used.system_ns,
                                   .slack_ns = TICKS_SLACK_NS,
                                   .all_covered = true};
    uint64_t waited_ns = used.waited_user_ns + used.waited_system_ns;
    add_left_behind(&counts, left);
    /* Children that it waited for count if they were recorded, not if they are older than the recording. */
    if (counts.user_ns + counts.system_ns + waited_ns <=
        counts.covered_ns + counts.covered_ns / 20 + counts.slack_ns) {
        counts.user_ns += used.waited_user_ns;
        counts.system_ns += used.waited_system_ns;
    }
    return bn_cpu_time_settle(&counts);
}
