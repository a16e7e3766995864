/* SPDX-License-Identifier: MIT
 * What makes life hard for a sampler that lives in the program: truth_timers shares|masked|alarms|taken|
 * default|fork|exec|stacks|swap LIB1 LIB2|vanish. Each mode checks that it is not disturbed: status 0. */
#include <dlfcn.h>
#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/time.h>
#include <sys/wait.h>
#include <time.h>
#include <ucontext.h>
#include <unistd.h>

#define NOINLINE __attribute__((noinline))

static volatile uint64_t sink;
static volatile sig_atomic_t counts[65];
static const char *self;

static uint64_t cpu_ns(void)
{
    struct timespec t;

    clock_gettime(CLOCK_THREAD_CPUTIME_ID, &t);
    return (uint64_t)t.tv_sec * 1000000000u + (uint64_t)t.tv_nsec;
}

/* Each mode spins in a function of its own. */
#define SPIN(name)                                                                                           \
    NOINLINE static void name(unsigned ms)                                                                   \
    {                                                                                                        \
        uint64_t end_ns = cpu_ns() + ms * 1000000ull, x = sink;                                              \
        do                                                                                                   \
            for (int i = 0; i < 50000; i++)                                                                  \
                x = x * 6364136223846793005u + 1442695040888963407u;                                         \
        while (cpu_ns() < end_ns);                                                                           \
        sink = x;                                                                                            \
    }
SPIN(masked_work)
SPIN(alarmed_work)
SPIN(taken_work)
SPIN(parent_work)
SPIN(child_work)
SPIN(before_exec)
SPIN(after_exec)
SPIN(coroutine_work)
SPIN(handler_work)

#define PIECE(name)                                                                                          \
    NOINLINE static void name(unsigned n)                                                                    \
    {                                                                                                        \
        uint64_t x = sink;                                                                                   \
        for (unsigned i = 0; i < n; i++)                                                                     \
            x = x * 6364136223846793005u + 1442695040888963407u;                                             \
        sink = x;                                                                                            \
    }
PIECE(share_70)
PIECE(share_20)
PIECE(share_10)

/* 70, 20 and 10 per cent in pieces of 1 to 150 us in random order: no clock can fall into step with it. */
static int shares(void)
{
    uint64_t seed = 4, end_ns = cpu_ns() + 3000000000ull;

    while (cpu_ns() < end_ns)
        for (int i = 0; i < 50; i++) {
            seed = seed * 6364136223846793005u + 1442695040888963407u;
            unsigned card = (unsigned)(seed >> 33) % 10, n = 1000 + (unsigned)(seed >> 40) % 100000;
            (card < 7 ? share_70 : card < 9 ? share_20 : share_10)(n);
        }
    return 0;
}

static void *masked_thread(void *unused)
{
    sigset_t all;

    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, NULL);
    masked_work(600);
    return unused;
}

static int masked(void)
{
    pthread_t thread;
    sigset_t all;

    sigfillset(&all);
    sigprocmask(SIG_BLOCK, &all, NULL);
    return pthread_create(&thread, NULL, masked_thread, NULL) != 0 || pthread_join(thread, NULL) != 0;
}

static void count_signal(int sig)
{
    counts[sig]++;
}

/* Its own alarms keep their number and their handlers. */
static int alarms(void)
{
    struct sigaction action = {.sa_handler = count_signal, .sa_flags = SA_RESTART};
    struct itimerval often = {{0, 20000}, {0, 20000}}, off = {{0, 0}, {0, 0}};

    sigfillset(&action.sa_mask);
    sigaction(SIGALRM, &action, NULL);
    sigaction(SIGPROF, &action, NULL);
    setitimer(ITIMER_REAL, &often, NULL);
    setitimer(ITIMER_PROF, &often, NULL);
    alarmed_work(800);
    setitimer(ITIMER_REAL, &off, NULL);
    setitimer(ITIMER_PROF, &off, NULL);
    return counts[SIGALRM] < 5 || counts[SIGPROF] < 3; /* on a busy machine several become one */
}

/* It takes every real-time signal, sends each to itself once, and must get each once. */
static int taken(void)
{
    struct sigaction action = {.sa_handler = count_signal, .sa_flags = SA_RESTART}, old;

    for (int sig = SIGRTMIN; sig <= SIGRTMAX; sig++)
        if (sigaction(sig, &action, &old) != 0 || old.sa_handler != SIG_DFL)
            return 1;
    taken_work(300);
    for (int sig = SIGRTMIN; sig <= SIGRTMAX; sig++)
        raise(sig);
    taken_work(300);
    for (int sig = SIGRTMIN; sig <= SIGRTMAX; sig++)
        if (counts[sig] != 1 || sigaction(sig, NULL, &old) != 0 || old.sa_handler != count_signal)
            return 1;
    return 0;
}

/* A real-time signal ends a program that does not expect it. */
static int by_default(void)
{
    for (int sig = SIGRTMIN; sig <= SIGRTMAX; sig++) {
        int status;
        pid_t pid = fork();
        if (pid == 0) {
            raise(sig);
            _exit(0);
        }
        if (waitpid(pid, &status, 0) != pid || !WIFSIGNALED(status) || WTERMSIG(status) != sig)
            return 1;
    }
    return 0;
}

static int forks(void)
{
    int status = 1;
    pid_t pid = fork();

    if (pid == 0) {
        child_work(500);
        _exit(0);
    }
    parent_work(500);
    return waitpid(pid, &status, 0) != pid || status != 0;
}

static int exec_self(void)
{
    char after[] = "after", *argv[] = {(char *)(uintptr_t)self, after, NULL};

    before_exec(500);
    execv(self, argv);
    return 1;
}

static ucontext_t here, there;

static void coroutine(void)
{
    coroutine_work(400);
    swapcontext(&there, &here);
}

static void spin_in_handler(int sig)
{
    (void)sig;
    handler_work(400);
}

/* Stacks that no thread owns: a small one between forbidden pages, and a signal's own. */
static int stacks(void)
{
    size_t page = (size_t)sysconf(_SC_PAGESIZE), size = 8 * page;
    char *map = mmap(NULL, size + 2 * page, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    struct sigaction action = {.sa_handler = spin_in_handler, .sa_flags = SA_ONSTACK};
    stack_t alternate = {.ss_sp = malloc(65536), .ss_size = 65536};

    if (map == MAP_FAILED || !alternate.ss_sp || mprotect(map, page, PROT_NONE) != 0 ||
        mprotect(map + page + size, page, PROT_NONE) != 0)
        return 1;
    getcontext(&there);
    there.uc_stack.ss_sp = map + page;
    there.uc_stack.ss_size = size;
    makecontext(&there, coroutine, 0);
    swapcontext(&here, &there);
    sigaltstack(&alternate, NULL);
    sigaction(SIGUSR1, &action, NULL);
    return raise(SIGUSR1);
}

/* Two libraries by turns; the second usually gets the first one's address. */
static int swap(char *const libraries[2])
{
    for (int turn = 0; turn < 6; turn++) {
        void *library = dlopen(libraries[turn % 2], RTLD_NOW);
        void (*work)(unsigned) = library ? (void (*)(unsigned))(uintptr_t)dlsym(library, "swap_work") : NULL;
        if (!work)
            return 1;
        work(200);
        dlclose(library);
    }
    return 0;
}

/* Gone without a word, with a thread still running. */
static void *spin_for_ever(void *unused)
{
    for (;;)
        parent_work(1000);
    return unused;
}

static int vanish(void)
{
    pthread_t thread;

    if (pthread_create(&thread, NULL, spin_for_ever, NULL) != 0)
        return 1;
    child_work(300);
    _exit(0);
}

int main(int argc, char **argv)
{
    const char *mode = argc > 1 ? argv[1] : "";

    self = argv[0];
    if (strcmp(mode, "shares") == 0)
        return shares();
    if (strcmp(mode, "masked") == 0)
        return masked();
    if (strcmp(mode, "alarms") == 0)
        return alarms();
    if (strcmp(mode, "taken") == 0)
        return taken();
    if (strcmp(mode, "default") == 0)
        return by_default();
    if (strcmp(mode, "fork") == 0)
        return forks();
    if (strcmp(mode, "exec") == 0)
        return exec_self();
    if (strcmp(mode, "after") == 0) {
        after_exec(500);
        return 0;
    }
    if (strcmp(mode, "stacks") == 0)
        return stacks();
    if (strcmp(mode, "swap") == 0 && argc == 4)
        return swap(argv + 2);
    if (strcmp(mode, "vanish") == 0)
        return vanish();
    return 2;
}
