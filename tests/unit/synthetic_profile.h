/* SPDX-License-Identifier: MIT
 * A record built by hand: an engine run with known shares, for the tests of what reads records. */
#ifndef TESTS_UNIT_SYNTHETIC_PROFILE_H
#define TESTS_UNIT_SYNTHETIC_PROFILE_H

#include "profiler/profile.h"

struct synthetic {
    struct bn_profile p;
    uint32_t decode, forward, ffn, lm_head, wait, startup;
};

static inline uint32_t synthetic_stack(struct bn_profile *p, uint32_t parent, const char *function,
                                       const char *module, uint32_t line, bool inlined)
{
    struct bn_frame f = {.function = bn_profile_str(p, function),
                         .module = bn_profile_str(p, module),
                         .file = line ? bn_profile_str(p, "k.c") : NULL,
                         .line = line,
                         .inlined = inlined};

    return bn_profile_add_stack(p, parent, bn_profile_add_frame(p, &f));
}

static inline void synthetic_samples(struct bn_profile *p, uint32_t stack, uint32_t stage, uint32_t step,
                                     unsigned n)
{
    for (unsigned i = 0; i < n; i++) {
        struct bn_sample s = {.t_ns = p->n_samples * 1000000ull,
                              .weight_ns = 1000000,
                              .stack = stack,
                              .stage = stage,
                              .layer = -1,
                              .step = step,
                              .flags = BN_SAMPLE_JOINED};
        bn_profile_add_sample(p, &s);
    }
}

/* 1000 decoded tokens, one millisecond sample each or more: of every 10 samples 6 in i2s_gemv (under ffn), 2
 * in f16_gemv (lm_head), 1 in a recursive helper, 1 waiting. `scale` repeats the i2s_gemv part: 2 = twice as
 * slow. */
static inline void synthetic_make(struct synthetic *s, unsigned scale)
{
    struct bn_profile *p = &s->p;
    struct bn_profile_thread thread = {.tid = 1, .pid = 1};

    bn_profile_init(p);
    thread.name = bn_profile_str(p, "main");
    bn_profile_add_thread(p, &thread);
    s->startup = bn_profile_add_stage(p, 0, bn_profile_str(p, "startup"));
    uint32_t generate = bn_profile_add_stage(p, 0, bn_profile_str(p, "generate"));
    s->decode = bn_profile_add_stage(p, generate, bn_profile_str(p, "decode"));
    s->forward = bn_profile_add_stage(p, s->decode, bn_profile_str(p, "forward_pass"));
    s->ffn = bn_profile_add_stage(p, s->forward, bn_profile_str(p, "gate_up_projection"));
    s->lm_head = bn_profile_add_stage(p, s->forward, bn_profile_str(p, "lm_head"));
    s->wait = bn_profile_add_stage(p, s->ffn, bn_profile_str(p, "wait"));
    uint32_t main_ = synthetic_stack(p, 0, "main", "bnprof", 10, false);
    uint32_t gemv = synthetic_stack(p, main_, "i2s_gemv_c", "bnprof", 20, false);
    uint32_t inlined = synthetic_stack(p, gemv, "unpack", "bnprof", 30, true);
    uint32_t dense = synthetic_stack(p, main_, "f16_gemv_c", "bnprof", 40, false);
    uint32_t again = synthetic_stack(p, synthetic_stack(p, main_, "helper", "bnprof", 50, false), "helper",
                                     "bnprof", 51, false);
    uint32_t wait = synthetic_stack(p, main_, "pool_wait", "bnprof", 60, false);
    p->tokens = bn_xcalloc(1000, sizeof *p->tokens);
    for (unsigned t = 0; t < 1000; t++) {
        uint64_t start_ns = p->n_samples * 1000000ull;
        /* About 1 in 10 tokens has a burst: the blocks differ, as real ones do. */
        synthetic_samples(p, gemv, s->ffn, t + 1, 4 * scale + (t % 10 == 0));
        synthetic_samples(p, inlined, s->ffn, t + 1, 2 * scale - (t % 10 == 5));
        synthetic_samples(p, dense, s->lm_head, t + 1, 2);
        synthetic_samples(p, again, s->forward, t + 1, 1);
        synthetic_samples(p, wait, s->wait, t + 1, 1);
        p->tokens[t] = (struct bn_token){start_ns, p->n_samples * 1000000ull, t + 1, false};
    }
    p->n_tokens = p->n_tokens_total = 1000;
    p->stages[s->decode].calls = 1000;
    p->stages[s->decode].total_ns = p->n_samples * 1000000ull;
    p->quality.n_samples = p->n_samples;
    p->quality.duration_ns = p->n_samples * 1000000ull;
    p->quality.user_ns = p->n_samples * 1000000ull;
    p->quality.asked_hz = p->quality.achieved_hz = 1000;
    p->quality.steal_share = 0;
}

#endif
