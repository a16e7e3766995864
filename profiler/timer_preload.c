/* SPDX-License-Identifier: MIT
 * libbnprof-timer.so: the timer source for programs that know nothing of it. Loaded by LD_PRELOAD, it starts
 * a timer in every thread that pthread_create or thrd_create makes, and keeps the timers' signal out of the
 * program's sight. Not part of bnprof itself. */
#include <dlfcn.h>
#include <errno.h>
#include <limits.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdint.h>
#include <stdlib.h>
#include <sys/signalfd.h>
#include <sys/syscall.h>
#include <threads.h>
#include <time.h>
#include <unistd.h>

#include "profiler/timer_inside.h"

#define EXPORT __attribute__((visibility("default")))

typedef void *start_function(void *);
typedef int thrd_function(void *);
typedef int pthread_create_function(pthread_t *, const pthread_attr_t *, start_function *, void *);
typedef int thrd_create_function(thrd_t *, thrd_start_t, void *);
typedef int sigaction_function(int, const struct sigaction *, struct sigaction *);
typedef void (*handler_function)(int);
typedef handler_function signal_function(int, handler_function);
typedef int mask_function(int, const sigset_t *, sigset_t *);

static pthread_key_t end_key;
static bool have_key;

typedef int close_function(void *);
typedef int sigwait_function(const sigset_t *, int *);
typedef int sigwaitinfo_function(const sigset_t *, siginfo_t *);
typedef int sigtimedwait_function(const sigset_t *, siginfo_t *, const struct timespec *);
typedef int signalfd_function(int, const sigset_t *, int);

/* The definitions behind ours, all found at the start: a signal handler may call some of them. */
#define INTERPOSED(X)                                                                                        \
    X(pthread_create_function, pthread_create)                                                               \
    X(thrd_create_function, thrd_create)                                                                     \
    X(mask_function, pthread_sigmask)                                                                        \
    X(sigaction_function, sigaction)                                                                         \
    X(signal_function, signal)                                                                               \
    X(sigwait_function, sigwait)                                                                             \
    X(sigwaitinfo_function, sigwaitinfo)                                                                     \
    X(sigtimedwait_function, sigtimedwait)                                                                   \
    X(signalfd_function, signalfd)                                                                           \
    X(close_function, dlclose)
#define NEXT_FIELD(type, name) type *name;
struct next {
    INTERPOSED(NEXT_FIELD)
    void *(*dlopen)(const char *, int);
};

static const struct next *next(void)
{
    static struct next found;
    static _Atomic int complete;

    if (atomic_load_explicit(&complete, memory_order_acquire))
        return &found;
#define NEXT_FIND(type, name) found.name = (type *)(uintptr_t)dlsym(RTLD_NEXT, #name); // NOLINT: as data
    INTERPOSED(NEXT_FIND)
    found.dlopen = (void *(*)(const char *, int))(uintptr_t)dlsym(RTLD_NEXT, "dlopen"); // NOLINT
    atomic_store_explicit(&complete, 1, memory_order_release);
    return &found;
}

/* ---- threads ---- */

/* The key's destructors run in rounds; ours waits for the last one, so that the others are sampled too. */
static void at_thread_end(void *round)
{
    uintptr_t n = (uintptr_t)round;

    if (n < PTHREAD_DESTRUCTOR_ITERATIONS)
        pthread_setspecific(end_key, (void *)(n + 1)); // NOLINT: a number in a pointer
    else
        bn_timer_thread_end();
}

static void watch_end(void)
{
    if (have_key)
        pthread_setspecific(end_key, (void *)1); // NOLINT
}

static void in_child(void)
{
    bn_timer_forked();
}

static void attach(void)
{
    static _Atomic int called;

    if (atomic_exchange(&called, 1))
        return;
    bn_timer_use_sigaction(next()->sigaction);
    if (!bn_timer_attach())
        return;
    have_key = pthread_key_create(&end_key, at_thread_end) == 0;
    watch_end();
    pthread_atfork(NULL, NULL, in_child);
}

__attribute__((constructor)) static void loaded(void)
{
    attach();
}

__attribute__((destructor)) static void leaving(void)
{
    bn_timer_flush_maps();
    bn_timer_process_end();
}

/* The short way out, which calls no destructor. In the child of a vfork it is not the parent's end. */
EXPORT _Noreturn void _exit(int status)
{
    bn_timer_process_end();
    for (;;)
        syscall(SYS_exit_group, status);
}

EXPORT _Noreturn void _Exit(int status) // NOLINT: the name is the standard's
{
    _exit(status);
}

struct job {
    _Atomic int taken;
    bool from_heap;
    start_function *start;
    thrd_function *thrd;
    void *arg;
    int parent;
};

/* Most threads start at once: their jobs need no heap. */
static struct job *take_job(start_function *start, thrd_function *thrd, void *arg)
{
    enum { JOBS = 64 };
    static struct job jobs[JOBS];
    struct job *job = NULL;

    for (size_t i = 0; i < JOBS && !job; i++) {
        int none = 0;
        if (atomic_compare_exchange_strong(&jobs[i].taken, &none, 1))
            job = &jobs[i];
    }
    if (!job && (job = calloc(1, sizeof *job)))
        job->from_heap = true;
    if (!job)
        return NULL;
    job->start = start;
    job->thrd = thrd;
    job->arg = arg;
    job->parent = (int)syscall(SYS_gettid);
    return job;
}

static void release_job(struct job *job)
{
    if (job->from_heap)
        free(job);
    else
        atomic_store(&job->taken, 0);
}

static struct job begin_job(void *p)
{
    struct job job = *(struct job *)p;

    release_job(p);
    bn_timer_thread_begin(job.parent);
    watch_end();
    return job;
}

/* Both end in a jump: the thread's own function is the outermost frame that shows, as without us. */
static void *run_thread(void *p)
{
    struct job job = begin_job(p);
    return job.start(job.arg);
}

static int run_thrd(void *p)
{
    struct job job = begin_job(p);
    return job.thrd(job.arg);
}

EXPORT int pthread_create(pthread_t *thread, const pthread_attr_t *attr, start_function *start, void *arg)
{
    attach();
    struct job *job = bn_timer_signal() ? take_job(start, NULL, arg) : NULL;
    if (!job)
        return next()->pthread_create(thread, attr, start, arg);
    int status = next()->pthread_create(thread, attr, run_thread, job);
    if (status != 0)
        release_job(job);
    return status;
}

EXPORT int thrd_create(thrd_t *thread, thrd_start_t start, void *arg)
{
    attach();
    struct job *job = bn_timer_signal() ? take_job(NULL, start, arg) : NULL;
    if (!job)
        return next()->thrd_create(thread, start, arg);
    int status = next()->thrd_create(thread, run_thrd, job);
    if (status != thrd_success)
        release_job(job);
    return status;
}

/* ---- the signal stays open, and stays ours ---- */

static const sigset_t *without_ours(const sigset_t *set, sigset_t *copy)
{
    if (!set || !bn_timer_signal())
        return set;
    *copy = *set;
    sigdelset(copy, bn_timer_signal());
    return copy;
}

EXPORT int pthread_sigmask(int how, const sigset_t *set, sigset_t *old)
{
    sigset_t copy;

    if (how == SIG_UNBLOCK)
        return next()->pthread_sigmask(how, set, old);
    return next()->pthread_sigmask(how, without_ours(set, &copy), old);
}

EXPORT int sigprocmask(int how, const sigset_t *set, sigset_t *old)
{
    int status = pthread_sigmask(how, set, old);

    if (status == 0)
        return 0;
    errno = status;
    return -1;
}

EXPORT int sigaction(int sig, const struct sigaction *action, struct sigaction *old)
{
    struct sigaction copy;

    if (sig == bn_timer_signal() && sig != 0) {
        bn_timer_set_action(action, old);
        return 0;
    }
    if (action && bn_timer_signal()) {
        copy = *action;
        sigdelset(&copy.sa_mask, bn_timer_signal());
        action = &copy;
    }
    return next()->sigaction(sig, action, old);
}

EXPORT handler_function signal(int sig, handler_function handler)
{
    struct sigaction action = {.sa_handler = handler}, old;

    if (sig != bn_timer_signal() || sig == 0)
        return next()->signal(sig, handler);
    bn_timer_set_action(&action, &old);
    return old.sa_handler;
}

EXPORT int sigwait(const sigset_t *set, int *sig)
{
    sigset_t copy;

    return next()->sigwait(without_ours(set, &copy), sig);
}

EXPORT int sigwaitinfo(const sigset_t *set, siginfo_t *info)
{
    sigset_t copy;

    return next()->sigwaitinfo(without_ours(set, &copy), info);
}

EXPORT int sigtimedwait(const sigset_t *set, siginfo_t *info, const struct timespec *timeout)
{
    sigset_t copy;

    return next()->sigtimedwait(without_ours(set, &copy), info, timeout);
}

EXPORT int signalfd(int fd, const sigset_t *set, int flags)
{
    sigset_t copy;

    return next()->signalfd(fd, without_ours(set, &copy), flags);
}

/* ---- libraries that come and go ---- */

#ifdef __x86_64__
/* libc's dlopen looks at its caller (RUNPATH, namespaces): it must return there, not here. So this only takes
 * a note and jumps on. */
typedef void *open_function(const char *, int);
open_function *bn_timer_before_dlopen(void);

__attribute__((used, visibility("hidden"))) open_function *bn_timer_before_dlopen(void)
{
    bn_timer_loads();
    return next()->dlopen;
}

__asm__(".text\n"
        ".p2align 4\n"
        ".globl dlopen\n"
        ".type dlopen, @function\n"
        "dlopen:\n"
        "    .cfi_startproc\n"
        "    endbr64\n"
        "    push %rdi\n"
        "    .cfi_adjust_cfa_offset 8\n"
        "    push %rsi\n"
        "    .cfi_adjust_cfa_offset 8\n"
        "    sub $8, %rsp\n"
        "    .cfi_adjust_cfa_offset 8\n"
        "    call bn_timer_before_dlopen\n"
        "    add $8, %rsp\n"
        "    .cfi_adjust_cfa_offset -8\n"
        "    pop %rsi\n"
        "    .cfi_adjust_cfa_offset -8\n"
        "    pop %rdi\n"
        "    .cfi_adjust_cfa_offset -8\n"
        "    jmp *%rax\n"
        "    .cfi_endproc\n"
        "    .size dlopen, .-dlopen\n");
#endif

EXPORT int dlclose(void *handle)
{
    bn_timer_flush_maps(); /* what is about to go can have come a moment ago */
    uint64_t began_ns = bn_timer_closing();
    int status = next()->dlclose(handle);
    bn_timer_closed(began_ns);
    return status;
}
