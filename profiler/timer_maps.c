/* SPDX-License-Identifier: MIT
 * proc(5): "start-end perms offset device inode   path", numbers in hex but for the inode. */
#include "profiler/timer_maps.h"

#include <fcntl.h>
#include <string.h>
#include <unistd.h>

/* Hex digits at *at; leaves *at behind them. False without a digit. */
static bool take_hex(const char **at, const char *end, uint64_t *value)
{
    const char *p = *at;

    for (*value = 0; p < end; p++) {
        unsigned digit = *p >= '0' && *p <= '9'   ? (unsigned)(*p - '0')
                         : *p >= 'a' && *p <= 'f' ? (unsigned)(*p - 'a') + 10
                                                  : 16;
        if (digit == 16)
            break;
        *value = *value << 4 | digit;
    }
    bool some = p > *at;
    *at = p;
    return some;
}

static bool take_char(const char **at, const char *end, char c)
{
    if (*at >= end || **at != c)
        return false;
    ++*at;
    return true;
}

bool bn_timer_map_parse(struct bn_timer_map *map, const char *line, size_t n)
{
    static const char anonymous[] = "//anon";
    const char *at = line, *end = line + n;

    if (!take_hex(&at, end, &map->range[0]) || !take_char(&at, end, '-') ||
        !take_hex(&at, end, &map->range[1]) || !take_char(&at, end, ' ') || end - at < 5 ||
        map->range[1] <= map->range[0])
        return false;
    map->executable = at[2] == 'x';
    at += 5;
    if (!take_hex(&at, end, &map->range[2]))
        return false;
    for (int field = 0; field < 2; field++) { /* device, inode */
        while (at < end && *at == ' ')
            at++;
        while (at < end && *at != ' ')
            at++;
    }
    while (at < end && *at == ' ')
        at++;
    map->path = at < end ? at : anonymous;
    map->path_bytes = at < end ? (size_t)(end - at) : sizeof anonymous - 1;
    return true;
}

static void write_line(struct bn_timer_ring *ring, int32_t pid, uint64_t t_ns, const char *line, size_t n)
{
    struct bn_timer_map map;

    /* The vsyscall page is the kernel's. */
    if (bn_timer_map_parse(&map, line, n) && map.executable && map.range[0] < UINT64_C(1) << 63)
        bn_timer_ring_mmap(ring, pid, t_ns, map.range, map.path, map.path_bytes);
}

void bn_timer_write_maps(struct bn_timer_ring *ring, int32_t pid, uint64_t t_ns)
{
    char text[8192]; /* longer than any line */
    size_t n = 0;
    ssize_t got;
    int fd = open("/proc/self/maps", O_RDONLY | O_CLOEXEC);

    if (fd < 0)
        return;
    while (n < sizeof text && (got = read(fd, text + n, sizeof text - n)) > 0) {
        n += (size_t)got;
        char *line = text, *end;
        while ((end = memchr(line, '\n', (size_t)(text + n - line)))) {
            write_line(ring, pid, t_ns, line, (size_t)(end - line));
            line = end + 1;
        }
        n -= (size_t)(line - text);
        memmove(text, line, n);
    }
    close(fd);
}
