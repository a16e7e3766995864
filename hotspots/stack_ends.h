/* SPDX-License-Identifier: MIT
 * Why stacks broke off, most of them, and what to do about it. */
#ifndef HOTSPOTS_STACK_ENDS_H
#define HOTSPOTS_STACK_ENDS_H

#include "profiler/profile.h"

/* The mark ("[truncated]", "[unwind failed: …]") that most truncated stacks have for a root, NULL = there is
 * none. */
const char *bn_stack_ends_most(const struct bn_profile *p);

/* What helps against that mark (NULL = not known) in this record; a constant. */
const char *bn_stack_ends_advice(const struct bn_profile *p, const char *mark);

#endif
