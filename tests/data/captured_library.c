/* SPDX-License-Identifier: MIT
 * A library between two parts of captured_main.c. */
int through_library(int (*f)(int), int x);
static volatile int passed;

__attribute__((noinline)) static int twice(int (*f)(int), int x)
{
    return f(x) + f(x + 1);
}

int through_library(int (*f)(int), int x)
{
    passed++;
    return twice(f, x) + passed;
}
