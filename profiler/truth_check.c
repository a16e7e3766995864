/* SPDX-License-Identifier: MIT
 * The checks of the self-test that are about time: shares, sums, threads, stages. */
#include "profiler/truth_check.h"

#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "profiler/stats.h"
#include "profiler/truth_private.h"
#include "profiler/unwind.h"

static const double few = 0.4;             /* of the CPU time that samples should stand for: too few */
static const double least_ns = 100e6;      /* of CPU time, for any verdict */
static const double fewest = 20;           /* samples, for any verdict */
static const double stray = 0.01;          /* samples that an exact check lets pass */
static const double coverage = 0.05;       /* of the CPU time that the sum of the weights may be off */
static const double start_exec_ns = 5e6;   /* of CPU time: between fork and exec */
static const double start_timer_ns = 20e6; /* and until the program's own timer runs */
/* Where only user code is sampled: the kernel tells its own time from the program's by looking once a tick,
 * so that it is off by so much of a second or more, and of less. */
static const double by_ticks_long = 0.03, by_ticks_short = 0.1;
/* Of the CPU time that threads may not be told: where a thread ends the kernel reports no switch. */
static const double untold = 0.10;

/* ---- reading a record ---- */

bool bn_truth_is(const struct bn_profile *p, uint32_t stack, const char *function)
{
    return stack && strcmp(p->frames[p->stacks[stack].frame].function, function) == 0;
}

uint32_t bn_truth_own(const struct bn_profile *p, uint32_t stack)
{
    while (stack && (p->frames[p->stacks[stack].frame].kind == BN_FRAME_KERNEL ||
                     bn_truth_is(p, stack, "bn_truth_iterate")))
        stack = p->stacks[stack].parent;
    return stack;
}

/* CPU time that could be sampled; never 0. */
static double seen_ns(const struct bn_profile *p)
{
    return fmax(1, (double)bn_profile_seen_ns(&p->quality));
}

/* Time stolen from this machine, in parts of the program's CPU time, if it was all stolen from that. */
static double stolen(const struct bn_profile *p, const struct bn_truth_expected *e)
{
    const struct bn_profile_quality *q = &p->quality;

    return isnan(q->steal_share) ? 0 : q->steal_share * e->n_cpus * (double)q->duration_ns / seen_ns(p);
}

double bn_truth_excused(const struct bn_profile *p, const struct bn_truth_expected *e)
{
    const struct bn_profile_quality *q = &p->quality;
    double lost = (double)q->n_lost * 1e9 / q->asked_hz / seen_ns(p);

    return q->n_throttled ? 1 : fmin(1, lost + stolen(p, e));
}

/* The timer's period is a sample's weight, so the sum can miss one at either end; and a tick that came late
 * because the machine itself was stopped stands for the time of the stop. In parts of cpu_ns. */
static double may_be_off(const struct bn_profile *p, const struct bn_truth_expected *e, double cpu_ns)
{
    return coverage + 2e9 / p->quality.asked_hz / cpu_ns + bn_truth_excused(p, e);
}

/* Is time in the kernel sampled, too? */
static bool sees_all(const struct bn_profile *p)
{
    return p->quality.kernel_sampled || bn_profile_by_timer(&p->quality);
}

/* The same of the whole process, which uses some time before it can be sampled. */
static double process_may_be_off(const struct bn_profile *p, const struct bn_truth_expected *e)
{
    double start_ns = bn_profile_by_timer(&p->quality) ? start_timer_ns : start_exec_ns;

    return may_be_off(p, e, seen_ns(p)) + start_ns / seen_ns(p) + (sees_all(p) ? 0 : by_ticks_long);
}

bool bn_truth_too_few(struct bn_truth_row *row, const struct bn_profile *p, const struct bn_truth_expected *e,
                      const struct bn_sampled *w, double part)
{
    const struct bn_profile_quality *q = &p->quality;
    const struct bn_sampled all = bn_profile_sampled(p, 0);
    double share = (double)all.ns / seen_ns(p),
           least = bn_stats_hits(part, bn_sampled_effective(&all), BN_TRUTH_ALPHA).low;

    if (seen_ns(p) < least_ns)
        bn_truth_skip(row, "%.0f ms of CPU time are too little for a verdict", seen_ns(p) / 1e6);
    else if (share < few && share + process_may_be_off(p, e) < 1)
        bn_truth_fail(row, "%zu samples for %.0f %% of the CPU time are too few", all.n, 100 * share);
    else if (share < few)
        bn_truth_skip(
            row, "%zu samples are too few: %llu records lost, throttled %llu times, steal %.0f %% of it",
            all.n, (unsigned long long)q->n_lost, (unsigned long long)q->n_throttled, 100 * stolen(p, e));
    else if ((double)w->ns < least * (double)all.ns)
        bn_truth_fail(row, "%zu of %zu samples are too few: %.0f %% of the time or more was spent there",
                      w->n, all.n, 100 * part);
    else if (bn_sampled_effective(w) < fewest)
        bn_truth_skip(row, "%zu samples are too few for a verdict", w->n);
    else
        return false;
    return true;
}

void bn_truth_judge(struct bn_truth_row *row, size_t n, size_t right, const char *what)
{
    bn_truth_measure(row, "%zu of %zu %s", right, n, what);
    if ((double)(n - right) > stray * (double)n + 1)
        bn_truth_fail(row, "%zu of %zu %s are not what the program did", n - right, n, what);
}

void bn_truth_fail_unless(struct bn_truth_row *row, uint64_t n_lost, const char *format, ...)
{
    char text[sizeof row->why - 64];
    va_list args;

    va_start(args, format);
    vsnprintf(text, sizeof text, format, args);
    va_end(args);
    if (n_lost == 0)
        bn_truth_fail(row, "%s", text);
    else
        bn_truth_skip(row, "%s; %llu records were lost, which can be why", text, (unsigned long long)n_lost);
}

struct bn_truth_row *bn_truth_named(struct bn_truth_report *report, const char *name, const char *own)
{
    return bn_truth_add(report, name ? name : own);
}

/* ---- split and rates ---- */

struct shares {
    struct bn_sampled all;
    double share[3];
    struct bn_interval allowed[3];
    double widest; /* the farthest that a share may be off */
};

static const char *const split_names[] = {"truth_work_70", "truth_work_20", "truth_work_10"};

static struct shares measure_shares(const struct bn_profile *p, const struct bn_truth_expected *e)
{
    struct shares s = {0};
    double ns[3] = {0};

    for (size_t i = 0; i < p->n_samples; i++)
        for (int work = 0; work < 3; work++)
            if (bn_truth_is(p, bn_truth_own(p, p->samples[i].stack), split_names[work])) {
                bn_sampled_add(&s.all, p->samples[i].weight_ns);
                ns[work] += (double)p->samples[i].weight_ns;
            }
    for (int work = 0; work < 3; work++) {
        s.share[work] = s.all.ns > 0 ? ns[work] / (double)s.all.ns : 0;
        s.allowed[work] = bn_stats_hits(e->shares[work], bn_sampled_effective(&s.all), BN_TRUTH_ALPHA);
        double off = fmax(e->shares[work] - s.allowed[work].low, s.allowed[work].high - e->shares[work]);
        s.widest = fmax(s.widest, off);
    }
    return s;
}

static void judge_shares(struct bn_truth_row *row, const struct bn_profile *p,
                         const struct bn_truth_expected *e, const struct shares *s)
{
    if (bn_truth_too_few(row, p, e, &s->all, 0.6))
        return;
    for (int work = 0; work < 3; work++)
        if (s->share[work] < s->allowed[work].low || s->share[work] > s->allowed[work].high)
            bn_truth_fail(row, "%s has %.1f %% of %zu samples, outside of %.1f to %.1f %%", split_names[work],
                          100 * s->share[work], s->all.n, 100 * s->allowed[work].low,
                          100 * s->allowed[work].high);
}

void bn_truth_check_split(struct bn_truth_report *report, const char *name, const struct bn_profile *p,
                          const struct bn_truth_expected *e)
{
    struct bn_truth_row *row = bn_truth_named(report, name, "split");
    struct shares s = measure_shares(p, e);

    bn_truth_expect(row, "%.0f / %.0f / %.0f %% ±%.1f", 100 * e->shares[0], 100 * e->shares[1],
                    100 * e->shares[2], 100 * s.widest);
    bn_truth_measure(row, "%.1f / %.1f / %.1f %% of %zu samples", 100 * s.share[0], 100 * s.share[1],
                     100 * s.share[2], s.all.n);
    judge_shares(row, p, e, &s);
}

/* What the samples stand for, in parts of the CPU time. The sum of cycles is made equal to that, so that
 * their number is what can be wrong. */
static double covered(const struct bn_profile *p)
{
    const struct bn_profile_quality *q = &p->quality;
    double sum = (double)bn_profile_sampled(p, 0).ns;

    if (q->event && strcmp(q->event, "cycles") == 0)
        sum = (double)p->n_samples * 1e9 / q->asked_hz;
    return sum / seen_ns(p);
}

/* A rate that cannot be had is lowered: the row goes by what it was lowered to, once. */
static void settle_name(const struct bn_truth_report *report, struct bn_truth_row *row, double rate_hz)
{
    char real[sizeof row->name];

    snprintf(real, sizeof real, "%.0f Hz", rate_hz);
    for (size_t i = 0; &report->rows[i] < row; i++)
        if (strcmp(report->rows[i].name, real) == 0) {
            bn_truth_skip(row, "%s is beyond what can be had here, %s", row->name, real);
            return;
        }
    memcpy(row->name, real, sizeof real);
}

void bn_truth_check_rate(struct bn_truth_report *report, const char *name, const struct bn_profile *p,
                         const struct bn_truth_expected *e)
{
    struct bn_truth_row *row = bn_truth_named(report, name, "rate");
    const struct bn_profile_quality *q = &p->quality;
    struct shares s = measure_shares(p, e);
    double share = covered(p), off = process_may_be_off(p, e);

    bn_truth_expect(row, "100 %% of CPU time ±%.1f, shares ±%.1f", 100 * off, 100 * s.widest);
    bn_truth_measure(row, "%.1f %%, %.1f / %.1f / %.1f %% of %zu", 100 * share, 100 * s.share[0],
                     100 * s.share[1], 100 * s.share[2], s.all.n);
    settle_name(report, row, q->asked_hz);
    judge_shares(row, p, e, &s);
    if (fabs(share - 1) > off)
        bn_truth_fail(row, "the samples stand for %.1f %% of the CPU time, allowed are %.1f to %.1f %%",
                      100 * share, 100 * fmax(0, 1 - off), 100 * (1 + off));
}

/* ---- threads ---- */

struct seen {
    uint32_t n_brief;
    double brief_ns, brief_sampled_ns, main_ns, main_sampled_ns;
};

static struct seen see_threads(const struct bn_profile *p)
{
    struct seen seen = {0};

    for (size_t i = 0; i < p->n_threads; i++) {
        const struct bn_profile_thread *t = &p->threads[i];
        bool brief = t->name && strcmp(t->name, BN_TRUTH_THREAD) == 0;
        seen.n_brief += brief;
        seen.brief_ns += brief ? (double)t->cpu_ns : 0;
        seen.main_ns += t->tid == t->pid ? (double)t->cpu_ns : 0;
    }
    for (size_t i = 0; i < p->n_samples; i++) {
        const struct bn_sample *s = &p->samples[i];
        const struct bn_profile_thread *t = &p->threads[s->thread];
        *(t->tid == t->pid ? &seen.main_sampled_ns : &seen.brief_sampled_ns) += (double)s->weight_ns;
    }
    return seen;
}

/* The kernel begins a period with every new thread, so that one which ends before has no sample: the record
 * tells its CPU time all the same. The main thread is interrupted by each of them, and loses nothing. */
static void judge_threads(struct bn_truth_row *row, const struct bn_profile *p,
                          const struct bn_truth_expected *e, const struct seen *s)
{
    double off = may_be_off(p, e, s->main_ns), share = s->main_sampled_ns / s->main_ns;
    double unseen = sees_all(p) ? 0 : (double)p->quality.system_ns / s->main_ns + by_ticks_short;
    unseen +=
        bn_profile_by_timer(&p->quality) ? start_timer_ns / s->main_ns : 0; /* before its library was there */
    double all_ns = (double)p->quality.user_ns + (double)p->quality.system_ns;
    double told = (s->main_ns + s->brief_ns) / all_ns;

    bn_truth_expect(row, "%u threads; main's samples %.0f to %.0f %%", e->n_threads,
                    100 * fmax(0, 1 - off - unseen), 100 * (1 + off));
    bn_truth_measure(row, "%u, %.0f %% of CPU time; %.1f %%, theirs %.0f %%", s->n_brief, 100 * told,
                     100 * share, s->brief_ns > 0 ? 100 * s->brief_sampled_ns / s->brief_ns : 0.0);
    if (share > 1 + off || share < 1 - off - unseen)
        bn_truth_fail_unless(
            row, p->quality.n_lost,
            "the main thread's samples stand for %.1f %% of its CPU time, not %.1f to %.1f %%", 100 * share,
            100 * fmax(0, 1 - off - unseen), 100 * (1 + off));
    if (!(s->brief_ns > 0) || fabs(told - 1) > untold + off - coverage)
        bn_truth_fail_unless(row, p->quality.n_lost,
                             "the threads' CPU times add up to %.1f %% of the program's", 100 * told);
}

void bn_truth_check_threads(struct bn_truth_report *report, const char *name, const struct bn_profile *p,
                            const struct bn_truth_expected *e)
{
    struct bn_truth_row *row = bn_truth_named(report, name, "short threads");
    struct seen s = see_threads(p);

    bn_truth_expect(row, "%u threads", e->n_threads);
    bn_truth_measure(row, "%u; their CPU times are not told here", s.n_brief);
    if (e->n_threads == 0)
        bn_truth_fail(row, "the program started no thread");
    if (s.n_brief != e->n_threads)
        bn_truth_fail_unless(row, p->quality.n_lost, "%u short threads are listed, the program started %u",
                             s.n_brief, e->n_threads);
    if (s.main_ns > 0)
        judge_threads(row, p, e, &s);
    else if (!bn_profile_by_timer(&p->quality))
        bn_truth_fail(row, "the main thread's CPU time is unknown");
}

/* ---- stages ---- */

struct turns {
    struct bn_sampled all; /* samples in the stages' functions */
    double differ;         /* their stage is not the function's */
};

static void judge_edges(struct bn_truth_row *row, const struct bn_profile *p,
                        const struct bn_truth_expected *e, const struct turns *t, double length_us)
{
    struct bn_interval in =
        bn_stats_hits(fmin(0.5, e->edge_us / length_us), (double)t->all.n, BN_TRUTH_ALPHA);
    double share = t->all.n ? t->differ / (double)t->all.n : 0;

    bn_truth_measure(row, "%.0f of %zu differ: %.2f us a change", t->differ, t->all.n, share * length_us);
    if (!bn_truth_too_few(row, p, e, &t->all, 0.02) && share > in.high)
        bn_truth_fail_unless(row, p->quality.scope_events_dropped,
                             "%.2f %% of the samples stand under the wrong stage, allowed are %.2f %%",
                             100 * share, 100 * in.high);
}

/* Returns how many samples in the stages' functions have no length, which is the layer of their stage. */
static double see_stages(const struct bn_profile *p, struct turns turns[BN_TRUTH_LENGTHS])
{
    double outside = 0;

    for (size_t i = 0; i < p->n_samples; i++) {
        const struct bn_sample *s = &p->samples[i];
        uint32_t own = bn_truth_own(p, s->stack);
        bool prefill = bn_truth_is(p, own, "truth_in_prefill");
        if (!prefill && !bn_truth_is(p, own, "truth_in_decode"))
            continue;
        if (s->layer < 0 || s->layer >= BN_TRUTH_LENGTHS) {
            outside++;
            continue;
        }
        const char *stage = s->stage ? p->stages[s->stage].name : "";
        bn_sampled_add(&turns[s->layer].all, s->weight_ns);
        turns[s->layer].differ += strcmp(stage, prefill ? "prefill" : "decode") != 0;
    }
    return outside;
}

void bn_truth_check_stages(struct bn_truth_report *report, const char *name, const struct bn_profile *p,
                           const struct bn_truth_expected *e)
{
    struct turns turns[BN_TRUTH_LENGTHS] = {0};
    double outside = see_stages(p, turns);

    (void)name;
    for (int i = 0; i < BN_TRUTH_LENGTHS; i++) {
        bool us = e->length_us[i] < 1000;
        char own[32];
        snprintf(own, sizeof own, "stages of %.3g %s", e->length_us[i] / (us ? 1 : 1000), us ? "us" : "ms");
        struct bn_truth_row *row = bn_truth_add(report, own);
        bn_truth_expect(row, "the function's stage, %.0f us a change", e->edge_us);
        bn_truth_measure(row, "%.0f samples under no stage", outside);
        if (outside > stray * ((double)turns[i].all.n + outside))
            bn_truth_fail_unless(row, p->quality.scope_events_dropped,
                                 "%.0f samples in the stages' functions stand under no stage", outside);
        judge_edges(row, p, e, &turns[i], e->length_us[i]);
    }
}

/* ---- */

static uint32_t started_threads(const char *dir)
{
    char *path = bn_xasprintf("%s/" BN_TRUTH_COUNT, dir), line[32] = "";
    FILE *f = fopen(path, "re");

    if (f && !fgets(line, sizeof line, f))
        line[0] = '\0';
    if (f)
        fclose(f);
    free(path);
    return (uint32_t)strtoul(line, NULL, 10);
}

struct bn_truth_expected bn_truth_expected(const char *dir)
{
    long n_cpus = sysconf(_SC_NPROCESSORS_ONLN);
    struct bn_truth_expected e = {
        .shares = {0.7, 0.2, 0.1},
        .lines = bn_truth_lines,
        .file = "truth.c",
        .levels = BN_TRUTH_LEVELS,
        .most_callers = BN_UNWIND_MAX_FRAMES,
        .n_threads = started_threads(dir),
        .edge_us = 1,
        .n_cpus = n_cpus > 0 ? (uint32_t)n_cpus : 1,
    };

    for (int i = 0; i < BN_TRUTH_LENGTHS; i++)
        e.length_us[i] = bn_truth_length_us[i];
    return e;
}
