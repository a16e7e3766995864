/* SPDX-License-Identifier: MIT
 * The programs of the self-test. Their work is a count of iterations; how often the whole of it is repeated
 * depends on the CPU time used, which changes no share. Lengths and orders are random: what repeats exactly
 * could fall into step with the sampling. */
#include "profiler/truth.h"

#include <dlfcn.h>
#include <pthread.h>
#include <signal.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <sys/time.h>
#include <time.h>
#include <unistd.h>

#include "core/scope.h"

/* Every working function has a constant of its own: equal bodies could become one function with two names. */
#define OWN (sink + __LINE__)

static volatile uint64_t sink;
static uint64_t state = 1, end_cpu_ns, end_wall_ns;

static uint64_t cpu_ns(void)
{
    struct timespec t;

    clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &t);
    return (uint64_t)t.tv_sec * 1000000000u + (uint64_t)t.tv_nsec;
}

static bool time_left(void)
{
    return cpu_ns() < end_cpu_ns && bn_now_ns() < end_wall_ns;
}

/* Leave a line in a file of the folder. */
BN_PRINTF(3, 4) static void leave(const char *dir, const char *name, const char *format, ...)
{
    char *path = bn_xasprintf("%s/%s", dir, name);
    FILE *f = fopen(path, "we");
    va_list args;

    if (f) {
        va_start(args, format);
        vfprintf(f, format, args);
        va_end(args);
        fclose(f);
    }
    free(path);
}

/* From the low to the high value, all equally often. */
static uint64_t between(uint64_t low, uint64_t high)
{
    state = state * 6364136223846793005u + 1442695040888963407u;
    return low + (state >> 33) % (high - low + 1);
}

/* Iterations in a microsecond, less what happened to come between: the most of some tries. */
static uint64_t iterations_per_us(void)
{
    enum { TRIES = 20, ITERATIONS = 20000 };
    uint64_t least_ns = UINT64_MAX;

    for (int i = 0; i < TRIES; i++) {
        uint64_t start_ns = bn_now_ns();
        sink = bn_truth_iterate(sink, ITERATIONS);
        uint64_t ns = bn_now_ns() - start_ns;
        least_ns = ns < least_ns ? ns : least_ns;
    }
    uint64_t per_us = ITERATIONS * 1000ull / (least_ns ? least_ns : 1);
    return per_us ? per_us : 1;
}

/* ---- split: 70, 20 and 10 per cent of the iterations ---- */

BN_TRUTH_NOINLINE static void truth_work_70(uint64_t n)
{
    sink = bn_truth_iterate(OWN, 7 * n);
}

BN_TRUTH_NOINLINE static void truth_work_20(uint64_t n)
{
    sink = bn_truth_iterate(OWN, 2 * n);
}

BN_TRUTH_NOINLINE static void truth_work_10(uint64_t n)
{
    sink = bn_truth_iterate(OWN, n);
}

static int split(const char *dir)
{
    static void (*const work[])(uint64_t) = {truth_work_70, truth_work_20, truth_work_10};
    enum { ROUNDS = 8 };

    (void)dir;
    while (time_left())
        for (int round = 0; round < ROUNDS; round++) {
            uint64_t n = between(5000, 15000), first = between(0, 2), step = between(1, 2);
            for (uint64_t i = 0; i < 3; i++)
                work[(first + i * step) % 3](n);
        }
    return 0;
}

/* ---- recursion: chains of a known length, and chains that are too long ---- */

BN_TRUTH_NOINLINE static uint64_t truth_bottom(uint64_t n)
{
    uint64_t x = bn_truth_iterate(sink, n);

    sink = x;
    return x;
}

BN_TRUTH_NOINLINE static uint64_t truth_descend(uint32_t levels, uint64_t n)
{
    uint64_t x = levels > 1 ? truth_descend(levels - 1, n) : truth_bottom(n);

    __asm__ volatile("" : "+r"(x)); /* something is left to do: no jump in place of the call */
    return x;
}

BN_TRUTH_NOINLINE static uint64_t truth_descend_far(uint32_t levels, uint64_t n)
{
    uint64_t x = levels > 1 ? truth_descend_far(levels - 1, n) : truth_bottom(n);

    __asm__ volatile("" : "+r"(x));
    return x ^ OWN;
}

static int recursion(const char *dir)
{
    (void)dir;
    while (time_left())
        for (uint64_t turn = 0, near_turn = between(0, 1); turn < 2; turn++) {
            uint64_t n = between(100000, 300000);
            if (turn == near_turn)
                truth_descend(BN_TRUTH_LEVELS, n);
            else
                truth_descend_far(BN_TRUTH_LEVELS_CUT, n);
        }
    return 0;
}

/* ---- inlines: the lines count from the enum before each function, which is checked where it matters ---- */

enum { INNER = __LINE__ };
static inline __attribute__((always_inline)) uint64_t truth_inner(uint64_t x)
{
    for (int i = 0; i < 100000; i++) {
        x = x * 6364136223846793005u + 1442695040888963407u;
        __asm__ volatile("" : "+r"(x));
    }
    return x;
}
_Static_assert(__LINE__ == INNER + 9, "the lines of truth_inner");

enum { MIDDLE = __LINE__ };
static inline __attribute__((always_inline)) uint64_t truth_middle(uint64_t x)
{
    x = truth_inner(x);
    _Static_assert(__LINE__ == MIDDLE + 4, "the line of the call of truth_inner");
    return x ^ (x >> 7);
}

enum { OUTER = __LINE__ };
BN_TRUTH_NOINLINE static void truth_outer(void)
{
    uint64_t x = truth_middle(sink);
    _Static_assert(__LINE__ == OUTER + 4, "the line of the call of truth_middle");

    sink = x;
}

const struct bn_truth_lines bn_truth_lines = {INNER + 1, INNER + 8, MIDDLE + 3, OUTER + 3};

static int inlines(const char *dir)
{
    (void)dir;
    while (time_left())
        truth_outer();
    return 0;
}

/* ---- swap: two libraries of one size, one after the other at one address ---- */

extern const unsigned char bn_embed_truth_first_so[], bn_embed_truth_first_so_end[];
extern const unsigned char bn_embed_truth_other_so[], bn_embed_truth_other_so_end[];

typedef uint64_t library_work(uint64_t x, uint64_t n);

BN_TRUTH_NOINLINE static void truth_through_first(library_work *work, uint64_t n)
{
    sink = work(OWN, n);
}

BN_TRUTH_NOINLINE static void truth_through_other(library_work *work, uint64_t n)
{
    sink = work(OWN, n);
}

static bool write_library(const char *path, const unsigned char *bytes, const unsigned char *end)
{
    FILE *f = fopen(path, "we");
    bool whole = f && fwrite(bytes, 1, (size_t)(end - bytes), f) == (size_t)(end - bytes);

    return (!f || fclose(f) == 0) && whole;
}

/* A library, and the caller by which the check knows it. */
struct library {
    char *path;
    const char *function;
    void (*through)(library_work *, uint64_t);
    void *address; /* of the function when it was open; NULL if that failed */
};

static void use_library(struct library *library, uint64_t n)
{
    void *open = dlopen(library->path, RTLD_NOW | RTLD_LOCAL);
    library_work *work;

    library->address = open ? dlsym(open, library->function) : NULL;
    if (library->address) {
        memcpy(&work, &library->address, sizeof work);
        library->through(work, n);
    }
    if (open)
        dlclose(open);
}

static int alternate_libraries(const char *dir, struct library libraries[2])
{
    uint64_t n = 1000 * iterations_per_us();

    while (time_left()) {
        for (uint64_t turn = 0, order = between(0, 1); turn < 2; turn++)
            use_library(&libraries[turn ^ order], between(n / 4, n + n * 3 / 4));
        if (!libraries[0].address || !libraries[1].address) {
            const char *why = dlerror();
            leave(dir, BN_TRUTH_WHY, "the libraries cannot be opened: %s", why ? why : "no reason given");
            return BN_TRUTH_CANNOT;
        }
        if (libraries[0].address != libraries[1].address) {
            leave(dir, BN_TRUTH_WHY, "this system opens the second library at another address");
            return BN_TRUTH_CANNOT;
        }
    }
    return 0;
}

/* The files stay: who reads the recording needs them. */
static int swap(const char *dir)
{
    struct library libraries[] = {
        {bn_xasprintf("%s/" BN_TRUTH_FIRST, dir), "truth_in_first", truth_through_first, NULL},
        {bn_xasprintf("%s/" BN_TRUTH_OTHER, dir), "truth_in_other", truth_through_other, NULL},
    };
    bool written = write_library(libraries[0].path, bn_embed_truth_first_so, bn_embed_truth_first_so_end) &&
                   write_library(libraries[1].path, bn_embed_truth_other_so, bn_embed_truth_other_so_end);
    int status = written ? alternate_libraries(dir, libraries) : BN_TRUTH_CANNOT;

    if (!written)
        leave(dir, BN_TRUTH_WHY, "the libraries cannot be written to %s", dir);
    free(libraries[0].path);
    free(libraries[1].path);
    return status;
}

/* ---- signal: the time goes into a handler that interrupts a loop ---- */

static volatile sig_atomic_t enough;
static uint64_t per_us;

static void arm_timer(suseconds_t us)
{
    const struct itimerval timer = {.it_value = {.tv_usec = us}};

    setitimer(ITIMER_VIRTUAL, &timer, NULL);
}

BN_TRUTH_NOINLINE static void truth_in_handler(void)
{
    sink = bn_truth_iterate(OWN, between(4000, 12000) * per_us);
}

static void truth_on_signal(int number)
{
    (void)number;
    truth_in_handler();
    if (time_left())
        arm_timer(1000);
    else
        enough = 1;
}

/* Nothing but the loop can be interrupted: the first signal comes long after the timer was set. */
BN_TRUTH_NOINLINE static void truth_interrupted(void)
{
    uint64_t x = sink;

    arm_timer(30000);
    while (!enough)
        x = bn_truth_iterate(x, 1000);
    sink = x;
}

static int signal_frame(const char *dir)
{
    const struct sigaction action = {.sa_handler = truth_on_signal};

    (void)dir;
    per_us = iterations_per_us();
    sigaction(SIGVTALRM, &action, NULL);
    truth_interrupted();
    sink++;
    return 0;
}

/* ---- threads that live for less than a period ---- */

BN_TRUTH_NOINLINE static void truth_in_thread(uint64_t n)
{
    sink = bn_truth_iterate(OWN, n);
}

BN_TRUTH_NOINLINE static void truth_between_threads(uint64_t n)
{
    sink = bn_truth_iterate(OWN, n);
}

static void *brief(void *unused)
{
    pthread_setname_np(pthread_self(), BN_TRUTH_THREAD);
    truth_in_thread(200 * per_us);
    return unused;
}

static int threads(const char *dir)
{
    unsigned n = 0;
    pthread_t thread;

    per_us = iterations_per_us();
    for (; time_left(); n++) {
        if (pthread_create(&thread, NULL, brief, NULL) != 0) {
            leave(dir, BN_TRUTH_WHY, "no thread can be started");
            return BN_TRUTH_CANNOT;
        }
        pthread_join(thread, NULL);
        truth_between_threads(between(400, 1200) * per_us);
    }
    leave(dir, BN_TRUTH_COUNT, "%u", n);
    return 0;
}

/* ---- stages that alternate, each with a function of its own ---- */

const uint32_t bn_truth_length_us[BN_TRUTH_LENGTHS] = {50, 500, 5000};

BN_TRUTH_NOINLINE static void truth_in_prefill(uint64_t n)
{
    sink = bn_truth_iterate(OWN, n);
}

BN_TRUTH_NOINLINE static void truth_in_decode(uint64_t n)
{
    sink = bn_truth_iterate(OWN, n);
}

static void alternate(uint64_t us)
{
    {
        BN_SCOPE(PREFILL);
        truth_in_prefill(between(us / 2, us + us / 2) * per_us);
    }
    {
        BN_SCOPE(DECODE);
        truth_in_decode(between(us / 2, us + us / 2) * per_us);
    }
}

static int stages(const char *dir)
{
    enum { TURN_US = 20000 };

    (void)dir;
    bn_scope_init();
    per_us = iterations_per_us();
    while (time_left())
        for (int length = 0; length < BN_TRUTH_LENGTHS; length++) {
            BN_SCOPE(GENERATE);
            bn_scope_layer(length);
            uint64_t us = bn_truth_length_us[length];
            for (uint64_t done_us = 0; done_us < TURN_US; done_us += 2 * us)
                alternate(us);
        }
    return 0;
}

/* ---- */

static const struct {
    const char *name;
    int (*run)(const char *dir);
} programs[] = {
    {"split", split},         {"recursion", recursion}, {"inlines", inlines}, {"swap", swap},
    {"signal", signal_frame}, {"threads", threads},     {"stages", stages},
};

/* Once the time is over a program ends within milliseconds of CPU time. If it did not it may have been
 * stopped meanwhile, or the machine is busy: it gets more time, once. Then it hangs. */
static void on_alarm(int number)
{
    enum { MORE_S = 9 };

    signal(number, SIG_DFL);
    alarm(MORE_S);
}

int bn_truth_run(const char *name, const struct bn_truth_budget *budget, const char *dir)
{
    enum { GRACE_S = 2 };

    signal(SIGALRM, on_alarm);
    alarm((unsigned)(budget->wall_ms / 1000) + GRACE_S);
    end_cpu_ns = cpu_ns() + budget->cpu_ms * 1000000u;
    end_wall_ns = bn_now_ns() + budget->wall_ms * 1000000u;
    for (size_t i = 0; i < BN_COUNT(programs); i++)
        if (strcmp(name, programs[i].name) == 0)
            return programs[i].run(dir);
    fprintf(stderr, "no truth program is called %s\n", name);
    return 2;
}
