/* SPDX-License-Identifier: MIT
 * CPU timers in the measured program. The signal handler takes no lock, allocates nothing, and cannot fault:
 * the stack is read by process_vm_readv, or page by page after asking the kernel whether a page can be read.
 *
 * The process's own copies of numbers are plain variables written before the first timer starts. */
#include "profiler/timer_inside.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/perf_event.h>
#include <pthread.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <time.h>
#include <ucontext.h>
#include <unistd.h>

#include "profiler/timer_maps.h"
#include "profiler/timer_region.h"
#include "profiler/timer_ring.h"
#include "profiler/timer_take.h"

/* In the value that a timer's signal carries, above the slot's number. */
#define OURS 0x626e7470ull

static struct bn_timer_region *region;
static struct bn_timer_process *process;
static int32_t own_pid;
static int own_signal;
static _Atomic uint64_t loads_ns; /* when the first dlopen since the last flush began, 0 = none did */
static struct sigaction theirs;   /* what the program wants done with our signal */
static int (*real_sigaction)(int, const struct sigaction *, struct sigaction *) = sigaction;

static _Thread_local int my_slot __attribute__((tls_model("initial-exec"))) = -1;
static _Thread_local uint64_t my_stack_end __attribute__((tls_model("initial-exec")));

extern void *__libc_stack_end __attribute__((weak)); // NOLINT: the name is libc's

static uint64_t clock_ns(clockid_t clock)
{
    struct timespec t;

    clock_gettime(clock, &t);
    return (uint64_t)t.tv_sec * 1000000000u + (uint64_t)t.tv_nsec;
}

static uint64_t now_ns(void)
{
    return clock_ns(CLOCK_MONOTONIC);
}

static int32_t gettid_(void)
{
    return (int32_t)syscall(SYS_gettid);
}

static struct bn_timer_ring ring_of(uint32_t slot)
{
    return (struct bn_timer_ring){.slot = &region->slots[slot],
                                  .bytes = bn_timer_ring(region, slot, region->ring_bytes),
                                  .size = region->ring_bytes};
}

/* ---- the signal handler ---- */

/* A sample stands for the CPU time of its thread since the one before. Timers expire at the kernel's tick, so
 * that is one period or several, and less for the first. What expires while a record is being written counts
 * for the next one. */
static void expired(uint32_t index, const ucontext_t *u)
{
    struct bn_timer_slot *slot = &region->slots[index];

    if ((int)index != my_slot || slot->pid != own_pid || slot->state != BN_TIMER_LIVE)
        return; /* a left-over of a thread that has ended */
    if (region->stopped) {
        struct itimerspec off = {{0, 0}, {0, 0}};
        syscall(SYS_timer_settime, slot->timer, 0, &off, NULL);
    } else if (!slot->busy) {
        struct bn_timer_ring ring = ring_of(index);
        uint64_t cpu_ns = clock_ns(CLOCK_THREAD_CPUTIME_ID), weight_ns = cpu_ns - slot->counted_ns;
        slot->counted_ns = cpu_ns;
        bn_timer_take(&ring, region, own_pid, weight_ns ? weight_ns : 1, u);
    }
}

/* The signal came from somebody else: do what the program asked for, or what the kernel does by default. */
static void not_ours(int sig, siginfo_t *info, void *context)
{
    struct sigaction by_default = {.sa_handler = SIG_DFL};

    if (theirs.sa_flags & SA_SIGINFO) {
        theirs.sa_sigaction(sig, info, context);
    } else if (theirs.sa_handler == SIG_DFL) {
        real_sigaction(sig, &by_default, NULL);
        syscall(SYS_tgkill, own_pid, gettid_(), sig); /* delivered when this handler returns */
    } else if (theirs.sa_handler != SIG_IGN) {
        theirs.sa_handler(sig);
    }
}

static void on_signal(int sig, siginfo_t *info, void *context)
{
    int saved = errno;
    uint64_t value = (uint64_t)(uintptr_t)info->si_value.sival_ptr;

    if (info->si_code == SI_TIMER && value >> 32 == OURS && (uint32_t)value < BN_TIMER_MAX_SLOTS)
        expired((uint32_t)value, context);
    else
        not_ours(sig, info, context);
    errno = saved;
}

/* ---- threads ---- */

static uint64_t mix(uint64_t x)
{
    x = (x ^ x >> 31) * 0x9e3779b97f4a7c15u;
    x = (x ^ x >> 29) * 0xbf58476d1ce4e5b9u;
    return x ^ x >> 32;
}

static void set_time(struct timespec *t, uint64_t ns)
{
    *t = (struct timespec){.tv_sec = (time_t)(ns / 1000000000u), .tv_nsec = (long)(ns % 1000000000u)};
}

/* The first expiry falls anywhere in the first period: a thread that lives for less than one has its chance.
 */
static void start_timer(uint32_t index)
{
    struct bn_timer_slot *slot = &region->slots[index];
    struct sigevent event = {.sigev_notify = SIGEV_THREAD_ID, .sigev_signo = own_signal};
    struct itimerspec times;

    event.sigev_value.sival_ptr = (void *)(uintptr_t)(OURS << 32 | index); // NOLINT: a number in a pointer
    event._sigev_un._tid = slot->tid;
    if (syscall(SYS_timer_create, CLOCK_THREAD_CPUTIME_ID, &event, &slot->timer) != 0) {
        region->refused_errno = errno;
        atomic_fetch_add(&region->refused_timers, 1);
        return;
    }
    slot->has_timer = 1;
    set_time(&times.it_interval, region->interval_ns);
    set_time(&times.it_value, 1 + mix(now_ns() ^ (uint64_t)slot->tid << 40) % region->interval_ns);
    syscall(SYS_timer_settime, slot->timer, 0, &times, NULL);
}

/* The main stack ends where the C library found it, another thread's below its control block. */
static uint64_t find_stack_end(void)
{
    enum { ROOM = 64, MAIN_MAX = 1 << 30, THREAD_MAX = 256 << 20 };
    uint64_t here = (uintptr_t)__builtin_frame_address(0), self = (uintptr_t)pthread_self();
    uint64_t start = &__libc_stack_end ? (uintptr_t)__libc_stack_end : 0;

    if (start > here && start - here < MAIN_MAX)
        return (start + ROOM) & ~7ull;
    return self > here && self - here < THREAD_MAX ? self & ~7ull : 0;
}

static int take_slot_in(uint32_t state)
{
    uint32_t first = (uint32_t)gettid_() % BN_TIMER_MAX_SLOTS;

    for (uint32_t i = 0; i < BN_TIMER_MAX_SLOTS; i++) {
        uint32_t index = (first + i) % BN_TIMER_MAX_SLOTS, expected = state;
        struct bn_timer_slot *slot = &region->slots[index];
        if (state == BN_TIMER_ENDED && slot->head - slot->tail > region->ring_bytes / 2)
            continue;
        if (atomic_compare_exchange_strong(&slot->state, &expected, BN_TIMER_TAKEN))
            return (int)index;
    }
    return -1;
}

static int take_slot_of_gone(void)
{
    for (uint32_t index = 0; index < BN_TIMER_MAX_SLOTS; index++) {
        struct bn_timer_slot *slot = &region->slots[index];
        struct bn_timer_ring ring = ring_of(index);
        int32_t pid, tid;
        if (slot->head - slot->tail > region->ring_bytes / 2 || !bn_timer_claim_gone(slot, &pid, &tid))
            continue;
        slot->state = BN_TIMER_TAKEN;
        bn_timer_ring_task(&ring, PERF_RECORD_EXIT, pid, tid, pid, pid, now_ns());
        return (int)index;
    }
    return -1;
}

/* An empty slot, else one whose thread has ended, else one whose thread is gone without a word, as the last
 * of a process is: the recorder comes by a few times a second only, threads can come and go by the thousand.
 */
static int take_slot(void)
{
    int index = take_slot_in(BN_TIMER_FREE);

    if (index >= 0) {
        region->slots[index].head = region->slots[index].tail = region->slots[index].samples =
            region->slots[index].lost = 0;
        return index;
    }
    index = take_slot_in(BN_TIMER_ENDED);
    if (index < 0)
        index = take_slot_of_gone();
    if (index < 0)
        atomic_fetch_add(&region->untimed_threads, 1);
    return index;
}

/* The signal must reach this thread, and must still be ours. */
static bool prepare_signal(void)
{
    struct sigaction now;
    sigset_t set;

    if (real_sigaction(own_signal, NULL, &now) != 0 || !(now.sa_flags & SA_SIGINFO) ||
        now.sa_sigaction != on_signal) {
        if (atomic_exchange(&process->conflict, 1) == 0)
            atomic_fetch_add(&region->conflicts, 1);
        return false;
    }
    sigemptyset(&set);
    sigaddset(&set, own_signal);
    return pthread_sigmask(SIG_UNBLOCK, &set, NULL) == 0;
}

static void begin(int32_t parent_pid, int32_t parent, bool exec)
{
    if (!region || my_slot >= 0 || region->stopped)
        return;
    int index = take_slot();
    if (index < 0)
        return;
    struct bn_timer_slot *slot = &region->slots[index];
    struct bn_timer_ring ring = ring_of((uint32_t)index);
    slot->pid = own_pid;
    slot->tid = gettid_();
    slot->busy = 0;
    slot->has_timer = 0;
    slot->counted_ns = clock_ns(CLOCK_THREAD_CPUTIME_ID);
    slot->stack_end = my_stack_end ? my_stack_end : find_stack_end();
    my_stack_end = slot->stack_end;
    my_slot = index;
    uint64_t t_ns = now_ns();
    if (parent)
        bn_timer_ring_task(&ring, PERF_RECORD_FORK, own_pid, slot->tid, parent_pid, parent, t_ns);
    memset(slot->name, 0, sizeof slot->name);
    bn_timer_ring_name(&ring, own_pid, t_ns, true);
    if (exec) {
        bn_timer_ring_comm(&ring, own_pid, t_ns, PERF_RECORD_MISC_COMM_EXEC);
        bn_timer_write_maps(&ring, own_pid, t_ns);
    }
    slot->state = BN_TIMER_LIVE;
    if (prepare_signal())
        start_timer((uint32_t)index);
}

void bn_timer_thread_begin(int parent)
{
    begin(own_pid, parent, false);
}

void bn_timer_thread_end(void)
{
    if (my_slot < 0)
        return;
    struct bn_timer_slot *slot = &region->slots[my_slot];
    struct bn_timer_ring ring = ring_of((uint32_t)my_slot);
    my_slot = -1;
    if (slot->pid != own_pid) /* a fork that we were not told of */
        return;
    if (slot->has_timer)
        syscall(SYS_timer_delete, slot->timer);
    slot->busy = 1;
    uint64_t t_ns = now_ns();
    bn_timer_ring_name(&ring, own_pid, t_ns, false);
    bn_timer_ring_used(&ring, own_pid, t_ns, clock_ns(CLOCK_THREAD_CPUTIME_ID));
    bn_timer_ring_task(&ring, PERF_RECORD_EXIT, own_pid, slot->tid, own_pid, own_pid, t_ns);
    slot->tid = 0; /* the thread's number is not the next one's */
    slot->state = BN_TIMER_ENDED;
}

void bn_timer_process_end(void)
{
    if (!region || own_pid != (int32_t)getpid() || atomic_exchange(&process->told, 1))
        return;
    atomic_fetch_add(&region->ended_ns, clock_ns(CLOCK_PROCESS_CPUTIME_ID));
    if (my_slot < 0)
        return;
    struct bn_timer_ring ring = ring_of((uint32_t)my_slot);
    ring.slot->busy = 1;
    bn_timer_ring_used(&ring, own_pid, now_ns(), clock_ns(CLOCK_THREAD_CPUTIME_ID));
    ring.slot->busy = 0;
}

/* ---- processes ---- */

/* An empty place, or that of a process that is gone: the recorder looks for those four times a second. */
static bool take_place(bool of_gone)
{
    for (uint32_t i = 0; i < BN_TIMER_MAX_PROCESSES; i++) {
        struct bn_timer_process *p = &region->processes[((uint32_t)own_pid + i) % BN_TIMER_MAX_PROCESSES];
        uint32_t expected = of_gone ? BN_TIMER_LIVE : BN_TIMER_FREE;
        int32_t pid = p->pid;
        if (of_gone && (pid <= 0 || kill(pid, 0) == 0 || errno != ESRCH))
            continue;
        if (!atomic_compare_exchange_strong(&p->state, &expected, BN_TIMER_TAKEN))
            continue;
        if (!of_gone || p->pid == pid) {
            process = p;
            return true;
        }
        p->state = BN_TIMER_LIVE; /* another has been quicker */
    }
    return false;
}

static bool take_process(void)
{
    for (uint32_t i = 0; i < BN_TIMER_MAX_SLOTS; i++) { /* what ran here before an exec */
        struct bn_timer_slot *slot = &region->slots[i];
        int32_t tid = slot->tid;
        if (tid > 0 && slot->pid == own_pid && atomic_compare_exchange_strong(&slot->tid, &tid, 0))
            slot->state = BN_TIMER_ENDED;
    }
    for (uint32_t i = 0; i < BN_TIMER_MAX_PROCESSES; i++)
        if (region->processes[i].pid == own_pid && region->processes[i].state == BN_TIMER_LIVE) {
            process = &region->processes[i];
            process->start_ns = 0;
            process->told = 0;
            return true;
        }
    if (!take_place(false) && !take_place(true)) {
        atomic_fetch_add(&region->untimed_processes, 1);
        return false;
    }
    process->pid = own_pid;
    process->start_ns = 0;
    process->loads = 0;
    process->closed_ns = 0;
    process->closing = 0;
    process->conflict = 0;
    process->told = 0;
    process->state = BN_TIMER_LIVE;
    return true;
}

static struct bn_timer_region *map_region(void)
{
    const char *path = getenv(BN_TIMER_ENV);
    struct stat info;
    void *p = MAP_FAILED;
    int fd = path && strncmp(path, "/proc/", 6) == 0 ? open(path, O_RDWR | O_CLOEXEC) : -1;

    if (fd < 0)
        return NULL;
    if (fstat(fd, &info) == 0 && info.st_size >= (off_t)sizeof(struct bn_timer_region))
        p = mmap(NULL, (size_t)info.st_size, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    close(fd);
    if (p == MAP_FAILED)
        return NULL;
    struct bn_timer_region *r = p;
    if (r->magic == BN_TIMER_MAGIC && r->version == BN_TIMER_VERSION &&
        r->size_bytes == (uint64_t)info.st_size && r->interval_ns > 0 &&
        bn_timer_region_bytes(r->ring_bytes) == r->size_bytes)
        return r;
    munmap(p, (size_t)info.st_size);
    return NULL;
}

/* A real-time signal that nobody uses yet, from above: programs count theirs from SIGRTMIN. */
static bool take_signal(void)
{
    struct sigaction action = {.sa_sigaction = on_signal, .sa_flags = SA_SIGINFO | SA_RESTART | SA_ONSTACK};
    struct sigaction before;

    sigfillset(&action.sa_mask);
    for (int sig = SIGRTMAX - 3; sig > SIGRTMIN; sig--) {
        if (real_sigaction(sig, NULL, &before) != 0 || before.sa_flags & SA_SIGINFO ||
            before.sa_handler != SIG_DFL)
            continue;
        theirs = before;
        if (real_sigaction(sig, &action, NULL) != 0)
            continue;
        own_signal = sig;
        return true;
    }
    return false;
}

void bn_timer_use_sigaction(int (*real)(int, const struct sigaction *, struct sigaction *))
{
    real_sigaction = real;
}

bool bn_timer_attach(void)
{
    static _Atomic uint32_t called;

    if (atomic_exchange(&called, 1))
        return region != NULL;
    struct bn_timer_region *r = map_region();
    if (!r)
        return false;
    own_pid = (int32_t)getpid();
    region = r;
    if (!take_process() || !take_signal()) {
        region = NULL;
        munmap(r, (size_t)r->size_bytes);
        return false;
    }
    begin(0, 0, true);
    process->start_ns = now_ns();
    return true;
}

void bn_timer_forked(void)
{
    int32_t parent_pid = own_pid, parent = my_slot >= 0 ? region->slots[my_slot].tid : own_pid;

    if (!region)
        return;
    own_pid = (int32_t)getpid();
    my_slot = -1;
    loads_ns = 0;
    if (take_process()) {
        begin(parent_pid, parent, false);
        process->start_ns = now_ns();
    } else {
        region = NULL;
    }
}

/* ---- mappings ---- */

void bn_timer_loads(void)
{
    uint64_t none = 0;

    if (!region || own_pid != (int32_t)getpid())
        return;
    atomic_compare_exchange_strong(&loads_ns, &none, now_ns());
    atomic_fetch_add(&process->loads, 1);
}

uint64_t bn_timer_closing(void)
{
    uint64_t none = 0, t_ns = now_ns();

    if (!region || own_pid != (int32_t)getpid())
        return 0;
    atomic_fetch_add(&process->closing, 1);
    atomic_compare_exchange_strong(&loads_ns, &none, t_ns);
    atomic_fetch_add(&process->loads, 1);
    return t_ns;
}

/* What comes next comes after this: it is stamped so, and lies where what went now lay. */
void bn_timer_closed(uint64_t began_ns)
{
    uint64_t t_ns = now_ns();

    if (began_ns == 0)
        return;
    process->closed_ns = t_ns;
    atomic_compare_exchange_strong(&loads_ns, &began_ns, t_ns);
    atomic_fetch_sub(&process->closing, 1);
}

/* Stamped with the time at which the first of them can have come. */
void bn_timer_flush_maps(void)
{
    if (!region || my_slot < 0 || own_pid != (int32_t)getpid())
        return;
    uint64_t t_ns = atomic_exchange(&loads_ns, 0);
    if (t_ns == 0)
        return;
    struct bn_timer_ring ring = ring_of((uint32_t)my_slot);
    ring.slot->busy = 1;
    bn_timer_write_maps(&ring, own_pid, t_ns);
    ring.slot->busy = 0;
}

int bn_timer_signal(void)
{
    return region ? own_signal : 0;
}

void bn_timer_set_action(const struct sigaction *action, struct sigaction *old)
{
    struct sigaction before = theirs;

    if (action)
        theirs = *action;
    if (old)
        *old = before;
}
