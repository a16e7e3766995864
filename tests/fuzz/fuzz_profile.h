/* SPDX-License-Identifier: MIT
 * Fuzz entry: bytes as profile.json, read whole and as a summary. */
#ifndef TESTS_FUZZ_FUZZ_PROFILE_H
#define TESTS_FUZZ_FUZZ_PROFILE_H

#include "fuzz_file.h"
#include "profiler/profile.h"

/* What was accepted must be whole: every stack ends, every frame is there. */
static inline void fuzz_check_profile(const struct bn_profile *p)
{
    for (size_t i = 0; i < p->n_samples; i++)
        for (uint32_t s = p->samples[i].stack, depth = 0; s; s = p->stacks[s].parent)
            if (depth++ > BN_PROFILE_MAX_DEPTH || p->stacks[s].frame >= p->n_frames)
                abort();
}

static inline void fuzz_profile(const uint8_t *bytes, size_t n)
{
    char path[32];
    int fd = fuzz_file(bytes, n, path, sizeof path);
    struct bn_profile p;
    struct bn_err err = {.msg = ""};

    if (bn_profile_load(&p, path, &err) == 0)
        fuzz_check_profile(&p);
    else if (!err.msg[0])
        abort(); /* refused without a word */
    bn_profile_free(&p);
    bn_profile_load_summary(&p, path, &err);
    bn_profile_free(&p);
    close(fd);
}

#endif
