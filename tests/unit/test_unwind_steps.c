/* SPDX-License-Identifier: MIT
 * Small programs, built in many ways, stepped through instruction by instruction: each chain of the unwinder
 * must be the very one that the calls have made. With a program as argument it steps that one and tells. */
#include <sched.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/mount.h>
#include <sys/stat.h>

#include <cmocka.h>

#include "stepper.h"

/* $MAIN: the program of many kinds of frames; $SMALL: one without the C library, with $SMALL_LIBRARY; $ASM:
 * hand-written ones for it; $THROW: exceptions; $P: the program to be made; $NO_TABLES: .debug_frame only;
 * $NOW: bound at once, which spares half of the steps. */
struct variant {
    const char *name, *build;
    const char *kinds; /* argument of steps_main: which parts run beside the plain frames */
    bool from_start;   /* step the dynamic linker's work too */
    bool linked;       /* keeps frame pointers throughout: both methods must agree */
    bool brief;        /* also with the sanitizers, which are slow */
};

/* Everything but deep recursion, and with it. */
#define ALL  "15"
#define DEEP "31"

static const struct variant variants[] = {
    {"gcc -O0", "gcc -O0 -o $P $MAIN $ASM", .kinds = ALL, .brief = true},
    {"gcc -O1", "gcc -O1 -o $P $NOW $MAIN $ASM", .kinds = ALL},
    {"gcc -O2", "gcc -O2 -o $P $MAIN $ASM", .kinds = DEEP, .brief = true},
    /* Through the dynamic linker's work, for a small program with a library of its own. */
    {"gcc -O2, from its first instruction",
     "gcc -O2 -nostdlib -fno-stack-protector -fPIC -shared -o $L $SMALL_LIBRARY && gcc -O2 -nostdlib "
     "-fno-stack-protector -DWITH_LIBRARY -Wl,-z,lazy,-rpath,$D -o $P $SMALL $L",
     .kinds = "0", .from_start = true},
    {"gcc -O3 -flto", "gcc -O3 -flto -o $P $NOW $MAIN $ASM", .kinds = ALL},
    {"gcc -Os, stripped", "gcc -Os -s -o $P $NOW $MAIN $ASM", .kinds = ALL},
    {"gcc with frame pointers, not PIE", "gcc -O2 -fno-omit-frame-pointer -no-pie -o $P $NOW $MAIN $ASM",
     .kinds = ALL},
    {"gcc, unwind rules against frame pointers", "gcc -O2 -fno-omit-frame-pointer -o $P $NOW $MAIN",
     .kinds = ALL, .linked = true},
    {"clang, unwind rules against frame pointers", "clang -O1 -fno-omit-frame-pointer -o $P $NOW $MAIN",
     .kinds = ALL, .linked = true},
    {"gcc, static", "gcc -O2 -static -o $P $MAIN $ASM", .kinds = ALL, .brief = true},
    {"gcc, static PIE, stripped", "gcc -O2 -static-pie -s -o $P $MAIN $ASM", .kinds = ALL},
    {"gcc -O3, .eh_frame without a header", "gcc -O3 -Wl,--no-eh-frame-hdr -o $P $NOW $MAIN $ASM",
     .kinds = ALL},
    {"gcc, not PIE, text at an odd place", "gcc -O2 -no-pie -Wl,-Ttext=0x7654340 -o $P $NOW $MAIN $ASM",
     .kinds = ALL},
    {"gcc -z noseparate-code", "gcc -O2 -Wl,-z,noseparate-code -o $P $NOW $MAIN $ASM", .kinds = ALL},
    {"gcc -z separate-code", "gcc -O2 -Wl,-z,separate-code -o $P $NOW $MAIN $ASM", .kinds = ALL},
    {"gcc, .plt.sec", "gcc -O2 -fcf-protection -Wl,-z,ibtplt -Wl,-z,lazy -o $P $MAIN $ASM", .kinds = ALL},
    {"gcc, .plt.got and bound at once", "gcc -O2 $NOW -o $P $MAIN $ASM", .kinds = ALL},
    {"gcc, a lazy .plt without rules", "gcc -O2 -Wl,-z,lazy,--no-ld-generated-unwind-info -o $P $MAIN $ASM",
     .kinds = ALL},
    {"gcc -mstackrealign", "gcc -O2 -mstackrealign -o $P $NOW $MAIN $ASM", .kinds = ALL},
    {"gcc -O3 with wide vectors", "gcc -O3 $WIDE -o $P $NOW $MAIN $ASM", .kinds = ALL},
    {"gcc, gold", "gcc -O2 -fuse-ld=gold $NOW -o $P $MAIN $ASM", .kinds = ALL},
    {"clang -O0", "clang -O0 -o $P $NOW $MAIN $ASM", .kinds = ALL},
    {"clang -O1, not PIE, stripped", "clang -O1 -no-pie -s -o $P $NOW $MAIN $ASM", .kinds = ALL},
    {"clang -O2", "clang -O2 -o $P $MAIN $ASM", .kinds = DEEP},
    {"clang -O3, lld -z separate-code", "clang -O3 -fuse-ld=lld -Wl,-z,separate-code -o $P $NOW $MAIN $ASM",
     .kinds = ALL},
    {"clang -O3 -flto, lld, lazy", "clang -O3 -flto -fuse-ld=lld -Wl,-z,lazy -o $P $MAIN $ASM", .kinds = ALL},
    /* Frames without rbp: where the runtime rewrites a frame to jump out, it begins with the registers. */
    {"g++, exceptions", "g++ -O2 $NOW -o $P $THROW", .kinds = NULL},
    {"clang++, exceptions", "clang++ -O2 $NOW -o $P $THROW", .kinds = NULL},
    {"gcc, .debug_frame", "gcc -O2 -g $NO_TABLES -o $P $NOW $MAIN", .kinds = ALL, .brief = true},
    {"gcc, .debug_frame, not PIE", "gcc -O0 -g $NO_TABLES -no-pie -o $P $NOW $MAIN", .kinds = ALL},
    {"gcc, .debug_frame compressed", "gcc -O2 -g -gz=zlib $NO_TABLES -o $P $NOW $MAIN", .kinds = ALL},
    {"gcc, .zdebug_frame", "gcc -O2 -g -gz=zlib-gnu $NO_TABLES -o $P $NOW $MAIN", .kinds = ALL},
    {"clang, .debug_frame", "clang -O2 -g $NO_TABLES -o $P $NOW $MAIN", .kinds = ALL},
    {"gcc, .debug_frame in a file by debuglink",
     "gcc -O2 -g $NO_TABLES -Wl,--build-id=none -o $P $NOW $MAIN && cd $D && objcopy --only-keep-debug $P "
     "p.debug "
     "&& "
     "strip $P && objcopy --add-gnu-debuglink=p.debug $P",
     .kinds = ALL, .brief = true},
    {"gcc, .debug_frame in .debug/, compressed",
     "gcc -O2 -g $NO_TABLES -Wl,--build-id=none -o $P $NOW $MAIN && cd $D && mkdir .debug && objcopy "
     "--only-keep-debug "
     "--compress-debug-sections $P .debug/p.debug && strip $P && objcopy --add-gnu-debuglink=.debug/p.debug "
     "$P",
     .kinds = ALL},
    {"gcc, .debug_frame in a file by build id",
     "mountpoint -q /usr/lib/debug && gcc -O2 -g $NO_TABLES -Wl,--build-id=0x5afe0123 -o $P $NOW $MAIN && "
     "mkdir -p /usr/lib/debug/.build-id/5a && objcopy --only-keep-debug $P "
     "/usr/lib/debug/.build-id/5a/fe0123.debug && strip $P",
     .kinds = ALL},
};

static char folder[] = "/tmp/test_unwind_steps.XXXXXX";

static int shell(const char *command)
{
    char *line = bn_xasprintf("( %s ) >%s/log 2>&1", command, folder);
    int status = system(line);

    free(line);
    return status;
}

static bool have(const char *command)
{
    char *line = bn_xasprintf("command -v %s", command);
    bool found = shell(line) == 0;

    free(line);
    return found;
}

static void skip_for(const char *why)
{
    print_message("# skipped: %s\n", why);
    skip();
}

/* What the variant needs beside a compiler. */
static void check_needs(const struct variant *v)
{
    char compiler[16] = "";

    if (strncmp(v->build, "mountpoint", 10) == 0)
        shell("mountpoint -q /usr/lib/debug") == 0 ? (void)0 : skip_for("no tmpfs over /usr/lib/debug");
    else
        sscanf(v->build, "%15s", compiler);
    if (compiler[0] && !have(compiler))
        skip_for(compiler[0] == 'c' ? "no clang" : compiler[1] == '+' ? "no g++" : "no gcc");
    if (strstr(v->build, "-fuse-ld=lld") && !have("ld.lld"))
        skip_for("no lld");
    if (strstr(v->build, "-fuse-ld=gold") && !have("ld.gold"))
        skip_for("no gold");
    if (strstr(v->build, "-static") &&
        shell("echo 'int main(void){return 0;}' | gcc -static -xc -o $P -") != 0)
        skip_for("no static C library");
}

static void report(const struct stepper *s, const char *name)
{
    print_message("# %s: %" PRIu64 " steps, %" PRIu64 " chains compared, %" PRIu64
                  " cut by the copy's size, %" PRIu64 " at code without rules, %" PRIu64
                  " on another stack, %" PRIu64 " in a rewritten frame, %" PRIu64 " signals, %" PRIu64
                  " tasks\n",
                  name, s->n_steps, s->n_checked, s->n_short, s->n_no_cfi, s->n_other_stack, s->n_rewritten,
                  s->n_signals, s->n_tasks);
    for (size_t i = 0; i < s->n_kinds; i++)
        print_message("# %" PRIu64 " x %s\n", s->wrong_times[i], s->wrong[i]);
}

static void test_variant(void **state)
{
    const struct variant *v = *state;
    char *program = bn_xasprintf("%s/p", folder);
    struct stepper *s = bn_xcalloc(1, sizeof *s);

    *s = (struct stepper){.entry = v->from_start ? NULL : "",
                          .dump_bytes = STEPPER_DUMP_BYTES,
                          .max_steps = 600000,
                          .program = v->linked ? program : NULL};
    shell("rm -rf $D/p* $D/.debug");
    check_needs(v);
    if (shell(v->build) != 0) {
        char *show = bn_xasprintf("cat %s/log >&2", folder);
        if (system(show) != 0)
            print_message("# no log\n");
        fail_msg("cannot be built: %s", v->build);
    }
    int r = stepper_run(s, (char *[]){program, (char *)v->kinds, NULL});
    if (r != 0 && s->n_steps == 0)
        skip_for("ptrace is not allowed here");
    report(s, v->name);
    assert_int_equal(r, 0);
    assert_int_equal(s->status, 0);
    assert_int_equal(s->n_wrong, 0);
    assert_true(s->n_checked > 3000 && s->n_parted * 2 > s->n_checked);
    assert_true(s->n_no_cfi * 25 < s->n_checked); /* start code and such */
    assert_true(s->n_rewritten * 50 < s->n_checked);
    if (v->kinds && strcmp(v->kinds, "0") != 0) {
        assert_int_equal(s->n_signals, 3);
        assert_int_equal(s->n_tasks, 3); /* the program, a thread, a child */
        assert_true(s->n_other_stack > 0 && s->n_short > 0);
    }
    if (v->linked) {
        print_message("# %" PRIu64 " chains by rbp equal, %" PRIu64 " without the caller\n", s->n_linked,
                      s->n_unlinked);
        assert_true(s->n_linked > 300 && s->n_unlinked > 100);
    }
    stepper_free(s);
    free(s);
    free(program);
}

/* The bytes of an instruction set that this CPU has, for frames with aligned vectors. */
static const char *wide_flags(void)
{
    __builtin_cpu_init();
    return __builtin_cpu_supports("avx512f") ? "-mavx512f -mprefer-vector-width=512"
           : __builtin_cpu_supports("avx2")  ? "-mavx2"
                                             : "-msse2";
}

static void set_environment(void)
{
    char *source = realpath("tests/data", NULL), *text;

    setenv("D", folder, 1);
    setenv("WIDE", wide_flags(), 1);
    setenv("NOW", "-Wl,-z,now", 1);
    setenv("NO_TABLES", "-fno-asynchronous-unwind-tables -fno-unwind-tables", 1);
    setenv("P", text = bn_xasprintf("%s/p", folder), 1);
    free(text);
    setenv("L", text = bn_xasprintf("%s/p.so", folder), 1);
    free(text);
    setenv("SMALL", text = bn_xasprintf("%s/captured_main.c", source ? source : "."), 1);
    free(text);
    setenv("SMALL_LIBRARY", text = bn_xasprintf("%s/captured_library.c", source ? source : "."), 1);
    free(text);
    setenv("MAIN", text = bn_xasprintf("-D_GNU_SOURCE -pthread %s/steps_main.c", source ? source : "."), 1);
    free(text);
    setenv("ASM", text = bn_xasprintf("-DWITH_ASM %s/steps_asm.S", source ? source : "."), 1);
    free(text);
    setenv("THROW", text = bn_xasprintf("%s/steps_throw.cc", source ? source : "."), 1);
    free(text);
    free(source);
}

/* Tracer and tracee take turns: on one CPU that is twice as fast as on two. */
static void stay_on_one_cpu(void)
{
    cpu_set_t set;
    int cpu = sched_getcpu();

    CPU_ZERO(&set);
    CPU_SET(cpu < 0 ? 0 : (size_t)cpu, &set);
    sched_setaffinity(0, sizeof set, &set);
}

/* A folder for debug files that only this process and its children see. */
static void hide_debug_folder(void)
{
    if (unshare(CLONE_NEWNS) == 0 && mount("none", "/", NULL, MS_REC | MS_PRIVATE, NULL) == 0 &&
        mount("none", "/usr/lib/debug", "tmpfs", 0, "size=16m") != 0)
        print_message("# no tmpfs over /usr/lib/debug\n");
}

static int step_program(char **argv)
{
    struct stepper *s = bn_xcalloc(1, sizeof *s);

    *s = (struct stepper){.entry = "", .dump_bytes = STEPPER_DUMP_BYTES, .max_steps = 10000000};
    int r = stepper_run(s, argv);
    report(s, argv[0]);
    bool right = r == 0 && s->n_wrong == 0;
    stepper_free(s);
    free(s);
    return right ? 0 : 1;
}

int main(int argc, char **argv)
{
    struct CMUnitTest tests[BN_COUNT(variants)];
    const char *config = getenv("CONFIG");
    bool slow = config && (strcmp(config, "asan") == 0 || strcmp(config, "tsan") == 0);
    size_t n = 0;

    if (argc > 1)
        return step_program(argv + 1);
    if (!mkdtemp(folder))
        return 1;
    set_environment();
    stay_on_one_cpu();
    hide_debug_folder();
    for (size_t i = 0; i < BN_COUNT(variants); i++)
        if (!slow || variants[i].brief)
            tests[n++] =
                (struct CMUnitTest){variants[i].name, test_variant, NULL, NULL, (void *)&variants[i]};
    int failed = _cmocka_run_group_tests("steps", tests, n, NULL, NULL);
    shell("rm -rf $D/p* $D/.debug");
    if (shell("rm -f $D/log; rmdir $D") != 0)
        print_message("# %s stays\n", folder);
    return failed;
}
