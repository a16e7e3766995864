/* SPDX-License-Identifier: MIT
 * The record's own quality, the opening of every report. */
#include "hotspots/report.h"

#include "hotspots/coverage.h"
#include "hotspots/report_text.h"

static void line(FILE *f, bool md, const char *name, const char *value)
{
    fprintf(f, md ? "- **%s**: %s\n" : "  %-22s %s\n", name, value);
}

static double percent(uint64_t part, uint64_t whole)
{
    return whole ? 100.0 * (double)part / (double)whole : 0;
}

static void stack_lines(FILE *f, bool md, const struct bn_profile *p)
{
    const struct bn_profile_quality *q = &p->quality;
    struct bn_sampled all = bn_profile_sampled(p, 0);
    bool equal = bn_sampled_equal(&all);
    const char *of = equal ? "" : " of the sampled CPU time"; /* lost ones have none */
    struct bn_buf b = {0};

    if (q->partial)
        bn_buf_puts(&b, "unknown");
    else
        bn_buf_printf(&b, "%.2f %% (%" PRIu64 " records; there was no room for them)",
                      percent(q->n_lost, q->n_lost + q->n_samples), q->n_lost);
    line(f, md, "Lost", b.p);
    b.n = 0;
    bn_buf_printf(&b, "%.2f %%%s (%" PRIu64 " did not reach main or the thread's start",
                  bn_profile_percent(p, BN_SAMPLE_TRUNCATED), of, q->n_truncated);
    if (q->stack_dump_bytes)
        bn_buf_printf(&b, "; %" PRIu64 " were longer than the %" PRIu32 " bytes copied", q->n_stack_full,
                      q->stack_dump_bytes);
    bn_buf_puts(&b, ")");
    line(f, md, "Truncated stacks", b.p);
    if (bn_profile_fact(p, "stacks_broken_off"))
        line(f, md, "Broken off by", bn_profile_fact(p, "stacks_broken_off"));
    b.n = 0;
    bn_buf_printf(&b, "%.2f %%%s (%" PRIu64 " samples)", bn_profile_percent(p, BN_SAMPLE_UNNAMED), of,
                  q->n_unnamed);
    line(f, md, "Unnamed", b.p);
    if (p->n_stages > 1) {
        b.n = 0;
        bn_buf_printf(&b,
                      "%.2f %%%s (%" PRIu64 " scope events, %" PRIu64 " dropped%s; %" PRIu64
                      " samples within %.0f ns of a change of stage)",
                      bn_profile_percent(p, BN_SAMPLE_JOINED), equal ? " of the samples" : of,
                      q->scope_events, q->scope_events_dropped,
                      q->scope_events_dropped
                          ? ": where samples of that time were is unknown, the times and calls are whole"
                          : "",
                      q->n_edge, q->empty_scope_ns);
        line(f, md, "Joined to a stage", b.p);
        if (bn_profile_fact(p, "scopes_left_out"))
            line(f, md, "Scopes left out", bn_profile_fact(p, "scopes_left_out"));
    }
    bn_buf_free(&b);
}

/* Where samples do not weigh the same: how far apart they are, and what that leaves of their number. */
static void weight_line(FILE *f, bool md, const struct bn_profile *p)
{
    struct bn_sampled all = bn_profile_sampled(p, 0);
    struct bn_buf b = {0};

    if (bn_sampled_equal(&all))
        return;
    bn_buf_printf(
        &b, "a sample stands for %s to %s; shares are of that time, as sure as with %.0f equal samples",
        bn_text_time((double)all.least_ns), bn_text_time((double)all.most_ns), bn_sampled_effective(&all));
    line(f, md, "Weights", b.p);
    bn_buf_free(&b);
}

/* What the source could not be at, and what was not waited for. */
static void bounds_lines(FILE *f, bool md, const struct bn_profile *p)
{
    const struct bn_profile_quality *q = &p->quality;
    struct bn_buf b = {0};

    if (q->unreached_ns) {
        bn_buf_printf(&b,
                      "%s of the %s of CPU time: programs with other rights than yours (setuid, setgid, "
                      "capabilities), where the kernel takes the events off",
                      bn_text_time((double)q->unreached_ns), bn_text_time((double)bn_profile_cpu_ns(q)));
        line(f, md, "Out of reach", b.p);
    }
    if (bn_profile_fact(p, "ran_on"))
        line(f, md, "Left behind", bn_profile_fact(p, "ran_on"));
    if (bn_profile_fact(p, "not_sampled"))
        line(f, md, "Not sampled", bn_profile_fact(p, "not_sampled"));
    bn_buf_free(&b);
}

/* What the samples stand for together, against the CPU time of the same processes in the same interval. */
static void coverage_line(FILE *f, bool md, const struct bn_profile *p)
{
    struct bn_coverage c = bn_coverage_of(p);
    struct bn_buf b = {0};

    if (c.seen_ns)
        bn_buf_printf(&b, "the samples stand for %s, %.1f %% of the %s of %sCPU time",
                      bn_text_time((double)c.sampled_ns), percent(c.sampled_ns, c.seen_ns),
                      bn_text_time((double)c.seen_ns),
                      p->quality.kernel_sampled || bn_profile_by_timer(&p->quality) ? "" : "user ");
    else if (bn_profile_cpu_ns(&p->quality))
        bn_buf_printf(
            &b,
            "unknown: the samples stand for %s of %s of CPU time, of which it is not known how much ran in "
            "the kernel",
            bn_text_time((double)c.sampled_ns), bn_text_time((double)bn_profile_cpu_ns(&p->quality)));
    if (c.impossible)
        bn_buf_puts(&b, "; **more than there was: an error of this record**");
    line(f, md, "Coverage", b.n ? b.p : "unknown");
    b.n = 0;
    if (c.n_short) {
        bn_buf_printf(&b, "%s, which ran for %s together: each too little for a sample",
                      bn_text_count(c.n_short), bn_text_time((double)c.short_ns));
        line(f, md, "Threads never sampled", b.p);
    }
    bounds_lines(f, md, p);
    bn_buf_free(&b);
}

static void cost_lines(FILE *f, bool md, const struct bn_profile *p)
{
    const struct bn_profile_quality *q = &p->quality;
    uint64_t cpu_ns = bn_profile_cpu_ns(q);
    bool divided = bn_profile_divided(q);
    struct bn_buf b = {0};

    if (q->kernel_sampled)
        bn_buf_puts(&b, "none: kernel code is sampled too");
    else if (!divided)
        bn_buf_puts(&b, "unknown: the kernel's accounting does not tell how much of the CPU time it was");
    else if (bn_profile_by_timer(q))
        bn_buf_printf(&b,
                      "none: the %.2f %% of the CPU time that ran in the kernel count for the user code that "
                      "called it",
                      percent(q->system_ns, cpu_ns));
    else
        bn_buf_printf(&b, "%.2f %% of the CPU time ran in the kernel and could not be sampled",
                      percent(q->system_ns, cpu_ns));
    line(f, md, "Kernel not seen", b.p);
    b.n = 0;
    if (isnan(q->steal_share))
        bn_buf_puts(&b, "unknown");
    else
        bn_buf_printf(&b, "%.2f %% of the machine's time", 100 * q->steal_share);
    line(f, md, "Steal", b.p);
    b.n = 0;
    if (q->partial) /* what is known at the end only */
        bn_buf_puts(&b, "unknown");
    else
        bn_buf_printf(&b, "%" PRIu64 " major, %" PRIu64 " minor", q->major_faults, q->minor_faults);
    if (p->run.decode_minor_faults != UINT64_MAX)
        bn_buf_printf(&b,
                      "; up to the first prompt %" PRIu64 " and %" PRIu64 ", in prefill %" PRIu64
                      " and %" PRIu64 ", in decode %" PRIu64 " and %" PRIu64,
                      p->run.load_major_faults, p->run.load_minor_faults, p->run.prefill_major_faults,
                      p->run.prefill_minor_faults, p->run.decode_major_faults, p->run.decode_minor_faults);
    line(f, md, "Page faults", b.p);
    b.n = 0;
    if (q->n_sleeps + q->n_preemptions > 0) {
        bn_buf_printf(&b, "%" PRIu64 " sleeps (%s of all threads together), %" PRIu64 " preemptions (%s)",
                      q->n_sleeps, bn_text_time((double)q->asleep_ns), q->n_preemptions,
                      bn_text_time((double)q->preempted_ns));
        line(f, md, "Context switches", b.p);
        b.n = 0;
    }
    if (q->partial)
        bn_buf_puts(&b, "recorder unknown");
    else
        bn_buf_printf(&b, "recorder %.2f %% of the program's CPU time", percent(q->recorder_cpu_ns, cpu_ns));
    if (q->scope_events) {
        bn_buf_puts(&b, "; scopes ");
        if (cpu_ns)
            bn_buf_printf(&b, "about %.2f %% (",
                          100.0 * (double)q->scope_events / 2 * q->empty_scope_ns / (double)cpu_ns);
        bn_buf_printf(&b, "%.0f ns each, measured at start and subtracted from the times of the stages%s",
                      q->empty_scope_ns, cpu_ns ? ")" : "");
    }
    line(f, md, "Own cost", b.p);
    bn_buf_free(&b);
}

void bn_report_quality(FILE *f, const struct bn_profile *p, bool md)
{
    const struct bn_profile_quality *q = &p->quality;
    struct bn_buf b = {0};

    fprintf(f, md ? "## Quality of this record: grade %c\n\n" : "Quality of this record: grade %c\n",
            q->grade ? q->grade : '?');
    bn_buf_printf(&b, "%" PRIu64 " of %s in %s s", q->n_samples, q->event ? q->event : "unknown event",
                  bn_text_number(q->duration_ns / 1e9, 2));
    line(f, md, "Samples", b.p);
    b.n = 0;
    bn_buf_printf(&b, "%s Hz asked, %s Hz achieved per second of CPU time", bn_text_number(q->asked_hz, 0),
                  bn_text_number(q->achieved_hz, 1));
    line(f, md, "Rate", b.p);
    bn_buf_free(&b);
    weight_line(f, md, p);
    coverage_line(f, md, p);
    stack_lines(f, md, p);
    cost_lines(f, md, p);
    bn_report_modules(f, p, md);
    line(f, md, "Permissions", q->ladder ? q->ladder : "unknown");
    if (q->partial)
        line(f, md, "Partial", "the recording was cut off; what had been written is shown");
    if (q->damaged_bytes) {
        b = (struct bn_buf){0};
        bn_buf_printf(&b,
                      "%" PRIu64
                      " bytes of the recording fail their checksum and were ignored: up to %" PRIu64
                      " samples are missing, and callers marked [lost]",
                      q->damaged_bytes, q->damaged_bytes / BN_PROFILE_RAW_SAMPLE_BYTES);
        line(f, md, "Damaged", b.p);
        bn_buf_free(&b);
    }
    fputc('\n', f);
}
