/* SPDX-License-Identifier: MIT
 * checkkernel: prove every kernel, or time it. One TAP line per kernel that an instruction set brings. */
#include "tests/kernels/checkkernel.h"

#include "kernels/cpu.h"

#include <argp.h>
#include <errno.h>
#include <setjmp.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

const struct rung rungs[] = {
    {"c", 0, bn_kernels_init_c},
#ifdef __x86_64__
    {"avx2", BN_CPU_AVX2, bn_kernels_init_avx2},
    {"avx512", BN_CPU_AVX512, bn_kernels_init_avx512},
    {"avx512vnni", BN_CPU_AVX512VNNI, bn_kernels_init_avx512vnni},
#elif defined __aarch64__
    {"neon", BN_CPU_NEON, bn_kernels_init_neon},
    {"dotprod", BN_CPU_DOTPROD, bn_kernels_init_dotprod},
#endif
};
const size_t n_rungs = sizeof rungs / sizeof rungs[0];

void changed_slots(const struct bn_kernels *before, const struct bn_kernels *now,
                   bool changed[BN_KERNEL_COUNT])
{
#define CHANGED(slot, ret, args) changed[BN_KERNEL_##slot] = before->slot != now->slot;
    BN_KERNEL_SLOTS(CHANGED)
#undef CHANGED
}

/* ---- a kernel that crashes is named, and the others are still checked ---- */

static sigjmp_buf crash_return;
static volatile sig_atomic_t crash_signal;
static void *volatile crash_address;

static void on_crash(int number, siginfo_t *info, void *context)
{
    (void)context;
    crash_signal = number;
    crash_address = info->si_addr;
    siglongjmp(crash_return, 1);
}

static void catch_crashes(void)
{
    struct sigaction action = {.sa_sigaction = on_crash, .sa_flags = SA_SIGINFO | SA_NODEFER};

    sigemptyset(&action.sa_mask);
    sigaction(SIGSEGV, &action, NULL);
    sigaction(SIGBUS, &action, NULL);
    sigaction(SIGILL, &action, NULL);
    sigaction(SIGFPE, &action, NULL);
}

/* Which buffer the address that it crashed at belongs to, and how far beyond it. */
static void describe_crash(struct check *c)
{
    const uint8_t *at = crash_address;

    for (size_t i = 0; i < c->n_buffers; i++) {
        const struct buffer *b = &c->buffers[i];

        if (crash_signal == SIGSEGV && at >= b->map && at < b->map + b->map_bytes) {
            check_fail(c, "%s: byte %td of buffer %zu, which has %zu%s", strsignal(crash_signal), at - b->p,
                       i, b->n_bytes, b->output ? "" : " (read only)");
            return;
        }
    }
    check_fail(c, "%s at %p", strsignal(crash_signal), crash_address);
}

typedef void check_function(struct check *c);

static check_function *const checks[] = {
#define CHECK(slot, ret, args) [BN_KERNEL_##slot] = check_##slot,
    BN_KERNEL_SLOTS(CHECK)
#undef CHECK
};

/* Returns whether it passed; on failure c.failure says how. */
static bool run_check(struct check *c, enum bn_kernel_slot slot)
{
    if (sigsetjmp(crash_return, 1) == 0)
        checks[slot](c);
    else
        describe_crash(c);
    check_free(c);
    return !check_failed(c);
}

/* ---- the ladder ---- */

struct options {
    bool tap, bench;
    uint64_t seed;
    unsigned cpu_flags, detected;
    const char *filter;
};

struct count {
    unsigned n, failed, skipped;
};

static void check_slot(const struct options *o, struct count *count, const struct bn_kernels *kernels,
                       enum bn_kernel_slot slot)
{
    static struct check c; /* static: must keep its value over the jump out of a crash */
    const char *symbol = kernels->symbol[slot];
    bool passed;

    if (o->filter && !strstr(symbol, o->filter))
        return;
    /* the same numbers for every instruction set */
    c = (struct check){.kernels = kernels, .rng = o->seed * 1000003 + (uint64_t)slot};
    passed = run_check(&c, slot);
    count->n++;
    count->failed += !passed;
    if (o->tap)
        printf("%s %u - %s\n", passed ? "ok" : "not ok", count->n, symbol);
    if (!passed)
        printf("%s%s: seed %llu: %s\n", o->tap ? "# " : "", symbol, (unsigned long long)o->seed, c.failure);
    fflush(stdout);
}

static void check_rung(const struct options *o, struct count *count, const struct rung *rung,
                       struct bn_kernels *kernels)
{
    const struct bn_kernels before = *kernels;
    bool changed[BN_KERNEL_COUNT];

    if (rung->flag & ~o->detected) {
        count->skipped++;
        if (o->tap)
            printf("ok %u - %s # SKIP CPU lacks %s\n", ++count->n, rung->name, rung->name);
        printf("%sskipped: CPU lacks %s\n", o->tap ? "# " : "", rung->name);
        return;
    }
    if (rung->flag & ~o->cpu_flags)
        return;
    rung->init(kernels);
    changed_slots(&before, kernels, changed);
    for (int slot = 0; slot < BN_KERNEL_COUNT; slot++) {
        if (changed[slot])
            check_slot(o, count, kernels, (enum bn_kernel_slot)slot);
    }
}

static int check_all(const struct options *o)
{
    struct bn_kernels kernels = {0};
    struct count count = {0};

    catch_crashes();
    for (size_t i = 0; i < n_rungs; i++)
        check_rung(o, &count, &rungs[i], &kernels);
    if (count.n == 0 && o->filter)
        fprintf(stderr, "checkkernel: no kernel is named like %s\n", o->filter);
    if (o->tap)
        printf("1..%u\n", count.n);
    else
        printf("%u kernels checked with seed %llu, %u failed%s\n", count.n, (unsigned long long)o->seed,
               count.failed, count.skipped ? ", some skipped" : "");
    return count.failed > 0 || count.n == 0;
}

/* ---- command line ---- */

static error_t parse_option(int key, char *arg, struct argp_state *state)
{
    struct options *o = state->input;
    char bad[80], *end;

    switch (key) {
    case 't':
        o->tap = true;
        return 0;
    case 'b':
        o->bench = true;
        return 0;
    case 's':
        errno = 0;
        o->seed = strtoull(arg, &end, 10);
        if (errno || *end || end == arg || *arg == '-')
            argp_error(state, "--seed %s: expected a whole number", arg);
        return 0;
    case 'c':
        if (bn_cpu_parse(arg, o->detected, &o->cpu_flags, bad, sizeof bad) != 0)
            argp_error(state, "--cpu %s: \"%s\" is unknown or not in this CPU", arg, bad);
        return 0;
    case ARGP_KEY_ARG:
        if (o->filter)
            argp_error(state, "only one name");
        o->filter = arg;
        return 0;
    default:
        return ARGP_ERR_UNKNOWN;
    }
}

int main(int argc, char **argv)
{
    static const struct argp_option option_list[] = {
        {"tap", 't', NULL, 0, "Test Anything Protocol: a line per kernel", 0},
        {"bench", 'b', NULL, 0, "Time the kernels instead", 0},
        {"seed", 's', "N", 0, "Random numbers (default 1)", 0},
        {"cpu", 'c', "LIST", 0, "Instruction sets to use or -drop, as in bnprof --cpu", 0},
        {0},
    };
    static const struct argp argp = {
        option_list, parse_option,
        "[NAME]",    "Prove every kernel (those whose name contains NAME) against its definition.",
        NULL,        NULL,
        NULL};
    struct options o = {.seed = 1, .detected = bn_cpu_detect()};

    argp_err_exit_status = 2;
    o.cpu_flags = o.detected;
    argp_parse(&argp, argc, argv, 0, NULL, &o);
    if (o.bench) {
        bench_all(o.cpu_flags, o.filter);
        return 0;
    }
    return check_all(&o);
}
