/* SPDX-License-Identifier: MIT
 * The engine by names and numbers, as options give them: what `run` and `bench` open in the same way.
 *
 * Four steps, in this order: choose (kernels), threads (pool), load (model), session. A failed step leaves
 * what the earlier ones opened; bn_engine_close closes whatever there is. */
#ifndef TOOLS_ENGINE_H
#define TOOLS_ENGINE_H

#include "core/lm_head.h"
#include "core/session.h"

enum { BN_ENGINE_DEFAULT_CTX = 4096 };

struct bn_engine_options {
    const char *model;   /* path; NULL = built in */
    const char *kernel;  /* a name of bn_engine_kernels, or "auto" */
    const char *lm_head; /* a name of bn_engine_lm_heads; NULL = "auto" */
    uint32_t n_top;      /* logits that will be looked at, the largest ones; 0 = all. For lm_head auto */
    const char *kv;      /* a name of bn_engine_kv; NULL = "f16" */
    const char *cpu;     /* a --cpu list; NULL = all that the machine has */
    unsigned threads;    /* 0 = as many as the cores that this process may use */
    uint32_t n_ctx;      /* positions; 0 = the model's, at most BN_ENGINE_DEFAULT_CTX */
};

/* The parts point at each other: an engine stays where it was opened. A zeroed one is closed. */
struct bn_engine {
    struct bn_engine_options options;
    unsigned cpu_flags;                  /* in use, enum bn_cpu_flag bits */
    char cpu_used[64], cpu_detected[64]; /* by name */
    enum bn_kv_type kv;
    struct bn_kernels kernels;
    struct bn_pool *pool;
    struct bn_model model;
    const char *kernel; /* in force: "i2s", "mock", or the weight format of a model without ternary weights */
    struct bn_lm_head lm_head;
    const char *lm_head_name; /* in force */
    double load_ms;           /* bn_engine_load: from the file to a model that is ready */
    struct bn_session session;
};

/* Kernels and CPU flags. `options` is copied, its strings must outlive the engine. 0, or -1 with a message
 * that begins with the option's name: a wrong command line. */
int bn_engine_choose(struct bn_engine *engine, const struct bn_engine_options *options, struct bn_err *err);

/* The pool. 0, or -1 with a message. */
int bn_engine_threads(struct bn_engine *engine, struct bn_err *err);

/* The model, ready to run; stage model_load. 0, or -1 with a message: the file, or a kernel or context that
 * the model is not made for. */
int bn_engine_load(struct bn_engine *engine, struct bn_err *err);

/* The session. 0, or -1 with a message: no memory. */
int bn_engine_session(struct bn_engine *engine, struct bn_err *err);

/* A further lm_head for the session of an engine whose model is loaded: `name` of bn_engine_lm_heads, NULL or
 * "auto". The caller closes it before the engine. 0 and *used (the mode's name), or -1 with a message. */
int bn_engine_lm_head(struct bn_engine *engine, const char *name, struct bn_lm_head *head, const char **used,
                      struct bn_err *err);

void bn_engine_close(struct bn_engine *engine);

/* ---- what options can name ---- */

/* Tables end with a NULL name; "auto" goes with each but bn_engine_kv and stands in none. */
struct bn_choice {
    const char *name, *what;
};
extern const struct bn_choice bn_engine_kernels[], bn_engine_kv[];
extern const struct bn_choice bn_engine_lm_heads[]; /* by enum bn_lm_head_mode */

/* Is it in the table, or "auto"? */
bool bn_choice_has(const struct bn_choice *table, const char *name);
/* "auto, i2s, mock" for messages; the answer lives in buf. */
const char *bn_choice_names(const struct bn_choice *table, char *buf, size_t size);
/* One line a name: the answer to `list`. */
void bn_choice_print(FILE *f, const struct bn_choice *table);

/* The CPU flags of this machine in one line: the answer to `--cpu list`. */
void bn_engine_print_cpu(FILE *f);

#endif
