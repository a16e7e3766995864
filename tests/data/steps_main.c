/* SPDX-License-Identifier: MIT
 * A program of many kinds of frames, for stepping through it instruction by instruction: test_unwind_steps.c
 * builds it in many ways. It prints nothing; status 0 = everything ran. */
#include <alloca.h>
#include <pthread.h>
#include <setjmp.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#define NOINLINE __attribute__((noinline))

int steps_asm(int (*f)(int), int x); /* steps_asm.S; 0 where there is none */
#ifndef WITH_ASM
#define steps_asm(f, x) (f)(x)
#endif

static volatile int sink;
static jmp_buf point;

/* ---- plain frames ---- */

NOINLINE static int leaf(int x)
{
    return x * 3 + sink;
}

NOINLINE static int saving(int a, int b, int c, int d)
{
    int e = leaf(a), f = leaf(b), g = leaf(c), h = leaf(d), i = leaf(a + b), j = leaf(c + d);

    return a + 2 * b + 3 * c + 4 * d + 5 * e + 6 * f + 7 * g + 8 * h + 9 * i + 10 * j + leaf(e);
}

NOINLINE static int tail_called(int x)
{
    volatile int room[20];

    room[x & 7] = x;
    return leaf(room[x & 7]) + 1;
}

NOINLINE static int tail_caller(int x)
{
    sink += x;
    return tail_called(x + 1);
}

NOINLINE static int many_arguments(int a, int b, int c, int d, int e, int f, int g, int h, long i, double j)
{
    return leaf(a + b + c + d + e + f) + g + h + (int)i + (int)j;
}

NOINLINE static int recursive(int n)
{
    return n > 0 ? recursive(n - 1) + leaf(n) : leaf(1);
}

/* ---- frames whose size is not known, or large, or aligned ---- */

NOINLINE static int with_alloca(int n)
{
    char *room = alloca((size_t)n);

    memset(room, n, (size_t)n);
    return leaf(room[n / 2]);
}

NOINLINE static int with_array(int n)
{
    volatile int room[n + 1];

    for (int i = 0; i <= n; i++)
        room[i] = i;
    return leaf(room[n]);
}

NOINLINE static int with_large_frame(int x)
{
    volatile char room[256 << 10];

    room[x & 1023] = (char)x;
    return leaf(room[x & 1023]) + tail_called(x);
}

NOINLINE static int with_aligned(int x)
{
    _Alignas(64) volatile int room[32];

    for (int i = 0; i < 32; i++)
        room[i] = x + i;
    return leaf(room[x & 31] + ((uintptr_t)room % 64 != 0));
}

NOINLINE static int with_aligned_and_alloca(int x)
{
    _Alignas(128) volatile int room[32];
    volatile char *more = alloca((size_t)x + 16);

    room[x & 31] = x;
    more[3] = (char)x;
    return leaf(room[x & 31] + more[3]) + saving(x, room[x & 31], more[3], 4);
}

/* ---- jumps ---- */

NOINLINE __attribute__((noreturn)) static void jump_out(int x)
{
    sink += x;
    longjmp(point, 1);
}

/* The call is the last instruction. */
NOINLINE static int calls_noreturn(int x)
{
    leaf(x);
    jump_out(x + 1);
}

NOINLINE static int with_setjmp(int x)
{
    if (setjmp(point) == 0)
        return calls_noreturn(x);
    return leaf(x);
}

NOINLINE static int with_switch(int x)
{
    switch (x) {
    case 0:
        return leaf(5);
    case 1:
        return tail_called(2) + leaf(2);
    case 2:
        sink++;
        return 7;
    case 3:
        return leaf(x) * leaf(x + 1);
    case 4:
        return many_arguments(1, 2, 3, 4, 5, 6, 7, 8, 9, 10);
    default:
        return leaf(x + 8);
    }
}

/* ---- through libraries ---- */

static int compare(const void *a, const void *b)
{
    return leaf(*(const int *)a) - leaf(*(const int *)b);
}

NOINLINE static int through_libc(int x)
{
    int v[] = {x, 3, 1, 4, 1, 5, 9, 2, 6};
    char text[64];
    struct timespec now;

    qsort(v, sizeof v / sizeof *v, sizeof *v, compare);
    snprintf(text, sizeof text, "%d %s", v[0], "text");
    char *copy = strdup(text);
    clock_gettime(CLOCK_MONOTONIC, &now);
    int n = (int)strlen(copy) + (now.tv_sec == 0);
    free(copy);
    return n;
}

/* ---- signals ---- */

static void on_signal(int number)
{
    sink += saving(number, 2, 3, 4);
}

static void on_ill(int number, siginfo_t *info, void *context)
{
    ucontext_t *uc = context;

    (void)info;
    uc->uc_mcontext.gregs[REG_RIP] += 2;
    sink += tail_caller(number);
}

NOINLINE static int interrupted(int x)
{
    sink += x;
    __asm__ volatile("ud2");
    return leaf(x);
}

NOINLINE static int with_signals(int x)
{
    static char other[64 << 10];
    stack_t stack = {.ss_sp = other, .ss_size = sizeof other};
    struct sigaction plain = {.sa_handler = on_signal},
                     elsewhere = {.sa_sigaction = on_ill, .sa_flags = SA_SIGINFO | SA_ONSTACK};

    sigaltstack(&stack, NULL);
    sigaction(SIGUSR1, &plain, NULL);
    sigaction(SIGILL, &elsewhere, NULL);
    raise(SIGUSR1);
    x = interrupted(x);
    elsewhere.sa_flags = SA_SIGINFO;
    sigaction(SIGILL, &elsewhere, NULL);
    return interrupted(x) + x;
}

/* ---- threads and processes ---- */

static void *thread_function(void *argument)
{
    sink += saving((int)(intptr_t)argument, 2, 3, 4) + recursive(3);
    return argument;
}

NOINLINE static int with_thread(int x)
{
    pthread_t thread;
    void *result = NULL;

    if (pthread_create(&thread, NULL, thread_function, (void *)(intptr_t)x) != 0)
        exit(1);
    pthread_join(thread, &result);
    return (int)(intptr_t)result;
}

NOINLINE static int with_vfork(int x)
{
    int status = 1;
    pid_t pid = vfork();

    if (pid == 0)
        _exit(leaf(x) == 0);
    waitpid(pid, &status, 0);
    return leaf(status);
}

/* ---- */

int main(int argc, char **argv)
{
    int x = argc + 6, kinds = argc > 1 ? atoi(argv[1]) : 0;
    int (*volatile indirect)(int) = tail_caller;

    sink = 1;
    x += saving(1, 2, 3, 4) & 7;
    x += indirect(x) & 7;
    x += many_arguments(1, 2, 3, 4, 5, 6, 7, 8, 9, 10) & 7;
    x += recursive(12) & 7;
    x += with_alloca(40 + (x & 31)) & 7;
    x += with_array(9 + (x & 3)) & 7;
    x += with_large_frame(x) & 7;
    x += with_aligned(x) & 7;
    x += with_aligned_and_alloca(x & 15) & 7;
    x += with_setjmp(x) & 7;
    for (int i = 0; i < 6; i++)
        x += with_switch(i) & 7;
    x += steps_asm(leaf, x) & 7;
    if (kinds & 1)
        x += through_libc(x) & 7;
    if (kinds & 2)
        x += with_signals(x) & 7;
    if (kinds & 4)
        x += with_thread(x) & 7;
    if (kinds & 8)
        x += with_vfork(x) & 7;
    if (kinds & 16)
        x += recursive(400) & 7;
    sink += x;
    return 0;
}
