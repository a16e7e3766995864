/* SPDX-License-Identifier: MIT
 * What perf events do not tell of the time before they were opened is in /proc. */
#include "profiler/attach.h"

#include <dirent.h>
#include <errno.h>
#include <inttypes.h>
#include <linux/perf_event.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/syscall.h>
#include <unistd.h>

/* ---- /proc ---- */

/* The file's text, NULL if there is none; the caller frees. */
static char *read_file(const char *path, size_t *n)
{
    enum { STEP = 4096 };
    struct bn_buf b = {0};
    FILE *f = fopen(path, "re");
    char chunk[STEP];
    size_t got;

    if (!f)
        return NULL;
    while ((got = fread(chunk, 1, sizeof chunk, f)) > 0)
        bn_buf_put(&b, chunk, got);
    fclose(f);
    if (n)
        *n = b.n;
    bn_buf_putc(&b, '\0');
    return b.p;
}

static char *read_proc(pid_t pid, const char *name, size_t *n)
{
    char *path = bn_xasprintf("/proc/%d/%s", (int)pid, name);
    char *text = read_file(path, n);

    free(path);
    return text;
}

enum { STATE = 3, FLAGS = 9, MINFLT = 10, MAJFLT = 12, UTIME = 14, STIME, CUTIME, CSTIME, LAST = CSTIME };

/* A stat file by proc(5); fields are counted behind the name, which can hold anything. */
static bool read_stat(pid_t pid, const char *name, uint64_t value[LAST + 1])
{
    char *text = read_proc(pid, name, NULL), *at = text ? strrchr(text, ')') : NULL;

    memset(value, 0, (LAST + 1) * sizeof *value);
    at = at ? strchr(at, ' ') : NULL;
    for (int field = STATE; at && field <= LAST; field++, at = strchr(at + 1, ' '))
        value[field] = field == STATE ? (unsigned char)at[1] : strtoull(at, NULL, 10);
    free(text);
    return value[STATE] != 0;
}

static bool has_ended(uint64_t state)
{
    return state == 'Z' || state == 'X';
}

bool bn_attach_usage(pid_t pid, struct bn_attach_usage *usage)
{
    uint64_t value[LAST + 1], tick_ns = 1000000000u / (uint64_t)sysconf(_SC_CLK_TCK);

    if (!read_stat(pid, "stat", value))
        return false;
    *usage = (struct bn_attach_usage){.user_ns = value[UTIME] * tick_ns,
                                      .system_ns = value[STIME] * tick_ns,
                                      .waited_user_ns = value[CUTIME] * tick_ns,
                                      .waited_system_ns = value[CSTIME] * tick_ns,
                                      .major_faults = value[MAJFLT],
                                      .minor_faults = value[MINFLT],
                                      .ended = has_ended(value[STATE])};
    return true;
}

/* A process that has ended and waits for its parent, or a thread of the kernel, has a number but no program.
 * NULL = it has one. */
static const char *no_program(pid_t pid)
{
    enum { OF_THE_KERNEL = 0x00200000 /* PF_KTHREAD */ };
    uint64_t value[LAST + 1];

    read_stat(pid, "stat", value);
    if (value[FLAGS] & OF_THE_KERNEL)
        return "this is a thread of the kernel; only programs are recorded";
    return has_ended(value[STATE]) ? "the process has ended and only waits for its parent to notice" : NULL;
}

/* Numbers behind "Uid:" in the status: real, effective, saved. */
static bool is_ours(pid_t pid)
{
    char *status = read_proc(pid, "status", NULL), *line = status ? strstr(status, "\nUid:") : NULL;
    unsigned real, effective, saved;
    bool ours = line && sscanf(line, "\nUid: %u %u %u", &real, &effective, &saved) == 3 &&
                real == geteuid() && effective == geteuid() && saved == geteuid();

    free(status);
    return ours;
}

/* Permitted capabilities by the status; 0 = none, or not told. */
static uint64_t capabilities(pid_t pid)
{
    char *status = read_proc(pid, "status", NULL), *line = status ? strstr(status, "\nCapPrm:") : NULL;
    uint64_t set = line ? strtoull(line + sizeof "\nCapPrm:" - 1, NULL, 16) : 0;

    free(status);
    return set;
}

/* Why the kernel does not let us look at it. Among processes of one user it asks for all its capabilities,
 * and that it may be dumped. */
static int refuse_access(pid_t pid, struct bn_err *err)
{
    uint64_t more = capabilities(pid) & ~capabilities(getpid());

    if (geteuid() != 0 && !is_ours(pid))
        return bn_err_set(
            err, "-p %d: the process belongs to another user: record it as that user or as root", (int)pid);
    if (more)
        return bn_err_set(err,
                          "-p %d: the process has capabilities that this one lacks (0x%" PRIx64
                          "): record it with these, or with CAP_SYS_PTRACE",
                          (int)pid, more);
    return bn_err_set(
        err,
        "-p %d: the process is protected (it is not dumpable, or in another user namespace): record "
        "it with CAP_SYS_PTRACE in its namespace",
        (int)pid);
}

int bn_attach_begin(struct bn_attach *a, pid_t pid, struct bn_buf *words, struct bn_err *err)
{
    *a = (struct bn_attach){.pid = pid, .pidfd = -1};
    char *status = read_proc(pid, "status", NULL), *tgid = status ? strstr(status, "\nTgid:") : NULL;
    int leader = tgid ? atoi(tgid + sizeof "\nTgid:" - 1) : 0;
    size_t n = 0;

    free(status);
    if (leader == 0)
        return bn_err_set(err, "-p %d: there is no such process", (int)pid);
    if (leader != pid)
        return bn_err_set(err, "-p %d: this is a thread of process %d; only whole processes are recorded",
                          (int)pid, leader);
    if (pid == getpid())
        return bn_err_set(err, "-p %d: this is bnprof itself", (int)pid);
    const char *why_not = no_program(pid);
    if (why_not)
        return bn_err_set(err, "-p %d: %s", (int)pid, why_not);
    char *maps = bn_xasprintf("/proc/%d/maps", (int)pid);
    FILE *f = fopen(maps, "re");
    int why = errno;
    free(maps);
    if (!f || fgetc(f) == EOF)
        why = f ? ferror(f) ? errno : 0 : why;
    if (f)
        fclose(f);
    if (why == EACCES || why == EPERM)
        return refuse_access(pid, err);
    if (!bn_attach_usage(pid, &a->begin))
        return bn_err_set(err, "-p %d: the process has ended", (int)pid);
    a->now = a->begin;
    a->pidfd = (int)syscall(SYS_pidfd_open, pid, 0);
    char *line = words ? read_proc(pid, "cmdline", &n) : NULL;
    if (line)
        bn_buf_put(words, line, n);
    free(line);
    return 0;
}

/* ---- threads ---- */

static bool has_tid(const struct bn_attach *a, int32_t tid)
{
    for (size_t i = 0; i < a->n_tids; i++)
        if (a->tids[i] == tid)
            return true;
    return false;
}

static void add_tid(struct bn_attach *a, int32_t tid)
{
    bn_grow(&a->tids, &a->cap_tids, a->n_tids + 1, sizeof *a->tids);
    a->tids[a->n_tids++] = tid;
}

/* Was the thread made by one that has events already? Then it has inherited them, and a ring tells of its
 * beginning. The rings are looked through without being read. */
static bool inherited(const struct bn_perf *s, int32_t tid)
{
    struct bn_record_format format = {s->ladder.attr.sample_type, s->ladder.attr.sample_regs_user};
    bool found = false;

    for (size_t i = 0; i < s->n_rings && !found; i++) {
        struct bn_ring copy = s->rings[i].ring, *ring = &copy;
        const struct perf_event_mmap_page *control = s->rings[i].map;
        const uint8_t *record;
        struct bn_record r;
        copy.next = NULL;
        copy.bounce = NULL;
        copy.end = __atomic_load_n(&control->data_head, __ATOMIC_ACQUIRE);
        while (!found && (record = bn_rings_next(&ring, 1, &format, UINT64_MAX)) != NULL)
            found = bn_record_decode(&format, record, &r, NULL) == 0 && r.type == PERF_RECORD_FORK &&
                    r.tid == tid;
        bn_ring_free(&copy);
    }
    return found;
}

/* Events on every CPU, into the rings that are there. A thread that has ended meanwhile needs none. */
static int open_thread(struct bn_attach *a, struct bn_perf *s, int32_t tid, struct bn_err *err)
{
    struct perf_event_attr attr = s->ladder.attr;
    struct bn_ladder_host host;

    for (size_t i = 0; i < s->n_rings; i++) {
        int fd = bn_ladder_open(&attr, tid, (int)s->rings[i].cpu);
        if (fd < 0 && errno == ESRCH)
            return 0;
        if (fd < 0) {
            int why = errno;
            bn_ladder_read_host(&host);
            return bn_ladder_refuse(err, why, s->ladder.event == BN_EVENT_CYCLES, &host);
        }
        bn_grow(&s->more_fds, &s->cap_more_fds, s->n_more_fds + 1, sizeof *s->more_fds);
        s->more_fds[s->n_more_fds++] = fd;
        if (ioctl(fd, PERF_EVENT_IOC_SET_OUTPUT, s->rings[i].fd) != 0)
            return bn_err_set(err, "the events of thread %d cannot share a ring: %s", (int)tid,
                              strerror(errno));
    }
    add_tid(a, tid);
    return 0;
}

/* Threads that are not followed yet. Returns how many there were, -1 on failure. */
static int open_new_threads(struct bn_attach *a, struct bn_perf *s, struct bn_err *err)
{
    char *path = bn_xasprintf("/proc/%d/task", (int)a->pid);
    DIR *dir = opendir(path);
    struct dirent *entry;
    int found = 0;

    free(path);
    while (dir && found >= 0 && (entry = readdir(dir)) != NULL) {
        int32_t tid = atoi(entry->d_name);
        if (tid <= 0 || has_tid(a, tid))
            continue;
        found++;
        if (inherited(s, tid))
            add_tid(a, tid);
        else if (open_thread(a, s, tid, err) != 0)
            found = -1;
    }
    if (dir)
        closedir(dir);
    return found;
}

int bn_attach_threads(struct bn_attach *a, struct bn_perf *s, struct bn_err *err)
{
    enum { ROUNDS = 20, PAUSE_US = 1000 }; /* the kernel writes of a new thread a moment after it is seen */
    int found = 1;

    add_tid(a, (int32_t)a->pid);
    for (int round = 0; round < ROUNDS && found > 0; round++) {
        found = open_new_threads(a, s, err);
        usleep(PAUSE_US);
    }
    return found < 0 ? -1 : 0;
}

/* ---- what the process looks like ---- */

static enum bn_off_cpu_start state_of(pid_t pid, int32_t tid)
{
    uint64_t value[LAST + 1];
    char name[32];

    snprintf(name, sizeof name, "task/%d/stat", (int)tid);
    if (!read_stat(pid, name, value))
        return BN_OFF_CPU_UNKNOWN;
    return value[STATE] == 'R' ? BN_OFF_CPU_READY : BN_OFF_CPU_ASLEEP;
}

static void tell_threads(const struct bn_attach *a, struct bn_intake *in)
{
    for (size_t i = 0; i < a->n_tids; i++) {
        char name[32];
        snprintf(name, sizeof name, "task/%d/comm", (int)a->tids[i]);
        char *comm = read_proc(a->pid, name, NULL);
        if (comm)
            comm[strcspn(comm, "\n")] = '\0';
        bn_intake_find(in, &(struct bn_intake_found){.pid = a->pid,
                                                     .tid = a->tids[i],
                                                     .name = comm ? comm : "",
                                                     .state = state_of(a->pid, a->tids[i])});
        free(comm);
    }
}

/* "start-end perms offset dev inode   path"; the path may hold blanks, and ends in " (deleted)" when the file
 * is gone. */
static void tell_mapping(const struct bn_attach *a, char *line, struct bn_intake *in)
{
    static const char deleted[] = " (deleted)";
    uint64_t start, end, offset;
    char perms[5];
    int at = 0;

    if (sscanf(line, "%" SCNx64 "-%" SCNx64 " %4s %" SCNx64 " %*s %*s %n", &start, &end, perms, &offset,
               &at) < 4 ||
        at == 0 || perms[2] != 'x' || end <= start)
        return;
    char *path = line + at;
    size_t n = strlen(path), tail = sizeof deleted - 1;
    if (n > tail && strcmp(path + n - tail, deleted) == 0)
        path[n - tail] = '\0';
    bn_intake_apply(in, &(struct bn_record){.type = PERF_RECORD_MMAP2,
                                            .pid = a->pid,
                                            .tid = a->pid,
                                            .start = start,
                                            .length = end - start,
                                            .file_offset = offset,
                                            .executable = true,
                                            .text = *path ? path : "//anon"});
}

void bn_attach_tell(const struct bn_attach *a, struct bn_intake *in)
{
    char *maps = read_proc(a->pid, "maps", NULL), *rest = maps, *line;

    tell_threads(a, in);
    while (rest && (line = strsep(&rest, "\n")) != NULL)
        tell_mapping(a, line, in);
    free(maps);
}

/* ---- the end ---- */

bool bn_attach_ended(struct bn_attach *a)
{
    struct pollfd wait = {.fd = a->pidfd, .events = POLLIN};
    bool ended = a->pidfd >= 0 && poll(&wait, 1, 0) > 0;
    struct bn_attach_usage now;

    if (!bn_attach_usage(a->pid, &now))
        return true;
    /* Until its parent has noticed, an ended process still tells what it used. The number may be another's.
     */
    if (!ended || now.ended)
        a->now = now;
    return ended || now.ended;
}

struct bn_attach_usage bn_attach_used(const struct bn_attach *a)
{
    return (struct bn_attach_usage){
        .user_ns = a->now.user_ns - a->begin.user_ns,
        .system_ns = a->now.system_ns - a->begin.system_ns,
        .waited_user_ns = a->now.waited_user_ns - a->begin.waited_user_ns,
        .waited_system_ns = a->now.waited_system_ns - a->begin.waited_system_ns,
        .major_faults = a->now.major_faults - a->begin.major_faults,
        .minor_faults = a->now.minor_faults - a->begin.minor_faults,
        .ended = a->now.ended,
    };
}

void bn_attach_close(struct bn_attach *a)
{
    if (a->pid == 0)
        return;
    if (a->pidfd >= 0)
        close(a->pidfd);
    free(a->tids);
    *a = (struct bn_attach){.pidfd = -1};
}
