/* SPDX-License-Identifier: MIT
 * bnprof COMMAND: the table of commands and what all of them share. */
#include "tools/cmds.h"

#include <argp.h>
#include <errno.h>
#include <fcntl.h>
#include <locale.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

struct command {
    const char *name, *what;
    int (*run)(int argc, char **argv);
};

static const struct command commands[] = {
    {"run", "run a model: prompt in, text and speed out", cmd_run},
    {"bench", "how fast a model runs, and how far that is from the machine's limits", cmd_bench},
    {"record", "run under the profiler", cmd_record},
    {"svg", "draw a recording as an interactive flame graph", cmd_svg},
    {"hotspots", "top consumers of a recording, as a report", cmd_hotspots},
    {"annotate", "source lines and instructions of a function, with their samples", cmd_annotate},
    {"flags", "red flags and the grade of a recording", cmd_flags},
    {"stages", "the tree of scoped timers of a recording", cmd_stages},
    {"list", "the recorded runs, newest first", cmd_list},
    {"inspect", "metadata, tensors and sanity checks of a model file", cmd_inspect},
    {"synth", "write a random model of a real shape", cmd_synth},
    {"tokenize", "text on stdin to token ids, and back", cmd_tokenize},
    {"selftest", "is the profiler right on this host: programs whose profile is known", cmd_selftest},
    {"fingerprint", "what this host, build and set-up are", cmd_fingerprint},
};

int bn_tool_fail(const struct bn_err *err)
{
    fflush(stdout);
    fprintf(stderr, "bnprof: %s\n", err->msg);
    return BN_EXIT_FAILED;
}

int bn_tool_usage(const char *command, const char *format, ...)
{
    va_list args;

    fprintf(stderr, "%s: ", command);
    va_start(args, format);
    vfprintf(stderr, format, args);
    va_end(args);
    fprintf(stderr, "\nTry `%s --help' for more information.\n", command);
    return BN_EXIT_USAGE;
}

int bn_tool_finish(int status)
{
    if ((fflush(stdout) != 0 || ferror(stdout)) && status == BN_EXIT_DONE) {
        fprintf(stderr, "bnprof: standard output: %s\n", strerror(errno));
        return BN_EXIT_FAILED;
    }
    return status; /* a command that failed has said why */
}

char *bn_tool_own_path(void)
{
    static const char link[] = "/proc/self/exe";
    char path[4096];
    struct stat by_link, by_path;
    ssize_t n = readlink(link, path, sizeof path - 1);

    if (n <= 0)
        return bn_xstrdup(link);
    path[n] = '\0';
    if (stat(link, &by_link) != 0 || stat(path, &by_path) != 0 || by_link.st_ino != by_path.st_ino ||
        by_link.st_dev != by_path.st_dev)
        return bn_xstrdup(link);
    return bn_xstrdup(path);
}

static void print_help(FILE *f)
{
    fputs("Usage: bnprof COMMAND [OPTION...]\n"
          "A BitNet b1.58 inference engine that can say where its time went.\n\n",
          f);
    for (size_t i = 0; i < BN_COUNT(commands); i++)
        fprintf(f, "  %-12s %s\n", commands[i].name, commands[i].what);
    fputs("\nThe main job:\n"
          "  bnprof record --freq 999 -- run\n"
          "  bnprof svg\n"
          "  bnprof hotspots --compare previous\n\n"
          "`bnprof COMMAND --help' explains a command.\n",
          f);
}

/* Who starts us without standard input, output or error shall not have them taken by the next file that is
 * opened: a message would be written into it. */
static void hold_standard_files(void)
{
    int fd;

    while ((fd = open("/dev/null", O_RDWR)) >= 0 && fd <= STDERR_FILENO)
        ;
    if (fd >= 0)
        close(fd);
}

int main(int argc, char **argv)
{
    hold_standard_files();
    setlocale(LC_ALL, "C");
    argp_err_exit_status = BN_EXIT_USAGE;
    if (argc < 2) {
        print_help(stderr);
        return BN_EXIT_USAGE;
    }
    const char *name = argv[1];
    if (strcmp(name, "--help") == 0 || strcmp(name, "help") == 0 || strcmp(name, "-h") == 0) {
        print_help(stdout);
        return bn_tool_finish(BN_EXIT_DONE);
    }
    if (strcmp(name, "--version") == 0) {
        printf("bnprof %s\n", BN_VERSION);
        return bn_tool_finish(BN_EXIT_DONE);
    }
    for (size_t i = 0; i < BN_COUNT(commands); i++) {
        if (strcmp(name, commands[i].name) != 0)
            continue;
        char *full_name = bn_xasprintf("bnprof %s", name);
        argv[1] = full_name;
        int status = commands[i].run(argc - 1, argv + 1);
        free(full_name);
        return bn_tool_finish(status);
    }
    return bn_tool_usage("bnprof", "unknown command '%s'", name);
}
