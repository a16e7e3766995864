/* SPDX-License-Identifier: MIT
 * objdump runs as a child without a shell; its output is read line by line and made printable. */
#include "tools/disassembly.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <spawn.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "tools/source_text.h"

enum { MAX_INSTRUCTIONS = 1000000 };

extern char **environ;

/* Where symbols of most functions are missing, "<symbol+0x…>" names whatever happens to come before. */
static size_t without_offset(const char *text, size_t n)
{
    const char *open = memrchr(text, '<', n), *plus = memrchr(text, '+', n);

    if (n == 0 || text[n - 1] != '>' || !open || !plus || plus < open)
        return n;
    for (n = (size_t)(open - text); n && text[n - 1] == ' ';)
        n--;
    return n;
}

/* "  401136:\tpush   %rbp" */
static void take_line(struct bn_disassembly *d, const char *line, size_t n, uint64_t start, uint64_t end)
{
    char *rest;
    uint64_t vaddr = strtoull(line, &rest, 16);

    if (line[0] != ' ' || *rest != ':' || vaddr < start || vaddr >= end || d->n >= MAX_INSTRUCTIONS)
        return;
    for (rest++; *rest == '\t' || *rest == ' ';)
        rest++;
    size_t length = (size_t)(line + n - rest);
    while (length && (rest[length - 1] == '\n' || rest[length - 1] == ' '))
        length--;
    if (!d->symbols)
        length = without_offset(rest, length);
    bn_grow(&d->items, &d->capacity, d->n + 1, sizeof *d->items);
    d->items[d->n++] = (struct bn_instruction){vaddr, bn_printable(rest, length)};
}

/* Start it with its output in a pipe. Returns the pipe's reading end, or -1. */
static int start_objdump(const char *path, uint64_t start, uint64_t end, pid_t *pid)
{
    char from[40], to[40];
    char *argv[] = {"objdump", "-d", "-w", "-C", "--no-show-raw-insn", from, to, (char *)path, NULL};
    posix_spawn_file_actions_t actions;
    int ends[2], status;

    snprintf(from, sizeof from, "--start-address=%#" PRIx64, start);
    snprintf(to, sizeof to, "--stop-address=%#" PRIx64, end);
    if (pipe2(ends, O_CLOEXEC) != 0)
        return -1;
    posix_spawn_file_actions_init(&actions);
    posix_spawn_file_actions_adddup2(&actions, ends[1], STDOUT_FILENO);
    posix_spawn_file_actions_addopen(&actions, STDERR_FILENO, "/dev/null", O_WRONLY, 0);
    posix_spawn_file_actions_addopen(&actions, STDIN_FILENO, "/dev/null", O_RDONLY, 0);
    status = posix_spawnp(pid, "objdump", &actions, NULL, argv, environ);
    posix_spawn_file_actions_destroy(&actions);
    close(ends[1]);
    if (status == 0)
        return ends[0];
    close(ends[0]);
    errno = status;
    return -1;
}

int bn_disassembly_add(struct bn_disassembly *d, const char *path, uint64_t start, uint64_t end,
                       struct bn_err *err)
{
    char *line = NULL;
    size_t capacity = 0;
    ssize_t n;
    pid_t pid;
    int status = -1;

    if (path[0] != '/')
        return bn_err_set(err, "%s is no file", path);
    int fd = start_objdump(path, start, end, &pid);
    if (fd < 0)
        return errno == ENOENT ? bn_err_set(err, "objdump is not installed (Debian: binutils)")
                               : bn_err_set(err, "objdump: %s", strerror(errno));
    FILE *f = fdopen(fd, "r");
    while ((n = getline(&line, &capacity, f)) > 0)
        take_line(d, line, (size_t)n, start, end);
    free(line);
    fclose(f);
    while (waitpid(pid, &status, 0) < 0 && errno == EINTR)
        ;
    if (!WIFEXITED(status) || WEXITSTATUS(status) != 0)
        return bn_err_set(err, "objdump cannot disassemble %s", path);
    return 0;
}

void bn_disassembly_free(struct bn_disassembly *d)
{
    for (size_t i = 0; i < d->n; i++)
        free(d->items[i].text);
    free(d->items);
    *d = (struct bn_disassembly){0};
}
