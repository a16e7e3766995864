/* SPDX-License-Identifier: MIT
 * What the recorder knows of the mappings of programs that sample themselves, and what /proc tells it when
 * the programs cannot (dlopen, a JIT's code). */
#ifndef PROFILER_TIMER_PROC_H
#define PROFILER_TIMER_PROC_H

#include "profiler/timer.h"

/* CPU time of a process by its clock; 0 = it is gone. */
uint64_t bn_timer_process_ns(int32_t pid);

/* The known mapping that holds the address, NULL = none. */
const struct bn_mapping *bn_timer_known_at(const struct bn_process *process, uint64_t address);

/* Is exactly this range of this file known, and was last told at from_ns … to_ns? path has n bytes. */
bool bn_timer_knows(const struct bn_timer *t, const struct bn_process *process, const uint64_t range[3],
                    const char *path, size_t n, uint64_t from_ns, uint64_t to_ns);

/* Append the record that a thread has ended, which it could not write itself. */
void bn_timer_put_exit(struct bn_buf *out, int32_t pid, int32_t tid, uint64_t t_ns);

/* Read the mappings of the processes for which there is a reason to; append what is new and what is gone as
 * records, stamped with a time at which that can have come about. Returns how many. */
uint32_t bn_timer_read_maps(struct bn_timer *t, struct bn_buf *out);

#endif
