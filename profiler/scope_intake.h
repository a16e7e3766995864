/* SPDX-License-Identifier: MIT
 * Where the two halves of a recording meet while it runs: the kernel's records (profiler/intake) get their
 * places in the program's scopes (profiler/scope_reader), and the scopes that nobody left get their ends from
 * the records. */
#ifndef PROFILER_SCOPE_INTAKE_H
#define PROFILER_SCOPE_INTAKE_H

#include "profiler/intake.h"
#include "profiler/scope_reader.h"

/* Tell the intake to whom the scopes belong, as soon as they belong to somebody. */
void bn_scope_intake_owner(const struct bn_scope_reader *r, struct bn_intake *in);

/* Look whether that process is there still: for sources whose records do not tell its end. */
void bn_scope_intake_look(struct bn_scope_reader *r, const struct bn_intake *in, uint64_t now_ns);

/* Mark the intake's samples, and the times off the CPUs up to the horizon, for the next
 * bn_scope_reader_emit. */
void bn_scope_intake_place(struct bn_scope_reader *r, struct bn_intake *in, uint64_t horizon_ns);

/* When the program with the scopes ended, after the last record of a recording that ended at end_ns. */
uint64_t bn_scope_intake_end(const struct bn_scope_reader *r, const struct bn_intake *in, uint64_t end_ns);

/* Until when the scopes of the thread in each slot were open that it never left: to its own end, to the exec
 * that replaced the program, to the end of the process or to now_ns, whatever is known to be first. until_ns:
 * [BN_SCOPE_MAX_THREADS], 0 = nobody has the slot. */
void bn_scope_intake_ends(const struct bn_scope_reader *r, const struct bn_intake *in, uint64_t now_ns,
                          uint64_t *until_ns);

#endif
