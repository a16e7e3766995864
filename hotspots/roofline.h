/* SPDX-License-Identifier: MIT
 * Stages against the machine's limits: what a stage moves and computes, how fast, and how much time is left
 * to win. */
#ifndef HOTSPOTS_ROOFLINE_H
#define HOTSPOTS_ROOFLINE_H

#include "hotspots/rank.h"

struct bn_roofline {
    double gbytes_per_s, gops_per_s; /* achieved over wall time of the calls; BN_UNKNOWN = not counted */
    double
        limit_ns; /* time of the same work at the machine's limit, all calls; BN_UNKNOWN = no limit applies */
    double share; /* limit_ns / time now, 0 … 1 and above if the probe was wrong; BN_UNKNOWN */
    double recoverable_ns; /* time now - limit_ns, never below 0; BN_UNKNOWN */
    const char *bound;     /* "memory", "int8", or why no limit applies */
};

/* Wall time of a stage on its calling thread without its child stages, but with its waiting: what its work
 * took. */
uint64_t bn_roofline_time_ns(const struct bn_profile *p, uint32_t stage);

/* The limit of a stage (without its children): reading what it takes from memory (weights, KV cache) at the
 * measured bandwidth, if the weights do not fit the last cache, and its int8 multiply-adds at the measured
 * peak; the larger of the two. A stage that does neither has no limit that was measured. */
struct bn_roofline bn_roofline_stage(const struct bn_profile *p, uint32_t stage);

/* The same for a function: over the stages in which it has at least half of the self time that is no
 * waiting. *calls: how often those stages were entered, 0 = there is none; *n_stages: how many they are. */
struct bn_roofline bn_roofline_function(const struct bn_profile *p, const struct bn_rank_item *item,
                                        uint64_t *calls, uint32_t *n_stages);

/* Stages by recoverable time, most first; those without a known limit are left out. A heap array that the
 * caller frees. */
struct bn_opportunity {
    uint32_t stage;
    struct bn_roofline roofline;
};
struct bn_opportunity *bn_roofline_opportunities(const struct bn_profile *p, size_t *n);

/* Do the model's weights exceed the last cache, so that memory bandwidth is the limit of reading them?
 * 1 yes, 0 no, -1 unknown. */
int bn_roofline_memory_bound(const struct bn_profile *p);

#endif
