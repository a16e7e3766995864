/* SPDX-License-Identifier: MIT
 * Mappings of running programs from /proc/PID/maps, as the records that the kernel would have written. */
#include "profiler/timer_proc.h"

#include <fcntl.h>
#include <inttypes.h>
#include <linux/perf_event.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "profiler/timer_maps.h"

enum {
    READ_MS = 1000, /* between two readings without a reason */
    MISS_MS = 100,  /* between two readings because of samples in no mapping: they may be in none */
    TEXT_MAX = 8 << 20,
};

uint64_t bn_timer_process_ns(int32_t pid)
{
    struct timespec t;
    clockid_t clock;

    if (pid <= 0 || clock_getcpuclockid(pid, &clock) != 0 || clock_gettime(clock, &t) != 0)
        return 0;
    return (uint64_t)t.tv_sec * 1000000000u + (uint64_t)t.tv_nsec;
}

/* ---- what is known ---- */

const struct bn_mapping *bn_timer_known_at(const struct bn_process *p, uint64_t address)
{
    size_t low = 0, high = p->n;

    while (low < high) {
        size_t middle = low + (high - low) / 2;
        if (p->mappings[middle].end <= address)
            low = middle + 1;
        else
            high = middle;
    }
    return low < p->n && p->mappings[low].start <= address ? &p->mappings[low] : NULL;
}

bool bn_timer_knows(const struct bn_timer *t, const struct bn_process *p, const uint64_t range[3],
                    const char *path, size_t n, uint64_t from_ns, uint64_t to_ns)
{
    const struct bn_mapping *m = bn_timer_known_at(p, range[0]);

    if (!m || m->start != range[0] || m->end != range[1] || m->file_offset != range[2] ||
        m->since_ns < from_ns || m->since_ns > to_ns)
        return false;
    const char *known = t->maps.files[m->file].path;
    return strncmp(known, path, n) == 0 && known[n] == '\0';
}

/* ---- what is read ---- */

struct mmap_record {
    struct perf_event_header head;
    int32_t pid, tid;
    uint64_t start, length, file_offset;
    uint8_t file[24];
    uint32_t protection, flags;
};

struct trailer {
    int32_t pid, tid;
    uint64_t t_ns;
    uint32_t cpu, reserved;
};

/* As the kernel would have written it; without PROT_EXEC it says that no code is there any more. */
static void put_mmap(struct bn_timer *t, struct bn_buf *out, int32_t pid, uint64_t t_ns,
                     const uint64_t range[3], bool executable, const char *path, size_t n)
{
    static const char zeros[8];
    size_t padded = bn_round_up(n + 1, 8), from = out->n;
    struct mmap_record m = {.head = {.type = PERF_RECORD_MMAP2},
                            .pid = pid,
                            .tid = pid,
                            .start = range[0],
                            .length = range[1] - range[0],
                            .file_offset = range[2],
                            .protection = executable ? 5 : 1};
    struct trailer end = {.pid = pid, .tid = pid, .t_ns = t_ns};
    struct bn_record r;
    struct bn_err err;

    m.head.size = (uint16_t)(sizeof m + padded + sizeof end);
    bn_buf_put(out, &m, sizeof m);
    bn_buf_put(out, path, n);
    bn_buf_put(out, zeros, padded - n);
    bn_buf_put(out, &end, sizeof end);
    if (bn_record_decode(&t->format, (const uint8_t *)out->p + from, &r, &err) == 0)
        bn_maps_apply(&t->maps, &r);
}

void bn_timer_put_exit(struct bn_buf *out, int32_t pid, int32_t tid, uint64_t t_ns)
{
    struct {
        struct perf_event_header head;
        int32_t pid, parent_pid, tid, parent_tid;
        uint64_t t_ns;
        struct trailer end;
    } record = {.head = {.type = PERF_RECORD_EXIT, .size = sizeof record},
                .pid = pid,
                .parent_pid = pid,
                .tid = tid,
                .parent_tid = pid,
                .t_ns = t_ns,
                .end = {.pid = pid, .tid = tid, .t_ns = t_ns}};

    bn_buf_put(out, &record, sizeof record);
}

static bool read_text(struct bn_buf *text, int32_t pid)
{
    char path[40], chunk[16384];
    ssize_t n = 0;

    snprintf(path, sizeof path, "/proc/%" PRId32 "/maps", pid);
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0)
        return false;
    text->n = 0;
    while (text->n < TEXT_MAX && (n = read(fd, chunk, sizeof chunk)) > 0)
        bn_buf_put(text, chunk, (size_t)n);
    close(fd);
    return n == 0 && text->n > 0;
}

/* Code that was mapped is gone where no executable line of the text begins before and ends behind it. */
static bool still_there(const struct bn_buf *text, const struct bn_mapping *m)
{
    const char *line = text->p, *end = text->p + text->n, *newline;
    struct bn_timer_map map;

    for (; line < end && (newline = memchr(line, '\n', (size_t)(end - line))); line = newline + 1)
        if (bn_timer_map_parse(&map, line, (size_t)(newline - line)) && map.executable &&
            map.range[0] <= m->start && map.range[1] >= m->end)
            return true;
    return false;
}

static uint32_t put_gone(struct bn_timer *t, int32_t pid, uint64_t t_ns, struct bn_buf *out)
{
    uint32_t n = 0;

    for (size_t i = 0;;) {
        const struct bn_process *p = bn_maps_process(&t->maps, pid);
        while (i < p->n && still_there(&t->text, &p->mappings[i]))
            i++;
        if (i == p->n)
            return n;
        const uint64_t range[3] = {p->mappings[i].start, p->mappings[i].end, 0};
        put_mmap(t, out, pid, t_ns, range, false, "//gone", 6); /* takes it out of p */
        n++;
    }
}

/* News came at t_ns. What was told before since_ns is news again: others may have been in its place since,
 * of which the program has written down what was not drained yet. */
static uint32_t put_news(struct bn_timer *t, int32_t pid, uint64_t t_ns, uint64_t since_ns,
                         struct bn_buf *out)
{
    const char *line = t->text.p, *end = t->text.p + t->text.n, *newline;
    struct bn_timer_map map;
    uint32_t n = 0;

    for (; line < end && (newline = memchr(line, '\n', (size_t)(end - line))); line = newline + 1) {
        if (!bn_timer_map_parse(&map, line, (size_t)(newline - line)) || !map.executable ||
            map.range[0] >> 63 || map.path_bytes > 4096 ||
            bn_timer_knows(t, bn_maps_process(&t->maps, pid), map.range, map.path, map.path_bytes, since_ns,
                           UINT64_MAX))
            continue;
        put_mmap(t, out, pid, t_ns, map.range, true, map.path, map.path_bytes);
        n++;
    }
    return n;
}

/* True if no library came or went while the text was read: it is what was there at now_ns, after the dlclose
 * that returned at closed_ns. */
static bool read_steady(struct bn_timer *t, const struct bn_timer_process *process, int32_t pid,
                        uint64_t *closed_ns, uint64_t *now_ns)
{
    enum { TRIES = 4 };

    for (int i = 0; i < TRIES; i++) {
        uint32_t loads = process->loads, closing = process->closing;
        *closed_ns = process->closed_ns;
        *now_ns = bn_now_ns();
        if (!read_text(&t->text, pid)) /* gone, or another user's by now */
            return false;
        if (closing == 0 && process->closing == 0 && process->loads == loads)
            return true;
    }
    return false;
}

/* Everything drained so far was mapped when it was sampled. What is new came after the last reading, and
 * after the last dlclose, before which the program writes its mappings down itself. What is gone, and has
 * nothing in its place, went at that dlclose, or just now. False: not now, or never again. */
static bool read_maps(struct bn_timer *t, const struct bn_timer_process *process, struct bn_timer_view *view,
                      struct bn_buf *out, uint32_t *n)
{
    uint64_t closed_ns, now_ns;

    if (!read_steady(t, process, view->pid, &closed_ns, &now_ns))
        return false;
    bool closed = closed_ns > view->read_ns && closed_ns <= now_ns;
    *n += put_news(t, view->pid, closed ? closed_ns : view->read_ns, closed ? closed_ns : 0, out);
    *n += put_gone(t, view->pid, closed ? closed_ns : now_ns, out);
    view->read_ns = now_ns;
    return true;
}

uint32_t bn_timer_read_maps(struct bn_timer *t, struct bn_buf *out)
{
    uint64_t now_ns = bn_now_ns();
    uint32_t n = 0;

    for (size_t i = 0; i < BN_TIMER_MAX_PROCESSES; i++) {
        struct bn_timer_process *process = &t->region->processes[i];
        struct bn_timer_view *view = &t->views[i];
        int32_t pid = process->pid;
        uint32_t loads = process->loads;
        uint64_t start_ns = process->start_ns;
        if (process->state != BN_TIMER_LIVE || pid <= 0 || start_ns == 0) {
            *view = (struct bn_timer_view){0};
            continue;
        }
        if (view->pid != pid || view->start_ns != start_ns) /* new, or the same after an exec */
            *view = (struct bn_timer_view){
                .pid = pid, .start_ns = start_ns, .read_ns = start_ns < now_ns ? start_ns : now_ns};
        uint64_t age_ms = (now_ns - view->read_ns) / 1000000;
        if (loads == view->loads_seen && !(view->missed && age_ms >= MISS_MS) && age_ms < READ_MS)
            continue;
        if (read_maps(t, process, view, out, &n)) {
            view->loads_seen = loads;
            view->missed = false;
        }
    }
    return n;
}
