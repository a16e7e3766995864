/* SPDX-License-Identifier: MIT
 * Worker threads that split a range of independent items with their caller.
 *
 * Which thread computes an item never changes how it is computed, and no sum is split over threads: results
 * are the same, bit for bit, for any number of threads. */
#ifndef CORE_POOL_H
#define CORE_POOL_H

#include "core/base.h"

enum { BN_POOL_MAX_THREADS = 256 };

struct bn_pool;

/* Work on items begin … end-1; `worker` is 0 for the caller, below the number of threads for all. */
typedef void bn_pool_fn(void *arg, size_t begin, size_t end, unsigned worker);

/* n_threads in all (1 … BN_POOL_MAX_THREADS), of which n_threads - 1 are started now, named "bn-worker-1", ….
 * No more of them ever work than the caller has CPUs now: the others only wait. 0, or -1 with a message. The
 * pool belongs to the thread that opened it: only that one may call bn_pool_run.
 */
int bn_pool_open(struct bn_pool **out, unsigned n_threads, struct bn_err *err);
/* Ends and joins the workers. Accepts NULL. */
void bn_pool_close(struct bn_pool *pool);
unsigned bn_pool_threads(const struct bn_pool *pool);

/* The number of threads to start when nobody asked for another: the physical cores that this process may use
 * (core/cores.h), 1 … BN_POOL_MAX_THREADS. */
unsigned bn_pool_cores(void);

/* Call fn on 0 … n_items-1, in contiguous chunks cut at multiples of `multiple`, on as many threads as are
 * worth it; returns when all are done. `cost` estimates the whole job in bytes moved through a core (see
 * BN_POOL_GRAIN): small jobs get fewer threads, down to the caller alone, which then gets one call. A thread
 * may get several chunks, in any order. Workers carry the caller's stage; which of the CPUs that the caller
 * may use they run on is the pool's to change. Allocates: nothing. Cannot fail. Must not be nested. */
void bn_pool_run(struct bn_pool *pool, bn_pool_fn *fn, void *arg, size_t n_items, size_t multiple,
                 uint64_t cost);

/* The least `cost` a thread is worth waking for: about 40 us of work at the 10 GB/s that a core moves; waking
 * one that sleeps takes as long. The demo model decodes below it, on one thread. */
enum { BN_POOL_GRAIN = 400 * 1000 };

#endif
