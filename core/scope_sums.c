/* SPDX-License-Identifier: MIT
 * Read the statistics of a region: sums over threads, percentiles, the timers' own cost. For the process
 * itself and for the recorder, which trusts nothing that it finds. */
#include "core/scope.h"

#include <math.h>
#include <stdbool.h>
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
    uint64_t rank = (uint64_t)ceil(q * (double)sum->calls), seen = 0; /* the nearest rank, from 1 */

    for (unsigned b = 0; b < BN_SCOPE_BUCKETS; b++) {
        seen += hist[b];
        if (seen >= rank) {
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

/* ---- scopes that are still open ---- */

/* When each open scope of each thread began; 0 = there is none. */
struct open_since {
    uint64_t ns[BN_SCOPE_MAX_THREADS][BN_SCOPE_MAX_DEPTH];
};

/* The open scopes of a thread, outermost first, as far as they make sense. */
static uint32_t read_open(const struct bn_scope_thread *t, uint64_t until_ns,
                          struct bn_scope_frame frames[BN_SCOPE_MAX_DEPTH])
{
    uint32_t depth = *(const volatile uint32_t *)&t->depth, n = 0; /* once: another process writes it */
    uint64_t since_ns = 1;

    depth = depth < BN_SCOPE_MAX_DEPTH ? depth : BN_SCOPE_MAX_DEPTH;
    if (until_ns == 0 || atomic_load(&t->tid) == 0 || atomic_load(&t->end_ns) != 0)
        return 0;
    for (; n < depth; n++) {
        frames[n] = t->stack[n];
        if (frames[n].node >= BN_SCOPE_MAX_NODES || frames[n].start_ns < since_ns ||
            frames[n].start_ns > until_ns)
            break;
        since_ns = frames[n].start_ns;
    }
    return n;
}

static uint32_t n_threads_of(const struct bn_scope_shared *r)
{
    uint32_t n = atomic_load(&r->n_threads);

    return n < BN_SCOPE_MAX_THREADS ? n : BN_SCOPE_MAX_THREADS;
}

static void note_open(const struct bn_scope_shared *r, const uint64_t *until_ns, struct open_since *since)
{
    struct bn_scope_frame frames[BN_SCOPE_MAX_DEPTH];
    uint32_t n_threads = n_threads_of(r);

    memset(since, 0, sizeof *since);
    for (uint32_t i = 0; i < n_threads; i++) {
        uint32_t n = read_open(&r->threads[i], until_ns[i], frames);
        for (uint32_t k = 0; k < n; k++)
            since->ns[i][k] = frames[k].start_ns;
    }
}

/* What bn_scope_pop would do, from the innermost to the outermost. */
static void count_open(const struct bn_scope_frame *frames, uint32_t n, uint64_t until_ns,
                       struct bn_scope_total *sums, uint32_t n_nodes)
{
    uint64_t inside_ns = 0; /* of the scope that is open inside, if it counts for the one around */

    while (n-- > 0) {
        const struct bn_scope_frame *f = &frames[n];
        uint64_t ns = until_ns - f->start_ns, child_ns = f->child_ns;
        bool inside_adopted = n > 0 && frames[n - 1].adopted == BN_SCOPE_ADOPTED;
        child_ns = child_ns < ns - inside_ns ? child_ns + inside_ns : ns;
        inside_ns = f->adopted ? 0 : ns;
        if (f->node >= n_nodes)
            continue;
        struct bn_scope_total *s = &sums[f->node];
        if (f->adopted || inside_adopted) {
            s->worker_ns += ns - child_ns;
            continue;
        }
        s->calls++;
        s->open_calls++;
        s->total_ns += ns;
        s->self_ns += ns - child_ns;
    }
}

/* Add what was open before the sums were made and still is. False: a scope has ended meanwhile whose length
 * matters, and it cannot be told whether the sums have it. */
static bool add_open(const struct bn_scope_shared *r, const uint64_t *until_ns,
                     const struct open_since *since, struct bn_scope_total *sums, uint32_t n_nodes)
{
    enum { MATTERS_NS = 1000000 };
    struct bn_scope_frame frames[BN_SCOPE_MAX_DEPTH];
    uint32_t n_threads = n_threads_of(r);
    bool whole = true;

    for (uint32_t i = 0; i < n_threads; i++) {
        uint32_t n = read_open(&r->threads[i], until_ns[i], frames), k = 0;
        while (k < n && since->ns[i][k] == frames[k].start_ns)
            k++;
        if (k < BN_SCOPE_MAX_DEPTH && since->ns[i][k] && until_ns[i] - since->ns[i][k] > MATTERS_NS)
            whole = false;
        count_open(frames, k, until_ns[i], sums, n_nodes);
    }
    return whole;
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

static void sum_nodes(const struct bn_scope_shared *r, struct bn_scope_total *sums, uint32_t n)
{
    for (uint32_t i = 0; i < n; i++)
        sums[i] = bn_scope_sum(r, i);
}

static uint32_t n_nodes_of(const struct bn_scope_shared *r)
{
    uint32_t n = atomic_load(&r->n_nodes);

    return n < BN_SCOPE_MAX_NODES ? n : BN_SCOPE_MAX_NODES;
}

static void settle_cost(const struct bn_scope_shared *r, struct bn_scope_total *sums, uint32_t n)
{
    uint16_t parent[BN_SCOPE_MAX_NODES];
    double scope_ns = r->empty_scope_ns, inside_ns = r->empty_inside_ns;

    for (uint32_t i = 0; i < n; i++) {
        uint16_t above = r->nodes[i].parent;
        parent[i] = above < i ? above : 0;
    }
    if (scope_ns > 0 && scope_ns < 1e6 && inside_ns >= 0 && inside_ns <= scope_ns)
        subtract_cost(parent, sums, n, scope_ns, inside_ns);
}

uint32_t bn_scope_sums(const struct bn_scope_shared *r, struct bn_scope_total *sums)
{
    uint32_t n = n_nodes_of(r);

    sum_nodes(r, sums, n);
    settle_cost(r, sums, n);
    return n;
}

uint32_t bn_scope_sums_until(const struct bn_scope_shared *r, const uint64_t *until_ns,
                             struct bn_scope_total *sums)
{
    enum { ATTEMPTS = 5 };
    struct open_since since;
    uint32_t n = 0;

    for (int i = 0; i < ATTEMPTS; i++) {
        note_open(r, until_ns, &since);
        n = n_nodes_of(r);
        sum_nodes(r, sums, n);
        if (add_open(r, until_ns, &since, sums, n))
            break;
    }
    settle_cost(r, sums, n);
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
