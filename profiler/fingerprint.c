/* SPDX-License-Identifier: MIT
 * Facts from /proc, /sys, uname and our own ELF file. */
#include "profiler/fingerprint.h"

#include <elf.h>
#include <link.h>
#include <sched.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/utsname.h>
#include <time.h>
#include <unistd.h>

#ifndef BN_BUILD_FLAGS
#define BN_BUILD_FLAGS "unknown"
#endif
#ifndef BN_BUILD_VERSION
#define BN_BUILD_VERSION "unknown"
#endif
#ifndef BN_GIT_DESCRIBE
#define BN_GIT_DESCRIBE "unknown"
#endif

struct sink {
    void (*fact)(void *ctx, const char *key, const char *value);
    void *ctx;
};

static void tell(const struct sink *s, const char *key, const char *value)
{
    s->fact(s->ctx, key, value && *value ? value : "unknown");
}

/* First line of a small file, without its newline; "" if there is none. */
static const char *first_line(const char *path, char *buf, size_t size)
{
    FILE *f = fopen(path, "re");

    buf[0] = '\0';
    if (f) {
        if (!fgets(buf, (int)size, f))
            buf[0] = '\0';
        fclose(f);
    }
    buf[strcspn(buf, "\n")] = '\0';
    return buf;
}

static void tell_file(const struct sink *s, const char *key, const char *path)
{
    char line[256];

    tell(s, key, first_line(path, line, sizeof line));
}

/* Value of the first "name : value" line of /proc/cpuinfo. */
static void cpuinfo(const char *name, char *out, size_t size)
{
    FILE *f = fopen("/proc/cpuinfo", "re");
    char *line = NULL;
    size_t capacity = 0, n = strlen(name);

    out[0] = '\0';
    while (f && !out[0] && getline(&line, &capacity, f) > 0) {
        char *colon = strchr(line, ':');
        if (!colon || strncmp(line, name, n) != 0 || (line[n] != '\t' && line[n] != ' ' && line[n] != ':'))
            continue;
        colon += 1 + (colon[1] == ' ');
        colon[strcspn(colon, "\n")] = '\0';
        snprintf(out, size, "%s", colon);
    }
    free(line);
    if (f)
        fclose(f);
}

/* Those of the CPU's flags that decide kernels, in a fixed order. */
static void tell_features(const struct sink *s)
{
    static const char *const wanted[] = {
        "sse4_2",   "avx",      "f16c",     "fma",         "avx2",        "avx512f",    "avx512bw",
        "avx512dq", "avx512vl", "avx_vnni", "avx512_vnni", "avx512_bf16", "avx512vbmi", "avx512_vbmi2",
        "amx_int8", "asimd",    "asimddp",  "i8mm",        "sve"};
    char flags[8192], word[32];
    struct bn_buf out = {0};

    cpuinfo("flags", flags, sizeof flags);
    if (!flags[0])
        cpuinfo("Features", flags, sizeof flags);
    size_t n = strlen(flags);
    snprintf(flags + n, sizeof flags - n, " ");
    memmove(flags + 1, flags, bn_min_size(n + 1, sizeof flags - 2));
    flags[0] = ' ';
    flags[sizeof flags - 1] = '\0';
    for (size_t i = 0; i < BN_COUNT(wanted); i++) {
        snprintf(word, sizeof word, " %s ", wanted[i]);
        if (strstr(flags, word))
            bn_buf_printf(&out, "%s%s", out.n ? " " : "", wanted[i]);
    }
    tell(s, "cpu_features", out.p);
    bn_buf_free(&out);
}

/* Distinct values of a topology file over all CPUs; 0 = cannot be read. */
static int count_distinct(const char *name)
{
    int seen[1024], n = 0;
    char path[128], line[64];

    for (int cpu = 0; cpu < 4096; cpu++) {
        snprintf(path, sizeof path, "/sys/devices/system/cpu/cpu%d/topology/%s", cpu, name);
        if (!*first_line(path, line, sizeof line))
            break;
        int value = atoi(line), i = 0;
        while (i < n && seen[i] != value)
            i++;
        if (i == n && n < (int)BN_COUNT(seen))
            seen[n++] = value;
    }
    return n;
}

static void tell_int(const struct sink *s, const char *key, long long value)
{
    char text[32];

    snprintf(text, sizeof text, "%lld", value);
    tell(s, key, value > 0 ? text : NULL);
}

/* Sizes as sysfs gives them ("48K"), by level and type. */
static void tell_caches(const struct sink *s)
{
    static const struct {
        const char *key, *level, *type;
    } caches[] = {{"cache_l1d", "1", "Data"},
                  {"cache_l1i", "1", "Instruction"},
                  {"cache_l2", "2", "Unified"},
                  {"cache_l3", "3", "Unified"}};
    char path[128], level[16], type[32], size[32];

    for (size_t c = 0; c < BN_COUNT(caches); c++) {
        const char *found = NULL;
        for (int i = 0; i < 8 && !found; i++) {
            snprintf(path, sizeof path, "/sys/devices/system/cpu/cpu0/cache/index%d/level", i);
            first_line(path, level, sizeof level);
            snprintf(path, sizeof path, "/sys/devices/system/cpu/cpu0/cache/index%d/type", i);
            first_line(path, type, sizeof type);
            snprintf(path, sizeof path, "/sys/devices/system/cpu/cpu0/cache/index%d/size", i);
            if (strcmp(level, caches[c].level) == 0 && strcmp(type, caches[c].type) == 0)
                found = first_line(path, size, sizeof size);
        }
        tell(s, caches[c].key, found);
    }
}

static void tell_memory(const struct sink *s)
{
    char text[64];

    snprintf(text, sizeof text, "%.1f GiB",
             (double)sysconf(_SC_PHYS_PAGES) * (double)sysconf(_SC_PAGESIZE) / (1 << 30));
    tell(s, "memory", text);
}

static void tell_os(const struct sink *s)
{
    FILE *f = fopen("/etc/os-release", "re");
    char line[256], name[256] = "";
    struct utsname u;

    while (f && fgets(line, sizeof line, f))
        if (sscanf(line, "PRETTY_NAME=\"%255[^\"]\"", name) == 1)
            break;
    if (f)
        fclose(f);
    tell(s, "os", name);
    char kernel[sizeof u.release + sizeof u.machine + 8] = "";
    if (uname(&u) == 0)
        snprintf(kernel, sizeof kernel, "%s %s", u.release, u.machine);
    tell(s, "kernel", kernel);
}

/* What we run in, as far as it shows. */
static void tell_virtualization(const struct sink *s)
{
    char flags[8192], vendor[128], text[256];

    cpuinfo("flags", flags, sizeof flags);
    bool guest = strstr(flags, " hypervisor") != NULL;
    first_line("/sys/class/dmi/id/sys_vendor", vendor, sizeof vendor);
    bool container = access("/.dockerenv", F_OK) == 0 || access("/run/.containerenv", F_OK) == 0;
    snprintf(text, sizeof text, "%s%s%s%s",
             guest      ? "virtual machine"
             : flags[0] ? "none seen"
                        : "",
             guest && vendor[0] ? ", " : "", guest ? vendor : "", container ? ", in a container" : "");
    tell(s, "virtualization", text);
}

/* Our own build-id, from the notes that the loader has mapped. */
static int find_build_id(struct dl_phdr_info *info, size_t size, void *ctx)
{
    char *out = ctx; /* 65 bytes */

    (void)size;
    for (int i = 0; i < info->dlpi_phnum; i++) {
        const ElfW(Phdr) *ph = &info->dlpi_phdr[i];
        if (ph->p_type != PT_NOTE)
            continue;
        const char *p = (const char *)(info->dlpi_addr + ph->p_vaddr), *end = p + ph->p_memsz;
        while (p + sizeof(ElfW(Nhdr)) <= end) {
            const ElfW(Nhdr) *note = (const void *)p;
            const unsigned char *desc =
                (const unsigned char *)p + sizeof *note + bn_round_up(note->n_namesz, 4);
            if (note->n_type == NT_GNU_BUILD_ID && note->n_descsz <= 32)
                for (unsigned k = 0; k < note->n_descsz; k++)
                    snprintf(out + 2 * k, 3, "%02x", desc[k]);
            p = (const char *)desc + bn_round_up(note->n_descsz, 4);
        }
    }
    return 1; /* the first object is the program */
}

static void tell_build(const struct sink *s)
{
    char build_id[65] = "";
    struct stat st;

    tell(s, "compiler",
#ifdef __clang__
         "clang " __clang_version__
#else
         "gcc " __VERSION__
#endif
    );
    tell(s, "build_flags", BN_BUILD_FLAGS);
    tell(s, "version", BN_BUILD_VERSION);
    tell_int(s, "binary_bytes", stat("/proc/self/exe", &st) == 0 ? (long long)st.st_size : 0);
    dl_iterate_phdr(find_build_id, build_id);
    tell(s, "build_id", build_id);
    tell(s, "git", BN_GIT_DESCRIBE);
}

static void tell_date(const struct sink *s)
{
    char text[64];
    struct tm tm;
    time_t now = time(NULL);

    localtime_r(&now, &tm);
    strftime(text, sizeof text, "%Y-%m-%d %H:%M:%S %z", &tm);
    tell(s, "date", text);
}

static void tell_cpu(const struct sink *s)
{
    char model[256];
    cpu_set_t set;

    cpuinfo("model name", model, sizeof model);
    tell(s, "cpu_model", model);
    tell_int(s, "cpus", sched_getaffinity(0, sizeof set, &set) == 0 ? CPU_COUNT(&set) : 0);
    /* core_id repeats over sockets; on one socket it is exact, else sockets times cores of one. */
    int sockets = count_distinct("physical_package_id"), cores = count_distinct("core_id");
    tell_int(s, "cores", (long long)sockets * cores);
    tell_int(s, "sockets", sockets);
    tell_features(s);
    tell_caches(s);
}

void bn_fingerprint(void (*fact)(void *ctx, const char *key, const char *value), void *ctx)
{
    const struct sink s = {fact, ctx};
    char host[256] = "";

    tell_date(&s);
    gethostname(host, sizeof host - 1);
    tell(&s, "hostname", host);
    tell_cpu(&s);
    tell_memory(&s);
    tell_os(&s);
    tell_virtualization(&s);
    tell_file(&s, "governor", "/sys/devices/system/cpu/cpu0/cpufreq/scaling_governor");
    tell_build(&s);
    tell_file(&s, "perf_event_paranoid", "/proc/sys/kernel/perf_event_paranoid");
    tell_file(&s, "perf_max_sample_rate", "/proc/sys/kernel/perf_event_max_sample_rate");
    tell_file(&s, "perf_mlock_kb", "/proc/sys/kernel/perf_event_mlock_kb");
    tell_file(&s, "boot_id", "/proc/sys/kernel/random/boot_id");
}
