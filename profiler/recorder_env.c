/* SPDX-License-Identifier: MIT
 * The environment of a recorded program. */
#include "profiler/recorder_env.h"

#include <assert.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "profiler/preloadable.h"

void bn_recorder_env_add(struct bn_recorder_env *env, char *text)
{
    size_t n = 0;

    while (env->words[n])
        n++;
    assert(n + 1 < BN_COUNT(env->words));
    env->words[n] = text;
}

/* The loader takes blanks and colons for separators; there is another name for the same file. */
static char *name_for_loader(struct bn_recorder_env *env, const char *library)
{
    if (!strpbrk(library, " :"))
        return bn_xstrdup(library);
    env->library_fd = open(library, O_RDONLY | O_CLOEXEC);
    return bn_xasprintf("/proc/%d/fd/%d", (int)getpid(), env->library_fd);
}

int bn_recorder_env_timers(struct bn_recorder_env *env, const struct bn_timer *timer, bool engine,
                           const char *file, struct bn_err *err)
{
    const char *before = getenv("LD_PRELOAD");

    bn_recorder_env_add(env, bn_timer_environment(timer));
    if (engine)
        return 0;
    if (bn_preloadable(file, err) != 0)
        return -1;
    char *library = bn_preload_library(err);
    if (!library)
        return -1;
    char *name = name_for_loader(env, library);
    bn_recorder_env_add(env, before && *before ? bn_xasprintf("LD_PRELOAD=%s:%s", name, before)
                                               : bn_xasprintf("LD_PRELOAD=%s", name));
    free(name);
    free(library);
    return 0;
}

void bn_recorder_env_free(struct bn_recorder_env *env)
{
    for (size_t i = 0; i < BN_COUNT(env->words); i++)
        free(env->words[i]);
    if (env->library_fd >= 0)
        close(env->library_fd);
    *env = (struct bn_recorder_env){.library_fd = -1};
}
