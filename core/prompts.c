/* SPDX-License-Identifier: MIT
 * The built-in prompts, and how many rounds of them a model gets. */
#include "core/prompts.h"

static const char *const prompts[] = {
    "Once upon a time",
    "2+2=",
    "The capital of France is",
    "What is 3+5?",
    "There was a little girl who",
    "12+6=",
    "The capital of Japan is",
    "One day, a dog",
};

enum { MIN_TOKENS = 8, MAX_TOKENS = 64, MAX_ROUNDS = 280 };

/* Bytes of weights to be read in all: some 20 s of a desktop's memory bandwidth. Small models, whose weights
 * stay in the cache, end at MAX_ROUNDS. */
static const uint64_t budget_bytes = 450ull * 1000 * 1000 * 1000;

static uint64_t clamp(uint64_t n, uint64_t min, uint64_t max)
{
    return n < min ? min : n > max ? max : n;
}

struct bn_workload bn_builtin_workload(uint64_t bytes_per_token)
{
    uint64_t tokens = budget_bytes / (bytes_per_token + 1);
    struct bn_workload work = {.prompts = prompts, .n_prompts = BN_COUNT(prompts)};

    work.max_tokens = (uint32_t)clamp(tokens / work.n_prompts, MIN_TOKENS, MAX_TOKENS);
    work.rounds = (uint32_t)clamp(tokens / (work.n_prompts * work.max_tokens), 1, MAX_ROUNDS);
    return work;
}
