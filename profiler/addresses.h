/* SPDX-License-Identifier: MIT
 * The record's tables of modules and of distinct addresses, filled while samples are named. */
#ifndef PROFILER_ADDRESSES_H
#define PROFILER_ADDRESSES_H

#include "profiler/maps.h"
#include "profiler/profile.h"

/* Code at this place ran: `samples` of them, which stand for weight_ns, had it as their leaf; 0 when it was a
 * caller. frame: the record's frame of the function that holds the code, outside of everything inlined there.
 * A place in no file, or where the file does not hold the address, counts for the module alone, if there is
 * one. The first call for an image opens its debug information. */
void bn_addresses_note(struct bn_profile *p, const struct bn_place *place, uint32_t frame, uint64_t samples,
                       uint64_t weight_ns);

#endif
