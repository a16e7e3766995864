/* SPDX-License-Identifier: MIT
 * Between profile.c and profile_json.c: append without looking for an equal entry, so that the indices of a
 * file stay what they are. Strings must be the record's own; the indices must have been checked. */
#ifndef PROFILER_PROFILE_PRIVATE_H
#define PROFILER_PROFILE_PRIVATE_H

#include "profiler/profile.h"

void bn_profile_append_frame(struct bn_profile *p, struct bn_frame frame);
void bn_profile_append_stack(struct bn_profile *p, struct bn_stack stack);
void bn_profile_append_stage(struct bn_profile *p, struct bn_stage_node stage);

#endif
