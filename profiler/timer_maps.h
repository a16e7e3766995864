/* SPDX-License-Identifier: MIT
 * Lines of /proc/PID/maps, read by a program about itself and by the recorder about the program. Uses nothing
 * but libc, allocates nothing. */
#ifndef PROFILER_TIMER_MAPS_H
#define PROFILER_TIMER_MAPS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "profiler/timer_ring.h"

struct bn_timer_map {
    uint64_t range[3]; /* start, end, offset in the file */
    const char *path;  /* in the line; "//anon" for memory that has none */
    size_t path_bytes;
    bool executable;
};

/* Take apart a line of n bytes without its newline. False: it is no such line. */
bool bn_timer_map_parse(struct bn_timer_map *map, const char *line, size_t n);

/* Write a record for each executable mapping of the calling process. */
void bn_timer_write_maps(struct bn_timer_ring *ring, int32_t pid, uint64_t t_ns);

#endif
