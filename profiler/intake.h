/* SPDX-License-Identifier: MIT
 * What the recorder does with perf records while the program runs: follows processes, mappings and threads,
 * turns every sample into a few numbers (thread, stack, weight), and writes tables and samples into
 * profile.part.
 *
 * Memory is bounded however long it runs: the tables of stacks and of remembered unwinds begin anew at a
 * fixed size (about 40 MiB together), processes that ended are dropped, and names and unwind tables are kept
 * once for each file that was sampled. */
#ifndef PROFILER_INTAKE_H
#define PROFILER_INTAKE_H

#include "profiler/callstack.h"
#include "profiler/off_cpu.h"
#include "profiler/records.h"

/* A sample on its way: `raw` but for the time, and who and when. */
struct bn_intake_sample {
    uint64_t t_ns;
    int32_t pid, tid;
    struct bn_raw_sample
        raw; /* dt_ns unset; node, layer and step as bn_intake_record leaves them: no scopes */
};

struct bn_intake {
    struct bn_record_format format;
    struct bn_maps maps;
    struct bn_callstack stacks;
    size_t n_files_written;

    struct bn_idmap thread_of_tid; /* the latest thread of that number */
    struct bn_intake_thread *threads;
    size_t n_threads, cap_threads;
    struct bn_raw_thread *news; /* threads to be written */
    size_t n_news, cap_news;

    struct bn_intake_sample *samples; /* since the last write */
    size_t n_samples, cap_samples;
    struct bn_off_cpu off_cpu; /* its gaps are to be placed before the next write */
    uint64_t start_ns;         /* of the recording; set by the caller */
    bool no_switches;          /* set by the owner: the source tells none, so no thread's time is known */
    uint64_t last_ns;          /* of the latest record */
    /* Set by the owner: the process with the scopes, 0 = none, and since when. exec_ns: when it became
     * another program, UINT64_MAX = it did not. */
    int32_t scopes_pid;
    uint64_t scopes_ns, exec_ns;
    uint64_t n_total, n_lost, n_throttled, n_damaged;
};

void bn_intake_begin(struct bn_intake *intake, const struct bn_record_format *format, bool frame_pointers);
void bn_intake_end(struct bn_intake *intake);

/* The image of the vdso, from its bytes; before the first record. */
void bn_intake_set_vdso(struct bn_intake *intake, const void *bytes, size_t n);

/* Take one whole record; records come in the order of their times. */
void bn_intake_record(struct bn_intake *intake, const uint8_t *record);

/* The same for a record that no ring gave: MMAP2, FORK, COMM, EXIT. */
void bn_intake_apply(struct bn_intake *intake, const struct bn_record *record);

/* Thread `tid` may be off the CPUs: its time so far, up to until_ns, is told now. */
void bn_intake_off_cpu_so_far(struct bn_intake *intake, int32_t pid, int32_t tid, uint64_t until_ns);

/* When a thread ended, by its records; UINT64_MAX: it was not told that it did. */
uint64_t bn_intake_thread_end(const struct bn_intake *intake, int32_t pid, int32_t tid);

/* A thread of a process that runs already. */
struct bn_intake_found {
    int32_t pid, tid;
    const char *name;
    enum bn_off_cpu_start state; /* after its events were opened */
};
void bn_intake_find(struct bn_intake *intake, const struct bn_intake_found *found);

/* Processes of which a thread has not ended by the records: their numbers, first heard of first, each once.
 * The caller frees *pids. */
size_t bn_intake_living(const struct bn_intake *intake, int32_t **pids);

/* Name of a process's first thread, "" = never told. */
const char *bn_intake_name(const struct bn_intake *intake, int32_t pid);

/* The recording ends at t_ns, and these threads run on. After the last record, before the last write. */
void bn_intake_left(struct bn_intake *intake, uint64_t t_ns);

/* Append new files, threads, stacks and the samples. */
void bn_intake_write(struct bn_intake *intake, struct bn_raw_writer *w);

/* Append what has added up so far: times on and off the CPUs. */
void bn_intake_write_totals(struct bn_intake *intake, struct bn_raw_writer *w);

#endif
