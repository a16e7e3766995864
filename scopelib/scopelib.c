/* SPDX-License-Identifier: MIT
 * libbnprof-scope: the functions of <bnprof/scope.h> on the engine's own scopes (core/scope_private.h).
 *
 * When the program starts, the recorder's memory is looked for; only if it is there are the scopes switched
 * on. The first process that enters a scope claims it: a shell or a launcher in front of the program does
 * not. */
#include "include/bnprof/scope.h"

#include <pthread.h>
#include <string.h>
#include <sys/prctl.h>

#include "core/scope_private.h"

#define EXPORT   __attribute__((visibility("default")))
#define NO_PLACE ((struct bnprof_place){0, -1, 0})

enum { OFFERED = 1, CLAIMED, LOST };

EXPORT unsigned bnprof_on_;

static struct bn_scope_shared *offered;
static _Atomic int state;
static _Atomic uint32_t claiming;
static _Atomic uint32_t n_steps;
static pthread_key_t thread_key; /* tells when a thread ends */

static void switch_to(unsigned on)
{
    __atomic_store_n(&bnprof_on_, on, __ATOMIC_RELAXED);
}

static void end_thread(void *unused)
{
    (void)unused;
    bn_scope_thread_end();
}

/* A child goes on unrecorded if its parent has claimed the region; if not, whoever comes first gets it. */
static void in_child(void)
{
    atomic_store(&claiming, 0);
    if (atomic_load(&state) != CLAIMED)
        return;
    switch_to(0);
    atomic_store(&state, LOST);
    bn_scope_forget();
}

__attribute__((constructor(101))) static void open_region(void)
{
    int fd; /* stays as it is: a program that execs itself before its first scope finds it again */

    offered = bn_scope_attach(&fd);
    if (!offered || pthread_key_create(&thread_key, end_thread) != 0)
        return;
    pthread_atfork(NULL, NULL, in_child);
    atomic_store(&state, OFFERED);
    switch_to(1);
}

/* Exit, or a plugin that is unloaded: nobody may call back into it. The memory stays, other threads may be at
 * work in it. */
__attribute__((destructor(101))) static void close_region(void)
{
    if (atomic_exchange(&state, 0) == 0)
        return;
    switch_to(0);
    pthread_key_delete(thread_key);
}

/* ---- slow path: a thread's first scope ---- */

static bool claimed(void)
{
    uint32_t nobody = 0;

    if (atomic_load(&state) == OFFERED) {
        while (!atomic_compare_exchange_weak(&claiming, &nobody, 1))
            nobody = 0;
        if (atomic_load(&state) == OFFERED)
            atomic_store(&state, bn_scope_claim(offered) ? CLAIMED : LOST);
        atomic_store(&claiming, 0);
    }
    if (atomic_load(&state) == LOST)
        switch_to(0);
    return atomic_load(&state) == CLAIMED;
}

static struct bn_scope_thread *begin(const char *name)
{
    char known[16] = "";

    if (bn_scope_refused || !claimed())
        return NULL;
    if (!name && prctl(PR_GET_NAME, known) == 0)
        name = known;
    bn_scope_thread_begin(name ? name : "");
    if (bn_scope_self)
        pthread_setspecific(thread_key, bn_scope_self);
    return bn_scope_self;
}

static inline struct bn_scope_thread *self(void)
{
    struct bn_scope_thread *t = bn_scope_self;

    return __builtin_expect(t != NULL, 1) ? t : begin(NULL);
}

static inline uint16_t stage_id(struct bnprof_stage *stage)
{
    unsigned id = __atomic_load_n(&stage->id_, __ATOMIC_RELAXED);

    if (__builtin_expect(id == 0 || id > BN_SCOPE_MAX_STAGES, 0)) {
        id = bn_scope_stage_id(stage->name ? stage->name : "?") + 1u;
        __atomic_store_n(&stage->id_, id, __ATOMIC_RELAXED);
    }
    return (uint16_t)(id - 1);
}

/* ---- the header's functions ---- */

EXPORT unsigned bnprof_enter_(struct bnprof_stage *stage)
{
    struct bn_scope_thread *t = self();

    if (!t)
        return 0;
    bn_scope_push(t, bn_scope_child(bn_scope_current(t), stage_id(stage)), BN_SCOPE_OWN);
    return t->depth;
}

EXPORT void bnprof_leave_(void)
{
    struct bn_scope_thread *t = bn_scope_self;

    if (t && t->depth)
        bn_scope_pop(t);
}

EXPORT void bnprof_leave_to_(unsigned depth)
{
    struct bn_scope_thread *t = bn_scope_self;

    while (t && t->depth >= depth && t->depth)
        bn_scope_pop(t);
}

EXPORT void bnprof_thread_(const char *name)
{
    struct bn_scope_thread *t = bn_scope_self;

    if (!t)
        begin(name);
    else if (name)
        strncpy(t->name, name, sizeof t->name - 1);
}

EXPORT void bnprof_count_(unsigned long long bytes, unsigned long long ops)
{
    struct bn_scope_thread *t = self();

    if (!t)
        return;
    struct bn_scope_stat *stat = &t->stats[bn_scope_current(t)];
    stat->bytes += bytes;
    stat->ops += ops;
}

EXPORT void bnprof_layer_(int layer)
{
    struct bn_scope_thread *t = self();

    if (t)
        t->layer = (int16_t)(layer < -1 ? -1 : layer > INT16_MAX ? INT16_MAX : layer);
}

/* An event at once, so that the step's first instant is known. */
EXPORT void bnprof_step_(void)
{
    struct bn_scope_thread *t = self();

    if (!t)
        return;
    t->step = atomic_fetch_add(&n_steps, 1) + 1;
    t->step_depth = t->depth;
    bn_scope_emit(t, bn_scope_now_ns(), bn_scope_current(t));
}

EXPORT struct bnprof_place bnprof_here_(void)
{
    struct bn_scope_thread *t = self();

    return t ? (struct bnprof_place){bn_scope_current(t), t->layer, t->step} : NO_PLACE;
}

EXPORT unsigned bnprof_adopt_(struct bnprof_place place)
{
    struct bn_scope_thread *t = self();

    if (!t)
        return 0;
    struct bn_scope_place known = {.layer = place.layer_, .step = place.step_};
    known.node = place.node_ < atomic_load(&bn_scope_mapped->n_nodes) ? place.node_ : 0;
    bn_scope_push_place(t, known, BN_SCOPE_ADOPTED_AROUND);
    return t->depth;
}
