/* SPDX-License-Identifier: MIT
 * Missing debug information from the servers that DEBUGINFOD_URLS names: only when asked for. */
#ifndef PROFILER_DEBUGINFOD_H
#define PROFILER_DEBUGINFOD_H

#include "core/base.h"

/* Load the library that talks to the servers. -1: it is not installed, or no servers are named. Nothing is
 * asked yet. */
int bn_debuginfod_load(struct bn_err *err);

/* From here on ask, for the whole process; never before. */
void bn_debuginfod_allow(void);

/* Path of the file with the debug information of that build id, in the library's cache; NULL = not allowed,
 * not there, no answer. This can take as long as the network does (DEBUGINFOD_TIMEOUT). The caller frees. One
 * thread at a time. */
char *bn_debuginfod_find(const uint8_t *build_id, size_t n);

#endif
