/* SPDX-License-Identifier: MIT
 * Scope events per thread, with the stretches in which some were lost marked as unknown. */
#include "profiler/timeline.h"

#include <stdlib.h>
#include <string.h>

/* Events of one ring; a thread number that is used again has a slot each time. */
struct bn_timeline_slot {
    int32_t tid;
    uint64_t dropped;
    struct bn_timeline_event *events;
    size_t n, capacity;
    size_t uncertain_blocks; /* blocks to come whose events lie in a lossy stretch */
};

void bn_timeline_free(struct bn_timeline *t)
{
    for (size_t i = 0; i < t->n_threads; i++)
        free(t->threads[i].events);
    for (size_t i = 0; i < t->n_slots; i++)
        free(t->slots[i].events);
    free(t->threads);
    free(t->slots);
    bn_idmap_free(&t->by_tid);
    bn_idmap_free(&t->by_slot);
    *t = (struct bn_timeline){0};
}

static struct bn_timeline_slot *slot_of(struct bn_timeline *t, const struct bn_raw_scopes *head)
{
    const uint32_t *found = bn_idmap_get(&t->by_slot, head->slot, (uint32_t)head->tid);

    if (found)
        return &t->slots[*found];
    bn_grow(&t->slots, &t->cap_slots, t->n_slots + 1, sizeof *t->slots);
    bn_idmap_put(&t->by_slot, head->slot, (uint32_t)head->tid, (uint32_t)t->n_slots);
    t->slots[t->n_slots] = (struct bn_timeline_slot){.tid = head->tid};
    return &t->slots[t->n_slots++];
}

/* The recorder tells the number of dropped events with a block whose events are older than that number: the
 * loss lies somewhere between the last event before this block and the first event after the next one. So the
 * event before, this block and the next one are uncertain. */
void bn_timeline_add(struct bn_timeline *t, const struct bn_raw_scopes *head,
                     const struct bn_scope_event *events, size_t n)
{
    struct bn_timeline_slot *s = slot_of(t, head);

    if (head->dropped > s->dropped) {
        s->dropped = head->dropped;
        s->uncertain_blocks = 2;
        if (s->n)
            s->events[s->n - 1].unknown = true;
    }
    bn_grow(&s->events, &s->capacity, s->n + n, sizeof *s->events);
    for (size_t i = 0; i < n; i++)
        s->events[s->n++] = (struct bn_timeline_event){
            .t_ns = events[i].t_ns,
            .step = events[i].step,
            .node = events[i].node < BN_SCOPE_MAX_NODES ? events[i].node : 0,
            .layer = events[i].layer,
            .unknown = s->uncertain_blocks > 0 || events[i].node >= BN_SCOPE_MAX_NODES,
        };
    s->uncertain_blocks -= s->uncertain_blocks > 0;
}

void bn_timeline_lose(struct bn_timeline *t)
{
    for (size_t i = 0; i < t->n_slots; i++)
        if (t->slots[i].n)
            t->slots[i].events[t->slots[i].n - 1].lost_after = true;
}

static int by_time(const void *a, const void *b)
{
    const struct bn_timeline_event *x = a, *y = b;

    return (x->t_ns > y->t_ns) - (x->t_ns < y->t_ns);
}

/* The events of a slot come in order, and a slot that reuses a thread number is later than the one before:
 * sorting is for damaged files. */
static void sort_events(struct bn_timeline_thread *thread)
{
    for (size_t i = 1; i < thread->n; i++)
        if (thread->events[i].t_ns < thread->events[i - 1].t_ns) {
            qsort(thread->events, thread->n, sizeof *thread->events, by_time);
            return;
        }
}

void bn_timeline_settle(struct bn_timeline *t)
{
    for (size_t i = 0; i < t->n_slots; i++) {
        struct bn_timeline_slot *s = &t->slots[i];
        const uint32_t *found = bn_idmap_get(&t->by_tid, (uint32_t)s->tid, 0);
        size_t at = found ? *found : t->n_threads;
        if (!found) {
            bn_grow(&t->threads, &t->cap_threads, t->n_threads + 1, sizeof *t->threads);
            t->threads[t->n_threads++] = (struct bn_timeline_thread){0};
            bn_idmap_put(&t->by_tid, (uint32_t)s->tid, 0, (uint32_t)at);
        }
        struct bn_timeline_thread *thread = &t->threads[at];
        bn_grow(&thread->events, &thread->capacity, thread->n + s->n, sizeof *thread->events);
        if (s->n)
            memcpy(thread->events + thread->n, s->events, s->n * sizeof *s->events);
        thread->n += s->n;
        thread->dropped += s->dropped;
    }
    for (size_t i = 0; i < t->n_threads; i++)
        sort_events(&t->threads[i]);
}

const struct bn_timeline_thread *bn_timeline_thread(const struct bn_timeline *t, int32_t tid)
{
    const uint32_t *found = bn_idmap_get(&t->by_tid, (uint32_t)tid, 0);
    return found ? &t->threads[*found] : NULL;
}

const struct bn_timeline_event *bn_timeline_at(const struct bn_timeline_thread *thread, uint64_t t_ns)
{
    size_t low = 0, high = thread->n;

    while (low < high) {
        size_t middle = low + (high - low) / 2;
        if (thread->events[middle].t_ns <= t_ns)
            low = middle + 1;
        else
            high = middle;
    }
    return low ? &thread->events[low - 1] : NULL;
}
