/* SPDX-License-Identifier: MIT
 * What a program is given to be recorded by: words of its environment, and the library with the CPU timers.
 */
#ifndef PROFILER_RECORDER_ENV_H
#define PROFILER_RECORDER_ENV_H

#include "profiler/timer.h"

struct bn_recorder_env {
    char *words[4]; /* "NAME=value", NULL-terminated */
    int library_fd; /* -1 = not needed */
};

/* Takes the text over. */
void bn_recorder_env_add(struct bn_recorder_env *env, char *text);

/* What the timers need. The engine has them in itself; another program (file, as in bn_launch_command) gets
 * them from a library loaded before its own. -1: that cannot be. */
int bn_recorder_env_timers(struct bn_recorder_env *env, const struct bn_timer *timer, bool engine,
                           const char *file, struct bn_err *err);

void bn_recorder_env_free(struct bn_recorder_env *env);

#endif
