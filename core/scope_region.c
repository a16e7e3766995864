/* SPDX-License-Identifier: MIT
 * The region: found, checked and claimed; names, nodes and thread slots are added to it under its lock, which
 * only threads of the claiming process take. */
#include "core/scope_private.h"

#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

struct bn_scope_shared *bn_scope_mapped;
_Thread_local struct bn_scope_thread *bn_scope_self;
_Thread_local struct bn_scope_event *bn_scope_self_ring;
_Thread_local bool bn_scope_refused;

static void lock(struct bn_scope_shared *r)
{
    uint32_t expected = 0;

    while (!atomic_compare_exchange_weak(&r->lock, &expected, 1))
        expected = 0;
}

static void unlock(struct bn_scope_shared *r)
{
    atomic_store(&r->lock, 0);
}

/* ---- stages ---- */

/* Controls and ';', which separates the stages of a path, cannot stand in a name; a character that does not
 * fit whole is left out. */
static void copy_name(char out[BN_SCOPE_STAGE_BYTES], const char *name)
{
    size_t n = 0;

    for (; n < BN_SCOPE_STAGE_BYTES - 1 && name[n]; n++) {
        unsigned char c = (unsigned char)name[n];
        out[n] = c < ' ' || c == 0x7f ? '?' : c == ';' ? ',' : (char)c;
    }
    if (name[n])
        while (n > 0 && ((unsigned char)name[n] & 0xc0) == 0x80)
            n--;
    if (n == 0)
        out[n++] = '?';
    memset(out + n, 0, BN_SCOPE_STAGE_BYTES - n);
}

uint16_t bn_scope_stage_id(const char *name)
{
    struct bn_scope_shared *r = bn_scope_mapped;
    char wanted[BN_SCOPE_STAGE_BYTES];
    uint32_t id = 0, n;

    copy_name(wanted, name);
    lock(r);
    n = atomic_load(&r->n_stages);
    while (id < n && memcmp(r->stages[id], wanted, sizeof wanted) != 0)
        id++;
    if (id == n && n == BN_SCOPE_MAX_STAGES) {
        atomic_fetch_add(&r->refused_stages, 1);
        id = BN_SCOPE_MAX_STAGES - 1;
    } else if (id == n) {
        if (n == BN_SCOPE_MAX_STAGES - 1) {
            atomic_fetch_add(&r->refused_stages, 1);
            copy_name(wanted, "(more stages)");
        }
        memcpy(r->stages[id], wanted, sizeof wanted);
        atomic_store(&r->n_stages, n + 1);
    }
    unlock(r);
    return (uint16_t)id;
}

uint16_t bn_scope_add_node(uint16_t parent, uint16_t stage)
{
    struct bn_scope_shared *r = bn_scope_mapped;

    if (atomic_load(&r->n_nodes) == BN_SCOPE_MAX_NODES) { /* for good: no lock */
        atomic_fetch_add_explicit(&r->refused_nodes, 1, memory_order_relaxed);
        return parent;
    }
    lock(r);
    uint16_t node = atomic_load(&r->child[parent][stage]);
    uint32_t n = atomic_load(&r->n_nodes);
    if (node == 0 && n < BN_SCOPE_MAX_NODES) {
        node = (uint16_t)n;
        r->nodes[node].parent = parent;
        r->nodes[node].stage = stage;
        atomic_store(&r->n_nodes, n + 1);
        atomic_store_explicit(&r->child[parent][stage], node, memory_order_release);
    }
    unlock(r);
    return node ? node : parent;
}

/* ---- threads ---- */

/* A slot never used, else one whose thread is gone and whose events the recorder has taken: then its ring
 * holds those of one thread only. */
static struct bn_scope_thread *take_slot(struct bn_scope_shared *r)
{
    uint32_t n = atomic_load(&r->n_threads);

    if (n < BN_SCOPE_MAX_THREADS) {
        atomic_store(&r->n_threads, n + 1);
        return &r->threads[n];
    }
    for (uint32_t i = 0; i < BN_SCOPE_MAX_THREADS; i++) {
        struct bn_scope_thread *t = &r->threads[i];
        if (atomic_load(&t->end_ns) == 0 ||
            (r->ring_events && atomic_load(&t->head) != atomic_load(&t->tail)))
            continue;
        atomic_fetch_add(&r->past_events, atomic_exchange(&t->events, 0));
        atomic_fetch_add(&r->past_dropped, atomic_exchange(&t->dropped, 0));
        return t;
    }
    return NULL;
}

static void (*on_begin)(void), (*on_end)(void);

void bn_scope_on_threads(void (*begin)(void), void (*end)(void))
{
    on_begin = begin;
    on_end = end;
}

void bn_scope_thread_begin(const char *name)
{
    struct bn_scope_shared *r = bn_scope_mapped;

    if (!r || bn_scope_self || bn_scope_refused)
        return;
    if (on_begin)
        on_begin();
    lock(r);
    struct bn_scope_thread *t = take_slot(r);
    if (t) {
        strncpy(t->name, name, sizeof t->name - 1);
        t->depth = t->step = t->step_depth = 0;
        t->layer = -1;
        atomic_store(&t->start_ns, bn_scope_now_ns());
        atomic_store(&t->end_ns, 0);
        atomic_store(&t->tid, (int32_t)syscall(SYS_gettid));
    }
    unlock(r);
    if (!t) {
        bn_scope_refused = true;
        atomic_fetch_add(&r->untimed_threads, 1);
        return;
    }
    bn_scope_self_ring = r->ring_events ? bn_scope_ring(r, (uint32_t)(t - r->threads)) : NULL;
    bn_scope_self = t;
}

void bn_scope_thread_end(void)
{
    if (!bn_scope_self)
        return;
    while (bn_scope_self->depth)
        bn_scope_pop(bn_scope_self);
    atomic_store(&bn_scope_self->end_ns, bn_scope_now_ns());
    bn_scope_self = NULL;
    bn_scope_self_ring = NULL;
    if (on_end)
        on_end();
}

/* ---- attaching ---- */

struct bn_scope_shared *bn_scope_attach(int *fd)
{
    /* Who can write to the region can make this process write anywhere: none for setuid programs. */
    const char *text = secure_getenv("BNPROF_SCOPE_FD");
    struct stat st;
    char *end;

    if (!text || !*text)
        return NULL;
    long number = strtol(text, &end, 10);
    if (*end || number < 3 || number > 1 << 20 || fstat((int)number, &st) != 0 ||
        (size_t)st.st_size < sizeof(struct bn_scope_shared))
        return NULL;
    struct bn_scope_shared *r =
        mmap(NULL, (size_t)st.st_size, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_NORESERVE, (int)number, 0);
    if (r == MAP_FAILED)
        return NULL;
    uint32_t events = r->ring_events;
    if (r->magic != BN_SCOPE_MAGIC || r->version != BN_SCOPE_VERSION ||
        r->size_bytes != (uint64_t)st.st_size || (events & (events - 1)) != 0 ||
        bn_scope_region_bytes(events) != (uint64_t)st.st_size || atomic_load(&r->pid) != 0) {
        munmap(r, (size_t)st.st_size);
        return NULL;
    }
    *fd = (int)number;
    return r;
}

static int compare_double(const void *a, const void *b)
{
    double x, y;

    memcpy(&x, a, sizeof x);
    memcpy(&y, b, sizeof y);
    return (x > y) - (x < y);
}

/* Time batches of empty scopes on a scratch thread slot that no report sees: the last slot is never handed
 * out before all others, and is wiped afterwards. Events are written if the recorder will read some, to the
 * first page of the slot's ring over and over. */
static void measure_empty_scope(struct bn_scope_shared *r)
{
    enum { BATCHES = 31, SCOPES = 100 };
    double scope_ns[BATCHES], inside_ns[BATCHES];
    struct bn_scope_thread *t = &r->threads[BN_SCOPE_MAX_THREADS - 1];

    bn_scope_self = t;
    if (r->ring_events >= 2 * SCOPES)
        bn_scope_self_ring = bn_scope_ring(r, BN_SCOPE_MAX_THREADS - 1);
    for (int i = 0; i < BATCHES; i++) {
        uint64_t before_ns = t->stats[0].total_ns, start_ns = bn_scope_now_ns();
        for (int k = 0; k < SCOPES; k++) {
            bn_scope_push(t, 0, BN_SCOPE_OWN);
            bn_scope_pop(t);
        }
        scope_ns[i] = (double)(bn_scope_now_ns() - start_ns) / SCOPES;
        inside_ns[i] = (double)(t->stats[0].total_ns - before_ns) / SCOPES;
        atomic_store(&t->head, 0);
    }
    memset(t, 0, offsetof(struct bn_scope_thread, stats));
    memset(&t->stats[0], 0, sizeof t->stats[0]);
    bn_scope_self = NULL;
    bn_scope_self_ring = NULL;
    qsort(scope_ns, BATCHES, sizeof *scope_ns, compare_double);
    qsort(inside_ns, BATCHES, sizeof *inside_ns, compare_double);
    r->empty_scope_ns = scope_ns[BATCHES / 2];
    r->empty_inside_ns =
        inside_ns[BATCHES / 2] < r->empty_scope_ns ? inside_ns[BATCHES / 2] : r->empty_scope_ns;
}

bool bn_scope_claim(struct bn_scope_shared *r)
{
    int32_t nobody = 0;

    if (!atomic_compare_exchange_strong(&r->pid, &nobody, (int32_t)getpid()))
        return false;
    bn_scope_mapped = r;
    measure_empty_scope(r);
    bn_scope_stage_id("all");
    atomic_store(&r->n_nodes, 1);
    return true;
}

/* The parent goes on writing to it; what this process still has of it must not be. */
void bn_scope_forget(void)
{
    if (!bn_scope_mapped || atomic_load(&bn_scope_mapped->pid) == (int32_t)getpid())
        return;
    munmap(bn_scope_mapped, bn_scope_mapped->size_bytes);
    bn_scope_mapped = NULL;
    bn_scope_self = NULL;
    bn_scope_self_ring = NULL;
    bn_scope_refused = false;
}
