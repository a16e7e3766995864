/* SPDX-License-Identifier: MIT
 * The one record from which everything is drawn, ranked, compared, exported and checked.
 *
 * Made by profiler/join.c, saved as profile.json, readable without the binaries that were profiled. Every
 * string is owned by the record's arena and interned: equal strings have equal pointers. Times are ns from
 * the start of the recording (CLOCK_MONOTONIC). "Unknown" is BN_UNKNOWN for numbers and NULL for strings, and
 * is printed so. */
#ifndef PROFILER_PROFILE_H
#define PROFILER_PROFILE_H

#include <math.h>

#include "core/base.h"
#include "profiler/cpu_time.h"
#include "profiler/stats.h"

#define BN_PROFILE_SCHEMA           "bnprof-profile"
#define BN_PROFILE_VERSION          2
#define BN_PROFILE_RAW_SAMPLE_BYTES 32    /* of one sample in profile.part */
#define BN_PROFILE_MAX_DEPTH        16384 /* entries on the way to the root of a stack or stage */
#define BN_UNKNOWN                  NAN   /* test with isnan() */
#define BN_NONE                     UINT32_MAX

enum bn_frame_kind {
    BN_FRAME_USER,
    BN_FRAME_KERNEL,
    BN_FRAME_UNKNOWN, /* no symbol: function is "[module+0x…]", "[module]" or "[unknown]" */
    BN_FRAME_MARK,    /* not code: "[truncated]", "[unwind failed: …]", "[kernel, not sampled]" */
};

struct bn_frame {
    const char *function; /* display name; "[…]" when not known */
    const char *raw;      /* the symbol as the file spells it, NULL = the same: mangled, with ".part.0" */
    const char *module;   /* base name of the file, "[kernel]", "[vdso]", or NULL */
    const char *file;     /* source, NULL = unknown */
    uint32_t line;        /* 0 = unknown */
    bool inlined;         /* inlined into its parent frame */
    enum bn_frame_kind kind;
};

enum bn_module_state {
    BN_MODULE_READ,       /* its tables were read */
    BN_MODULE_OTHER_FILE, /* refused: the file now on disk is not the one that ran */
    BN_MODULE_UNREADABLE, /* no file, or none that can be read */
};

/* A file whose code ran, as naming found it. */
struct bn_profile_module {
    const char *name;     /* base name, as in frames */
    const char *path;     /* as mapped */
    const char *build_id; /* hex digits of the file that ran, NULL = none known */
    enum bn_module_state state;
    const char *why;    /* in one sentence, when its state is not READ */
    bool symbols;       /* a table of all functions, not only of those that other files can call */
    bool debug_info;    /* source lines and inlined functions */
    uint64_t samples;   /* with their leaf in it */
    uint64_t weight_ns; /* CPU time that these stand for; 0 where all samples weigh the same (or unknown) */
    int64_t modified_s; /* time of the file's last change, Unix; 0 = unknown */
};

/* A distinct code address. Return addresses are there too, less 1, so that they lie in the call. */
struct bn_profile_address {
    uint32_t module;    /* index into modules */
    uint32_t frame;     /* of the function that holds the code, outside of everything inlined there */
    uint64_t vaddr;     /* in the module's file */
    uint64_t samples;   /* that had it as their leaf; 0 = a caller only */
    uint64_t weight_ns; /* as a module's */
};

/* Call stacks as a tree: entry 0 is the empty stack; parent is the caller's entry and always smaller than the
 * own index. */
struct bn_stack {
    uint32_t parent;
    uint32_t frame; /* index into frames; unused for entry 0 */
};

/* Stage tree: entry 0 is the root "all"; parent < own index. Without scopes only the root is there. */
struct bn_stage_node {
    uint32_t parent;
    const char *name;
    uint64_t calls;
    uint64_t open_calls; /* of them, never left: their time goes to the end of the thread, of the program that
                            exec replaced, of the process or the recording; no part in min … max */
    uint64_t total_ns, self_ns; /* wall time on the calling thread, inclusive and without children */
    uint64_t worker_ns;         /* worked here by pool threads for the caller, waiting excluded */
    uint64_t min_ns, max_ns, p50_ns, p95_ns, p99_ns;
    uint64_t asleep_ns,
        preempted_ns;    /* all threads here, off their CPUs: waiting; able to run, but others did */
    uint64_t bytes, ops; /* ops: 2 per multiply-add */
    uint64_t memory_bytes, int8_macs; /* parts of them for which the machine's limits are measured */
    const char *fused_into; /* stages under which the time of fused calls stands; NULL or "" = none */
};

struct bn_profile_thread {
    int32_t tid;
    int32_t pid;
    const char *name;
    uint64_t cpu_ns;  /* time on a CPU, by the kernel's records of switches; 0 = unknown */
    uint64_t events;  /* scope changes */
    uint64_t dropped; /* scope events lost */
};

enum bn_sample_flag {
    BN_SAMPLE_TRUNCATED = 1 << 0, /* the stack did not reach main or the thread's start */
    BN_SAMPLE_KERNEL = 1 << 1,    /* taken in the kernel */
    BN_SAMPLE_UNNAMED = 1 << 2,   /* the leaf has no symbol */
    BN_SAMPLE_JOINED = 1 << 3,    /* stage is known */
};

struct bn_sample {
    uint64_t t_ns;
    uint64_t weight_ns; /* CPU time it stands for */
    uint32_t thread;    /* index into threads */
    uint32_t stack;     /* leaf entry in stacks */
    uint32_t stage;     /* index into stages; 0 = in no stage */
    int32_t layer;      /* -1 = none */
    uint32_t step;      /* generation step, 0 = before the first */
    uint32_t flags;     /* enum bn_sample_flag */
};

/* One generation step (a prefill or a decoded token). */
struct bn_token {
    uint64_t start_ns, end_ns;
    uint32_t step;
    bool prefill;
};

struct bn_profile_model {
    const char *path, *name, *arch, *format; /* format as in file names: "i2s" */
    const char *sha256;
    uint64_t file_bytes, weight_bytes;
    uint64_t bytes_per_token; /* that must be read from memory for one decoded token, without the KV cache; 0
                                 = unknown */
    uint32_t n_layer, n_embd, n_ff, n_head, n_head_kv, n_vocab, n_ctx;
};

/* What the engine reported about itself; all unknown for a foreign program. */
struct bn_profile_run {
    bool known;
    uint32_t threads, rounds, prompt_tokens, generated_tokens,
        max_tokens; /* tokens: of all rounds together */
    bool deterministic;
    const char *kernel;   /* --kernel in force: "i2s", "mock" */
    const char *lm_head;  /* --lm-head in force: "f16", "screened", … */
    const char *cpu_used; /* "avx2,avx512,avx512vnni" or "c" */
    const char *cpu_detected;
    const char *token_hash;
    double load_ms, tokenizer_ms, first_token_ms, prompt_tokens_per_second, decode_tokens_per_second;
    double token_ms_p50, token_ms_p95, token_ms_p99;
    uint64_t peak_rss_bytes;
    uint64_t load_minor_faults, load_major_faults; /* page faults by phase; UINT64_MAX = not counted */
    uint64_t prefill_minor_faults, prefill_major_faults, decode_minor_faults, decode_major_faults;
    uint64_t decode_allocations; /* heap allocations counted between the first and the last decoded token;
                                    UINT64_MAX = not counted */
};

struct bn_kernel_use {
    const char *symbol; /* "i2s_gemv_avx512vnni" */
    uint64_t calls;     /* dispatches */
};

/* The record's own quality. Shares are 0 … 1. */
struct bn_profile_quality {
    const char *event;      /* "cpu-clock", "cycles", "timer" */
    const char *ladder;     /* the step of the permission ladder, one sentence: what was opened, as whom, what
                               that excludes */
    const char *call_graph; /* "dwarf", "fp" */
    double asked_hz, achieved_hz; /* achieved: samples per second of on-CPU time of the recorded threads */
    uint64_t duration_ns;         /* from exec to exit */
    uint64_t cpu_ns;              /* CPU time of the program and its children while they were recorded; 0 =
                                     unknown, or the sum of the two below (older records) */
    uint64_t unreached_ns;        /* part of it that ran where the source could not be (setuid programs) */
    uint64_t user_ns, system_ns;  /* parts of it by the kernel's accounting; the rest is not told apart */
    uint64_t n_samples;
    uint64_t n_lost; /* records the kernel could not deliver */
    uint64_t n_truncated, n_unnamed, n_joined;
    uint64_t n_stack_full; /* stacks that went beyond their copy */
    uint64_t n_edge;       /* samples within the cost of a scope of a change of stage */
    uint64_t n_throttled;  /* throttle records */
    bool kernel_sampled;   /* kernel addresses were allowed */
    double steal_share;    /* of the machine's time, /proc/stat */
    uint64_t major_faults, minor_faults;
    uint64_t n_sleeps, n_preemptions; /* context switches: of a thread's own will, and against it */
    uint64_t asleep_ns, preempted_ns; /* of all threads, while they lived */
    uint64_t recorder_cpu_ns;         /* our own process while the program ran */
    double empty_scope_ns;            /* cost of one scope, measured */
    uint64_t scope_events, scope_events_dropped;
    uint32_t stack_dump_bytes;
    uint64_t ring_bytes;    /* per CPU */
    bool partial;           /* recovered from an unfinished recording */
    uint64_t damaged_bytes; /* of the recording failed their checksums and were ignored */
    char grade;             /* 'A' … 'D', 0 = not yet computed */
};

/* CPU timers count time in the kernel for the user code that called it: nothing is missing, although no
 * kernel code shows. */
static inline bool bn_profile_by_timer(const struct bn_profile_quality *q)
{
    return q->event && q->event[0] == 't'; /* "timer" */
}

/* The program's CPU time, 0 = unknown. */
static inline uint64_t bn_profile_cpu_ns(const struct bn_profile_quality *q)
{
    return q->cpu_ns ? q->cpu_ns : q->user_ns + q->system_ns;
}

/* Is it known for practically all of the CPU time what was the kernel's? */
static inline bool bn_profile_divided(const struct bn_profile_quality *q)
{
    return bn_cpu_time_divided(bn_profile_cpu_ns(q), q->user_ns, q->system_ns);
}

/* The program's CPU time that samples can stand for; 0 = unknown. */
static inline uint64_t bn_profile_seen_ns(const struct bn_profile_quality *q)
{
    if (q->kernel_sampled || bn_profile_by_timer(q))
        return bn_profile_cpu_ns(q);
    return bn_profile_divided(q) ? q->user_ns : 0;
}

struct bn_profile_limits {
    uint32_t threads;
    double read_bytes_per_s, int8_macs_per_s; /* BN_UNKNOWN or measured right after the run */
    uint64_t last_cache_bytes;                /* 0 = unknown */
};

/* Host, build and tool facts in order, as shown in the fingerprint; keys are stable names ("cpu_model"). */
struct bn_fact {
    const char *key, *value;
};

enum bn_flag_severity { BN_FLAG_INFO, BN_FLAG_WARNING, BN_FLAG_CRITICAL };
enum bn_flag_state { BN_FLAG_RAISED, BN_FLAG_CLEAR, BN_FLAG_NOT_COMPUTED };

struct bn_flag {
    const char *id;
    enum bn_flag_severity severity;
    enum bn_flag_state state;
    double value, threshold; /* BN_UNKNOWN where a number makes no sense */
    const char *unit;        /* "%", "samples", … */
    const char *evidence;    /* where; for NOT_COMPUTED the reason */
    const char *advice;
};

struct bn_profile {
    const char *run_id;            /* "20261121-101500-i2s" */
    uint64_t started_ns;           /* UTC since 1970, 0 = unknown: see run_start.h */
    const char *started;           /* local time, "2026-11-21 10:15:00 +0000" */
    const char *command;           /* as typed after --, shell-quoted */
    const char *config_key;        /* model hash, format, threads, phase sizes, command; equal = comparable */
    int exit_status;               /* the program's, 128+n for a signal */
    struct bn_profile_model model; /* arch NULL = no model known */
    struct bn_profile_run run;
    struct bn_profile_quality quality;
    struct bn_profile_limits limits;

    struct bn_fact *facts;
    size_t n_facts;
    struct bn_kernel_use *kernels;
    size_t n_kernels;
    struct bn_profile_thread *threads;
    size_t n_threads;
    struct bn_frame *frames;
    size_t n_frames;
    struct bn_profile_module *modules;
    size_t n_modules;
    struct bn_profile_address *addresses;
    size_t n_addresses;
    struct bn_stack *stacks;
    size_t n_stacks;
    struct bn_stage_node *stages;
    size_t n_stages;
    struct bn_sample *samples; /* in time order */
    size_t n_samples;
    struct bn_token *tokens; /* in time order, thinned to 10,000 */
    size_t n_tokens, n_tokens_total;
    struct bn_flag *flags;
    size_t n_flags;

    struct bn_intern *intern; /* the strings */
    size_t cap_frames, cap_stacks, cap_stages, cap_samples, cap_threads;
};

/* Empty: unknown values unknown, stack 0 and stage 0 in place. The arrays are heap memory of the record and
 * grow through the functions below only; n_samples, n_tokens and n_flags may be lowered. One thread at a
 * time. */
void bn_profile_init(struct bn_profile *p);
/* Accepts NULL, a zeroed and a freed record. */
void bn_profile_free(struct bn_profile *p);

/* The record's own copy of a string; NULL stays NULL. Invalid UTF-8 and control bytes become '?'. */
const char *bn_profile_str(struct bn_profile *p, const char *s);

/* Find or add. Equal content gives the equal index. */
uint32_t bn_profile_add_frame(struct bn_profile *p, const struct bn_frame *frame);
uint32_t bn_profile_add_stack(struct bn_profile *p, uint32_t parent, uint32_t frame);
uint32_t bn_profile_add_stage(struct bn_profile *p, uint32_t parent, const char *name);
/* Samples and weight are added to those of an address that is there already; its frame stays. */
void bn_profile_add_address(struct bn_profile *p, const struct bn_profile_address *address);
/* Append. */
void bn_profile_add_sample(struct bn_profile *p, const struct bn_sample *sample);
uint32_t bn_profile_add_thread(struct bn_profile *p, const struct bn_profile_thread *thread);
uint32_t bn_profile_add_module(struct bn_profile *p, const struct bn_profile_module *module);
void bn_profile_add_kernel(struct bn_profile *p, const char *symbol, uint64_t calls);
void bn_profile_add_token(struct bn_profile *p, const struct bn_token *token);
void bn_profile_add_flag(struct bn_profile *p, const struct bn_flag *flag);
/* A key that is there already gets the new value. */
void bn_profile_add_fact(struct bn_profile *p, const char *key, const char *value);
const char *bn_profile_fact(const struct bn_profile *p, const char *key); /* NULL = absent */

/* All samples that have these flags (enum bn_sample_flag; 0: all). Where samples do not weigh the same, a
 * share of them is a share of the CPU time that they stand for: that is the rule for whatever reads a record.
 */
struct bn_sampled bn_profile_sampled(const struct bn_profile *p, uint32_t flags);
/* Those that are truncated, unnamed or joined in percent of all; by the quality's numbers where all weigh the
 * same. 0 without samples. */
double bn_profile_percent(const struct bn_profile *p, enum bn_sample_flag flag);

/* Is a module of that name (base name of a file, or NULL) a shared library, not the program itself? */
bool bn_profile_is_library(const char *module);

/* Stage of that name below `parent`, or BN_NONE. */
uint32_t bn_profile_find_stage(const struct bn_profile *p, uint32_t parent, const char *name);
/* "generate;decode;forward_pass"; the answer lives in buf. Root is "all". */
const char *bn_profile_stage_path(const struct bn_profile *p, uint32_t stage, char *buf, size_t size);
/* Is `stage` equal to or below `above`? */
bool bn_profile_stage_within(const struct bn_profile *p, uint32_t stage, uint32_t above);

/* Write profile.json (whole or not at all). */
int bn_profile_save(const struct bn_profile *p, const char *path, struct bn_err *err);
/* Read it; every type, range and index is checked, samples and tokens are in time order, no stack or stage
 * path is deeper than BN_PROFILE_MAX_DEPTH. *p is initialised in any case, and empty after a failure. */
int bn_profile_load(struct bn_profile *p, const char *path, struct bn_err *err);
/* The same without tokens, frames, stacks, samples and strings: quick for lists and for choosing a run. */
int bn_profile_load_summary(struct bn_profile *p, const char *path, struct bn_err *err);

#endif
