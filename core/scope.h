/* SPDX-License-Identifier: MIT
 * Named scoped timers on the stages of a run: exact counts, times, bytes and operations per thread, and, when
 * a recorder listens, every change of stage as an event in shared memory.
 *
 * A thread is always inside one *node*: a stage below the node of the enclosing scope. All threads share one
 * tree of nodes, so a worker that takes a job works under the node of the thread that handed it out.
 * Everything lives in one region with a fixed layout: private memory normally, a memfd given by the recorder
 * (environment variable BNPROF_SCOPE_FD) when recorded; the recorder can read it even after a crash.
 *
 * Other programs fill the same region through libbnprof-scope (include/bnprof/scope.h), which is built from
 * the same sources. Stages have names in the region; the engine enters its own first, so that the number of a
 * stage is its enum.
 *
 * This header includes nothing of ours: the profiler reads the same layout. */
#ifndef CORE_SCOPE_H
#define CORE_SCOPE_H

#include <stdatomic.h>
#include <stddef.h>
#include <stdint.h>

/* The names are a contract (flame graph, reports, flags, tests). */
#define BN_STAGES(X)                                                                                         \
    X(ROOT, "all")                                                                                           \
    X(STARTUP, "startup")                                                                                    \
    X(MODEL_LOAD, "model_load")                                                                              \
    X(TOKENIZER_LOAD, "tokenizer_load")                                                                      \
    X(TOKENIZE, "tokenize")                                                                                  \
    X(GENERATE, "generate")                                                                                  \
    X(PREFILL, "prefill")                                                                                    \
    X(DECODE, "decode")                                                                                      \
    X(FORWARD_PASS, "forward_pass")                                                                          \
    X(EMBEDDING_LOOKUP, "embedding_lookup")                                                                  \
    X(TRANSFORMER_BLOCK, "transformer_block")                                                                \
    X(ATTENTION, "attention")                                                                                \
    X(ATTN_NORM, "attn_norm")                                                                                \
    X(QUANTIZE_ACTIVATIONS, "quantize_activations")                                                          \
    X(QKV_PROJECTION, "qkv_projection")                                                                      \
    X(ROPE_APPLY, "rope_apply")                                                                              \
    X(KV_STORE, "kv_store")                                                                                  \
    X(ATTENTION_MATMUL, "attention_matmul")                                                                  \
    X(ATTENTION_SOFTMAX, "attention_softmax")                                                                \
    X(ATTN_SUB_NORM, "attn_sub_norm")                                                                        \
    X(OUTPUT_PROJECTION, "output_projection")                                                                \
    X(RESIDUAL_ADD, "residual_add")                                                                          \
    X(FFN, "ffn")                                                                                            \
    X(FFN_NORM, "ffn_norm")                                                                                  \
    X(GATE_UP_PROJECTION, "gate_up_projection")                                                              \
    X(ACTIVATION, "activation")                                                                              \
    X(FFN_SUB_NORM, "ffn_sub_norm")                                                                          \
    X(DOWN_PROJECTION, "down_projection")                                                                    \
    X(OUTPUT_NORM, "output_norm")                                                                            \
    X(LM_HEAD, "lm_head")                                                                                    \
    X(SAMPLE_TOKEN, "sample_token")                                                                          \
    X(DETOKENIZE, "detokenize")                                                                              \
    X(SHUTDOWN, "shutdown")                                                                                  \
    X(WAIT, "wait")

#define BN_STAGE_ENUM(id, name) BN_STAGE_##id,
enum bn_stage { BN_STAGES(BN_STAGE_ENUM) BN_STAGE_COUNT };
#undef BN_STAGE_ENUM

const char *bn_stage_name(enum bn_stage stage);
/* "attn_norm, ffn_norm": the names of all stages in a set of bits 1 << stage; the answer lives in buf. */
const char *bn_stage_names(uint64_t stages, char *buf, size_t size);

enum {
    BN_SCOPE_MAX_STAGES = 256,  /* distinct names; the last one stands for all that came too late */
    BN_SCOPE_STAGE_BYTES = 48,  /* of a name, with its NUL */
    BN_SCOPE_MAX_NODES = 512,   /* distinct stage paths */
    BN_SCOPE_MAX_THREADS = 288, /* more at a time than this run untimed and are counted */
    BN_SCOPE_MAX_DEPTH = 32,
    BN_SCOPE_OCTAVES = 40, /* 1 ns … 18 min */
    BN_SCOPE_SUB = 8,      /* buckets an octave: a percentile is within 6.25 % */
    BN_SCOPE_BUCKETS = BN_SCOPE_OCTAVES * BN_SCOPE_SUB,
    BN_SCOPE_RING_EVENTS = 1 << 17, /* a thread's ring: 2 MiB */
    BN_SCOPE_INFO_BYTES = 1 << 16,
};

/* From t_ns on, the thread is in `node`; valid until its next event. node 0 is "in no stage". */
struct bn_scope_event {
    uint64_t t_ns; /* CLOCK_MONOTONIC */
    uint16_t node;
    int16_t layer; /* -1 outside the blocks */
    uint32_t step; /* generation steps begun so far in the process (a prefill or a decoded token is one) */
};

/* One node's statistics on one thread. Own entries fill calls … hist; work taken over from another thread
 * (pool workers) fills worker_ns only, so that calls stay exact. */
struct bn_scope_stat {
    uint64_t calls;
    uint64_t total_ns;  /* inclusive */
    uint64_t child_ns;  /* part of total_ns spent in child scopes; self = total - child */
    uint64_t worker_ns; /* time worked here for another thread, without its waiting */
    uint64_t min_ns, max_ns;
    uint64_t bytes, ops; /* as told by bn_scope_count; bytes moved from or to memory, ops = 2 per MAC */
    uint64_t memory_bytes, int8_macs; /* as told by bn_scope_demand; parts of bytes and of ops / 2 */
    uint64_t fused_calls;             /* as told by bn_scope_fused: without time */
    uint32_t hist[BN_SCOPE_BUCKETS];
};

struct bn_scope_node {
    uint16_t parent;
    uint16_t stage;
    _Atomic uint64_t fused_into; /* bits 1 << stage: where the time of fused calls stands; 0 = there are none.
                                    The engine's stages only */
};
_Static_assert(BN_STAGE_COUNT <= 64, "a stage of the engine is a bit of fused_into");

enum bn_scope_adopted {
    BN_SCOPE_OWN,
    BN_SCOPE_ADOPTED,       /* worker time, and so is what is entered directly inside */
    BN_SCOPE_ADOPTED_AROUND /* worker time, but scopes inside are calls of their own */
};

struct bn_scope_frame {
    uint64_t start_ns, child_ns;
    uint16_t node;
    int16_t layer;    /* of the enclosing scope, restored on leaving */
    uint32_t adopted; /* enum bn_scope_adopted */
};

/* A slot. When all have been used, a new thread takes one whose thread has ended and whose ring the recorder
 * has emptied; the statistics go on, the rest begins anew. */
struct bn_scope_thread {
    _Atomic int32_t tid; /* 0 = slot unused; stays when the thread ends */
    char name[16];
    _Atomic uint64_t start_ns, end_ns; /* end 0 = still running */
    _Atomic uint64_t head;             /* events written; owner: the thread */
    _Atomic uint64_t tail;             /* events consumed; owner: the recorder */
    _Atomic uint64_t dropped;          /* events that found the ring full */
    _Atomic uint64_t events; /* scope changes, recorded or not: times the cost gives the timers' own cost */
    uint32_t depth, step;
    uint32_t step_depth; /* the step ends when fewer scopes than this are open */
    int16_t layer;
    struct bn_scope_frame stack[BN_SCOPE_MAX_DEPTH];
    struct bn_scope_stat stats[BN_SCOPE_MAX_NODES];
};

#define BN_SCOPE_MAGIC   0x31504353u /* "SCP1" */
#define BN_SCOPE_VERSION 5u

struct bn_scope_shared {
    uint32_t magic, version;
    uint64_t size_bytes;
    uint32_t ring_events;       /* per thread; 0 = nobody listens */
    _Atomic int32_t pid;        /* of the process that claimed the region, 0 until one did */
    double empty_scope_ns;      /* measured at start: cost of one enter + leave, median */
    double empty_inside_ns;     /* the part of it that lies between the two clock reads */
    _Atomic uint32_t n_threads; /* slots taken */
    _Atomic uint32_t untimed_threads;
    _Atomic uint32_t n_stages;                      /* names; stage 0 is the root */
    _Atomic uint32_t n_nodes;                       /* node 0 is the root */
    _Atomic uint32_t refused_stages, refused_nodes; /* found the table full */
    _Atomic uint32_t too_deep;                      /* scopes in more than BN_SCOPE_MAX_DEPTH others */
    _Atomic uint64_t past_events, past_dropped;     /* of threads whose slots others have taken */
    _Atomic uint32_t lock;                          /* for adding a stage, a node, a thread */
    char stages[BN_SCOPE_MAX_STAGES][BN_SCOPE_STAGE_BYTES];
    struct bn_scope_node nodes[BN_SCOPE_MAX_NODES];
    _Atomic uint16_t child[BN_SCOPE_MAX_NODES][BN_SCOPE_MAX_STAGES]; /* 0 = not there yet */
    _Atomic uint32_t info_n;        /* twice the bytes valid in info; odd while they are being written */
    char info[BN_SCOPE_INFO_BYTES]; /* JSON object about the run, see bn_scope_publish */
    struct bn_scope_thread threads[BN_SCOPE_MAX_THREADS];
    /* then the rings: ring_events * sizeof(struct bn_scope_event) for each thread slot */
};

static inline size_t bn_scope_region_bytes(uint32_t ring_events)
{
    return sizeof(struct bn_scope_shared) +
           (size_t)BN_SCOPE_MAX_THREADS * ring_events * sizeof(struct bn_scope_event);
}

static inline struct bn_scope_event *bn_scope_ring(struct bn_scope_shared *region, uint32_t slot)
{
    return (struct bn_scope_event *)(void *)((char *)region + sizeof *region +
                                             (size_t)slot * region->ring_events *
                                                 sizeof(struct bn_scope_event));
}

/* ---- for the engine ---- */

/* Attach to the recorder's region if there is one, else to private memory; register this thread as "main";
 * measure the cost of an empty scope. Call once, first thing. Idempotent. */
void bn_scope_init(void);

/* Call these on every thread that registers: `begin` before it is timed, `end` after. For a sampler that
 * lives in the process; set before bn_scope_init. */
void bn_scope_on_threads(void (*begin)(void), void (*end)(void));

/* Register the calling thread (name at most 15 bytes) or give its slot its end time. Threads that never
 * register are not timed; scopes on them cost a branch. */
void bn_scope_thread_begin(const char *name);
void bn_scope_thread_end(void);

/* Enter a stage below the current one, and leave it again. Must nest. Allocates: nothing. */
void bn_scope_enter(enum bn_stage stage);
void bn_scope_leave(void);

/* Bytes moved and operations done by the current scope, added to those of its node. */
void bn_scope_count(uint64_t bytes, uint64_t ops);

/* What of it the machine's limits are measured for, added likewise: memory_bytes, read from weight matrices
 * and from the KV cache (all else lives in caches from one stage to the next), and int8_macs, multiply-adds
 * of int8 values into int32. Only what is truly read and multiplied, once for every pass over it: shares of
 * the limits are computed from these. */
void bn_scope_demand(uint64_t memory_bytes, uint64_t int8_macs);

/* The stage `stage` below the current one was done `calls` times by a kernel that also does `into`, under
 * which its time, bytes and operations stand: the stage keeps exact calls, and no time. */
void bn_scope_fused(enum bn_stage stage, enum bn_stage into, uint64_t calls);

/* The layer that scopes entered from now on belong to; -1 = none. It holds until the scope around ends. */
void bn_scope_layer(int layer);

/* A new generation step begins (process-wide counter; call on the thread that generates). */
void bn_scope_step(void);

/* Where this thread is, to be handed to workers with their job. */
struct bn_scope_place {
    uint16_t node;
    int16_t layer;
    uint32_t step;
};
struct bn_scope_place bn_scope_here(void);

/* Work for another thread: from now until bn_scope_release this thread is at `place`. Time goes to worker_ns.
 */
void bn_scope_adopt(struct bn_scope_place place);
void bn_scope_release(void);

/* Give the recorder a JSON object that describes the run (see docs/formats.md#run-info); the last one counts.
 * Longer than BN_SCOPE_INFO_BYTES - 1 is refused: returns -1. Does nothing when nobody listens: returns 0. */
int bn_scope_publish(const char *json, size_t n);

/* The region, for reading the statistics of this process; never NULL after bn_scope_init. */
struct bn_scope_shared *bn_scope_region(void);

static inline void bn_scope_close_(const char *unused)
{
    (void)unused;
    bn_scope_leave();
}

#define BN_SCOPE_JOIN_(a, b) a##b
#define BN_SCOPE_NAME_(line) BN_SCOPE_JOIN_(bn_scope_guard_, line)
/* BN_SCOPE(FFN); at the head of a block: the stage lasts to the end of the block. */
#define BN_SCOPE(stage)                                                                                      \
    bn_scope_enter(BN_STAGE_##stage);                                                                        \
    __attribute__((cleanup(bn_scope_close_), unused)) const char BN_SCOPE_NAME_(__LINE__) = 0

/* ---- for readers of the statistics ---- */

/* Statistics of one node over all threads. */
struct bn_scope_total {
    uint64_t calls, total_ns, self_ns, worker_ns, min_ns, max_ns, bytes, ops, memory_bytes, int8_macs;
    uint64_t p50_ns, p95_ns, p99_ns;  /* from the histogram, clamped to min … max; 0 without calls */
    uint64_t fused_into, fused_calls; /* of the node; the calls contain those that were fused */
    uint64_t open_calls;              /* of them, not left yet: without part in min … max and percentiles */
};
struct bn_scope_total bn_scope_sum(const struct bn_scope_shared *region, uint32_t node);

/* The sums of all nodes, with the timers' own cost taken out of total_ns and self_ns: a scope's inner part is
 * its own, its outer part the enclosing scope's. min … max stay as measured. `sums` has room for
 * BN_SCOPE_MAX_NODES; returns how many nodes there are. The region may be written meanwhile, by anybody. */
uint32_t bn_scope_sums(const struct bn_scope_shared *region, struct bn_scope_total *sums);

/* The same with the scopes that are still open, as if they ended now: those of the thread in slot i at
 * until_ns[i] (CLOCK_MONOTONIC; 0: not counted). until_ns: [BN_SCOPE_MAX_THREADS]. */
uint32_t bn_scope_sums_until(const struct bn_scope_shared *region, const uint64_t *until_ns,
                             struct bn_scope_total *sums);

/* A stage's name in the region, printable and never empty: "?" for a number that has none. */
const char *bn_scope_stage_name(const struct bn_scope_shared *region, uint32_t stage,
                                char buf[BN_SCOPE_STAGE_BYTES]);

/* Bucket of a duration (BN_SCOPE_SUB linear ones an octave), and the middle of a bucket in ns. */
static inline unsigned bn_scope_bucket(uint64_t ns)
{
    enum { SUB_BITS = 3 };
    _Static_assert(BN_SCOPE_SUB == 1 << SUB_BITS, "buckets an octave");
    if (ns < BN_SCOPE_SUB)
        return (unsigned)ns;
    unsigned octave = 63 - (unsigned)__builtin_clzll(ns);
    unsigned sub = (unsigned)(ns >> (octave - SUB_BITS)) & (BN_SCOPE_SUB - 1);
    unsigned bucket = (octave - SUB_BITS + 1) * BN_SCOPE_SUB + sub;
    return bucket < BN_SCOPE_BUCKETS ? bucket : BN_SCOPE_BUCKETS - 1;
}
uint64_t bn_scope_bucket_ns(unsigned bucket);

#endif
