/* SPDX-License-Identifier: MIT
 * Ends in the middle of its scopes, as its argument says: exit, abort, exec, stay (does not end). Prints, in
 * ns: how long `main` and `inner` were open for certain, when they began at the latest, and, after exec, when
 * the next program had begun for certain; "ready" and its pid when it stays. */
#include <bnprof/scope.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

static long long now_ns(clockid_t clock)
{
    struct timespec t;

    clock_gettime(clock, &t);
    return t.tv_sec * 1000000000ll + t.tv_nsec;
}

static void spin(int ms)
{
    long long end = now_ns(CLOCK_PROCESS_CPUTIME_ID) + ms * 1000000ll;

    while (now_ns(CLOCK_PROCESS_CPUTIME_ID) < end)
        ;
}

static int run(const char *end, const char *self)
{
    long long main_ns, inner_ns, before_ns = now_ns(CLOCK_MONOTONIC);

    BNPROF_SCOPE("main");
    main_ns = now_ns(CLOCK_MONOTONIC);
    spin(100);
    for (int i = 0; i < 3; i++) {
        BNPROF_SCOPE("inner");
        spin(10);
    }
    BNPROF_SCOPE("inner");
    inner_ns = now_ns(CLOCK_MONOTONIC);
    spin(200);
    if (strcmp(end, "stay") == 0) {
        printf("ready %d\n", (int)getpid());
        fflush(stdout);
        for (;;)
            spin(1000);
    }
    long long now = now_ns(CLOCK_MONOTONIC);
    printf("open %lld %lld %lld\n", now - main_ns, now - inner_ns, before_ns);
    fflush(stdout);
    if (strcmp(end, "abort") == 0)
        abort();
    if (strcmp(end, "exec") == 0)
        execl(self, self, "after", (char *)0);
    exit(3);
}

int main(int argc, char **argv)
{
    if (argc != 2)
        return 2;
    if (strcmp(argv[1], "after") != 0)
        return run(argv[1], argv[0]);
    printf("after %lld\n", now_ns(CLOCK_MONOTONIC));
    fflush(stdout);
    spin(300);
    return 3;
}
