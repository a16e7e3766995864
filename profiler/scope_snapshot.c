/* SPDX-License-Identifier: MIT
 * What the scope region says at a moment, as JSON: for profile.part. The region is the program's, nothing in
 * it is trusted. */
#include <cJSON.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "profiler/scope_reader.h"

char *bn_scope_reader_info(const struct bn_scope_reader *r)
{
    /* An odd count means "being written", else it is twice the length; equal before and after: not torn. */
    for (int attempt = 0; attempt < 100; attempt++) {
        uint32_t n = atomic_load(&r->region->info_n);
        if (n == 0)
            return NULL;
        if (n % 2 == 0 && n / 2 < BN_SCOPE_INFO_BYTES) {
            char *text = bn_xmalloc(n / 2 + 1);
            memcpy(text, r->region->info, n / 2);
            text[n / 2] = '\0';
            if (atomic_load(&r->region->info_n) == n)
                return text;
            free(text);
        }
        usleep(100);
    }
    return NULL;
}

static double relative_ns(uint64_t t_ns, uint64_t t0_ns)
{
    return (double)(int64_t)(t_ns - t0_ns);
}

/* The names in a set of the engine's stages. */
static void add_fused(cJSON *item, const struct bn_scope_shared *region, uint64_t stages)
{
    char name[BN_SCOPE_STAGE_BYTES];
    struct bn_buf names = {0};

    for (uint32_t i = 0; i < 64; i++)
        if (stages >> i & 1)
            bn_buf_printf(&names, "%s%s", names.n ? ", " : "", bn_scope_stage_name(region, i, name));
    if (names.n)
        cJSON_AddStringToObject(item, "fused_into", names.p);
    bn_buf_free(&names);
}

static cJSON *nodes_json(const struct bn_scope_reader *r, uint32_t n)
{
    cJSON *array = cJSON_CreateArray();

    for (uint32_t i = 0; i < n; i++) {
        const struct bn_scope_node *node = &r->region->nodes[i];
        char name[BN_SCOPE_STAGE_BYTES];
        uint16_t parent = node->parent;
        cJSON *item = cJSON_CreateObject();
        cJSON_AddNumberToObject(item, "parent", parent < i ? parent : 0);
        cJSON_AddStringToObject(item, "stage", bn_scope_stage_name(r->region, node->stage, name));
        add_fused(item, r->region, atomic_load(&node->fused_into));
        cJSON_AddItemToArray(array, item);
    }
    return array;
}

/* Written while the program is measured: what is nothing is left out, and whole numbers are quickly printed.
 */
static void add_count(cJSON *item, const char *key, uint64_t n)
{
    char text[24];

    if (n == 0)
        return;
    snprintf(text, sizeof text, "%" PRIu64, n);
    cJSON_AddRawToObject(item, key, text);
}

static cJSON *stats_json(const struct bn_scope_total *sums, uint32_t n)
{
    cJSON *array = cJSON_CreateArray();

    for (uint32_t i = 0; i < n; i++) {
        const struct bn_scope_total *t = &sums[i];
        const struct {
            const char *key;
            uint64_t value;
        } counts[] = {
            {"node", i},
            {"open_calls", t->open_calls},
            {"calls", t->calls},
            {"total_ns", t->total_ns},
            {"self_ns", t->self_ns},
            {"worker_ns", t->worker_ns},
            {"min_ns", t->min_ns},
            {"max_ns", t->max_ns},
            {"p50_ns", t->p50_ns},
            {"p95_ns", t->p95_ns},
            {"p99_ns", t->p99_ns},
            {"bytes", t->bytes},
            {"ops", t->ops},
            {"memory_bytes", t->memory_bytes},
            {"int8_macs", t->int8_macs},
        };
        if (t->calls + t->total_ns + t->worker_ns == 0)
            continue;
        cJSON *item = cJSON_CreateObject();
        for (size_t k = 0; k < BN_COUNT(counts); k++)
            add_count(item, counts[k].key, counts[k].value);
        cJSON_AddItemToArray(array, item);
    }
    return array;
}

/* Time of workers that waited for work, by where the main thread was. */
static cJSON *idle_json(const struct bn_scope_follow *f, uint32_t n)
{
    static const char *const keys[] = {"waited_ns", "asleep_ns", "preempted_ns"};
    cJSON *array = cJSON_CreateArray();

    for (uint32_t i = 1; i < n; i++) {
        if (f->ns[i][BN_FOLLOW_WAITED] + f->ns[i][BN_FOLLOW_ASLEEP] + f->ns[i][BN_FOLLOW_PREEMPTED] == 0)
            continue;
        cJSON *item = cJSON_CreateObject();
        add_count(item, "node", i);
        for (int kind = 0; kind < BN_FOLLOW_KINDS; kind++)
            add_count(item, keys[kind], f->ns[i][kind]);
        cJSON_AddItemToArray(array, item);
    }
    return array;
}

static cJSON *threads_json(const struct bn_scope_reader *r, uint64_t t0_ns)
{
    cJSON *array = cJSON_CreateArray();

    for (uint32_t slot = 0; slot < BN_SCOPE_MAX_THREADS; slot++) {
        const struct bn_scope_thread *t = &r->region->threads[slot];
        char name[sizeof t->name];
        uint64_t end_ns = atomic_load(&t->end_ns);
        int32_t tid = bn_scope_reader_tid(r, slot);
        if (tid == 0)
            continue; /* nobody, or registering just now */
        snprintf(name, sizeof name, "%.*s", (int)sizeof name - 1, t->name);
        for (char *c = name; *c; c++)
            *c = *c >= ' ' && *c <= '~' ? *c : '?';
        cJSON *item = cJSON_CreateObject();
        cJSON_AddNumberToObject(item, "slot", slot);
        cJSON_AddNumberToObject(item, "tid", tid);
        cJSON_AddStringToObject(item, "name", name);
        cJSON_AddNumberToObject(item, "start_ns", relative_ns(atomic_load(&t->start_ns), t0_ns));
        cJSON_AddNumberToObject(item, "end_ns", end_ns ? relative_ns(end_ns, t0_ns) : 0);
        cJSON_AddNumberToObject(item, "events", (double)atomic_load(&t->events));
        cJSON_AddNumberToObject(item, "dropped", (double)atomic_load(&t->dropped));
        cJSON_AddItemToArray(array, item);
    }
    return array;
}

char *bn_scope_reader_snapshot(const struct bn_scope_reader *r, uint64_t t0_ns, uint64_t now_ns,
                               const uint64_t *until_ns)
{
    cJSON *root = cJSON_CreateObject();
    char *info = bn_scope_reader_info(r);
    cJSON *info_json = info ? cJSON_Parse(info) : NULL;
    struct bn_scope_shared *region = r->region;
    struct bn_scope_total *sums = bn_xcalloc(BN_SCOPE_MAX_NODES, sizeof *sums);
    uint32_t n = bn_scope_sums_until(region, until_ns, sums);

    cJSON_AddNumberToObject(root, "pid", atomic_load(&region->pid));
    cJSON_AddNumberToObject(root, "until_ns", relative_ns(now_ns, t0_ns));
    cJSON_AddNumberToObject(root, "empty_scope_ns", region->empty_scope_ns);
    cJSON_AddNumberToObject(root, "empty_inside_ns", region->empty_inside_ns);
    cJSON_AddNumberToObject(root, "untimed_threads", atomic_load(&region->untimed_threads));
    cJSON_AddNumberToObject(root, "refused_stages", atomic_load(&region->refused_stages));
    cJSON_AddNumberToObject(root, "refused_nodes", atomic_load(&region->refused_nodes));
    cJSON_AddNumberToObject(root, "too_deep", atomic_load(&region->too_deep));
    cJSON_AddNumberToObject(root, "past_events", (double)atomic_load(&region->past_events));
    cJSON_AddNumberToObject(root, "past_dropped", (double)atomic_load(&region->past_dropped));
    cJSON_AddItemToObject(root, "nodes", nodes_json(r, n));
    cJSON_AddItemToObject(root, "stats", stats_json(sums, n));
    cJSON_AddItemToObject(root, "idle", idle_json(r->follow, n));
    cJSON_AddItemToObject(root, "threads", threads_json(r, t0_ns));
    cJSON_AddItemToObject(root, "info", info_json ? info_json : cJSON_CreateNull());
    char *text = cJSON_PrintUnformatted(root);
    cJSON_Delete(root);
    free(info);
    free(sums);
    return text;
}
