/* SPDX-License-Identifier: MIT
 * Cores and quotas, from the kernel's files. A CPU counts for its core when no lower allowed CPU shares that.
 * A quota counts wherever it stands between the process's group and the top of the mounted hierarchy; both
 * versions of control groups may be mounted at once. */
#include "core/cores.h"

#include <ctype.h>
#include <limits.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "core/base.h"

enum { LINE = 8192, MAX_CPUS = 8 * sizeof(struct bn_cpus) };

/* The next line without its end; lines that do not fit are left out. */
static bool next_line(FILE *f, char line[LINE])
{
    while (fgets(line, LINE, f)) {
        size_t n = strlen(line);
        if (n > 0 && line[n - 1] == '\n') {
            line[n - 1] = '\0';
            return true;
        }
        if (feof(f))
            return true;
        for (int c = 0; c != EOF && c != '\n';)
            c = fgetc(f);
    }
    return false;
}

/* First line of the file root/folder/name. */
static bool first_line(const char *root, const char *folder, const char *name, char line[LINE])
{
    char path[3 * LINE];

    if (snprintf(path, sizeof path, "%s%s/%s", root, folder, name) >= (int)sizeof path)
        return false;
    FILE *f = fopen(path, "re");
    bool read = f && next_line(f, line);
    if (f)
        fclose(f);
    return read;
}

/* ---- physical cores ---- */

/* Is a CPU below `cpu` in the list ("0-3,8") and in the set? */
static bool lower_in_list(const char *list, size_t cpu, const struct bn_cpus *cpus)
{
    while (isdigit((unsigned char)*list)) {
        char *end;
        unsigned long first = strtoul(list, &end, 10), last = first;
        if (*end == '-' && isdigit((unsigned char)end[1]))
            last = strtoul(end + 1, &end, 10);
        for (unsigned long i = first; i <= last && i < cpu; i++)
            if (CPU_ISSET_S(i, sizeof *cpus, cpus->sets))
                return true;
        list = *end == ',' ? end + 1 : end;
    }
    return false;
}

static unsigned physical_cores(const char *root, const struct bn_cpus *cpus)
{
    unsigned n = 0;

    for (size_t cpu = 0; cpu < MAX_CPUS; cpu++) {
        char folder[80], line[LINE];
        if (!CPU_ISSET_S(cpu, sizeof *cpus, cpus->sets))
            continue;
        snprintf(folder, sizeof folder, "/sys/devices/system/cpu/cpu%zu/topology", cpu);
        n += !first_line(root, folder, "thread_siblings_list", line) || !lower_in_list(line, cpu, cpus);
    }
    return n;
}

/* ---- control groups ---- */

enum version { V1 = 1, V2 = 2 };

/* Is `item` in the list with commas? */
static bool listed(const char *list, const char *item)
{
    size_t n = strlen(item);

    for (const char *p = list; p; p = strchr(p, ','), p += p != NULL)
        if (strncmp(p, item, n) == 0 && (p[n] == ',' || p[n] == '\0'))
            return true;
    return false;
}

/* The process's group, from lines "0::/path" (v2) and "4:cpu,cpuacct:/path" (v1). */
static bool group_path(const char *root, enum version version, char out[LINE])
{
    char path[LINE], line[LINE];
    bool found = false;

    snprintf(path, sizeof path, "%s/proc/self/cgroup", root);
    FILE *f = fopen(path, "re");
    while (f && !found && next_line(f, line)) {
        char *controllers = strchr(line, ':'), *group = controllers ? strchr(controllers + 1, ':') : NULL;
        if (!group || group[1] != '/')
            continue;
        *group++ = '\0';
        found =
            version == V2 ? strncmp(line, "0:", 2) == 0 && !controllers[1] : listed(controllers + 1, "cpu");
        if (found)
            strcpy(out, group);
    }
    if (f)
        fclose(f);
    return found;
}

/* "\040" is how the kernel writes a blank; in place. */
static void unescape(char *s)
{
    char *out = s;

    for (; *s; s++, out++) {
        bool octal = s[0] == '\\' && s[1] >= '0' && s[1] <= '3' && s[2] >= '0' && s[2] <= '7' &&
                     s[3] >= '0' && s[3] <= '7';
        *out = octal ? (char)((s[1] - '0') << 6 | (s[2] - '0') << 3 | (s[3] - '0')) : *s;
        s += octal ? 3 : 0;
    }
    *out = '\0';
}

/* A line of mountinfo: "36 35 98:0 /root /mount/point rw,… [tags…] - type source options". */
static bool parse_mount(char *line, enum version version, char **mount_root, char **mount_point)
{
    char *tail = strstr(line, " - "), *fields[5] = {NULL}, *kept, *type, *options;
    size_t n = 0;

    if (!tail)
        return false;
    *tail = '\0';
    for (char *s = strtok_r(line, " ", &kept); s && n < BN_COUNT(fields); s = strtok_r(NULL, " ", &kept))
        fields[n++] = s;
    type = strtok_r(tail + 3, " ", &kept);
    strtok_r(NULL, " ", &kept);
    options = strtok_r(NULL, " ", &kept);
    if (n < BN_COUNT(fields) || !type || !options)
        return false;
    *mount_root = fields[3];
    *mount_point = fields[4];
    return version == V2 ? strcmp(type, "cgroup2") == 0
                         : strcmp(type, "cgroup") == 0 && listed(options, "cpu");
}

/* The group's folder: `out` begins with the mount point, *top is its length. Inside a container the group may
 * be named as the host sees it, while only a part of the hierarchy, from `mount_root` on, is mounted. */
static bool group_folder(const char *root, enum version version, char out[2 * LINE], size_t *top)
{
    char path[LINE], line[LINE], group[LINE], *mount_root, *mount_point;
    bool found = false;

    if (!group_path(root, version, group))
        return false;
    snprintf(path, sizeof path, "%s/proc/self/mountinfo", root);
    FILE *f = fopen(path, "re");
    while (f && !found && next_line(f, line)) {
        if (!parse_mount(line, version, &mount_root, &mount_point))
            continue;
        unescape(mount_root);
        unescape(mount_point);
        size_t n = strcmp(mount_root, "/") == 0 ? 0 : strlen(mount_root);
        bool below = strncmp(group, mount_root, n) == 0 && (group[n] == '/' || !group[n]);
        const char *rest = below && !strstr(group, "/..") ? group + n : "";
        *top = strlen(mount_point);
        snprintf(out, 2 * LINE, "%s%s", mount_point, rest);
        found = true;
    }
    if (f)
        fclose(f);
    return found;
}

/* CPUs' worth of time that one group may use; infinite without a limit. */
static double quota_here(const char *root, const char *folder, enum version version)
{
    char quota[LINE] = "", period[LINE] = "";
    uint64_t q, p;

    if (version == V2) {
        if (!first_line(root, folder, "cpu.max", quota))
            return INFINITY;
        char *blank = strchr(quota, ' ');
        if (!blank)
            return INFINITY;
        strcpy(period, blank + 1);
        *blank = '\0';
    } else if (!first_line(root, folder, "cpu.cfs_quota_us", quota) ||
               !first_line(root, folder, "cpu.cfs_period_us", period)) {
        return INFINITY;
    }
    if (bn_parse_u64(quota, 1, UINT32_MAX, &q) != 0 || bn_parse_u64(period, 1, UINT32_MAX, &p) != 0)
        return INFINITY; /* "max", -1, or nonsense */
    return (double)q / (double)p;
}

/* The least quota from the process's group up to the top of what is mounted. */
static double quota(const char *root, enum version version)
{
    char folder[2 * LINE];
    double least = INFINITY;
    size_t top;

    if (!group_folder(root, version, folder, &top))
        return INFINITY;
    for (;;) {
        least = fmin(least, quota_here(root, folder, version));
        char *slash = strrchr(folder + top, '/');
        if (!slash)
            return least;
        *slash = '\0';
    }
}

/* ---- together ---- */

int bn_cpus_allowed(struct bn_cpus *out)
{
    memset(out, 0, sizeof *out);
    return sched_getaffinity(0, sizeof *out, out->sets);
}

unsigned bn_cpus_count(void)
{
    struct bn_cpus cpus;
    long n =
        bn_cpus_allowed(&cpus) == 0 ? CPU_COUNT_S(sizeof cpus, cpus.sets) : sysconf(_SC_NPROCESSORS_ONLN);

    return n < 1 ? 1 : (unsigned)n;
}

unsigned bn_cores_usable_at(const char *root, const struct bn_cpus *cpus)
{
    unsigned n = physical_cores(root, cpus);
    double most = ceil(fmin(quota(root, V1), quota(root, V2)));

    if (most < n)
        n = (unsigned)most;
    return n < 1 ? 1 : n;
}

unsigned bn_cores_usable(void)
{
    struct bn_cpus cpus;

    return bn_cpus_allowed(&cpus) == 0 ? bn_cores_usable_at("", &cpus) : bn_cpus_count();
}
