/* SPDX-License-Identifier: MIT
 * Drains the engine's scope events and reads its statistics. The region is written by another process,
 * perhaps one that is crashing: every index that comes out of it is checked, nothing in it is trusted to be
 * consistent. */
#include "profiler/scope_reader.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <unistd.h>

#include "profiler/sort.h"

static const uint32_t NO_SLOT = UINT32_MAX;

/* A sample to be placed. */
struct mark {
    uint64_t t_ns;
    struct bn_raw_sample *sample;
    uint64_t dt_ns; /* 0: an instant */
    enum bn_follow_kind kind;
    bool idle; /* of a worker that waits for work: this is the main thread's */
};

/* One thread's slot. */
struct bn_scope_held {
    uint64_t next; /* number of the first event that has not been walked; those before are released to the
                      engine */
    struct mark *marks; /* its samples */
    size_t n_marks, cap_marks;
    struct bn_scope_event current; /* in force at the horizon */
    bool have_current;
    uint64_t dropped; /* events lost up to the round before */
    uint32_t n_gaps;  /* rounds still to come in which the place of a sample is uncertain */
    int32_t tid;      /* whose events were walked last; a slot can change hands */
};

/* Shared memory for the program. The descriptor is a high one, so that those that the program opens itself
 * have the numbers that they would have without us. */
static int make_memory(size_t size)
{
    struct rlimit files, bytes;

    if (getrlimit(RLIMIT_FSIZE, &bytes) == 0 && bytes.rlim_cur < size) {
        errno = EFBIG; /* and no SIGXFSZ */
        return -1;
    }
    int low = memfd_create("bnprof-scopes", MFD_CLOEXEC);
    if (low < 0)
        return -1;
    int least =
        getrlimit(RLIMIT_NOFILE, &files) == 0 && files.rlim_cur < 1024 ? (int)files.rlim_cur - 1 : 1000;
    int fd = least > low ? fcntl(low, F_DUPFD_CLOEXEC, least) : -1;
    if (fd >= 0)
        close(low);
    else
        fd = low;
    if (ftruncate(fd, (off_t)size) == 0)
        return fd;
    int why = errno;
    close(fd);
    errno = why;
    return -1;
}

int bn_scope_reader_create(struct bn_scope_reader *r, uint32_t ring_events, struct bn_err *err)
{
    *r = (struct bn_scope_reader){.fd = -1, .region_bytes = bn_scope_region_bytes(ring_events)};
    r->fd = make_memory(r->region_bytes);
    if (r->fd < 0) {
        bn_err_set(err, "shared memory for the scopes: %s", strerror(errno));
        bn_scope_reader_close(r);
        return -1;
    }
    void *map = mmap(NULL, r->region_bytes, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_NORESERVE, r->fd, 0);
    if (map == MAP_FAILED) {
        bn_err_set(err, "shared memory for the scopes (%zu MiB of address space): %s", r->region_bytes >> 20,
                   strerror(errno));
        bn_scope_reader_close(r);
        return -1;
    }
    r->region = map;
    r->region->magic = BN_SCOPE_MAGIC;
    r->region->version = BN_SCOPE_VERSION;
    r->region->size_bytes = r->region_bytes;
    r->region->ring_events = ring_events;
    r->held = bn_xcalloc(BN_SCOPE_MAX_THREADS, sizeof *r->held);
    r->follow = bn_xcalloc(1, sizeof *r->follow);
    return 0;
}

void bn_scope_reader_close(struct bn_scope_reader *r)
{
    if (r->region_bytes == 0)
        return;
    for (size_t i = 0; r->held && i < BN_SCOPE_MAX_THREADS; i++) {
        free(r->held[i].marks);
    }
    free(r->held);
    free(r->kept);
    if (r->follow)
        bn_scope_follow_free(r->follow);
    free(r->follow);
    if (r->region)
        munmap(r->region, r->region_bytes);
    if (r->fd >= 0)
        close(r->fd);
    *r = (struct bn_scope_reader){.fd = -1};
}

/* The ring's size is fixed when the region is made; the engine could have overwritten the region's copy. */
static uint32_t ring_events(const struct bn_scope_reader *r)
{
    return (uint32_t)((r->region_bytes - sizeof *r->region) /
                      (BN_SCOPE_MAX_THREADS * sizeof(struct bn_scope_event)));
}

static const struct bn_scope_event *ring_of(const struct bn_scope_reader *r, uint32_t slot)
{
    const char *rings = (const char *)r->region + sizeof *r->region;

    return (const struct bn_scope_event *)(const void *)(rings + (size_t)slot * ring_events(r) *
                                                                     sizeof(struct bn_scope_event));
}

static uint32_t n_slots(const struct bn_scope_reader *r)
{
    uint32_t n = atomic_load(&r->region->n_threads);

    return n < BN_SCOPE_MAX_THREADS ? n : BN_SCOPE_MAX_THREADS;
}

static uint32_t n_nodes(const struct bn_scope_reader *r)
{
    uint32_t n = atomic_load(&r->region->n_nodes);

    return n < BN_SCOPE_MAX_NODES ? n : BN_SCOPE_MAX_NODES;
}

/* ---- events ---- */

static void add_mark(struct bn_scope_reader *r, uint32_t slot, const struct mark *mark)
{
    struct bn_scope_held *h = &r->held[slot];

    bn_grow(&h->marks, &h->cap_marks, h->n_marks + 1, sizeof *h->marks);
    h->marks[h->n_marks++] = *mark;
}

static void mark_thread(struct bn_scope_reader *r, int32_t tid, const struct mark *mark)
{
    uint32_t n = n_slots(r);

    /* A slot stays when its thread ends, and the kernel may use the number again: the later one counts. */
    for (uint32_t slot = n; slot-- > 0;) {
        struct bn_scope_thread *t = &r->region->threads[slot];
        bool later =
            slot > 0 && atomic_load(&t->start_ns) > mark->t_ns; /* the first one was there all along */
        if (atomic_load(&t->tid) != tid || later)
            continue;
        add_mark(r, slot, mark);
        return;
    }
}

void bn_scope_reader_mark(struct bn_scope_reader *r, int32_t tid, uint64_t t_ns, struct bn_raw_sample *sample)
{
    mark_thread(r, tid, &(struct mark){.t_ns = t_ns, .sample = sample});
}

void bn_scope_reader_mark_gap(struct bn_scope_reader *r, int32_t tid, const struct bn_off_cpu_gap *gap,
                              struct bn_raw_sample *place)
{
    mark_thread(r, tid,
                &(struct mark){.t_ns = gap->t_ns,
                               .sample = place,
                               .dt_ns = gap->dt_ns,
                               .kind = gap->preempted ? BN_FOLLOW_PREEMPTED : BN_FOLLOW_ASLEEP});
}

double bn_scope_reader_fill(const struct bn_scope_reader *r)
{
    uint32_t n = n_slots(r), size = ring_events(r);
    uint64_t fullest = 0;

    for (uint32_t slot = 0; slot < n; slot++) {
        uint64_t waiting = atomic_load(&r->region->threads[slot].head) - r->held[slot].next;
        fullest = waiting > fullest ? waiting : fullest;
    }
    return size ? (double)bn_min_size(fullest, size) / size : 0;
}

static int by_time(const void *a, const void *b)
{
    const struct mark *x = a, *y = b;

    return (x->t_ns > y->t_ns) - (x->t_ns < y->t_ns);
}

/* Stages that are entered a few times a token at most: they delimit the tokens and phases. By name: another
 * program's are numbered as they come. */
static void find_coarse(struct bn_scope_reader *r, bool coarse[BN_SCOPE_MAX_NODES])
{
    uint32_t n_stages = atomic_load(&r->region->n_stages), n = n_nodes(r);
    char name[BN_SCOPE_STAGE_BYTES];

    for (; r->n_stages < n_stages && r->n_stages < BN_SCOPE_MAX_STAGES; r->n_stages++) {
        bn_scope_stage_name(r->region, r->n_stages, name);
        for (int stage = BN_STAGE_STARTUP; stage <= BN_STAGE_DECODE; stage++)
            if (strcmp(name, bn_stage_name((enum bn_stage)stage)) == 0)
                r->coarse[r->n_stages] = true;
    }
    memset(coarse, 0, BN_SCOPE_MAX_NODES * sizeof *coarse);
    for (uint32_t node = 1; node < n; node++) {
        uint16_t stage = *(const volatile uint16_t *)&r->region->nodes[node].stage; /* once */
        coarse[node] = stage < BN_SCOPE_MAX_STAGES && r->coarse[stage];
    }
}

/* A sample of a worker that waits for work goes to the main thread's, an interval is divided. */
static void follow_mark(struct bn_scope_reader *r, const struct mark *m, uint32_t main_slot)
{
    struct mark again = *m;

    if (m->dt_ns) {
        bn_scope_follow_add(r->follow, m->kind, m->t_ns, m->t_ns + m->dt_ns);
        return;
    }
    again.idle = true;
    add_mark(r, main_slot, &again);
}

/* Put the samples before until_ns, where the event in force ends, into that event. main_slot: of the thread
 * that idle workers follow, NO_SLOT: they follow none, or this is its own. */
static size_t place_marks(struct bn_scope_reader *r, const struct bn_scope_held *h, size_t i,
                          uint64_t until_ns, uint32_t main_slot)
{
    double edge_ns = r->region->empty_scope_ns;

    for (; i < h->n_marks && h->marks[i].t_ns < until_ns; i++) {
        const struct mark *m = &h->marks[i];
        if (m->idle && (!h->have_current || h->n_gaps))
            continue; /* nowhere: it stays in the wait for work */
        m->sample->node = BN_RAW_BEFORE_SCOPES;
        if (!h->have_current)
            continue;
        if (m->t_ns < h->current.t_ns)
            r->n_late++;
        m->sample->node = h->n_gaps ? BN_RAW_SCOPES_LOST : h->current.node;
        m->sample->layer = h->current.layer;
        m->sample->step = h->current.step;
        if ((double)(m->t_ns - h->current.t_ns) < edge_ns || (double)(until_ns - m->t_ns) < edge_ns)
            m->sample->flags |= BN_RAW_SAMPLE_EDGE;
        if (m->idle)
            m->sample->flags |= BN_RAW_SAMPLE_IDLE;
        else if (r->idle_node && m->sample->node == r->idle_node && main_slot != NO_SLOT)
            follow_mark(r, m, main_slot);
    }
    return i;
}

/* Events that found the ring full are missing between those before and those after; which of a round's they
 * were cannot be told, nor whether they are older than what still waits in the ring. */
static void note_gap(struct bn_scope_held *h, uint64_t dropped)
{
    enum { ROUNDS = 3 };

    if (dropped != h->dropped)
        h->n_gaps = ROUNDS;
    else if (h->n_gaps)
        h->n_gaps--;
    h->dropped = dropped;
}

/* Does the thread wait for work? */
static bool is_idle(const struct bn_scope_reader *r, const struct bn_scope_held *h)
{
    return r->idle_node && h->have_current && !h->n_gaps && h->current.node == r->idle_node;
}

/* Where the thread is that idle workers follow; 0 = not known. */
static uint32_t main_node(const struct bn_scope_held *h)
{
    return h->have_current && !h->n_gaps && h->current.node < BN_SCOPE_MAX_NODES ? h->current.node : 0;
}

/* Walk a thread's events up to the horizon where they lie; r->kept gets those that matter, in order. A
 * million events a second pass here on the machine that is measured. */
static void walk_events(struct bn_scope_reader *r, uint32_t slot, uint64_t horizon_ns,
                        const bool coarse[BN_SCOPE_MAX_NODES], uint32_t main_slot)
{
    struct bn_scope_held *h = &r->held[slot];
    struct bn_scope_thread *t = &r->region->threads[slot];
    const struct bn_scope_event *ring = ring_of(r, slot);
    uint64_t size = ring_events(r), head = atomic_load_explicit(&t->head, memory_order_acquire);
    int32_t tid = atomic_load(&t->tid); /* after the head: events up to there are of this thread */
    bool is_main = tid == atomic_load(&r->region->pid);
    size_t mark = 0;
    uint32_t follows = main_slot == slot ? NO_SLOT : main_slot;
    bool followed = main_slot == slot && r->follow->n > 0;

    r->n_kept = 0;
    if (tid != h->tid) {
        h->tid = tid;
        h->have_current = false;
        h->dropped = 0;
        h->n_gaps = 0;
    }
    note_gap(h, atomic_load(&t->dropped));
    if (head - h->next > size) /* cannot be: the region was overwritten */
        h->next = head - size;
    bn_grow(&r->kept, &r->cap_kept, (size_t)(head - h->next) + 1, sizeof *r->kept);
    /* Those of workers that follow this thread come behind its own. */
    bn_sort_nearly_sorted(h->marks, h->n_marks, sizeof *h->marks, by_time);
    for (; h->next != head; h->next++) {
        struct bn_scope_event e = ring[h->next & (size - 1)];
        if (e.t_ns > horizon_ns)
            break;
        if (mark < h->n_marks && h->marks[mark].t_ns < e.t_ns)
            mark = place_marks(r, h, mark, e.t_ns, follows);
        if (followed)
            bn_scope_follow_main(r->follow, e.t_ns, main_node(h));
        else if (follows != NO_SLOT && is_idle(r, h))
            bn_scope_follow_add(r->follow, BN_FOLLOW_WAITED, h->current.t_ns, e.t_ns);
        bool matters = !h->have_current || e.step != h->current.step || (is_main && e.node == 0) ||
                       (e.node < BN_SCOPE_MAX_NODES && coarse[e.node]);
        h->current = e;
        h->have_current = true;
        if (matters)
            r->kept[r->n_kept++] = e;
    }
    place_marks(r, h, mark, h->next != head ? ring[h->next & (size - 1)].t_ns : UINT64_MAX, follows);
    if (followed)
        bn_scope_follow_main(r->follow, UINT64_MAX, main_node(h));
    else if (follows != NO_SLOT && is_idle(r, h))
        bn_scope_follow_add(r->follow, BN_FOLLOW_WAITED, h->current.t_ns, UINT64_MAX);
    h->n_marks = 0;
    atomic_store_explicit(&t->tail, h->next, memory_order_release);
}

static void emit_slot(struct bn_scope_reader *r, uint32_t slot, uint64_t horizon_ns,
                      const bool coarse[BN_SCOPE_MAX_NODES], uint32_t main_slot, struct bn_raw_writer *w)
{
    const struct bn_scope_thread *t = &r->region->threads[slot];

    walk_events(r, slot, horizon_ns, coarse, main_slot);
    struct bn_raw_scopes head = {.tid = r->held[slot].tid, .slot = slot, .dropped = atomic_load(&t->dropped)};
    if (r->n_kept)
        bn_raw_append(w, BN_RAW_SCOPES, &head, sizeof head, r->kept, r->n_kept * sizeof *r->kept);
}

/* The node in which the pool's workers wait for work. */
static void find_idle(struct bn_scope_reader *r)
{
    uint32_t n = n_nodes(r);

    for (uint32_t i = 1; r->engine && !r->idle_node && i < n; i++)
        if (r->region->nodes[i].parent == 0 && r->region->nodes[i].stage == BN_STAGE_WAIT)
            r->idle_node = i;
}

static uint32_t find_main(const struct bn_scope_reader *r, uint32_t n)
{
    for (uint32_t slot = 0; r->engine && slot < n; slot++)
        if (atomic_load(&r->region->threads[slot].tid) == atomic_load(&r->region->pid))
            return slot;
    return NO_SLOT;
}

void bn_scope_reader_emit(struct bn_scope_reader *r, uint64_t horizon_ns, struct bn_raw_writer *w)
{
    bool coarse[BN_SCOPE_MAX_NODES];
    uint32_t n = n_slots(r);

    find_coarse(r, coarse);
    find_idle(r);
    uint32_t main_slot = find_main(r, n);
    bn_scope_follow_begin(r->follow, horizon_ns < r->end_ns || r->end_ns == 0 ? horizon_ns : r->end_ns);
    for (uint32_t slot = 0; slot < n && ring_events(r) > 0; slot++)
        if (slot != main_slot)
            emit_slot(r, slot, horizon_ns, coarse, main_slot, w);
    bn_scope_follow_sort(r->follow);
    if (main_slot != NO_SLOT && ring_events(r) > 0) /* last: it is followed by the others */
        emit_slot(r, main_slot, horizon_ns, coarse, main_slot, w);
}

int32_t bn_scope_reader_tid(const struct bn_scope_reader *r, uint32_t slot)
{
    return slot < n_slots(r) ? atomic_load(&r->region->threads[slot].tid) : 0;
}

bool bn_scope_reader_active(const struct bn_scope_reader *r)
{
    return atomic_load(&r->region->n_nodes) > 1;
}
