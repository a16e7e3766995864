/* SPDX-License-Identifier: MIT
 * Prompt to tokens, and the numbers that a run reports. */
#ifndef CORE_GENERATE_H
#define CORE_GENERATE_H

#include <signal.h>

#include "core/sample.h"
#include "core/session.h"

enum bn_end {
    BN_END_MAX_TOKENS,
    BN_END_STOP_TOKEN,   /* it counts as generated, but is not emitted */
    BN_END_CONTEXT_FULL, /* no position is left for the next token */
    BN_END_INTERRUPTED,  /* emit or *interrupt said so */
};

/* Each generated token as it comes, in order; false ends the generation. Must not allocate. */
typedef bool bn_generate_emit(void *user, uint32_t id, size_t index);

/* What one thread generates with. Everything is allocated at open; the numbers add up over bn_generate calls.
 */
struct bn_faults {
    uint64_t minor, major; /* served from memory; from the disk */
};

struct bn_generator {
    struct bn_session *session;
    struct bn_sampler *sampler;
    const uint32_t *stop_ids;
    size_t n_stop_ids;
    bn_generate_emit *emit;
    void *user;
    const volatile sig_atomic_t
        *interrupt; /* set after open; looked at between tokens and batches; may be NULL */

    /* of the last call */
    uint32_t *tokens; /* [max_tokens], those generated, a stop token included */
    size_t n_tokens, max_tokens;
    enum bn_end end;

    /* of all calls together */
    uint64_t n_prompt_tokens, n_generated_tokens, n_sequences;
    uint64_t prompt_ns;      /* forward passes over prompts */
    uint64_t first_token_ns; /* of the first call: from its start to its first token */
    uint64_t decode_ns;      /* all tokens after the first: forward pass to emit */
    uint64_t
        *token_ns; /* [max_token_times]: each token after the first of a sequence, forward pass to emit */
    size_t n_token_times, max_token_times; /* at most 2^24: later ones are only summed up */
    uint64_t n_decoded;                    /* tokens after the first of a sequence */
    bool sorted;                           /* token_ns is, by bn_generator_quantile */
    uint64_t decode_allocations; /* heap allocations while decoding; UINT64_MAX = cannot be counted */
    /* Page faults of the process by phase: before the first call, over prompts, over all tokens after the
     * first. */
    struct bn_faults load_faults, prompt_faults, decode_faults;
};

/* max_tokens: for each call; n_calls: how many calls there will be at most. session, sampler, stop_ids and
 * user must outlive the generator; the session is told which logits the sampler looks at. emit may be NULL.
 */
void bn_generator_open(struct bn_generator *g, struct bn_session *session, struct bn_sampler *sampler,
                       const uint32_t *stop_ids, size_t n_stop_ids, size_t max_tokens, size_t n_calls,
                       bn_generate_emit *emit, void *user);
/* Accepts a zeroed and a closed generator. */
void bn_generator_close(struct bn_generator *g);

/* Can the prompt be worked through? 0, or -1 with a message: it is empty, does not fit the context, or has an
 * id that the model lacks. */
int bn_generator_check(const struct bn_generator *g, const uint32_t *prompt, size_t n, struct bn_err *err);

/* Empty the cache, work through the prompt, generate until max_tokens, a stop token, the end of the context
 * or emit's word. prompt: [n], ids below n_vocab. 0, or -1 with a message: the prompt is empty, does not fit
 * the context, or has an id that the model lacks. Allocates: nothing. */
int bn_generate(struct bn_generator *g, const uint32_t *prompt, size_t n, struct bn_err *err);

/* The q-th quantile (0 … 1) of token_ns, in ns; 0 when there are none. Sorts token_ns. */
uint64_t bn_generator_quantile(struct bn_generator *g, double q);

/* The first 16 hex digits of the SHA-256 of the ids as little-endian u32. */
void bn_token_hash(const uint32_t *ids, size_t n, char hex[17]);

#endif
