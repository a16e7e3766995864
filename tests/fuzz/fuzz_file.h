/* SPDX-License-Identifier: MIT
 * For fuzz entries whose readers take a path: the bytes as a file in memory. */
#ifndef TESTS_FUZZ_FUZZ_FILE_H
#define TESTS_FUZZ_FUZZ_FILE_H

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "core/base.h"

/* Returns a descriptor to be closed; path: where to open it again. */
static inline int fuzz_file(const uint8_t *bytes, size_t n, char *path, size_t path_bytes)
{
    int fd = memfd_create("fuzz", MFD_CLOEXEC);

    for (size_t at = 0; at < n;) {
        ssize_t done = write(fd, bytes + at, n - at);
        if (done <= 0)
            abort();
        at += (size_t)done;
    }
    snprintf(path, path_bytes, "/proc/self/fd/%d", fd);
    return fd;
}

static inline uint64_t fuzz_random(uint64_t *state)
{
    *state = *state * 6364136223846793005u + 1442695040888963407u;
    return *state >> 16;
}

#endif
