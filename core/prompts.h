/* SPDX-License-Identifier: MIT
 * What `run` does without a prompt: a fixed list of prompts, worked through a fixed number of rounds. */
#ifndef CORE_PROMPTS_H
#define CORE_PROMPTS_H

#include "core/base.h"

struct bn_workload {
    const char *const *prompts;
    size_t n_prompts;
    uint32_t max_tokens; /* for each prompt */
    uint32_t rounds;
};

/* Sized by what the model reads for a token, never by a clock: the same model always gets the same work.
 * The demo model runs long enough for thousands of samples, a model of a gigabyte for a fraction of a minute.
 */
struct bn_workload bn_builtin_workload(uint64_t bytes_per_token);

#endif
