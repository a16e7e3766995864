/* SPDX-License-Identifier: MIT
 * Cursors over perf_event records in ring buffers. */
#include "profiler/ring.h"

#include <linux/perf_event.h>
#include <stdlib.h>
#include <string.h>

static void copy_out(const struct bn_ring *r, void *to, size_t n)
{
    size_t begin = (size_t)r->at & (r->data_bytes - 1), first = bn_min_size(n, r->data_bytes - begin);

    memcpy(to, r->data + begin, first);
    memcpy((uint8_t *)to + first, r->data, n - first);
}

/* Size of the record at `at`; 0 and everything skipped if it cannot be one. */
static size_t size_here(struct bn_ring *r)
{
    struct perf_event_header head;

    if (r->end - r->at >= sizeof head) {
        copy_out(r, &head, sizeof head);
        if (head.size >= sizeof head && head.size % 8 == 0 && head.size <= r->end - r->at &&
            head.size <= r->data_bytes)
            return head.size;
    }
    r->n_damaged++;
    r->at = r->end;
    return 0;
}

/* Fill `next`. Returns false at the end. */
static bool look(struct bn_ring *r, const struct bn_record_format *format)
{
    size_t size = r->at != r->end ? size_here(r) : 0, begin = (size_t)r->at & (r->data_bytes - 1);

    if (size == 0)
        return false;
    r->next = r->data + begin;
    if (begin + size > r->data_bytes) {
        if (!r->bounce)
            r->bounce = bn_xmalloc(UINT16_MAX + 1);
        copy_out(r, r->bounce, size);
        r->next = r->bounce;
    }
    r->next_ns = bn_record_time(format, r->next);
    return true;
}

const uint8_t *bn_rings_next(struct bn_ring *const *rings, size_t n, const struct bn_record_format *format,
                             uint64_t horizon_ns)
{
    struct bn_ring *earliest = NULL;

    for (size_t i = 0; i < n; i++) {
        struct bn_ring *r = rings[i];
        if ((r->next || look(r, format)) && (!earliest || r->next_ns < earliest->next_ns))
            earliest = r;
    }
    if (!earliest || earliest->next_ns > horizon_ns)
        return NULL;
    const uint8_t *record = earliest->next;
    earliest->at += bn_record_size(record, UINT16_MAX);
    earliest->next = NULL;
    return record;
}

void bn_ring_free(struct bn_ring *r)
{
    free(r->bounce);
    r->bounce = NULL;
    r->next = NULL;
}
