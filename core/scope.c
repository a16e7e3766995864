/* SPDX-License-Identifier: MIT
 * Named scoped timers of the engine. The hot path is in core/scope_private.h.
 *
 * A thread's slot in the region is written by that thread alone; readers (reports of the process itself, the
 * recorder in another one) see counters that may be one scope old. Nodes are added under a spin lock, once
 * per distinct stage path; afterwards finding one is an array look-up. */
#include "core/scope.h"

#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "core/scope_private.h"

#define STAGE_NAME(id, name) name,
static const char *const stage_names[BN_STAGE_COUNT] = {BN_STAGES(STAGE_NAME)};
#undef STAGE_NAME

static bool region_is_shared;
static _Atomic uint32_t step_counter;

const char *bn_stage_name(enum bn_stage stage)
{
    return (unsigned)stage < BN_STAGE_COUNT ? stage_names[stage] : "?";
}

const char *bn_stage_names(uint64_t stages, char *buf, size_t size)
{
    size_t used = 0;

    buf[0] = '\0';
    for (unsigned i = 0; i < BN_STAGE_COUNT && used < size; i++) {
        if (stages >> i & 1)
            used += (size_t)snprintf(buf + used, size - used, "%s%s", used ? ", " : "", stage_names[i]);
    }
    return buf;
}

void bn_scope_enter(enum bn_stage stage)
{
    struct bn_scope_thread *t = bn_scope_self;

    if (!t)
        return;
    bn_scope_push(t, bn_scope_child(bn_scope_current(t), (uint16_t)stage), BN_SCOPE_OWN);
}

void bn_scope_leave(void)
{
    struct bn_scope_thread *t = bn_scope_self;

    if (!t || t->depth == 0)
        return;
    bn_scope_pop(t);
}

void bn_scope_count(uint64_t bytes, uint64_t ops)
{
    struct bn_scope_thread *t = bn_scope_self;

    if (!t)
        return;
    struct bn_scope_stat *stat = &t->stats[bn_scope_current(t)];
    stat->bytes += bytes;
    stat->ops += ops;
}

void bn_scope_demand(uint64_t memory_bytes, uint64_t int8_macs)
{
    struct bn_scope_thread *t = bn_scope_self;

    if (!t)
        return;
    struct bn_scope_stat *stat = &t->stats[bn_scope_current(t)];
    stat->memory_bytes += memory_bytes;
    stat->int8_macs += int8_macs;
}

void bn_scope_fused(enum bn_stage stage, enum bn_stage into, uint64_t calls)
{
    struct bn_scope_thread *t = bn_scope_self;

    if (!t)
        return;
    uint16_t node = bn_scope_child(bn_scope_current(t), (uint16_t)stage);
    uint64_t bit = (uint64_t)1 << into;
    t->stats[node].fused_calls += calls;
    if (!(atomic_load_explicit(&bn_scope_mapped->nodes[node].fused_into, memory_order_relaxed) & bit))
        atomic_fetch_or(&bn_scope_mapped->nodes[node].fused_into, bit);
}

void bn_scope_layer(int layer)
{
    if (bn_scope_self)
        bn_scope_self->layer = (int16_t)layer;
}

void bn_scope_step(void)
{
    uint32_t step = atomic_fetch_add(&step_counter, 1) + 1;

    if (bn_scope_self)
        bn_scope_self->step = step;
}

struct bn_scope_place bn_scope_here(void)
{
    struct bn_scope_thread *t = bn_scope_self;

    if (!t)
        return (struct bn_scope_place){.node = 0, .layer = -1};
    return (struct bn_scope_place){.node = bn_scope_current(t), .layer = t->layer, .step = t->step};
}

void bn_scope_adopt(struct bn_scope_place place)
{
    struct bn_scope_thread *t = bn_scope_self;

    if (!t)
        return;
    bn_scope_push_place(t, place, BN_SCOPE_ADOPTED);
}

void bn_scope_release(void)
{
    bn_scope_leave();
}

/* ---- region ---- */

static struct bn_scope_shared *private_region(void)
{
    size_t size = bn_scope_region_bytes(0);
    struct bn_scope_shared *r =
        mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);

    if (r == MAP_FAILED)
        abort(); /* nothing can run in less */
    r->magic = BN_SCOPE_MAGIC;
    r->version = BN_SCOPE_VERSION;
    r->size_bytes = size;
    return r;
}

void bn_scope_init(void)
{
    int fd;

    if (bn_scope_mapped)
        return;
    struct bn_scope_shared *r = bn_scope_attach(&fd);
    unsetenv("BNPROF_SCOPE_FD"); /* children of ours are not this engine */
    if (r) {
        close(fd);
        region_is_shared = bn_scope_claim(r);
        if (region_is_shared)
            pthread_atfork(NULL, NULL, bn_scope_forget);
        else
            munmap(r, r->size_bytes);
    }
    if (!region_is_shared)
        bn_scope_claim(private_region());
    for (unsigned i = 1; i < BN_STAGE_COUNT; i++)
        bn_scope_stage_id(stage_names[i]);
    bn_scope_thread_begin("main");
}

struct bn_scope_shared *bn_scope_region(void)
{
    return bn_scope_mapped;
}

int bn_scope_publish(const char *json, size_t n)
{
    if (!bn_scope_mapped || !region_is_shared)
        return 0;
    if (n >= BN_SCOPE_INFO_BYTES)
        return -1;
    /* An odd length means "being written": the reader tries again, or keeps what it had. */
    atomic_store(&bn_scope_mapped->info_n, 1);
    memcpy(bn_scope_mapped->info, json, n);
    bn_scope_mapped->info[n] = '\0';
    atomic_store(&bn_scope_mapped->info_n, (uint32_t)n * 2);
    return 0;
}
