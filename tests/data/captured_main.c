/* SPDX-License-Identifier: MIT
 * A program that needs no library, so that its file is small and all that its stacks go through:
 * test_captured.c takes samples of it. With WITH_LIBRARY the same calls go through a library of our own
 * (captured_library.c). */
#include <alloca.h>
#include <stdint.h>

#define NOINLINE __attribute__((noinline))

int through_library(int (*f)(int), int x); /* captured_library.c */

static volatile int sink;

static long call_kernel(long number, long a, long b, long c, long d)
{
    register long r10 __asm__("r10") = d;
    long result;

    __asm__ volatile("syscall"
                     : "=a"(result)
                     : "a"(number), "D"(a), "S"(b), "d"(c), "r"(r10)
                     : "rcx", "r11", "memory");
    return result;
}

enum { SYS_RT_SIGACTION = 13, SYS_GETPID = 39, SYS_KILL = 62, SYS_EXIT_GROUP = 231, USR1 = 10 };

NOINLINE static int leaf(int x)
{
    return x * 3 + sink;
}

NOINLINE static int saving(int a, int b, int c, int d)
{
    int e = leaf(a), f = leaf(b), g = leaf(c), h = leaf(d);

    return a + 2 * b + 3 * c + 4 * d + 5 * e + 6 * f + 7 * g + 8 * h + leaf(e);
}

NOINLINE static int recursive(int n)
{
    return n > 0 ? recursive(n - 1) + leaf(n) : leaf(1);
}

NOINLINE static int with_alloca(int n)
{
    volatile char *room = alloca((unsigned long)n);

    room[n / 2] = (char)n;
    return leaf(room[n / 2]);
}

NOINLINE static int with_aligned(int x)
{
    _Alignas(64) volatile int room[16];

    room[x & 15] = x;
    return leaf(room[x & 15] + ((uintptr_t)room % 64 != 0));
}

NOINLINE static int tail_called(int x)
{
    volatile int room[8];

    room[x & 7] = x;
    return leaf(room[x & 7]) + 1;
}

NOINLINE static int tail_caller(int x)
{
    sink += x;
    return tail_called(x + 1);
}

#ifdef WITH_LIBRARY
#define LIBRARY(f, x) through_library(f, x)
#else
#define LIBRARY(f, x) (f)(x)
#endif

/* ---- a signal ---- */

/* What the C library would give: no unwind rules, known by its instructions. */
__asm__(".text\n.p2align 4\n.type restore, @function\nnop\nrestore:\n"
        ".byte 0x48, 0xc7, 0xc0, 0x0f, 0, 0, 0, 0x0f, 0x05\n.size restore, . - restore\n");
void restore(void) __attribute__((visibility("hidden")));

static void on_signal(int number)
{
    sink += saving(number, 2, 3, 4);
}

NOINLINE static int with_signal(int x)
{
    enum { RESTORER = 0x04000000 };
    volatile struct {
        void (*handler)(int);
        unsigned long flags;
        void (*restorer)(void);
        unsigned long mask;
    } action; /* filled at run time: nothing relocates a static PIE without a library */

    action.handler = on_signal;
    action.flags = RESTORER;
    action.restorer = restore;
    action.mask = 0;
    call_kernel(SYS_RT_SIGACTION, USR1, (long)&action, 0, 8);
    call_kernel(SYS_KILL, call_kernel(SYS_GETPID, 0, 0, 0, 0), USR1, 0, 0);
    return leaf(x);
}

/* ---- */

NOINLINE __attribute__((noreturn)) static void leave(int status)
{
    leaf(status);
    for (;;)
        call_kernel(SYS_EXIT_GROUP, status, 0, 0, 0);
}

/* The call is the last instruction. */
NOINLINE __attribute__((noreturn)) static void finish(int x)
{
    sink += leaf(x);
    leave(0);
}

NOINLINE __attribute__((used)) static int program_main(void)
{
    int (*volatile indirect)(int) = tail_caller;
    int x = 7;

    sink = 1;
    x += saving(1, 2, 3, 4) & 7;
    x += indirect(x) & 7;
    x += recursive(20) & 7;
    x += with_alloca(40 + (x & 31)) & 7;
    x += with_aligned(x) & 7;
    x += LIBRARY(indirect, x) & 7;
    x += with_signal(x) & 7;
    finish(x);
}

#ifdef NO_TABLES
#define FRAME_SECTION ".cfi_sections .debug_frame\n"
#else
#define FRAME_SECTION ""
#endif

__asm__(FRAME_SECTION
        ".text\n.globl _start\n.type _start, @function\n_start:\n.cfi_startproc\n.cfi_undefined %rip\n"
        "xor %ebp, %ebp\nand $-16, %rsp\ncall program_main\nhlt\n.cfi_endproc\n.size _start, . - _start\n");
