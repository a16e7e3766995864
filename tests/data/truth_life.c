/* SPDX-License-Identifier: MIT
 * How processes and threads come and go: truth_life exec-thread|spawn N|vfork N|fork N|brief N|crowd
 * N|rename|quit|die| windows LIB1 LIB2|hasty LIB1 LIB2|replaced LIB NEW. Modes that burn a known time print
 * "cpu NS", that of the process and its children by the kernel's clocks. */
#include <dlfcn.h>
#include <inttypes.h>
#include <pthread.h>
#include <signal.h>
#include <spawn.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#define NOINLINE __attribute__((noinline))

extern char **environ;

static volatile uint64_t sink;
static char self[] = "/proc/self/exe";

static uint64_t clock_ns(clockid_t clock)
{
    struct timespec t;

    clock_gettime(clock, &t);
    return (uint64_t)t.tv_sec * 1000000000u + (uint64_t)t.tv_nsec;
}

/* Each occasion spins in a function of its own, for so much CPU time of its thread. */
#define SPIN(name)                                                                                           \
    NOINLINE static void name(unsigned us)                                                                   \
    {                                                                                                        \
        uint64_t end_ns = clock_ns(CLOCK_THREAD_CPUTIME_ID) + us * 1000ull, x = sink | 1;                    \
        do                                                                                                   \
            for (int i = 0; i < 5000; i++)                                                                   \
                x = x * 6364136223846793005u + 1442695040888963407u;                                         \
        while (clock_ns(CLOCK_THREAD_CPUTIME_ID) < end_ns);                                                  \
        sink = x;                                                                                            \
    }
SPIN(first_program)
SPIN(bystander_work)
SPIN(second_program)
SPIN(parent_work)
SPIN(forked_work)
SPIN(spawned_work)
SPIN(brief_work)
SPIN(crowd_work)
SPIN(named_once)
SPIN(named_twice)
SPIN(last_words)

static uint64_t timeval_ns(struct timeval t)
{
    return (uint64_t)t.tv_sec * 1000000000u + (uint64_t)t.tv_usec * 1000u;
}

static int told(void)
{
    struct rusage children;

    getrusage(RUSAGE_CHILDREN, &children);
    printf("cpu %" PRIu64 "\n", clock_ns(CLOCK_PROCESS_CPUTIME_ID) + timeval_ns(children.ru_utime) +
                                    timeval_ns(children.ru_stime));
    return 0;
}

/* ---- programs that become others ---- */

static void *become_another(void *unused)
{
    char after[] = "second", *argv[] = {self, after, NULL};

    first_program(400000);
    execv(self, argv);
    return unused;
}

/* The thread that calls exec is not the first; another one is in the middle of its work. */
static int exec_thread(void)
{
    pthread_t thread;

    if (pthread_create(&thread, NULL, become_another, NULL) != 0)
        return 1;
    for (;;)
        bystander_work(100000);
}

static int wait_for_all(long n)
{
    int status, bad = 0;

    for (; n > 0; n--)
        bad |= wait(&status) < 0 || status != 0;
    return bad;
}

static int spawn(long n)
{
    char mode[] = "spawned", *argv[] = {self, mode, NULL};
    pid_t pid;

    for (long i = 0; i < n; i++) {
        if (posix_spawn(&pid, self, NULL, NULL, argv, environ) != 0)
            return 1;
        parent_work(20000);
    }
    return wait_for_all(n) || told();
}

static pid_t vfork_one(char *const argv[])
{
    pid_t pid = vfork();

    if (pid == 0) {
        execv(self, argv);
        _exit(1);
    }
    return pid;
}

static int vforks(long n)
{
    char mode[] = "spawned", *argv[] = {self, mode, NULL};

    for (long i = 0; i < n; i++) {
        if (vfork_one(argv) < 0)
            return 1;
        parent_work(20000);
    }
    return wait_for_all(n) || told();
}

static int forks(long n)
{
    for (long i = 0; i < n; i++) {
        pid_t pid = fork();
        if (pid == 0) {
            forked_work(20000);
            _exit(0);
        }
        if (pid < 0)
            return 1;
        parent_work(20000);
    }
    return wait_for_all(n) || told();
}

/* ---- threads ---- */

static void *live_briefly(void *unused)
{
    brief_work(200); /* a fifth of a period at 999 Hz */
    return unused;
}

static int brief(long n)
{
    pthread_t thread;

    for (long i = 0; i < n; i++)
        if (pthread_create(&thread, NULL, live_briefly, NULL) != 0 || pthread_join(thread, NULL) != 0)
            return 1;
    return told();
}

static pthread_barrier_t start;

static void *one_of_many(void *unused)
{
    pthread_barrier_wait(&start);
    crowd_work(15000);
    return unused;
}

static int crowd(long n)
{
    enum { MAX = 1000 };
    static pthread_t threads[MAX];

    if (n < 1 || n > MAX || pthread_barrier_init(&start, NULL, (unsigned)n) != 0)
        return 1;
    for (long i = 0; i < n; i++)
        if (pthread_create(&threads[i], NULL, one_of_many, NULL) != 0)
            return 1;
    for (long i = 0; i < n; i++)
        pthread_join(threads[i], NULL);
    return told();
}

static void *renamed(void *unused)
{
    pthread_setname_np(pthread_self(), "once");
    named_once(300000);
    pthread_setname_np(pthread_self(), "twice \"<&>");
    named_twice(300000);
    return unused;
}

static int rename_thread(void)
{
    pthread_t thread;

    return pthread_create(&thread, NULL, renamed, NULL) != 0 || pthread_join(thread, NULL) != 0;
}

/* ---- the end ---- */

static void *work_to_the_end(void *unused)
{
    for (;;)
        bystander_work(100000);
    return unused;
}

static int quit(int by_signal)
{
    pthread_t thread;

    if (pthread_create(&thread, NULL, work_to_the_end, NULL) != 0)
        return 1;
    last_words(400000);
    if (by_signal)
        kill(getpid(), SIGKILL);
    _exit(9);
}

/* ---- libraries ---- */

/* Load, work, unload; prints when, by CLOCK_MONOTONIC, and where the work was. */
static int one_turn(const char *library, unsigned ms)
{
    void *handle = dlopen(library, RTLD_NOW), *at = handle ? dlsym(handle, "swap_work") : NULL;
    void (*work)(unsigned);

    if (!at) {
        fprintf(stderr, "%s\n", dlerror());
        return 1;
    }
    *(void **)&work = at;
    uint64_t begin_ns = clock_ns(CLOCK_MONOTONIC);
    work(ms);
    printf("%s %" PRIu64 " %" PRIu64 " %p\n", library, begin_ns, clock_ns(CLOCK_MONOTONIC), at);
    return dlclose(handle) != 0;
}

static int windows(char *const libraries[2])
{
    for (int turn = 0; turn < 8; turn++)
        if (one_turn(libraries[turn % 2], 150) != 0)
            return 1;
    return 0;
}

/* Libraries that come and go within a millisecond, in no order; the caller tells which is there. */
typedef void hasty_work(unsigned);

NOINLINE static void hasty_one(hasty_work *work)
{
    work(1);
    sink++;
}

NOINLINE static void hasty_two(hasty_work *work)
{
    work(1);
    sink += 2;
}

static int hasty(char *const libraries[2])
{
    uint32_t random = 1;

    for (uint64_t end_ns = clock_ns(CLOCK_MONOTONIC) + 2000000000u; clock_ns(CLOCK_MONOTONIC) < end_ns;) {
        random = random * 1664525u + 1013904223u;
        unsigned which = random >> 31;
        void *library = dlopen(libraries[which], RTLD_NOW);
        hasty_work *work = library ? (hasty_work *)(uintptr_t)dlsym(library, "swap_work") : NULL;
        if (!work)
            return 1;
        (which ? hasty_two : hasty_one)(work);
        dlclose(library);
    }
    return 0;
}

/* The second library takes the first one's file name while the program runs. */
static int replaced(char *const libraries[2])
{
    return one_turn(libraries[0], 400) || rename(libraries[1], libraries[0]) != 0 ||
           one_turn(libraries[0], 400);
}

int main(int argc, char **argv)
{
    const char *mode = argc > 1 ? argv[1] : "";
    long n = argc > 2 ? atol(argv[2]) : 1;

    if (strcmp(mode, "second") == 0)
        second_program(400000);
    else if (strcmp(mode, "spawned") == 0)
        spawned_work(20000);
    else if (strcmp(mode, "exec-thread") == 0)
        return exec_thread();
    else if (strcmp(mode, "spawn") == 0)
        return spawn(n);
    else if (strcmp(mode, "vfork") == 0)
        return vforks(n);
    else if (strcmp(mode, "fork") == 0)
        return forks(n);
    else if (strcmp(mode, "brief") == 0)
        return brief(n);
    else if (strcmp(mode, "crowd") == 0)
        return crowd(n);
    else if (strcmp(mode, "rename") == 0)
        return rename_thread();
    else if (strcmp(mode, "quit") == 0 || strcmp(mode, "die") == 0)
        return quit(strcmp(mode, "die") == 0);
    else if (strcmp(mode, "windows") == 0 && argc == 4)
        return windows(argv + 2);
    else if (strcmp(mode, "hasty") == 0 && argc == 4)
        return hasty(argv + 2);
    else if (strcmp(mode, "replaced") == 0 && argc == 4)
        return replaced(argv + 2);
    else
        return 2;
    return 0;
}
