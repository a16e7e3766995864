/* SPDX-License-Identifier: MIT
 * A small table, tid -> end of the stack's mapping, filled from /proc as threads first appear in samples. */
#include "profiler/stack_ends.h"

#include <fcntl.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum {
    SLOTS = 1024,        /* a power of two; two threads on one slot take turns */
    READS = 8,           /* of /proc/TID/maps between two refills: each costs about 50 us */
    TRIES = 3,           /* for a thread whose stack pointer is in no mapping, or that moves between stacks */
    MAPS_MAX = 256 << 10 /* more mappings than this are not searched */
};

struct entry {
    int32_t tid; /* 0 = free */
    uint32_t tries;
    uint64_t end;
};

struct bn_stack_ends {
    struct entry entries[SLOTS];
    int reads_left;
    struct bn_buf text;
};

struct bn_stack_ends *bn_stack_ends_new(void)
{
    struct bn_stack_ends *stacks = bn_xcalloc(1, sizeof *stacks);

    stacks->reads_left = READS;
    return stacks;
}

void bn_stack_ends_free(struct bn_stack_ends *stacks)
{
    if (!stacks)
        return;
    bn_buf_free(&stacks->text);
    free(stacks);
}

static bool read_maps(struct bn_buf *text, int32_t tid)
{
    char path[40], chunk[16384];
    ssize_t n = 0;

    snprintf(path, sizeof path, "/proc/%" PRId32 "/maps", tid);
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0)
        return false;
    text->n = 0;
    while (text->n < MAPS_MAX && (n = read(fd, chunk, sizeof chunk)) > 0)
        bn_buf_put(text, chunk, (size_t)n);
    close(fd);
    return n == 0 && text->n > 0;
}

/* End of the mapping that holds `sp`, 0 if there is none. */
static uint64_t find_end(const char *text, uint64_t sp)
{
    for (const char *line = text; line && *line; line = strchr(line, '\n'), line = line ? line + 1 : NULL) {
        char *dash;
        uint64_t start = strtoull(line, &dash, 16);
        if (*dash != '-')
            return 0;
        uint64_t end = strtoull(dash + 1, NULL, 16);
        if (sp >= start && sp < end)
            return end;
    }
    return 0;
}

/* Address of the argument count on the main stack, 0 = unknown. Above it lie only strings and tables:
 * arguments, environment, auxiliary vector. proc(5): field 28, counted behind the name, which can hold
 * anything. */
static uint64_t start_of_main_stack(int32_t tid)
{
    enum { FIELD_STATE = 3, FIELD_START_STACK = 28 };
    char path[40], text[1024];

    snprintf(path, sizeof path, "/proc/%" PRId32 "/stat", tid);
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0)
        return 0;
    ssize_t n = read(fd, text, sizeof text - 1);
    close(fd);
    text[n > 0 ? n : 0] = '\0';
    const char *at = strrchr(text, ')');
    at = at ? strchr(at, ' ') : NULL;
    for (int field = FIELD_STATE; at && field < FIELD_START_STACK; field++)
        at = strchr(at + 1, ' ');
    return at ? strtoull(at, NULL, 10) : 0;
}

/* End of the stack that sp is on. */
static uint64_t stack_end(struct bn_stack_ends *stacks, int32_t tid, uint64_t sp)
{
    enum { ROOM = 64 }; /* the argument count and what an unwinder may look at beside it */

    if (!read_maps(&stacks->text, tid))
        return 0;
    uint64_t end = find_end(stacks->text.p, sp), start = start_of_main_stack(tid);
    return start >= sp && start < end && end - start > ROOM ? start + ROOM : end;
}

size_t bn_stack_ends_room(struct bn_stack_ends *stacks, int32_t tid, uint64_t sp)
{
    struct entry *e = &stacks->entries[(uint32_t)tid & (SLOTS - 1)];

    if (tid <= 0 || sp == 0)
        return SIZE_MAX;
    if (e->tid != tid)
        *e = (struct entry){.tid = tid};
    if (sp >= e->end && e->tries < TRIES && stacks->reads_left > 0) {
        stacks->reads_left--;
        e->tries++;
        e->end = stack_end(stacks, tid, sp);
    }
    return sp < e->end ? e->end - sp : SIZE_MAX;
}

void bn_stack_ends_forget(struct bn_stack_ends *stacks, int32_t tid)
{
    struct entry *e = &stacks->entries[(uint32_t)tid & (SLOTS - 1)];

    if (tid == 0)
        memset(stacks->entries, 0, sizeof stacks->entries);
    else if (e->tid == tid)
        *e = (struct entry){0};
}

void bn_stack_ends_refill(struct bn_stack_ends *stacks)
{
    stacks->reads_left = READS;
}
