/* SPDX-License-Identifier: MIT
 * Start a program that is held until the recorder is ready, release it, and learn how it ended. */
#ifndef PROFILER_LAUNCH_H
#define PROFILER_LAUNCH_H

#include <signal.h>
#include <sys/types.h>

#include "core/base.h"

enum { BN_LAUNCH_SIGNALS = 7 };

struct bn_launch {
    pid_t pid;
    int pidfd;    /* readable when the program has ended; -1 on kernels before 5.3 */
    int go_fd;    /* a byte here releases the held child */
    int error_fd; /* errno of a failed exec, or nothing */
    bool reaped;
    bool signals_taken;
    struct sigaction before[BN_LAUNCH_SIGNALS]; /* what our signals did before the start */
};

struct bn_launch_command {
    const char *file;       /* looked up in PATH unless it holds a '/' */
    char *const *argv;      /* NULL-terminated */
    const char *const *env; /* "NAME=value" for the program alone, NULL-terminated; or NULL */
    int keep_fd;            /* a close-on-exec descriptor that the program inherits, or -1 */
};

/* How the program ended; times and faults include the children that it waited for. */
struct bn_launch_end {
    int exit_status; /* 128+n for signal n */
    uint64_t user_ns, system_ns;
    uint64_t major_faults, minor_faults;
};

/* Fork a child that waits before its exec; stdin, stdout and stderr are left alone. From here to
 * bn_launch_close SIGINT is counted and SIGQUIT ignored (the terminal sends them to the program too, and we
 * wait for its end), SIGTERM and SIGHUP are forwarded to the program, SIGPIPE and SIGXFSZ are ignored (a
 * write says so); the program itself starts with the dispositions that we had. One launch at a time in a
 * process. The strings are used before this returns, by the child's copy after. */
int bn_launch_start(struct bn_launch *l, const struct bn_launch_command *command, struct bn_err *err);

/* Let it exec. -1 if that fails ("nosuch: No such file or directory"); the child is then gone already. */
int bn_launch_release(struct bn_launch *l, const struct bn_launch_command *command, struct bn_err *err);

/* Has the program ended? Never waits. True once, with *end filled. */
bool bn_launch_ended(struct bn_launch *l, struct bn_launch_end *end);

/* Without a launch: take SIGINT, SIGTERM and SIGHUP as the wish to end. bn_launch_close gives them back. */
void bn_launch_take_interrupts(struct bn_launch *l);

/* How often SIGINT has come since the launch, or, without one, any of these. */
int bn_launch_interrupts(void);

/* Give SIGTERM and SIGHUP back their meaning: the program is gone, forwarding would reach nobody. */
void bn_launch_stop_forwarding(struct bn_launch *l);

/* Give all signals back, end a child that is still held, close. A released program goes on. Accepts a closed
 * one. */
void bn_launch_close(struct bn_launch *l);

#endif
