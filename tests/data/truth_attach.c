/* SPDX-License-Identifier: MIT
 * truth_attach SECONDS: a program to be attached to: two threads that were there before, one after another
 * that come later, and a child process now and then. Every thread burns CPU in a function of its own. */
#include <pthread.h>
#include <stdint.h>
#include <stdlib.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

static double end_s;

static double now_s(void)
{
    struct timespec t;

    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + (double)t.tv_nsec / 1e9;
}

static uint64_t churn(uint64_t x)
{
    for (int i = 0; i < 20000; i++)
        x = x * 6364136223846793005u + 1442695040888963407u;
    return x;
}

__attribute__((noinline)) static uint64_t first_spin(uint64_t x)
{
    return churn(x) + 1;
}

__attribute__((noinline)) static uint64_t second_spin(uint64_t x)
{
    return churn(x) + 2;
}

__attribute__((noinline)) static uint64_t late_spin(uint64_t x)
{
    return churn(x) + 3;
}

__attribute__((noinline)) static uint64_t child_spin(uint64_t x)
{
    return churn(x) + 4;
}

static void *late(void *unused)
{
    volatile uint64_t x = 1;
    double until_s = now_s() + 0.05;

    (void)unused;
    while (now_s() < until_s)
        x = late_spin(x);
    return NULL;
}

static void burn_in_child(void)
{
    volatile uint64_t x = 1;
    double until_s = now_s() + 0.05;

    while (now_s() < until_s)
        x = child_spin(x);
    _exit(0);
}

static void *second(void *unused)
{
    volatile uint64_t x = 1;

    (void)unused;
    while (now_s() < end_s) {
        pthread_t thread;
        pid_t child;
        for (int i = 0; i < 400; i++)
            x = second_spin(x);
        if (pthread_create(&thread, NULL, late, NULL) == 0)
            pthread_join(thread, NULL);
        child = fork();
        if (child == 0)
            burn_in_child();
        if (child > 0)
            waitpid(child, NULL, 0);
    }
    return NULL;
}

int main(int argc, char **argv)
{
    volatile uint64_t x = 1;
    pthread_t thread;

    end_s = now_s() + (argc > 1 ? atof(argv[1]) : 1);
    if (pthread_create(&thread, NULL, second, NULL) != 0)
        return 1;
    while (now_s() < end_s)
        x = first_spin(x);
    pthread_join(thread, NULL);
    return 0;
}
