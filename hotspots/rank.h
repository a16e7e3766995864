/* SPDX-License-Identifier: MIT
 * Who used the CPU: functions, stages or source lines ranked by self time, waiting kept apart. */
#ifndef HOTSPOTS_RANK_H
#define HOTSPOTS_RANK_H

#include "hotspots/class.h"
#include "profiler/profile.h"

enum bn_rank_by { BN_RANK_FUNCTION, BN_RANK_STAGE, BN_RANK_LINE };

enum { BN_RANK_LINES = 3 };

struct bn_rank_line {
    const char *file;
    uint32_t line;
    struct bn_sampled self;
};

struct bn_rank_item {
    const char *name;                  /* function, stage path ("generate;decode;…"), or "file:line" */
    const char *module;                /* of a function; NULL = unknown or no function */
    struct bn_sampled self, inclusive; /* a recursive function counts once a sample */
    uint64_t decode_self_ns;           /* the part of self below generate;decode, or in steps */
    uint32_t stage;                    /* where most of its self time is; of a stage: itself */
    uint32_t stack;                    /* the stack with most of its self time, down to the function */
    struct bn_rank_line lines[BN_RANK_LINES]; /* by self; no samples = unused */
};

struct bn_ranking {
    enum bn_rank_by by;
    struct bn_rank_item *items; /* by self, descending; then by name */
    size_t n;
    struct bn_sampled total; /* waiting included: what percentages are of */
    struct bn_sampled wait;
    uint64_t class_ns[BN_CLASS_COUNT];
    uint32_t decode; /* stage generate;decode, or BN_NONE */
    uint64_t
        decode_tokens; /* exact, from the scopes; 0 = no decoding. Steps, in a program that only has those */
    struct bn_arena arena; /* names */
};

/* Shares, orders and choices go by CPU time (struct bn_sampled). Self time goes to the innermost function
 * that is really one: code inlined into it counts as its own, the lines say where. Cannot fail. Free with
 * bn_ranking_free. */
void bn_ranking_make(struct bn_ranking *r, const struct bn_profile *p, enum bn_rank_by by);
void bn_ranking_free(struct bn_ranking *r);

/* Does the sample count for ns per token: below generate;decode, or, in a program without, in a step? */
bool bn_ranking_in_token(const struct bn_ranking *r, const struct bn_profile *p, const struct bn_sample *s);

/* The item of that name (and module, if not NULL), or NULL. */
const struct bn_rank_item *bn_ranking_find(const struct bn_ranking *r, const char *name, const char *module);

/* ns per decoded token, BN_UNKNOWN without decoded tokens. */
double bn_ns_per_token(const struct bn_ranking *r, uint64_t decode_ns);

#endif
