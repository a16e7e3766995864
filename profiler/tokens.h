/* SPDX-License-Identifier: MIT
 * The tokens of a run, from its scope events: scopes generate;prefill and generate;decode, or, in a program
 * that has neither, its steps. */
#ifndef PROFILER_TOKENS_H
#define PROFILER_TOKENS_H

#include "profiler/part_info.h"
#include "profiler/timeline.h"

/* In time order, times from the start of the recording; one that never ended is left out. *tokens is heap
 * memory for the caller to free. Returns how many. p's stages must be those that info->stage_of_node names.
 */
size_t bn_tokens_find(const struct bn_profile *p, const struct bn_part_info *info,
                      const struct bn_timeline *timeline, struct bn_token **tokens);

#endif
