/* SPDX-License-Identifier: MIT
 * The unwinder on this very process: chains whose every function is known. */
#include <fcntl.h>
#include <pthread.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "unwind_self.h"

#ifdef __clang__
#define NOINLINE         __attribute__((noinline))
#define NO_FRAME_POINTER /* clang has no such attribute */
#else
#define NOINLINE         __attribute__((noinline, noclone))
#define NO_FRAME_POINTER __attribute__((optimize("omit-frame-pointer")))
#endif

/* The address sanitizer puts its own function before the library's. */
#ifdef __SANITIZE_ADDRESS__
#define QSORT ""
#else
#define QSORT "qsort_r "
#endif

static struct self_state state;
static size_t take_bytes;
static volatile int sink;

NOINLINE static int compare_and_take(const void *a, const void *b)
{
    ucontext_t uc;

    if (state.in.known == 0) {
        getcontext(&uc);
        self_take(&state, &uc, take_bytes);
    }
    return *(const int *)a - *(const int *)b;
}

NOINLINE static void sort_inner(int *v, size_t n)
{
    qsort(v, n, sizeof *v, compare_and_take);
    sink += v[0];
}

NOINLINE static void sort_outer(int *v, size_t n)
{
    sort_inner(v, n);
    sink++;
}

struct fixture {
    struct bn_maps maps;
    struct bn_unwinder *unwinder;
    struct bn_unwind_result result;
};

static void fixture_begin(struct fixture *f, size_t bytes)
{
    memset(&state.in, 0, sizeof state.in);
    take_bytes = bytes;
    bn_maps_init(&f->maps);
    self_maps(&f->maps, 7);
    f->unwinder = bn_unwinder_new(&f->maps);
}

static void fixture_unwind(struct fixture *f)
{
    assert_int_not_equal(state.in.known, 0);
    bn_unwind(f->unwinder, bn_maps_process(&f->maps, 7), &state.in, &f->result);
}

static void fixture_end(struct fixture *f)
{
    bn_unwinder_free(f->unwinder);
    bn_maps_free(&f->maps);
}

/* The functions of `expected` (separated by spaces) occur in this order in the chain, innermost first. */
static void assert_order(const struct bn_unwind_result *r, const char *expected)
{
    char *names = self_names(r), *copy = bn_xstrdup(expected), *save = NULL;
    const char *at = names;

    for (char *word = strtok_r(copy, " ", &save); word; word = strtok_r(NULL, " ", &save)) {
        char padded[128];
        snprintf(padded, sizeof padded, " %s ", word);
        /* names with a space on either side, so that only whole ones are found */
        char *text = bn_xasprintf(" %s ", at);
        const char *found = strstr(text, padded);
        if (!found)
            fail_msg("%s is not where it should be in: %s (%s)", word, names, bn_unwind_end_text(r->end));
        at += found - text;
        free(text);
    }
    free(copy);
    free(names);
}

static void assert_absent(const struct bn_unwind_result *r, const char *name)
{
    char *names = self_names(r);

    if (strstr(names, name))
        fail_msg("%s should not be in: %s", name, names);
    free(names);
}

static void test_through_libc(void **unused)
{
    static struct fixture f;
    int v[] = {3, 1, 2};

    (void)unused;
    fixture_begin(&f, sizeof state.stack);
    sort_outer(v, BN_COUNT(v));
    fixture_unwind(&f);
    assert_int_equal(f.result.end, BN_UNWIND_COMPLETE);
    assert_order(&f.result, "compare_and_take " QSORT "sort_inner sort_outer test_through_libc main _start");
    fixture_end(&f);
}

/* With less and less of the stack the chain is a shorter and shorter beginning of the whole one, never
 * another one. */
static void test_short_copies(void **unused)
{
    static struct fixture f;
    static struct bn_unwind_result whole; /* on the stack it would fill the copy */
    int v[] = {3, 1, 2};

    (void)unused;
    fixture_begin(&f, sizeof state.stack);
    sort_outer(v, BN_COUNT(v));
    fixture_unwind(&f);
    whole = f.result;
    size_t all = state.in.stack_bytes, most = whole.n;
    for (size_t bytes = all; bytes > 0; bytes -= bn_min_size(bytes, 8)) {
        state.in.stack_bytes = bytes;
        fixture_unwind(&f);
        assert_true(f.result.n >= 1 && f.result.n <= most);
        most = f.result.n;
        assert_true(f.result.end == BN_UNWIND_COMPLETE || f.result.end == BN_UNWIND_DUMP_ENDED);
        assert_true((f.result.end == BN_UNWIND_COMPLETE) == (f.result.n == whole.n));
        for (size_t i = 0; i < f.result.n; i++)
            assert_int_equal(f.result.frames[i].address, whole.frames[i].address);
    }
    assert_true(most < whole.n);
    state.in.stack_bytes = 0;
    fixture_unwind(&f);
    assert_int_equal(f.result.end, BN_UNWIND_NO_REGISTERS);
    fixture_end(&f);
}

/* ---- poison ---- */

NOINLINE static void poison_callee(void)
{
    sink++;
}

/* An address behind a call, where a guess would be glad to find one. */
NOINLINE static void *poison_target(void)
{
    poison_callee();
    void *here = __builtin_return_address(0);
    sink++;
    return here;
}

NOINLINE static void *poison_source(void)
{
    void *address = poison_target();
    sink++;
    return address;
}

NOINLINE static void with_poison(int *v, size_t n)
{
    void *volatile room[512];
    void *address = poison_source();

    for (size_t i = 0; i < BN_COUNT(room); i++)
        room[i] = address;
    sort_inner(v, n);
    sink += room[7] != NULL;
}

static void test_poison(void **unused)
{
    static struct fixture f;
    int v[] = {3, 1, 2};

    (void)unused;
    fixture_begin(&f, sizeof state.stack);
    with_poison(v, BN_COUNT(v));
    fixture_unwind(&f);
    assert_int_equal(f.result.end, BN_UNWIND_COMPLETE);
    assert_order(&f.result, "compare_and_take " QSORT "sort_inner with_poison test_poison main _start");
    assert_absent(&f.result, "poison_source");

    /* What lies behind the copied part is stale: it must not be looked at. */
    size_t n = f.result.n, keep = 256;
    void *address = poison_source();
    for (size_t at = keep; at + 8 <= sizeof state.stack; at += 8)
        memcpy(state.stack + at, &address, sizeof address);
    state.in.stack_bytes = keep;
    fixture_unwind(&f);
    assert_true(f.result.n < n);
    assert_int_equal(f.result.end, BN_UNWIND_DUMP_ENDED);
    assert_absent(&f.result, "poison_source");
    fixture_end(&f);
}

/* ---- signals, threads, personality routines, recursion ---- */

static void handler_that_takes(int number, siginfo_t *info, void *context)
{
    ucontext_t uc;

    (void)number, (void)info, (void)context;
    getcontext(&uc);
    self_take(&state, &uc, take_bytes);
    sink++;
}

NOINLINE static void interrupted(void)
{
    raise(SIGUSR1);
    sink++;
}

static void test_signal(void **unused)
{
    static struct fixture f;
    struct sigaction action = {.sa_sigaction = handler_that_takes, .sa_flags = SA_SIGINFO};

    (void)unused;
    sigaction(SIGUSR1, &action, NULL);
    fixture_begin(&f, sizeof state.stack);
    interrupted();
    fixture_unwind(&f);
    assert_int_equal(f.result.end, BN_UNWIND_COMPLETE);
    /* A stripped C library has no name for the trampoline. */
    char *names = self_names(&f.result);
    bool named = strstr(names, "__restore_rt") != NULL;
    free(names);
    assert_order(&f.result,
                 named ? "handler_that_takes __restore_rt raise interrupted test_signal main _start"
                       : "handler_that_takes [signal frame] raise interrupted test_signal main _start");
    fixture_end(&f);
}

NOINLINE static void *thread_function(void *argument)
{
    int v[] = {3, 1, 2};

    sort_outer(v, BN_COUNT(v));
    return argument;
}

static void test_thread(void **unused)
{
    static struct fixture f;
    pthread_t thread;

    (void)unused;
    fixture_begin(&f, sizeof state.stack);
    assert_int_equal(pthread_create(&thread, NULL, thread_function, NULL), 0);
    pthread_join(thread, NULL);
    fixture_end(&f); /* its stack was mapped later: read the mappings again */
    size_t known = state.in.known;
    struct bn_unwind_input in = state.in;
    fixture_begin(&f, sizeof state.stack);
    state.in = in;
    assert_int_not_equal(known, 0);
    fixture_unwind(&f);
    assert_int_equal(f.result.end, BN_UNWIND_COMPLETE);
    assert_order(&f.result, "compare_and_take sort_outer thread_function");
    assert_absent(&f.result, "main");
    fixture_end(&f);
}

/* stdio's functions have a personality routine in their unwind entries, read through a pointer in written
 * data. */
static ssize_t cookie_write(void *cookie, const char *text, size_t n)
{
    ucontext_t uc;

    (void)cookie, (void)text;
    getcontext(&uc);
    self_take(&state, &uc, take_bytes);
    return (ssize_t)n;
}

NOINLINE static void write_through_stdio(FILE *f)
{
    fwrite("x", 1, 1, f);
    sink++;
}

static void test_personality(void **unused)
{
    static struct fixture f;
    FILE *file = fopencookie(NULL, "w", (cookie_io_functions_t){.write = cookie_write});

    (void)unused;
    assert_non_null(file);
    setvbuf(file, NULL, _IONBF, 0);
    fixture_begin(&f, sizeof state.stack);
    write_through_stdio(file);
    fixture_unwind(&f);
    assert_int_equal(f.result.end, BN_UNWIND_COMPLETE);
    assert_order(&f.result, "cookie_write fwrite write_through_stdio test_personality main _start");
    fclose(file);
    fixture_end(&f);
}

NOINLINE static void descend(int levels, int *v, size_t n)
{
    if (levels > 0)
        descend(levels - 1, v, n);
    else
        sort_inner(v, n);
    sink++;
}

static void test_too_deep(void **unused)
{
    static struct fixture f;
    int v[] = {3, 1, 2};

    (void)unused;
    fixture_begin(&f, sizeof state.stack);
    descend(300, v, BN_COUNT(v));
    fixture_unwind(&f);
    assert_int_equal(f.result.n, BN_UNWIND_MAX_FRAMES);
    assert_int_equal(f.result.end, BN_UNWIND_TOO_DEEP);
    fixture_end(&f);
}

/* ---- code without unwind rules ---- */

/* Both call their argument; the first keeps a frame pointer, the second does not. */
__asm__(".text\n"
        ".type no_rules_framed, @function\n"
        "no_rules_framed:\n"
        "push %rbp\nmov %rsp, %rbp\ncall *%rdi\npop %rbp\nret\n"
        ".size no_rules_framed, . - no_rules_framed\n"
        ".type no_rules_bare, @function\n"
        "no_rules_bare:\n"
        "push %rbp\nmov $1, %ebp\ncall *%rdi\npop %rbp\nret\n"
        ".size no_rules_bare, . - no_rules_bare\n");
void no_rules_framed(void (*f)(void));
void no_rules_bare(void (*f)(void));

static void take_here(void)
{
    int v[] = {3, 1, 2};

    sort_outer(v, BN_COUNT(v));
    sink++;
}

static void test_no_rules(void **unused)
{
    static struct fixture f;

    (void)unused;
    fixture_begin(&f, sizeof state.stack);
    no_rules_framed(take_here);
    fixture_unwind(&f);
    assert_int_equal(f.result.end, BN_UNWIND_COMPLETE);
    assert_order(&f.result, "sort_outer take_here no_rules_framed test_no_rules main _start");
    fixture_end(&f);

    fixture_begin(&f, sizeof state.stack);
    no_rules_bare(take_here);
    fixture_unwind(&f);
    assert_int_equal(f.result.end, BN_UNWIND_NO_CFI);
    assert_order(&f.result, "sort_outer take_here no_rules_bare");
    assert_absent(&f.result, "main");
    assert_absent(&f.result, "test_no_rules");
    fixture_end(&f);
}

static void test_marks(void **unused)
{
    (void)unused;
    assert_null(bn_unwind_mark_name(BN_UNWIND_COMPLETE));
    assert_string_equal(bn_unwind_mark_name(BN_UNWIND_DUMP_ENDED), "[truncated]");
    assert_string_equal(bn_unwind_mark_name(BN_UNWIND_TOO_DEEP), "[truncated]");
    assert_string_equal(bn_unwind_mark_name(BN_UNWIND_NO_CFI),
                        "[unwind failed: code without unwind information]");
    assert_string_equal(bn_unwind_mark_name(BN_UNWIND_DAMAGED), "[lost]");
    for (int end = BN_UNWIND_NO_REGISTERS; end < BN_UNWIND_DAMAGED; end++)
        assert_non_null(strstr(bn_unwind_mark_name((enum bn_unwind_end)end),
                               bn_unwind_end_text((enum bn_unwind_end)end)));
}

static void test_garbage(void **unused)
{
    static struct fixture f;
    int v[] = {3, 1, 2};

    (void)unused;
    fixture_begin(&f, sizeof state.stack);
    sort_outer(v, BN_COUNT(v));
    struct bn_unwind_input good = state.in;
    state.in.regs[BN_UNWIND_RIP] = 0x10;
    fixture_unwind(&f);
    assert_int_equal(f.result.end, BN_UNWIND_NO_MAP);
    assert_int_equal(f.result.n, 0);
    state.in = good;
    state.in.known &= ~(1u << BN_UNWIND_RSP);
    fixture_unwind(&f);
    assert_int_equal(f.result.end, BN_UNWIND_NO_REGISTERS);
    state.in = good;
    state.in.regs[BN_UNWIND_RSP] = UINT64_MAX - 100; /* the copy would wrap round */
    fixture_unwind(&f);
    assert_true(f.result.end != BN_UNWIND_COMPLETE);

    /* Random words for a stack: any end but no crash and no endless chain. */
    uint64_t seed = 1;
    for (int round = 0; round < 2000; round++) {
        state.in = good;
        for (size_t at = 0; at + 8 <= state.in.stack_bytes; at += 8) {
            seed = seed * 6364136223846793005u + 1442695040888963407u;
            uint64_t word = seed >> 32 & 1
                                ? good.regs[BN_UNWIND_RSP] + (seed >> 48) % 4096
                                : f.maps.processes[0]->mappings[seed % f.maps.processes[0]->n].start +
                                      (seed >> 20) % 0x20000;
            memcpy(state.stack + at, &word, sizeof word);
        }
        fixture_unwind(&f);
        assert_true(f.result.n <= BN_UNWIND_MAX_FRAMES);
    }
    fixture_end(&f);
}

/* ---- every instruction, prologues and epilogues too ----
 *
 * The functions below run with the CPU's trap flag set: after each instruction the SIGTRAP handler takes
 * registers and stack, unwinds, and compares the chain with what it must be by the function the instruction
 * lies in. */

NOINLINE NO_FRAME_POINTER static unsigned stepped_bare(unsigned a, unsigned b)
{
    unsigned c = a * b;

    for (int i = 0; i < 3; i++)
        c = c * 31 + (unsigned)sink;
    return c;
}

NOINLINE NO_FRAME_POINTER static unsigned stepped_saving(unsigned a, unsigned b)
{
    unsigned c = stepped_bare(a, b), d = stepped_bare(b, a), e = stepped_bare(c, d);

    return c + d * 2 + e * 3 + stepped_bare(c + d, e);
}

NOINLINE static unsigned stepped_framed(unsigned a, unsigned b)
{
    volatile unsigned room[64];

    room[a & 63] = stepped_saving(a, b);
    return room[a & 63] + stepped_bare(a, b);
}

static struct fixture *step_fixture;
static size_t n_steps, n_wrong;
static bool stepping;
static char wrong[512];

/* Innermost first; the chain from each function on. */
static const char *expected_below(const char *name)
{
    if (strcmp(name, "stepped_framed") == 0)
        return "stepped_framed step_through test_every_instruction";
    if (strcmp(name, "stepped_saving") == 0)
        return "stepped_saving stepped_framed step_through test_every_instruction";
    return NULL; /* stepped_bare has two callers, checked below */
}

static void check_step(const struct bn_unwind_result *r)
{
    char *names = self_names(r);
    char first[64] = "";
    const char *expected;

    sscanf(names, "%63s", first);
    if (strncmp(first, "stepped_", 8) == 0) {
        n_steps++;
        expected = expected_below(first);
        bool right =
            r->end == BN_UNWIND_COMPLETE &&
            (expected ? strncmp(names, expected, strlen(expected)) == 0
                      : strncmp(names, "stepped_bare stepped_saving stepped_framed step_through ", 56) == 0 ||
                            strncmp(names, "stepped_bare stepped_framed step_through ", 41) == 0);
        if (!right && n_wrong++ == 0)
            snprintf(wrong, sizeof wrong, "%.400s (%s)", names, bn_unwind_end_text(r->end));
    }
    free(names);
}

static void on_trap(int number, siginfo_t *info, void *context)
{
    (void)number, (void)info;
    if (!stepping)
        return;
    self_take(&state, context, sizeof state.stack);
    fixture_unwind(step_fixture);
    check_step(&step_fixture->result);
}

NOINLINE static unsigned step_through(unsigned a, unsigned b)
{
    unsigned c;

    stepping = true;
    __asm__ volatile("pushfq\norq $0x100, (%%rsp)\npopfq" ::: "memory", "cc");
    c = stepped_framed(a, b);
    __asm__ volatile("pushfq\nandq $~0x100, (%%rsp)\npopfq" ::: "memory", "cc");
    stepping = false;
    return c;
}

static void test_every_instruction(void **unused)
{
    static char other_stack[1 << 20];
    static struct fixture f;
    stack_t alternative = {.ss_sp = other_stack, .ss_size = sizeof other_stack}, before;
    struct sigaction action = {.sa_sigaction = on_trap, .sa_flags = SA_SIGINFO | SA_ONSTACK}, old;

    (void)unused;
    fixture_begin(&f, sizeof state.stack);
    step_fixture = &f;
    sigaltstack(&alternative, &before);
    sigaction(SIGTRAP, &action, &old);
    sink += (int)(step_through(3, 4) & 1);
    sigaction(SIGTRAP, &old, NULL);
    sigaltstack(&before, NULL);
    fixture_end(&f);
    if (n_wrong)
        fail_msg("%zu of %zu chains are wrong, the first: %s", n_wrong, n_steps, wrong);
    assert_true(n_steps > 50);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_through_libc),
        cmocka_unit_test(test_short_copies),
        cmocka_unit_test(test_poison),
        cmocka_unit_test(test_signal),
        cmocka_unit_test(test_thread),
        cmocka_unit_test(test_personality),
        cmocka_unit_test(test_too_deep),
        cmocka_unit_test(test_no_rules),
        cmocka_unit_test(test_garbage),
        cmocka_unit_test(test_marks),
        cmocka_unit_test(test_every_instruction),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
