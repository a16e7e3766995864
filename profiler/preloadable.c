/* SPDX-License-Identifier: MIT
 * What ld.so(8) says about LD_PRELOAD, looked up in the program's file: it needs a loader, ours, and must not
 * run with more rights than its caller. */
#include "profiler/preloadable.h"

#include <elf.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/xattr.h>
#include <unistd.h>

enum { SCRIPTS_MAX = 4, HEADERS_MAX = 64, NAME_BYTES = 4096 };

static bool is_program(const char *path)
{
    struct stat info;
    return stat(path, &info) == 0 && S_ISREG(info.st_mode) && access(path, X_OK) == 0;
}

/* NULL = there is none. The caller frees. */
static char *find_program(const char *file)
{
    const char *paths = getenv("PATH");
    char *path = NULL;

    if (strchr(file, '/'))
        return is_program(file) ? bn_xstrdup(file) : NULL;
    for (const char *at = paths ? paths : "/bin:/usr/bin"; at;
         at = strchr(at, ':') ? strchr(at, ':') + 1 : NULL) {
        int n = (int)strcspn(at, ":");
        path = n ? bn_xasprintf("%.*s/%s", n, at, file) : bn_xasprintf("./%s", file);
        if (is_program(path))
            return path;
        free(path);
    }
    return NULL;
}

/* The interpreter that a script names, NULL = it is none. The caller frees. */
static char *script_interpreter(int fd)
{
    char line[256];
    ssize_t n = pread(fd, line, sizeof line - 1, 0);

    if (n < 3 || line[0] != '#' || line[1] != '!')
        return NULL;
    line[n] = '\0';
    char *name = line + 2 + strspn(line + 2, " \t");
    name[strcspn(name, " \t\n")] = '\0';
    return *name ? bn_xstrdup(name) : NULL;
}

/* The loader that the program asks for: "" = none, it is static. False: this is no ELF file of our kind;
 * *other tells whether it is one of another kind. */
static bool read_loader(int fd, char loader[NAME_BYTES], bool *other)
{
    Elf64_Ehdr head;
    Elf64_Phdr part;

    loader[0] = '\0';
    *other = false;
    if (pread(fd, &head, sizeof head, 0) != (ssize_t)sizeof head ||
        memcmp(head.e_ident, ELFMAG, SELFMAG) != 0)
        return false;
    *other = true;
    if (head.e_ident[EI_CLASS] != ELFCLASS64 || head.e_ident[EI_DATA] != ELFDATA2LSB ||
        head.e_phentsize != sizeof part)
        return false;
    for (unsigned i = 0; i < head.e_phnum && i < HEADERS_MAX; i++) {
        if (pread(fd, &part, sizeof part, (off_t)(head.e_phoff + i * sizeof part)) != (ssize_t)sizeof part)
            return false;
        if (part.p_type != PT_INTERP)
            continue;
        size_t want = bn_min_size(part.p_filesz, NAME_BYTES - 1);
        ssize_t n = pread(fd, loader, want, (off_t)part.p_offset);
        loader[n > 0 ? n : 0] = '\0';
        return n > 0;
    }
    return true;
}

/* More rights than its caller: the loader then ignores LD_PRELOAD. */
static bool is_privileged(int fd)
{
    struct stat info;

    if (fstat(fd, &info) != 0)
        return false;
    return (info.st_mode & S_ISUID && info.st_uid != getuid()) ||
           (info.st_mode & S_ISGID && info.st_mode & S_IXGRP && info.st_gid != getgid()) ||
           (geteuid() != 0 && fgetxattr(fd, "security.capability", NULL, 0) > 0);
}

static int check_elf(int fd, const char *path, struct bn_err *err)
{
    char loader[NAME_BYTES], ours[NAME_BYTES] = "";
    bool other;
    int own = open("/proc/self/exe", O_RDONLY | O_CLOEXEC);

    if (own >= 0) {
        (void)read_loader(own, ours, &other);
        close(own);
    }
    if (!read_loader(fd, loader, &other))
        return other ? bn_err_set(err,
                                  "%s: not a 64-bit program of this machine: CPU timers need a library "
                                  "inside of it, which cannot be loaded",
                                  path)
                     : 0;
    if (!loader[0])
        return bn_err_set(err,
                          "%s: statically linked: CPU timers need a library inside of the program, and "
                          "without a loader nothing can be loaded",
                          path);
    if (is_privileged(fd))
        return bn_err_set(err,
                          "%s: it runs with more rights than you have (setuid, setgid or capabilities): the "
                          "loader refuses our library there, so there would be no samples",
                          path);
    if (ours[0] && strcmp(strrchr(loader, '/') ? strrchr(loader, '/') : loader,
                          strrchr(ours, '/') ? strrchr(ours, '/') : ours) != 0)
        return bn_err_set(err, "%s: its loader is %s: the library with the CPU timers is made for %s", path,
                          loader, ours);
    return 0;
}

int bn_preloadable(const char *file, struct bn_err *err)
{
    char *path = find_program(file);
    int status = 0;

    for (int depth = 0; path && depth < SCRIPTS_MAX; depth++) {
        int fd = open(path, O_RDONLY | O_CLOEXEC);
        if (fd < 0) /* executable, not readable: we cannot look */
            break;
        char *interpreter = script_interpreter(fd);
        if (!interpreter)
            status = check_elf(fd, path, err);
        close(fd);
        free(path);
        path = interpreter;
    }
    free(path);
    return status;
}

char *bn_preload_library(struct bn_err *err)
{
    static const char name[] = "libbnprof-timer.so";
    static const char *const places[] = {"", "build/release/", "../lib/bnprof/"};
    char own[NAME_BYTES];
    ssize_t n = readlink("/proc/self/exe", own, sizeof own - 1);

    own[n > 0 ? n : 0] = '\0';
    char *slash = strrchr(own, '/');
    if (!slash) {
        bn_err_set(err, "cannot tell where bnprof lies, so %s cannot be found", name);
        return NULL;
    }
    slash[1] = '\0';
    for (size_t i = 0; i < BN_COUNT(places); i++) {
        char *path = bn_xasprintf("%s%s%s", own, places[i], name);
        if (access(path, R_OK) == 0)
            return path;
        free(path);
    }
    bn_err_set(err, "%s is in none of %s, %s%s, %s%s: it brings the CPU timers into the program", name, own,
               own, places[1], own, places[2]);
    return NULL;
}
