/* SPDX-License-Identifier: MIT
 * One sample of the calling thread, from within a signal handler. */
#ifndef PROFILER_TIMER_TAKE_H
#define PROFILER_TIMER_TAKE_H

#include <ucontext.h>

#include "profiler/timer_ring.h"

/* Write a PERF_RECORD_SAMPLE of BN_TIMER_SAMPLE_TYPE: the registers that the signal interrupted, and the
 * stack above its stack pointer as far as it can be read, is the slot's, and fits the dump's size. The sample
 * stands for weight_ns of CPU time. Without room in the ring it is counted as lost. */
void bn_timer_take(struct bn_timer_ring *ring, const struct bn_timer_region *region, int32_t pid,
                   uint64_t weight_ns, const ucontext_t *u);

#endif
