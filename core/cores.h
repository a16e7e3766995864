/* SPDX-License-Identifier: MIT
 * What of this machine the process may use: CPUs, physical cores, and the time its control groups grant. */
#ifndef CORE_CORES_H
#define CORE_CORES_H

#include <sched.h>

/* A set of logical CPUs, for the CPU_…_S macros with sizeof of the struct. */
struct bn_cpus {
    cpu_set_t sets[8]; /* 8192 CPUs */
};

/* The CPUs that the calling thread may run on. 0, or -1 where the system does not tell. */
int bn_cpus_allowed(struct bn_cpus *out);
/* Their number, at least 1. */
unsigned bn_cpus_count(void);

/* Physical cores that this process may use: those with at least one allowed CPU, but no more than the CPU
 * quotas of its control group and that group's ancestors pay for (cgroup v2 cpu.max, v1 cpu.cfs_quota_us),
 * rounded up. At least 1. Reads files; cannot fail: what is missing or makes no sense limits nothing. */
unsigned bn_cores_usable(void);
/* The same with the CPUs given, and /proc and /sys below the folder `root` ("" is this system). */
unsigned bn_cores_usable_at(const char *root, const struct bn_cpus *cpus);

#endif
