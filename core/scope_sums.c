/* SPDX-License-Identifier: MIT
 * Read the statistics of a region: sums over threads, percentiles, the timers' own cost. For the process
 * itself and for the recorder, which trusts nothing that it finds. */
#include "core/scope.h"

#include <string.h>

uint64_t bn_scope_bucket_ns(unsigned bucket)
{
    if (bucket < 2 * BN_SCOPE_SUB)
        return bucket; /* one value each */
    unsigned shift = bucket / BN_SCOPE_SUB - 1;
    uint64_t low = (uint64_t)(BN_SCOPE_SUB + bucket % BN_SCOPE_SUB) << shift;
    return low + ((1ull << shift) >> 1);
}

static uint64_t percentile(const uint64_t *hist, const struct bn_scope_total *sum, double q)
{
    uint64_t rank = (uint64_t)(q * (double)(sum->calls - 1)), seen = 0;

    for (unsigned b = 0; b < BN_SCOPE_BUCKETS; b++) {
        seen += hist[b];
        if (seen > rank) {
            uint64_t ns = bn_scope_bucket_ns(b);
            ns = ns < sum->min_ns ? sum->min_ns : ns;
            return ns > sum->max_ns ? sum->max_ns : ns;
        }
    }
    return sum->max_ns;
}

struct bn_scope_total bn_scope_sum(const struct bn_scope_shared *r, uint32_t node)
{
    struct bn_scope_total sum = {0};
    uint64_t hist[BN_SCOPE_BUCKETS] = {0}, child_ns = 0, fused_calls = 0;
    uint32_t n_threads = atomic_load(&r->n_threads);

    if (node >= BN_SCOPE_MAX_NODES)
        return sum;
    for (uint32_t i = 0; i < n_threads && i < BN_SCOPE_MAX_THREADS; i++) {
        const struct bn_scope_stat *s = &r->threads[i].stats[node];
        if (s->calls) {
            sum.min_ns = sum.calls == 0 || s->min_ns < sum.min_ns ? s->min_ns : sum.min_ns;
            sum.max_ns = s->max_ns > sum.max_ns ? s->max_ns : sum.max_ns;
        }
        sum.calls += s->calls;
        sum.total_ns += s->total_ns;
        child_ns += s->child_ns;
        sum.worker_ns += s->worker_ns;
        sum.bytes += s->bytes;
        sum.ops += s->ops;
        sum.memory_bytes += s->memory_bytes;
        sum.int8_macs += s->int8_macs;
        fused_calls += s->fused_calls;
        for (unsigned b = 0; s->calls && b < BN_SCOPE_BUCKETS; b++)
            hist[b] += s->hist[b];
    }
    sum.self_ns = sum.total_ns > child_ns ? sum.total_ns - child_ns : 0;
    if (sum.calls) {
        sum.p50_ns = percentile(hist, &sum, 0.50);
        sum.p95_ns = percentile(hist, &sum, 0.95);
        sum.p99_ns = percentile(hist, &sum, 0.99);
    }
    sum.calls += fused_calls; /* they have no times */
    sum.fused_calls = fused_calls;
    sum.fused_into = atomic_load(&r->nodes[node].fused_into);
    return sum;
}

/* ---- the timers' own cost ---- */

/* Of a scope's cost, `inside` lies between its two clock reads and counts as its own; the rest falls into the
 * scope around it. No more is taken out than there is: for a scope that is still open the time is not known.
 * Nodes have larger numbers than their parents: one pass from the end sees what lies below a node before the
 * node. Workers' time keeps the cost of their scopes. */
static void subtract_cost(const uint16_t *parent, struct bn_scope_total *sums, uint32_t n, double scope_ns,
                          double inside_ns)
{
    uint64_t children[BN_SCOPE_MAX_NODES] = {0}, taken[BN_SCOPE_MAX_NODES] = {0};

    for (uint32_t i = n; i-- > 0;) {
        struct bn_scope_total *s = &sums[i];
        uint64_t timed = s->calls - s->fused_calls;
        double cost_ns = (double)timed * inside_ns + (double)children[i] * (scope_ns - inside_ns);
        uint64_t own = cost_ns < (double)s->self_ns ? (uint64_t)cost_ns : s->self_ns;
        s->self_ns -= own;
        taken[i] += own;
        taken[i] = taken[i] < s->total_ns - s->self_ns ? taken[i] : s->total_ns - s->self_ns;
        s->total_ns -= taken[i];
        if (i == 0)
            break;
        children[parent[i]] += timed;
        taken[parent[i]] += taken[i];
    }
}

uint32_t bn_scope_sums(const struct bn_scope_shared *r, struct bn_scope_total *sums)
{
    uint16_t parent[BN_SCOPE_MAX_NODES];
    uint32_t n = atomic_load(&r->n_nodes);
    double scope_ns = r->empty_scope_ns, inside_ns = r->empty_inside_ns;

    n = n < BN_SCOPE_MAX_NODES ? n : BN_SCOPE_MAX_NODES;
    for (uint32_t i = 0; i < n; i++) {
        uint16_t above = r->nodes[i].parent;
        parent[i] = above < i ? above : 0;
        sums[i] = bn_scope_sum(r, i);
    }
    if (scope_ns > 0 && scope_ns < 1e6 && inside_ns >= 0 && inside_ns <= scope_ns)
        subtract_cost(parent, sums, n, scope_ns, inside_ns);
    return n;
}

const char *bn_scope_stage_name(const struct bn_scope_shared *r, uint32_t stage,
                                char buf[BN_SCOPE_STAGE_BYTES])
{
    size_t n = 0;

    if (stage < BN_SCOPE_MAX_STAGES) {
        for (; n < BN_SCOPE_STAGE_BYTES - 1 && r->stages[stage][n]; n++) {
            char c = r->stages[stage][n];
            buf[n] = (unsigned char)c < ' ' || c == 0x7f || c == ';' ? '?' : c;
        }
    }
    if (n == 0)
        buf[n++] = '?';
    buf[n] = '\0';
    return buf;
}
