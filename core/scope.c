/* SPDX-License-Identifier: MIT
 * Named scoped timers: the hot path is enter and leave, one clock read each, no locks, no allocation.
 *
 * A thread's slot in the region is written by that thread alone; readers (reports of the process itself, the
 * recorder in another one) see counters that may be one scope old. Nodes are added under a spin lock, once
 * per distinct stage path; afterwards finding one is an array look-up. */
#include "core/scope.h"

#include <errno.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#define STAGE_NAME(id, name) name,
static const char *const stage_names[BN_STAGE_COUNT] = {BN_STAGES(STAGE_NAME)};
#undef STAGE_NAME

static struct bn_scope_shared *region;
static bool region_is_shared;
static _Atomic uint32_t step_counter;
static _Thread_local struct bn_scope_thread *self;
static _Thread_local struct bn_scope_event *self_ring; /* NULL = nobody listens */

const char *bn_stage_name(enum bn_stage stage)
{
    return (unsigned)stage < BN_STAGE_COUNT ? stage_names[stage] : "?";
}

const char *bn_stage_names(uint64_t stages, char *buf, size_t size)
{
    size_t used = 0;

    buf[0] = '\0';
    for (unsigned i = 0; i < BN_STAGE_COUNT && used < size; i++) {
        if (stages >> i & 1)
            used += (size_t)snprintf(buf + used, size - used, "%s%s", used ? ", " : "", stage_names[i]);
    }
    return buf;
}

static inline uint64_t now_ns(void)
{
    struct timespec t;

    clock_gettime(CLOCK_MONOTONIC, &t);
    return (uint64_t)t.tv_sec * 1000000000u + (uint64_t)t.tv_nsec;
}

/* ---- histogram: BN_SCOPE_SUB linear buckets an octave ---- */

enum { SUB_BITS = 3 };
_Static_assert(BN_SCOPE_SUB == 1 << SUB_BITS, "buckets an octave");

unsigned bn_scope_bucket(uint64_t ns)
{
    if (ns < BN_SCOPE_SUB)
        return (unsigned)ns;
    unsigned octave = 63 - (unsigned)__builtin_clzll(ns);
    unsigned sub = (unsigned)(ns >> (octave - SUB_BITS)) & (BN_SCOPE_SUB - 1);
    unsigned bucket = (octave - SUB_BITS + 1) * BN_SCOPE_SUB + sub;
    return bucket < BN_SCOPE_BUCKETS ? bucket : BN_SCOPE_BUCKETS - 1;
}

uint64_t bn_scope_bucket_ns(unsigned bucket)
{
    if (bucket < 2 * BN_SCOPE_SUB)
        return bucket; /* one value each */
    unsigned shift = bucket / BN_SCOPE_SUB - 1;
    uint64_t low = (uint64_t)(BN_SCOPE_SUB + bucket % BN_SCOPE_SUB) << shift;
    return low + ((1ull << shift) >> 1);
}

/* ---- nodes ---- */

/* Slow path: add the node, unless another thread was quicker. A full table keeps the parent: its time is then
 * the parent's, nothing is lost or invented. */
static uint16_t add_node(uint16_t parent, enum bn_stage stage)
{
    uint32_t expected = 0;

    while (!atomic_compare_exchange_weak(&region->node_lock, &expected, 1))
        expected = 0;
    uint16_t node = atomic_load(&region->child[parent][stage]);
    uint32_t n = atomic_load(&region->n_nodes);
    if (node == 0 && n < BN_SCOPE_MAX_NODES) {
        node = (uint16_t)n;
        region->nodes[node].parent = parent;
        region->nodes[node].stage = (uint16_t)stage;
        atomic_store(&region->n_nodes, n + 1);
        atomic_store_explicit(&region->child[parent][stage], node, memory_order_release);
    }
    atomic_store(&region->node_lock, 0);
    return node ? node : parent;
}

static inline uint16_t child_node(uint16_t parent, enum bn_stage stage)
{
    uint16_t node = atomic_load_explicit(&region->child[parent][stage], memory_order_acquire);

    return __builtin_expect(node != 0, 1) ? node : add_node(parent, stage);
}

/* ---- events ---- */

static inline void emit(struct bn_scope_thread *t, uint64_t t_ns, uint16_t node)
{
    uint64_t head = atomic_load_explicit(&t->head, memory_order_relaxed);

    atomic_store_explicit(&t->events, atomic_load_explicit(&t->events, memory_order_relaxed) + 1,
                          memory_order_relaxed);
    if (!self_ring)
        return;
    if (head - atomic_load_explicit(&t->tail, memory_order_acquire) >= region->ring_events) {
        atomic_fetch_add_explicit(&t->dropped, 1, memory_order_relaxed);
        return;
    }
    self_ring[head & (region->ring_events - 1)] =
        (struct bn_scope_event){.t_ns = t_ns, .node = node, .layer = t->layer, .step = t->step};
    atomic_store_explicit(&t->head, head + 1, memory_order_release);
}

/* ---- enter and leave ---- */

/* Scopes deeper than the stack are not timed: their time is that of the deepest one that is. */
static inline const struct bn_scope_frame *innermost(const struct bn_scope_thread *t)
{
    uint32_t depth = t->depth < BN_SCOPE_MAX_DEPTH ? t->depth : BN_SCOPE_MAX_DEPTH;

    return depth ? &t->stack[depth - 1] : NULL;
}

static inline uint16_t current_node(const struct bn_scope_thread *t)
{
    const struct bn_scope_frame *frame = innermost(t);

    return frame ? frame->node : 0;
}

static inline void push(struct bn_scope_thread *t, uint16_t node, uint32_t adopted)
{
    uint64_t start_ns = now_ns();

    if (t->depth++ >= BN_SCOPE_MAX_DEPTH)
        return;
    t->stack[t->depth - 1] =
        (struct bn_scope_frame){.start_ns = start_ns, .node = node, .layer = t->layer, .adopted = adopted};
    emit(t, start_ns, node);
}

static inline void account(struct bn_scope_stat *stat, uint64_t ns, uint64_t child_ns)
{
    stat->min_ns = stat->calls == 0 || ns < stat->min_ns ? ns : stat->min_ns;
    stat->max_ns = ns > stat->max_ns ? ns : stat->max_ns;
    stat->calls++;
    stat->total_ns += ns;
    stat->child_ns += child_ns;
    stat->hist[bn_scope_bucket(ns)]++;
}

/* Close the innermost scope. A worker's adopted frame counts as worker time, without the scopes inside it
 * (only `wait` in practice), and does not add to the frame below, which is no part of the caller's stages. */
static inline void pop(struct bn_scope_thread *t)
{
    t->depth--;
    if (t->depth >= BN_SCOPE_MAX_DEPTH)
        return;
    const struct bn_scope_frame *frame = &t->stack[t->depth];
    uint64_t end_ns = now_ns();
    uint64_t ns = end_ns - frame->start_ns;
    struct bn_scope_stat *stat = &t->stats[frame->node];
    bool inside_adopted = t->depth && t->stack[t->depth - 1].adopted;
    if (frame->adopted || inside_adopted)
        stat->worker_ns += ns - (frame->child_ns < ns ? frame->child_ns : ns);
    else
        account(stat, ns, frame->child_ns);
    if (t->depth && !frame->adopted)
        t->stack[t->depth - 1].child_ns += ns;
    t->layer = frame->layer;
    emit(t, end_ns, current_node(t));
}

void bn_scope_enter(enum bn_stage stage)
{
    struct bn_scope_thread *t = self;

    if (!t)
        return;
    push(t, child_node(current_node(t), stage), 0);
}

void bn_scope_leave(void)
{
    struct bn_scope_thread *t = self;

    if (!t || t->depth == 0)
        return;
    pop(t);
}

void bn_scope_count(uint64_t bytes, uint64_t ops)
{
    struct bn_scope_thread *t = self;

    if (!t)
        return;
    struct bn_scope_stat *stat = &t->stats[current_node(t)];
    stat->bytes += bytes;
    stat->ops += ops;
}

void bn_scope_demand(uint64_t memory_bytes, uint64_t int8_macs)
{
    struct bn_scope_thread *t = self;

    if (!t)
        return;
    struct bn_scope_stat *stat = &t->stats[current_node(t)];
    stat->memory_bytes += memory_bytes;
    stat->int8_macs += int8_macs;
}

void bn_scope_fused(enum bn_stage stage, enum bn_stage into, uint64_t calls)
{
    struct bn_scope_thread *t = self;

    if (!t)
        return;
    uint16_t node = child_node(current_node(t), stage);
    uint64_t bit = (uint64_t)1 << into;
    t->stats[node].fused_calls += calls;
    if (!(atomic_load_explicit(&region->nodes[node].fused_into, memory_order_relaxed) & bit))
        atomic_fetch_or(&region->nodes[node].fused_into, bit);
}

void bn_scope_layer(int layer)
{
    if (self)
        self->layer = (int16_t)layer;
}

void bn_scope_step(void)
{
    uint32_t step = atomic_fetch_add(&step_counter, 1) + 1;

    if (self)
        self->step = step;
}

struct bn_scope_place bn_scope_here(void)
{
    struct bn_scope_thread *t = self;

    if (!t)
        return (struct bn_scope_place){.node = 0, .layer = -1};
    return (struct bn_scope_place){.node = current_node(t), .layer = t->layer, .step = t->step};
}

void bn_scope_adopt(struct bn_scope_place place)
{
    struct bn_scope_thread *t = self;

    if (!t)
        return;
    int16_t before = t->layer;
    t->layer = place.layer;
    t->step = place.step;
    push(t, place.node, 1);
    if (t->depth <= BN_SCOPE_MAX_DEPTH)
        t->stack[t->depth - 1].layer = before; /* restored by pop */
}

void bn_scope_release(void)
{
    bn_scope_leave();
}

/* ---- threads ---- */

void bn_scope_thread_begin(const char *name)
{
    if (!region || self)
        return;
    uint32_t slot = atomic_fetch_add(&region->n_threads, 1);
    if (slot >= BN_SCOPE_MAX_THREADS) {
        atomic_fetch_sub(&region->n_threads, 1);
        atomic_fetch_add(&region->untimed_threads, 1);
        return;
    }
    struct bn_scope_thread *t = &region->threads[slot];
    strncpy(t->name, name, sizeof t->name - 1);
    t->layer = -1;
    atomic_store(&t->start_ns, now_ns());
    self = t;
    self_ring = region->ring_events ? bn_scope_ring(region, slot) : NULL;
    atomic_store(&t->tid, (int32_t)syscall(SYS_gettid));
}

void bn_scope_thread_end(void)
{
    if (!self)
        return;
    while (self->depth)
        pop(self);
    atomic_store(&self->end_ns, now_ns());
    self = NULL;
    self_ring = NULL;
}

/* ---- region ---- */

/* The recorder's memory, if the environment names one and it is what it should be. */
static struct bn_scope_shared *attach(void)
{
    const char *text = getenv("BNPROF_SCOPE_FD");
    struct stat st;
    char *end;

    if (!text || !*text)
        return NULL;
    long fd = strtol(text, &end, 10);
    unsetenv("BNPROF_SCOPE_FD"); /* children of ours are not this engine */
    if (*end || fd < 3 || fd > 1 << 20 || fstat((int)fd, &st) != 0 ||
        (size_t)st.st_size < sizeof(struct bn_scope_shared))
        return NULL;
    struct bn_scope_shared *r =
        mmap(NULL, (size_t)st.st_size, PROT_READ | PROT_WRITE, MAP_SHARED, (int)fd, 0);
    close((int)fd);
    if (r == MAP_FAILED)
        return NULL;
    uint32_t events = r->ring_events;
    if (r->magic != BN_SCOPE_MAGIC || r->version != BN_SCOPE_VERSION ||
        r->size_bytes != (uint64_t)st.st_size || (events & (events - 1)) != 0 ||
        bn_scope_region_bytes(events) != (uint64_t)st.st_size || atomic_load(&r->pid) != 0) {
        munmap(r, (size_t)st.st_size);
        return NULL;
    }
    return r;
}

static int compare_u64(const void *a, const void *b)
{
    uint64_t x, y;

    memcpy(&x, a, sizeof x);
    memcpy(&y, b, sizeof y);
    return (x > y) - (x < y);
}

/* Time batches of empty scopes on a scratch thread slot that no report sees: the last slot is never handed
 * out before all others, and is wiped afterwards. Events are off meanwhile; writing one costs a few ns more.
 */
static double measure_empty_scope(void)
{
    enum { BATCHES = 31, SCOPES = 200 };
    uint64_t batch_ns[BATCHES];
    struct bn_scope_thread *t = &region->threads[BN_SCOPE_MAX_THREADS - 1];

    self = t;
    self_ring = NULL;
    for (int i = 0; i < BATCHES; i++) {
        uint64_t start_ns = now_ns();
        for (int k = 0; k < SCOPES; k++) {
            push(t, 0, 0);
            pop(t);
        }
        batch_ns[i] = now_ns() - start_ns;
    }
    qsort(batch_ns, BATCHES, sizeof *batch_ns, compare_u64);
    memset(t, 0, sizeof *t);
    self = NULL;
    return (double)batch_ns[BATCHES / 2] / SCOPES;
}

void bn_scope_init(void)
{
    if (region)
        return;
    struct bn_scope_shared *r = attach();
    region_is_shared = r != NULL;
    if (!r) {
        size_t size = bn_scope_region_bytes(0);
        r = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
        if (r == MAP_FAILED)
            abort(); /* nothing can run in less */
        r->magic = BN_SCOPE_MAGIC;
        r->version = BN_SCOPE_VERSION;
        r->size_bytes = size;
    }
    atomic_store(&r->n_nodes, 1);
    region = r;
    r->empty_scope_ns = measure_empty_scope();
    atomic_store(&r->pid, (int32_t)getpid());
    bn_scope_thread_begin("main");
}

struct bn_scope_shared *bn_scope_region(void)
{
    return region;
}

int bn_scope_publish(const char *json, size_t n)
{
    if (!region || !region_is_shared)
        return 0;
    if (n >= BN_SCOPE_INFO_BYTES)
        return -1;
    /* An odd length means "being written": the reader tries again, or keeps what it had. */
    atomic_store(&region->info_n, 1);
    memcpy(region->info, json, n);
    region->info[n] = '\0';
    atomic_store(&region->info_n, (uint32_t)n * 2);
    return 0;
}

/* ---- reading ---- */

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
        for (unsigned b = 0; b < BN_SCOPE_BUCKETS; b++)
            hist[b] += s->hist[b];
    }
    sum.self_ns = sum.total_ns > child_ns ? sum.total_ns - child_ns : 0;
    if (sum.calls) {
        sum.p50_ns = percentile(hist, &sum, 0.50);
        sum.p95_ns = percentile(hist, &sum, 0.95);
        sum.p99_ns = percentile(hist, &sum, 0.99);
    }
    sum.calls += fused_calls; /* they have no times */
    sum.fused_into = atomic_load(&r->nodes[node].fused_into);
    return sum;
}
