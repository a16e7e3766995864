/* SPDX-License-Identifier: MIT
 * The waits of workers that have no work: `wait` below the stage in which the main thread is meanwhile. */
#ifndef PROFILER_IDLE_H
#define PROFILER_IDLE_H

#include "profiler/part_info.h"

/* `wait` in a stage, added if the record lacks it; a wait's is itself. */
uint32_t bn_idle_stage(struct bn_profile *p, uint32_t stage);

/* Divide what stands in `wait` below no stage by what the recorder says of it; the rest stays there. After
 * the statistics and the times off the CPUs. */
void bn_idle_divide(struct bn_profile *p, const struct bn_part_info *info);

#endif
