/* SPDX-License-Identifier: MIT
 * Records of ring buffers, read where they lie, and several rings merged by time. */
#ifndef PROFILER_RING_H
#define PROFILER_RING_H

#include "profiler/records.h"

struct bn_ring {
    const uint8_t *data;
    size_t data_bytes;  /* a power of two */
    uint64_t at, end;   /* read up to, written up to; both count from the ring's beginning for ever */
    uint64_t n_damaged; /* times the rest of the ring was skipped, because a record's size made no sense */

    const uint8_t *next; /* the record at `at`, NULL = not looked at yet */
    uint64_t next_ns;
    uint8_t *bounce; /* for a record that wraps; owned */
};

/* The earliest record of all rings, if it is not later than horizon_ns; else NULL. It is taken: `at` stands
 * behind it when the next one is asked for. Records of one ring come in their order. Valid until the next
 * call and as long as the writers are not told that their space is free. Not for several threads at once. */
const uint8_t *bn_rings_next(struct bn_ring *const *rings, size_t n, const struct bn_record_format *format,
                             uint64_t horizon_ns);

/* Frees `bounce`. */
void bn_ring_free(struct bn_ring *ring);

#endif
