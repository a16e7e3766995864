/* SPDX-License-Identifier: MIT
 * Host, build and set-up as data: what two recordings must share to be comparable. */
#ifndef PROFILER_FINGERPRINT_H
#define PROFILER_FINGERPRINT_H

#include "core/base.h"

/* Hand every fact to `fact`, in a fixed order with stable keys; a fact that cannot be found out is "unknown".
 * Keys: date hostname cpu_model cpus cores sockets cpu_features cache_l1d cache_l1i cache_l2 cache_l3 memory
 * os kernel virtualization governor compiler build_flags version binary_bytes build_id git
 * perf_event_paranoid perf_max_sample_rate perf_mlock_kb boot_id. Allocates: scratch only. */
void bn_fingerprint(void (*fact)(void *ctx, const char *key, const char *value), void *ctx);

#endif
