/* SPDX-License-Identifier: MIT
 * The time goes into a signal handler that interrupts interrupted_work. truth_signal [rounds] */
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>

#define NOINLINE __attribute__((noinline))

static volatile uint64_t sink;

NOINLINE static void spin_in_handler(long n)
{
    uint64_t x = sink | 1;

    for (long i = 0; i < n; i++)
        x = x * 6364136223846793005u + 1442695040888963407u;
    sink = x;
}

static void handler(int number)
{
    spin_in_handler(2000000);
    sink += (uint64_t)number;
}

/* The signal is raised by an instruction of this function, so that it, and no library, is interrupted. */
NOINLINE static void interrupted_work(void)
{
    sink++;
    __asm__ volatile("ud2");
    sink++;
}

/* Step over ud2 when the handler returns. */
static void on_ill(int number, siginfo_t *info, void *context)
{
    ucontext_t *uc = context;

    (void)info;
    handler(number);
    uc->uc_mcontext.gregs[REG_RIP] += 2;
}

int main(int argc, char **argv)
{
    long rounds = argc > 1 ? strtol(argv[1], NULL, 10) : 200;
    struct sigaction action = {.sa_sigaction = on_ill, .sa_flags = SA_SIGINFO};

    sigaction(SIGILL, &action, NULL);
    for (long i = 0; i < rounds; i++)
        interrupted_work();
    printf("%llu\n", (unsigned long long)sink);
    return 0;
}
