/* SPDX-License-Identifier: MIT
 * Run folders: names, order, look-up. */
#include "profiler/runs.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include "profiler/run_start.h"

const char *bn_runs_base(const char *option)
{
    const char *env = getenv("BNPROF_DIR");

    if (option && *option)
        return option;
    return env && *env ? env : "bnprof.data";
}

/* Like mkdir -p. */
static int make_path(const char *path, struct bn_err *err)
{
    char *copy = bn_xstrdup(path);
    int status = 0;

    for (char *p = copy + 1; status == 0; p++) {
        char c = *p;
        if (c != '/' && c != '\0')
            continue;
        *p = '\0';
        if (mkdir(copy, 0777) != 0 && errno != EEXIST)
            status = bn_err_set(err, "%s: cannot be made: %s", copy, strerror(errno));
        *p = c;
        if (c == '\0')
            break;
    }
    free(copy);
    return status;
}

static void clean_name(char *s)
{
    if (*s == '.')
        *s = '_';
    for (; *s; s++)
        if (!strchr("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789._+-", *s))
            *s = '_';
}

int bn_runs_create_dir(const char *base, const char *format, time_t when, char **run_dir, char **run_id,
                       struct bn_err *err)
{
    char stamp[32], *name = bn_xasprintf("%.64s", *format ? format : "run");
    struct tm tm;

    clean_name(name);
    localtime_r(&when, &tm);
    strftime(stamp, sizeof stamp, "%Y%m%d-%H%M%S", &tm);
    *run_dir = *run_id = NULL;
    if (make_path(base, err) != 0) {
        free(name);
        return -1;
    }
    for (int i = 1;; i++) {
        char *id = i == 1 ? bn_xasprintf("%s-%s", stamp, name) : bn_xasprintf("%s-%s-%d", stamp, name, i);
        char *dir = bn_xasprintf("%s/%s", base, id);
        if (mkdir(dir, 0777) == 0) {
            *run_dir = dir;
            *run_id = id;
            break;
        }
        int failed = errno != EEXIST || i >= 100000;
        if (failed)
            bn_err_set(err, "%s: cannot be made: %s", dir, strerror(errno));
        free(id);
        free(dir);
        if (failed)
            break;
    }
    free(name);
    return *run_dir ? 0 : -1;
}

int bn_runs_set_latest(const char *base, const char *run_id, struct bn_err *err)
{
    char *link = bn_xasprintf("%s/latest", base),
         *temp = bn_xasprintf("%s/.latest-%ld", base, (long)getpid());
    int status = 0;

    unlink(temp);
    if (symlink(run_id, temp) != 0 || rename(temp, link) != 0) {
        status = bn_err_set(err, "%s: cannot be written: %s", link, strerror(errno));
        unlink(temp);
    }
    free(link);
    free(temp);
    return status;
}

/* ---- listing ---- */

static bool exists(const char *dir, const char *name)
{
    char *path = bn_xasprintf("%s/%s", dir, name);
    bool there = access(path, F_OK) == 0;

    free(path);
    return there;
}

bool bn_runs_is_id(const char *name)
{
    static const char pattern[] = "00000000-000000-";

    for (size_t i = 0; pattern[i]; i++)
        if (pattern[i] == '0' ? name[i] < '0' || name[i] > '9' : name[i] != pattern[i])
            return false;
    return name[sizeof pattern - 1] != '\0';
}

/* The number behind the last '-', 1 if there is none: "…-i2s-10" comes after "…-i2s-9". */
static long number_of(const char *id)
{
    const char *dash = strrchr(id, '-');
    uint64_t n;

    return dash && dash > id + 15 && bn_parse_u64(dash + 1, 2, 1000000, &n) == 0 ? (long)n : 1;
}

int bn_runs_compare(const struct bn_run_entry *a, const struct bn_run_entry *b)
{
    int order = (a->started_ns > b->started_ns) - (a->started_ns < b->started_ns);

    if (order == 0) {
        long i = number_of(a->id), k = number_of(b->id);
        order = (i > k) - (i < k);
    }
    if (order == 0)
        order = (a->changed_ns > b->changed_ns) - (a->changed_ns < b->changed_ns);
    return order ? order : strcmp(a->id, b->id);
}

static int newest_first(const void *a, const void *b)
{
    return bn_runs_compare(b, a);
}

char *bn_runs_latest(const char *base)
{
    char *link = bn_xasprintf("%s/latest", base), target[256], *dir;
    ssize_t n = readlink(link, target, sizeof target - 1);
    bool finished = false;

    free(link);
    if (n <= 0)
        return NULL;
    target[n] = '\0';
    while (n > 1 && target[n - 1] == '/')
        target[--n] = '\0';
    if (!strchr(target, '/') && bn_runs_is_id(target)) {
        dir = bn_xasprintf("%s/%s", base, target);
        finished = exists(dir, "profile.json");
        free(dir);
    }
    return finished ? bn_xstrdup(target) : NULL;
}

/* The link was set by whoever finished last. Clocks are set back, and recordings overlap: the run that it
 * names is the newest of the finished ones all the same. */
static void put_latest_first(struct bn_run_list *list, const char *base)
{
    char *latest = bn_runs_latest(base);
    size_t at = 0, first = 0;

    while (latest && at < list->n && strcmp(list->entries[at].id, latest) != 0)
        at++;
    while (first < list->n && list->entries[first].partial)
        first++;
    if (latest && at < list->n && first < at) {
        struct bn_run_entry entry = list->entries[at];
        memmove(list->entries + first + 1, list->entries + first, (at - first) * sizeof entry);
        list->entries[first] = entry;
    }
    free(latest);
}

/* A recorder holds a lock on profile.part while it writes. */
static bool is_locked(const char *dir)
{
    char *part = bn_xasprintf("%s/profile.part", dir);
    int fd = open(part, O_RDONLY | O_CLOEXEC);
    bool locked = fd >= 0 && flock(fd, LOCK_SH | LOCK_NB) != 0 && errno == EWOULDBLOCK;

    if (fd >= 0)
        close(fd);
    free(part);
    return locked;
}

static int64_t changed_ns(const char *dir, const char *name)
{
    char *path = bn_xasprintf("%s/%s", dir, name);
    struct stat st;
    bool there = stat(path, &st) == 0;

    free(path);
    return there ? (int64_t)st.st_mtim.tv_sec * 1000000000 + st.st_mtim.tv_nsec : 0;
}

int bn_runs_list(struct bn_run_list *list, const char *base, struct bn_err *err)
{
    struct dirent *entry;
    DIR *d = opendir(base);

    *list = (struct bn_run_list){0};
    if (!d)
        return errno == ENOENT ? 0 : bn_err_set(err, "%s: %s", base, strerror(errno));
    while ((entry = readdir(d))) {
        if (!bn_runs_is_id(entry->d_name))
            continue;
        char *dir = bn_xasprintf("%s/%s", base, entry->d_name);
        bool whole = exists(dir, "profile.json"), part = exists(dir, "profile.part");
        if (whole || part) {
            bn_grow(&list->entries, &list->capacity, list->n + 1, sizeof *list->entries);
            list->entries[list->n++] =
                (struct bn_run_entry){.id = bn_xstrdup(entry->d_name),
                                      .started_ns = bn_run_start_read(dir, entry->d_name),
                                      .changed_ns = changed_ns(dir, whole ? "profile.json" : "profile.part"),
                                      .partial = !whole,
                                      .recording = !whole && is_locked(dir)};
        }
        free(dir);
    }
    closedir(d);
    if (list->n)
        qsort(list->entries, list->n, sizeof *list->entries, newest_first);
    put_latest_first(list, base);
    return 0;
}

void bn_run_list_free(struct bn_run_list *list)
{
    for (size_t i = 0; i < list->n; i++)
        free(list->entries[i].id);
    free(list->entries);
    *list = (struct bn_run_list){0};
}

/* ---- resolving ---- */

/* latest, latest~N: how many runs back, or -1. */
static long steps_back(const char *spec)
{
    uint64_t n;

    if (!spec || strcmp(spec, "latest") == 0)
        return 0;
    if (strncmp(spec, "latest~", 7) == 0 && bn_parse_u64(spec + 7, 0, 1000000, &n) == 0)
        return (long)n;
    return -1;
}

static int resolve_back(const char *base, long back, char **dir, struct bn_err *err)
{
    struct bn_run_list list;
    size_t n = 0;

    if (bn_runs_list(&list, base, err) != 0)
        return -1;
    for (size_t i = 0; i < list.n; i++)
        if (!list.entries[i].recording && n++ == (size_t)back)
            *dir = bn_xasprintf("%s/%s", base, list.entries[i].id);
    if (list.n == 0)
        bn_err_set(err, "no recording in %s; make one with: bnprof record -- run", base);
    else if (n == 0)
        bn_err_set(err, "no recording in %s is complete: %s is still being recorded", base,
                   list.entries[0].id);
    else if (!*dir)
        bn_err_set(err, "latest~%ld: %s holds %zu recording%s (see bnprof list)", back, base, n,
                   n == 1 ? "" : "s");
    bn_run_list_free(&list);
    return *dir ? 0 : -1;
}

int bn_runs_resolve(const char *base, const char *spec, char **dir, char **file, struct bn_err *err)
{
    struct stat st;
    long back = steps_back(spec);

    *dir = *file = NULL;
    if (back >= 0)
        return resolve_back(base, back, dir, err);
    char *inside = bn_xasprintf("%s/%s", base, spec);
    if (*spec && !strchr(spec, '/') && stat(inside, &st) == 0 && S_ISDIR(st.st_mode)) {
        *dir = inside;
        return 0;
    }
    free(inside);
    if (stat(spec, &st) != 0)
        return bn_err_set(err, "%s: no such run, folder or file (bnprof list shows the runs in %s)", spec,
                          base);
    if (S_ISDIR(st.st_mode)) {
        *dir = bn_xstrdup(spec);
        return 0;
    }
    const char *slash = strrchr(spec, '/');
    *dir = slash ? bn_xasprintf("%.*s", (int)(slash - spec) + (slash == spec), spec) : bn_xstrdup(".");
    *file = bn_xstrdup(spec);
    return 0;
}
