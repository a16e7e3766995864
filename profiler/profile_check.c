/* SPDX-License-Identifier: MIT
 * What a record cannot be, although each of its values by itself could: trees too deep, times out of order,
 * counts that contradict each other. */
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "profiler/profile_private.h"

/* Trees: entry 0 is there and no path is deeper than readers, some of which recurse, can follow. Parents are
 * known to come first. */
int bn_profile_check_depth(const char *what, const void *first_parent, size_t item_bytes, size_t n,
                           struct bn_err *err)
{
    uint32_t *depth = bn_xcalloc(n, sizeof *depth);
    int status = n > 0 ? 0 : bn_err_set(err, "%s: expected at least one entry", what);

    for (size_t i = 1; i < n && status == 0; i++) {
        depth[i] = depth[*(const uint32_t *)(const void *)((const char *)first_parent + i * item_bytes)] + 1;
        if (depth[i] > BN_PROFILE_MAX_DEPTH)
            status = bn_err_set(err, "%s[%zu]: lies deeper than %d entries", what, i, BN_PROFILE_MAX_DEPTH);
    }
    free(depth);
    return status;
}

static int check_order(const struct bn_profile *p, struct bn_err *err)
{
    for (size_t i = 1; i < p->n_samples; i++)
        if (p->samples[i].t_ns < p->samples[i - 1].t_ns)
            return bn_err_set(err, "samples[%zu].t_ns: earlier than the sample before", i);
    for (size_t i = 0; i < p->n_tokens; i++) {
        if (p->tokens[i].end_ns < p->tokens[i].start_ns)
            return bn_err_set(err, "tokens[%zu].end_ns: earlier than its start", i);
        if (i > 0 && p->tokens[i].start_ns < p->tokens[i - 1].start_ns)
            return bn_err_set(err, "tokens[%zu].start_ns: earlier than the token before", i);
    }
    return 0;
}

static int check_samples(const struct bn_profile *p, struct bn_err *err)
{
    if (p->quality.n_samples != p->n_samples)
        return bn_err_set(err, "quality.n_samples: %" PRIu64 ", but there are %zu samples",
                          p->quality.n_samples, p->n_samples);
    for (size_t i = 0; i < p->n_samples; i++)
        if (p->samples[i].weight_ns == 0)
            return bn_err_set(err, "samples[%zu].weight_ns: 0, but a sample stands for some CPU time", i);
    return 0;
}

/* Counts of samples are not above all of them; NaN, unknown, passes. */
static int check_quality(const struct bn_profile_quality *q, struct bn_err *err)
{
    const struct {
        const char *key;
        uint64_t n;
    } parts[] = {{"n_truncated", q->n_truncated},
                 {"n_unnamed", q->n_unnamed},
                 {"n_joined", q->n_joined},
                 {"n_stack_full", q->n_stack_full},
                 {"n_edge", q->n_edge}};
    const struct {
        const char *key;
        double value, most;
    } numbers[] = {{"steal_share", q->steal_share, 1},
                   {"asked_hz", q->asked_hz, INFINITY},
                   {"achieved_hz", q->achieved_hz, INFINITY},
                   {"empty_scope_ns", q->empty_scope_ns, INFINITY}};

    for (size_t i = 0; i < BN_COUNT(parts); i++)
        if (parts[i].n > q->n_samples)
            return bn_err_set(err, "quality.%s: %" PRIu64 " of %" PRIu64 " samples", parts[i].key, parts[i].n,
                              q->n_samples);
    for (size_t i = 0; i < BN_COUNT(numbers); i++)
        if (numbers[i].value < 0 || numbers[i].value > numbers[i].most)
            return bn_err_set(err, "quality.%s: %g, expected %s", numbers[i].key, numbers[i].value,
                              numbers[i].most == 1 ? "a share from 0 to 1" : "nothing below 0");
    if (q->grade && !strchr("ABCD", q->grade))
        return bn_err_set(err, "quality.grade: '%c', expected A, B, C, D or null", q->grade);
    return 0;
}

int bn_profile_check(const struct bn_profile *p, bool summary, struct bn_err *err)
{
    if (check_quality(&p->quality, err) != 0)
        return -1;
    return summary || (check_samples(p, err) == 0 && check_order(p, err) == 0) ? 0 : -1;
}
