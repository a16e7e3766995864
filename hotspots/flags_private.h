/* SPDX-License-Identifier: MIT
 * Between the table of flags (flags.c) and the rules (flags_run.c, flags_record.c). */
#ifndef HOTSPOTS_FLAGS_PRIVATE_H
#define HOTSPOTS_FLAGS_PRIVATE_H

#include "hotspots/flags.h"

/* Fill state, value, evidence and advice; id, severity, threshold and unit are set. */
typedef void bn_flag_compute(struct bn_profile *p, struct bn_flag *flag);

struct bn_flag_rule {
    const char *id;
    enum bn_flag_severity severity;
    double threshold;
    const char *unit;
    bool quality; /* one of those that grade the record */
    bn_flag_compute *compute;
};

/* Raised or clear with its number; the texts are formatted and kept by the record. */
void bn_flag_decide(struct bn_profile *p, struct bn_flag *flag, bool raised, double value, const char *advice,
                    const char *evidence, ...) BN_PRINTF(6, 7);
void bn_flag_unknown(struct bn_profile *p, struct bn_flag *flag, const char *reason);

bn_flag_compute bn_flag_mock_kernel, bn_flag_kernel_share_low, bn_flag_memcpy_share, bn_flag_allocator_share,
    bn_flag_forward_share_low, bn_flag_impossible_speed, bn_flag_scalar_fallback, bn_flag_lazy_loading,
    bn_flag_slow_load, bn_flag_wait_share, bn_flag_few_samples, bn_flag_lost_samples,
    bn_flag_truncated_stacks, bn_flag_unknown_symbols, bn_flag_throttled, bn_flag_kernel_not_sampled,
    bn_flag_noisy_host;

#endif
