/* SPDX-License-Identifier: MIT
 * The child waits on a pipe, so that events can be opened on it with enable_on_exec; a second pipe, closed by
 * a successful exec, brings back the errno of a failed one. */
#include "profiler/launch.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

static const int taken_signals[BN_LAUNCH_SIGNALS] = {SIGINT,  SIGQUIT, SIGPIPE, SIGXFSZ,
                                                     SIGCHLD, SIGTERM, SIGHUP};
enum { FIRST_DEFAULT = 4, FIRST_FORWARDED = 5 };

static volatile sig_atomic_t forward_to; /* the program's pid, 0 = nobody */
static volatile sig_atomic_t n_interrupts;

static void count_interrupt(int sig)
{
    (void)sig;
    n_interrupts++;
}

int bn_launch_interrupts(void)
{
    return n_interrupts;
}

static void forward(int sig)
{
    int saved = errno;

    if (forward_to > 0)
        kill((pid_t)forward_to, sig);
    errno = saved;
}

/* A signal that we were started with ignored (nohup, a shell's background job) stays ignored. */
static void take_signals(struct bn_launch *l)
{
    for (int i = 0; i < BN_LAUNCH_SIGNALS; i++) {
        struct sigaction action = {.sa_handler = SIG_IGN};
        if (i >= FIRST_FORWARDED)
            action = (struct sigaction){.sa_handler = forward, .sa_flags = SA_RESTART};
        else if (i >= FIRST_DEFAULT)
            action.sa_handler = SIG_DFL;
        else if (taken_signals[i] == SIGINT)
            action.sa_handler = count_interrupt; /* no SA_RESTART: a wait ends */
        sigaction(taken_signals[i], NULL, &l->before[i]);
        if (i < FIRST_FORWARDED || l->before[i].sa_handler != SIG_IGN)
            sigaction(taken_signals[i], &action, NULL);
    }
    l->signals_taken = true;
    n_interrupts = 0;
}

void bn_launch_take_interrupts(struct bn_launch *l)
{
    struct sigaction action = {.sa_handler = count_interrupt};

    take_signals(l);
    sigaction(SIGTERM, &action, NULL);
    sigaction(SIGHUP, &action, NULL);
}

static void give_back(struct bn_launch *l, int from)
{
    if (!l->signals_taken)
        return;
    for (int i = from; i < BN_LAUNCH_SIGNALS; i++)
        sigaction(taken_signals[i], &l->before[i], NULL);
}

/* The child: wait for the word, then become the program. The word never comes if the recorder dies. */
static _Noreturn void become(const struct bn_launch *l, const struct bn_launch_command *command, int go_fd,
                             int error_fd, const sigset_t *mask)
{
    char word;
    ssize_t n;

    give_back((struct bn_launch *)(uintptr_t)l, 0);
    sigprocmask(SIG_SETMASK, mask, NULL);
    do
        n = read(go_fd, &word, 1);
    while (n < 0 && errno == EINTR);
    if (n != 1)
        _exit(127);
    for (const char *const *env = command->env; env && *env; env++)
        putenv((char *)(uintptr_t)*env);
    if (command->keep_fd >= 0)
        fcntl(command->keep_fd, F_SETFD, 0);
    execvp(command->file, command->argv);
    int why = errno;
    n = write(error_fd, &why, sizeof why);
    _exit(n == (ssize_t)sizeof why ? 127 : 126);
}

static int fork_held(struct bn_launch *l, const struct bn_launch_command *command, const int go[2],
                     const int error[2], struct bn_err *err)
{
    sigset_t all, mask;

    /* No signal may come between the fork and the first line of either side. */
    sigfillset(&all);
    sigprocmask(SIG_SETMASK, &all, &mask);
    take_signals(l);
    fflush(
        NULL); /* a failed exec ends in _exit, which writes nothing twice; this keeps the order of output */
    l->pid = fork();
    if (l->pid == 0) {
        close(go[1]);
        become(l, command, go[0], error[1], &mask);
    }
    int why = errno;
    if (l->pid > 0) {
        forward_to = l->pid;
    } else {
        give_back(l, 0);
        l->signals_taken = false;
    }
    sigprocmask(SIG_SETMASK, &mask, NULL);
    return l->pid > 0 ? 0 : bn_err_set(err, "cannot start a process: %s", strerror(why));
}

int bn_launch_start(struct bn_launch *l, const struct bn_launch_command *command, struct bn_err *err)
{
    int go[2] = {-1, -1}, error[2] = {-1, -1};

    *l = (struct bn_launch){.pid = -1, .pidfd = -1, .go_fd = -1, .error_fd = -1};
    if (pipe2(go, O_CLOEXEC) != 0 || pipe2(error, O_CLOEXEC) != 0) {
        bn_err_set(err, "cannot make a pipe: %s", strerror(errno));
        goto fail;
    }
    if (fork_held(l, command, go, error, err) != 0)
        goto fail;
    close(go[0]);
    close(error[1]);
    l->go_fd = go[1];
    l->error_fd = error[0];
    l->pidfd = (int)syscall(SYS_pidfd_open, l->pid, 0);
    return 0;
fail:
    for (int i = 0; i < 2; i++) {
        if (go[i] >= 0)
            close(go[i]);
        if (error[i] >= 0)
            close(error[i]);
    }
    return -1;
}

/* Errno of the failed exec, 0 when the pipe was closed by a successful one. */
static int read_exec_error(int fd)
{
    int why = 0;
    ssize_t n;

    do
        n = read(fd, &why, sizeof why);
    while (n < 0 && errno == EINTR);
    return n == (ssize_t)sizeof why ? why : 0;
}

int bn_launch_release(struct bn_launch *l, const struct bn_launch_command *command, struct bn_err *err)
{
    ssize_t n = write(l->go_fd, "g", 1);

    close(l->go_fd);
    l->go_fd = -1;
    if (n != 1)
        return bn_err_set(err, "%s: the process that should become it is gone", command->file);
    int why = read_exec_error(l->error_fd);
    close(l->error_fd);
    l->error_fd = -1;
    if (why == 0)
        return 0;
    waitpid(l->pid, NULL, 0);
    l->reaped = true;
    return bn_err_set(err, "%s: %s", command->file, strerror(why));
}

static uint64_t timeval_ns(struct timeval t)
{
    return (uint64_t)t.tv_sec * 1000000000u + (uint64_t)t.tv_usec * 1000u;
}

bool bn_launch_ended(struct bn_launch *l, struct bn_launch_end *end)
{
    struct rusage usage;
    int status;

    if (l->reaped || wait4(l->pid, &status, WNOHANG, &usage) != l->pid)
        return false;
    l->reaped = true;
    forward_to = 0;
    *end = (struct bn_launch_end){
        .exit_status = WIFSIGNALED(status) ? 128 + WTERMSIG(status) : WEXITSTATUS(status),
        .user_ns = timeval_ns(usage.ru_utime),
        .system_ns = timeval_ns(usage.ru_stime),
        .major_faults = (uint64_t)usage.ru_majflt,
        .minor_faults = (uint64_t)usage.ru_minflt,
    };
    return true;
}

void bn_launch_stop_forwarding(struct bn_launch *l)
{
    give_back(l, FIRST_FORWARDED);
}

void bn_launch_close(struct bn_launch *l)
{
    if (l->go_fd >= 0) { /* still held: the closed pipe ends it */
        close(l->go_fd);
        l->go_fd = -1;
        waitpid(l->pid, NULL, 0);
        l->reaped = true;
    }
    forward_to = 0;
    give_back(l, 0);
    l->signals_taken = false;
    if (l->error_fd >= 0)
        close(l->error_fd);
    if (l->pidfd >= 0)
        close(l->pidfd);
    l->error_fd = l->pidfd = -1;
}
