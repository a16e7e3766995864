/* SPDX-License-Identifier: MIT
 * Flags on the record itself: can this profile be trusted? They make its grade. */
#include "hotspots/flags_private.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "hotspots/coverage.h"
#include "hotspots/report_text.h"
#include "hotspots/stack_ends.h"

void bn_flag_decide(struct bn_profile *p, struct bn_flag *flag, bool raised, double value, const char *advice,
                    const char *evidence, ...)
{
    char text[1024];
    va_list args;

    va_start(args, evidence);
    vsnprintf(text, sizeof text, evidence, args);
    va_end(args);
    flag->state = raised ? BN_FLAG_RAISED : BN_FLAG_CLEAR;
    flag->value = value;
    flag->evidence = bn_profile_str(p, text);
    flag->advice = bn_profile_str(p, advice);
}

void bn_flag_unknown(struct bn_profile *p, struct bn_flag *flag, const char *reason)
{
    flag->state = BN_FLAG_NOT_COMPUTED;
    flag->evidence = bn_profile_str(p, reason);
}

static double percent(uint64_t part, uint64_t whole)
{
    return whole ? 100.0 * (double)part / (double)whole : 0;
}

/* Of a recording that was cut off nothing is known that the recorder says at its end. */
static bool is_cut_off(struct bn_profile *p, struct bn_flag *flag, const char *what)
{
    if (!p->quality.partial)
        return false;
    char *reason = bn_xasprintf("the recording was cut off: %s is not known", what);
    bn_flag_unknown(p, flag, reason);
    free(reason);
    return true;
}

void bn_flag_few_samples(struct bn_profile *p, struct bn_flag *flag)
{
    uint64_t n = p->quality.n_samples;

    bn_flag_decide(p, flag, (double)n < flag->threshold, (double)n,
                   "record a longer run, or at a higher --freq", "%" PRIu64 " samples in %.2f s", n,
                   (double)p->quality.duration_ns / 1e9);
}

void bn_flag_lost_samples(struct bn_profile *p, struct bn_flag *flag)
{
    uint64_t lost = p->quality.n_lost, n = p->quality.n_samples, damaged = p->quality.damaged_bytes;
    uint64_t destroyed = damaged / BN_PROFILE_RAW_SAMPLE_BYTES; /* at most */
    double value = percent(lost + destroyed, lost + destroyed + n);

    if (damaged) {
        bn_flag_decide(p, flag, value > flag->threshold, value,
                       "the disk or whatever the file went through changed it: record again",
                       "%" PRIu64 " records lost, and up to %" PRIu64 " in the %" PRIu64
                       " bytes of the recording that fail their checksum, beside %" PRIu64 " delivered",
                       lost, destroyed, damaged, n);
        return;
    }
    if (value <= flag->threshold && is_cut_off(p, flag, "what was lost"))
        return;

    bn_flag_decide(
        p, flag, value > flag->threshold, value,
        "lower --freq or --stack-dump, or raise kernel.perf_event_mlock_kb so that the rings can be larger",
        "%" PRIu64 " records lost beside %" PRIu64 " delivered, ring of %" PRIu64 " KiB a CPU", lost, n,
        p->quality.ring_bytes / 1024);
}

/* "3 of 1000 samples"; the numbers are the quality's. */
static const char *part_of_all(const struct bn_profile *p, enum bn_sample_flag flag, uint64_t n,
                               const char *noun)
{
    struct bn_sampled all = bn_profile_sampled(p, 0), part = bn_profile_sampled(p, flag);

    part.n = n;
    all.n = p->quality.n_samples;
    return bn_text_part(&part, &all, noun);
}

void bn_flag_truncated_stacks(struct bn_profile *p, struct bn_flag *flag)
{
    const struct bn_profile_quality *q = &p->quality;
    double value = bn_profile_percent(p, BN_SAMPLE_TRUNCATED);
    const char *mark = bn_stack_ends_most(p);
    char longer[64] = "";

    if (q->stack_dump_bytes) /* else none was copied */
        snprintf(longer, sizeof longer, "; %" PRIu64 " were longer than their copy", q->n_stack_full);
    bn_flag_decide(p, flag, value > flag->threshold, value, bn_stack_ends_advice(p, mark),
                   "%s did not reach main or the thread's start%s%s%s",
                   part_of_all(p, BN_SAMPLE_TRUNCATED, q->n_truncated, "stacks"), longer,
                   mark ? "; most end in " : "", mark ? mark : "");
}

struct votes {
    const char *module;
    struct bn_sampled weight;
};

static int by_module(const void *a, const void *b)
{
    return strcmp(((const struct votes *)a)->module, ((const struct votes *)b)->module);
}

/* The module with most unnamed leaves: where debug information would help. */
static const char *worst_module(const struct bn_profile *p)
{
    struct votes *votes = bn_xcalloc(p->n_frames + 1, sizeof *votes), best = {"none", {0}};
    struct bn_sampled sum = {0};

    for (size_t i = 0; i < p->n_frames; i++)
        votes[i].module = p->frames[i].module ? p->frames[i].module : "no module";
    for (size_t i = 0; i < p->n_samples; i++)
        if ((p->samples[i].flags & BN_SAMPLE_UNNAMED) && p->samples[i].stack)
            bn_sampled_add(&votes[p->stacks[p->samples[i].stack].frame].weight, p->samples[i].weight_ns);
    qsort(votes, p->n_frames, sizeof *votes, by_module);
    for (size_t i = 0; i < p->n_frames; i++) {
        if (i == 0 || by_module(&votes[i - 1], &votes[i]) != 0)
            sum = (struct bn_sampled){0};
        bn_sampled_join(&sum, &votes[i].weight);
        if (bn_sampled_compare(&sum, &best.weight) > 0)
            best = (struct votes){votes[i].module, sum};
    }
    free(votes);
    return best.module;
}

/* What would give the code in that module names. */
static const char *naming_advice(const struct bn_profile *p, const char *module)
{
    if (strcmp(module, "[anon]") == 0)
        return "code that is made at run time (JIT) has no symbols: only its callers and callees can be "
               "named";
    if (bn_profile_fact(p, "files_not_named"))
        return "the file was replaced while it was recorded: record again and leave it alone meanwhile";
    for (size_t i = 0; i < p->n_modules; i++)
        if (strcmp(p->modules[i].name, module) == 0 && p->modules[i].state == BN_MODULE_UNREADABLE)
            return "the program's file could not be read when the recording had ended: record again and keep "
                   "it "
                   "until then";
    return "install the debug symbols of that module, or do not strip it";
}

void bn_flag_unknown_symbols(struct bn_profile *p, struct bn_flag *flag)
{
    const struct bn_profile_quality *q = &p->quality;
    double value = bn_profile_percent(p, BN_SAMPLE_UNNAMED);
    const char *module = worst_module(p);

    bn_flag_decide(p, flag, value > flag->threshold, value, naming_advice(p, module),
                   "%s have a leaf without a name; most in: %s",
                   part_of_all(p, BN_SAMPLE_UNNAMED, q->n_unnamed, "samples"), module);
}

/* CPU timers expire at the kernel's tick, and what a thread ran between two of its samples counts for the
 * second: fewer samples than asked are no loss, but time that none stands for is. */
static const char *timer_advice(const struct bn_profile *p, const struct bn_coverage *c)
{
    double missing_ns = (double)c->seen_ns - (double)c->sampled_ns;
    /* Of every thread with samples that missing part is half a period, on average. */
    double by_threads_ns =
        (double)c->short_ns + (double)(p->n_threads - c->n_short) * 0.5e9 / p->quality.asked_hz;

    if (by_threads_ns > missing_ns / 2)
        return "many threads end within a few ticks of the kernel, when timers expire: allow perf events, "
               "which can "
               "be had at a higher --freq";
    return "static and setuid programs, and those that clear their environment, cannot be sampled by timers: "
           "allow "
           "perf events, or record them by themselves";
}

static void decide_coverage(struct bn_profile *p, struct bn_flag *flag, double room)
{
    const struct bn_profile_quality *q = &p->quality;
    struct bn_coverage c = bn_coverage_of(p);
    double value = percent(c.sampled_ns, c.seen_ns);
    bool raised = value + room < flag->threshold;

    bn_flag_decide(p, flag, raised, value, timer_advice(p, &c),
                   "samples stand for %.1f %% of the program's CPU time (%.1f of %.1f Hz); %" PRIu64
                   " threads without a sample ran for %.3f s",
                   value, q->achieved_hz, q->asked_hz, c.n_short, (double)c.short_ns / 1e9);
}

static const char *throttled_advice(const struct bn_coverage *c)
{
    uint64_t missing_ns = c->seen_ns > c->sampled_ns ? c->seen_ns - c->sampled_ns : 0;

    if (c->unreached_ns > missing_ns / 2)
        return "programs that run with other rights (setuid, setgid, capabilities) can be recorded as root "
               "only";
    if (c->short_ns > c->seen_ns / 50) /* a good part of what is missing */
        return "many threads end within a period: record at a higher --freq";
    return "lower --freq, or raise kernel.perf_cpu_time_max_percent and kernel.perf_event_max_sample_rate";
}

void bn_flag_throttled(struct bn_profile *p, struct bn_flag *flag)
{
    const struct bn_profile_quality *q = &p->quality;
    uint64_t seen_ns = bn_profile_seen_ns(q);

    struct bn_coverage c = bn_coverage_of(p);

    if (c.impossible) {
        bn_flag_decide(p, flag, true, percent(c.sampled_ns, bn_profile_cpu_ns(q)),
                       "an error of this record: believe none of its times, and report it",
                       "samples stand for %.3f s, more than the %.3f s of CPU time that there were",
                       (double)c.sampled_ns / 1e9, (double)bn_profile_cpu_ns(q) / 1e9);
        return;
    }
    if (is_cut_off(p, flag, "the program's CPU time"))
        return;
    if (!(q->asked_hz > 0) || isnan(q->achieved_hz)) {
        bn_flag_unknown(p, flag, "asked or achieved rate unknown");
        return;
    }
    double value = 100 * q->achieved_hz / q->asked_hz, expected = (double)seen_ns / 1e9 * q->asked_hz;
    /* The kernel accounts CPU time in ticks on some hosts, and the number of samples is itself a count: leave
     * room for three standard deviations before blaming the sampler. */
    double room = expected > 0 ? 300 / sqrt(expected) : 100;
    if (bn_profile_by_timer(q)) {
        decide_coverage(p, flag, room);
        return;
    }
    bn_flag_decide(p, flag, value + room < flag->threshold, value, throttled_advice(&c),
                   "%.1f of %.1f Hz per second of CPU time; %" PRIu64
                   " throttle records; %.3f s ran where events cannot be; %" PRIu64
                   " threads without a sample ran for %.3f s",
                   q->achieved_hz, q->asked_hz, q->n_throttled, (double)c.unreached_ns / 1e9, c.n_short,
                   (double)c.short_ns / 1e9);
}

void bn_flag_kernel_not_sampled(struct bn_profile *p, struct bn_flag *flag)
{
    const struct bn_profile_quality *q = &p->quality;
    bool seen = q->kernel_sampled || bn_profile_by_timer(q);
    double value = seen ? 0 : percent(q->system_ns, bn_profile_cpu_ns(q));

    if (!seen && is_cut_off(p, flag, "the kernel's share of the CPU time"))
        return;
    if (!seen && !bn_profile_divided(q) && bn_profile_cpu_ns(q) > 0) {
        bn_flag_unknown(p, flag,
                        "the kernel's accounting does not tell how much of the CPU time was its own");
        return;
    }
    bn_flag_decide(
        p, flag, value > flag->threshold, value, "record as root, or set kernel.perf_event_paranoid to 1",
        q->partial               ? "the kernel's time is in the samples"
        : q->kernel_sampled      ? "the kernel was sampled (%.2f s of system time)"
        : bn_profile_by_timer(q) ? "the user code that called the kernel stands for its time (%.2f s)"
                                 : "%.2f s of system time could not be sampled",
        (double)q->system_ns / 1e9);
}

/* What other programs took from this one: the time in which its threads were ready to run, but for what the
 * recorder itself ran. Where they want more than all CPUs together, they took it from each other. In percent
 * of the time in which they ran or wanted to; 0 also if it is not known. */
static double taken_percent(const struct bn_profile *p)
{
    const struct bn_profile_quality *q = &p->quality;
    const char *fact = bn_profile_fact(p, "cpus");
    uint64_t cpus, taken_ns = q->preempted_ns > q->recorder_cpu_ns ? q->preempted_ns - q->recorder_cpu_ns : 0;
    double wanted_ns = (double)bn_profile_cpu_ns(q) + (double)q->preempted_ns;

    if (!fact || bn_parse_u64(fact, 1, 1 << 20, &cpus) != 0 || !(wanted_ns > 0) ||
        wanted_ns > 1.02 * (double)cpus * (double)q->duration_ns)
        return 0;
    return 100 * (double)taken_ns / wanted_ns;
}

void bn_flag_noisy_host(struct bn_profile *p, struct bn_flag *flag)
{
    double steal = 100 * p->quality.steal_share, taken = taken_percent(p);
    const char *advice =
        "repeat on a quieter host; compare nothing across this run, and believe no rate of it: "
        "stages are timed by the clock";

    if (is_cut_off(p, flag, "what others took of the machine's time"))
        return;
    if (isnan(steal) && taken <= flag->threshold) {
        bn_flag_unknown(p, flag, "/proc/stat does not tell steal time");
        return;
    }
    steal = isnan(steal) ? 0 : steal;
    bn_flag_decide(
        p, flag, steal + taken > flag->threshold, steal + taken, advice,
        "%.2f %% of the machine's time went to other guests; other programs ran for %.2f %% of the time "
        "in which this one could have",
        steal, taken);
}
