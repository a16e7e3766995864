/* SPDX-License-Identifier: MIT
 * Can our small library be loaded into a program before its own ones? */
#ifndef PROFILER_PRELOADABLE_H
#define PROFILER_PRELOADABLE_H

#include "core/base.h"

/* Find the program as execvp would (`file` in PATH unless it holds a '/'), through #! lines. 0: the loader
 * will take a preloaded library in, or the program cannot be found, in which case its start says why. -1: it
 * will not (static, setuid, capabilities, another loader), in one sentence. */
int bn_preloadable(const char *file, struct bn_err *err);

/* Path of libbnprof-timer.so: beside the running program, below it in build/release, or installed in
 * ../lib/bnprof. The caller frees. NULL: not found, *err names the places. */
char *bn_preload_library(struct bn_err *err);

#endif
