/* SPDX-License-Identifier: MIT
 * Read the JSON blocks of profile.part. Absent or odd numbers become "unknown"; only what the join cannot do
 * without is an error. */
#include "profiler/part_info.h"

#include <cJSON.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

/* ---- values ---- */

static const cJSON *member(const cJSON *object, const char *key)
{
    return cJSON_GetObjectItemCaseSensitive(object, key);
}

static double real(const cJSON *object, const char *key)
{
    const cJSON *item = member(object, key);
    return cJSON_IsNumber(item) ? item->valuedouble : BN_UNKNOWN;
}

/* The program writes some of it: what cannot be is not known. */
static double from_0(const cJSON *object, const char *key, double most)
{
    double v = real(object, key);
    return v >= 0 && v <= most ? v : BN_UNKNOWN;
}

/* A count; anything else than a number from 0 to 2^53 counts as `otherwise`. */
static uint64_t count(const cJSON *object, const char *key, uint64_t otherwise)
{
    double v = real(object, key);
    return v >= 0 && v <= 9007199254740992.0 ? (uint64_t)v : otherwise;
}

static uint32_t count32(const cJSON *object, const char *key)
{
    uint64_t v = count(object, key, 0);
    return v <= UINT32_MAX ? (uint32_t)v : UINT32_MAX;
}

static const char *text(const cJSON *object, const char *key)
{
    const cJSON *item = member(object, key);
    return cJSON_IsString(item) ? item->valuestring : NULL;
}

static bool truth(const cJSON *object, const char *key)
{
    return cJSON_IsTrue(member(object, key));
}

static int u64_text(const cJSON *object, const char *key, uint64_t *out, struct bn_err *err)
{
    const char *s = text(object, key);

    if (!s || bn_parse_u64(s, 0, UINT64_MAX, out) != 0)
        return bn_err_set(err, "the header's %s is %s, expected a decimal number as a string", key,
                          s ? s : "missing");
    return 0;
}

static cJSON *parse(const char *json, size_t n, const char *what, struct bn_err *err)
{
    cJSON *root = cJSON_ParseWithLength(json, n);

    if (!cJSON_IsObject(root)) {
        cJSON_Delete(root);
        bn_err_set(err, "the %s is not a JSON object", what);
        return NULL;
    }
    return root;
}

/* ---- header ---- */

static void add_facts(struct bn_profile *p, const cJSON *facts)
{
    const cJSON *pair;

    cJSON_ArrayForEach(pair, facts)
    {
        const cJSON *key = cJSON_GetArrayItem(pair, 0), *value = cJSON_GetArrayItem(pair, 1);
        if (cJSON_IsString(key) && cJSON_IsString(value)) /* a null value is an unknown fact */
            bn_profile_add_fact(p, key->valuestring, value->valuestring);
    }
}

static void header_quality(struct bn_profile *p, const cJSON *root)
{
    struct bn_profile_quality *q = &p->quality;

    q->event = bn_profile_str(p, text(root, "event"));
    q->ladder = bn_profile_str(p, text(root, "ladder"));
    q->call_graph = bn_profile_str(p, text(root, "call_graph"));
    q->asked_hz = from_0(root, "asked_hz", 1e9);
    q->kernel_sampled = truth(root, "kernel_sampled");
    q->stack_dump_bytes = count32(root, "stack_dump_bytes");
    q->ring_bytes = count(root, "ring_bytes", 0);
}

static int read_header(struct bn_profile *p, struct bn_part_info *info, const cJSON *root, struct bn_err *err)
{
    const char *schema = text(root, "schema");
    double version = real(root, "version"), pid = real(root, "pid");

    if (!schema || strcmp(schema, "bnprof-part") != 0 || version != 2)
        return bn_err_set(err, "the header's schema is %s version %g, expected bnprof-part version 2",
                          schema ? schema : "missing", version);
    if (u64_text(root, "t0_ns", &info->t0_ns, err) != 0)
        return -1;
    info->pid = pid >= 0 && pid <= INT32_MAX ? (int32_t)pid : 0;
    info->engine = truth(root, "engine");
    info->period_ns = count(root, "period_ns", 0);
    p->run_id = bn_profile_str(p, text(root, "run_id"));
    p->started = bn_profile_str(p, text(root, "started"));
    if (text(root, "started_ns") &&
        bn_parse_u64(text(root, "started_ns"), 0, UINT64_MAX, &p->started_ns) != 0)
        p->started_ns = 0;
    p->command = bn_profile_str(p, text(root, "command"));
    header_quality(p, root);
    info->frame_pointers = p->quality.call_graph && strcmp(p->quality.call_graph, "fp") == 0;
    info->cycles = p->quality.event && strcmp(p->quality.event, "cycles") == 0;
    add_facts(p, member(root, "facts"));
    return 0;
}

int bn_part_header(struct bn_profile *p, struct bn_part_info *info, const char *json, size_t n,
                   struct bn_err *err)
{
    cJSON *root = parse(json, n, "header", err);
    int status = root ? read_header(p, info, root, err) : -1;

    cJSON_Delete(root);
    return status;
}

/* ---- snapshot: nodes, statistics, run info ---- */

static void read_nodes(struct bn_profile *p, struct bn_part_info *info, const cJSON *nodes)
{
    const cJSON *node;

    info->n_nodes = 0;
    cJSON_ArrayForEach(node, nodes)
    {
        uint32_t i = info->n_nodes, parent = count32(node, "parent");
        const char *stage = text(node, "stage");
        if (i == BN_SCOPE_MAX_NODES)
            break;
        info->stage_of_node[i] =
            i == 0
                ? 0
                : bn_profile_add_stage(p, info->stage_of_node[parent < i ? parent : 0], stage ? stage : "?");
        if (text(node, "fused_into"))
            p->stages[info->stage_of_node[i]].fused_into = bn_profile_str(p, text(node, "fused_into"));
        info->n_nodes++;
    }
}

static void read_stats(struct bn_profile *p, const struct bn_part_info *info, const cJSON *stats)
{
    const cJSON *item;

    cJSON_ArrayForEach(item, stats)
    {
        uint64_t node = count(item, "node", UINT64_MAX);
        if (node >= info->n_nodes)
            continue;
        struct bn_stage_node *s = &p->stages[info->stage_of_node[node]];
        s->calls = count(item, "calls", 0);
        s->open_calls = count(item, "open_calls", 0);
        s->total_ns = count(item, "total_ns", 0);
        s->self_ns = count(item, "self_ns", 0);
        s->worker_ns = count(item, "worker_ns", 0);
        s->min_ns = count(item, "min_ns", 0);
        s->max_ns = count(item, "max_ns", 0);
        s->p50_ns = count(item, "p50_ns", 0);
        s->p95_ns = count(item, "p95_ns", 0);
        s->p99_ns = count(item, "p99_ns", 0);
        s->bytes = count(item, "bytes", 0);
        s->ops = count(item, "ops", 0);
        s->memory_bytes = count(item, "memory_bytes", 0);
        s->int8_macs = count(item, "int8_macs", 0);
    }
}

static void read_idle(struct bn_part_info *info, const cJSON *idle)
{
    const cJSON *item;

    cJSON_ArrayForEach(item, idle)
    {
        uint64_t node = count(item, "node", UINT64_MAX);
        if (node < info->n_nodes)
            info->idle[node] = (struct bn_part_idle){.waited_ns = count(item, "waited_ns", 0),
                                                     .asleep_ns = count(item, "asleep_ns", 0),
                                                     .preempted_ns = count(item, "preempted_ns", 0)};
    }
}

static void read_model(struct bn_profile *p, const cJSON *o)
{
    struct bn_profile_model *m = &p->model;

    m->path = bn_profile_str(p, text(o, "path"));
    m->name = bn_profile_str(p, text(o, "name"));
    m->arch = bn_profile_str(p, text(o, "arch"));
    m->format = bn_profile_str(p, text(o, "format"));
    m->file_bytes = count(o, "file_bytes", 0);
    m->weight_bytes = count(o, "weight_bytes", 0);
    m->bytes_per_token = count(o, "bytes_per_token", 0);
    m->n_layer = count32(o, "n_layer");
    m->n_embd = count32(o, "n_embd");
    m->n_ff = count32(o, "n_ff");
    m->n_head = count32(o, "n_head");
    m->n_head_kv = count32(o, "n_head_kv");
    m->n_vocab = count32(o, "n_vocab");
    m->n_ctx = count32(o, "n_ctx");
}

static void read_run(struct bn_profile *p, const cJSON *config, const cJSON *result)
{
    struct bn_profile_run *r = &p->run;
    const cJSON *token_ms = member(result, "token_ms");

    r->known = true;
    r->threads = count32(config, "threads");
    r->rounds = count32(config, "rounds");
    r->max_tokens = count32(config, "max_tokens");
    r->deterministic = truth(config, "deterministic");
    r->kernel = bn_profile_str(p, text(config, "kernel"));
    r->lm_head = bn_profile_str(p, text(config, "lm_head"));
    r->cpu_used = bn_profile_str(p, text(config, "cpu_used"));
    r->cpu_detected = bn_profile_str(p, text(config, "cpu_detected"));
    r->prompt_tokens = count32(result, "prompt_tokens");
    r->generated_tokens = count32(result, "generated_tokens");
    r->token_hash = bn_profile_str(p, text(result, "token_hash"));
    r->load_ms = real(result, "load_ms");
    r->tokenizer_ms = real(result, "tokenizer_ms");
    r->first_token_ms = real(result, "first_token_ms");
    r->prompt_tokens_per_second = real(result, "prompt_tokens_per_second");
    r->decode_tokens_per_second = real(result, "decode_tokens_per_second");
    r->token_ms_p50 = real(token_ms, "p50");
    r->token_ms_p95 = real(token_ms, "p95");
    r->token_ms_p99 = real(token_ms, "p99");
    r->peak_rss_bytes = count(result, "peak_rss_bytes", 0);
}

static void info_faults(struct bn_profile_run *run, const cJSON *o)
{
    const cJSON *load = member(o, "load"), *prefill = member(o, "prefill"), *decode = member(o, "decode");

    run->load_minor_faults = count(load, "minor", UINT64_MAX);
    run->load_major_faults = count(load, "major", UINT64_MAX);
    run->prefill_minor_faults = count(prefill, "minor", UINT64_MAX);
    run->prefill_major_faults = count(prefill, "major", UINT64_MAX);
    run->decode_minor_faults = count(decode, "minor", UINT64_MAX);
    run->decode_major_faults = count(decode, "major", UINT64_MAX);
}

static void read_run_info(struct bn_profile *p, const cJSON *o)
{
    const cJSON *item;

    if (!cJSON_IsObject(o))
        return;
    if (cJSON_IsObject(member(o, "model")))
        read_model(p, member(o, "model"));
    read_run(p, member(o, "config"), member(o, "result"));
    p->run.decode_allocations = count(o, "decode_allocations", UINT64_MAX);
    info_faults(&p->run, member(o, "faults"));
    cJSON_ArrayForEach(item, member(o, "kernels"))
    {
        double calls = cJSON_IsNumber(item) ? item->valuedouble : -1;
        if (item->string && calls >= 0 && calls <= 9007199254740992.0)
            bn_profile_add_kernel(p, item->string, (uint64_t)calls);
    }
}

/* What the scopes cost, and what found no room. */
static void read_scope_cost(struct bn_profile *p, const cJSON *root)
{
    uint64_t threads = count(root, "untimed_threads", 0), stages = count(root, "refused_stages", 0),
             nodes = count(root, "refused_nodes", 0), deep = count(root, "too_deep", 0);
    struct bn_buf left_out = {0};

    p->quality.empty_scope_ns = from_0(root, "empty_scope_ns", 1e9);
    p->quality.scope_events += count(root, "past_events", 0);
    p->quality.scope_events_dropped += count(root, "past_dropped", 0);
    const struct {
        uint64_t n;
        const char *what;
        int most;
        const char *of;
    } limits[] = {{threads, "threads", BN_SCOPE_MAX_THREADS, "at a time"},
                  {stages, "entries of stages", BN_SCOPE_MAX_STAGES, "names"},
                  {nodes, "scopes", BN_SCOPE_MAX_NODES, "paths of stages"},
                  {deep, "scopes", BN_SCOPE_MAX_DEPTH, "inside each other"}};
    for (size_t i = 0; i < BN_COUNT(limits); i++)
        if (limits[i].n)
            bn_buf_printf(&left_out, "%s%" PRIu64 " %s beyond %d %s", left_out.n ? ", " : "", limits[i].n,
                          limits[i].what, limits[i].most, limits[i].of);
    if (left_out.n)
        bn_profile_add_fact(p, "scopes_left_out", left_out.p);
    bn_buf_free(&left_out);
}

int bn_part_snapshot(struct bn_profile *p, struct bn_part_info *info, const char *json, size_t n,
                     struct bn_err *err)
{
    cJSON *root = parse(json, n, "snapshot", err);

    if (!root)
        return -1;
    double pid = real(root, "pid");
    if (pid > 0 && pid <= INT32_MAX) /* a launcher may stand before the program with the scopes */
        info->pid = (int32_t)pid;
    info->timers_until_ns = count(root, "until_ns", 0);
    read_scope_cost(p, root);
    read_nodes(p, info, member(root, "nodes"));
    read_stats(p, info, member(root, "stats"));
    read_idle(info, member(root, "idle"));
    if (info->engine)
        read_run_info(p, member(root, "info"));
    cJSON_Delete(root);
    return 0;
}

size_t bn_part_threads(struct bn_profile *p, const char *json, size_t n, struct bn_part_thread **threads)
{
    cJSON *root = cJSON_ParseWithLength(json, n);
    const cJSON *item, *array = member(root, "threads");
    size_t k = 0;

    *threads = NULL;
    if (cJSON_IsArray(array))
        *threads = bn_xcalloc((size_t)cJSON_GetArraySize(array) + 1, sizeof **threads);
    cJSON_ArrayForEach(item, array)
    {
        double tid = real(item, "tid");
        if (*threads && tid > 0 && tid <= INT32_MAX)
            (*threads)[k++] = (struct bn_part_thread){.tid = (int32_t)tid,
                                                      .name = bn_profile_str(p, text(item, "name")),
                                                      .events = count(item, "events", 0),
                                                      .dropped = count(item, "dropped", 0)};
    }
    cJSON_Delete(root);
    return k;
}

/* ---- footer ---- */

/* Lines as one. */
static void add_lines(struct bn_profile *p, const char *key, const char *lines)
{
    struct bn_buf b = {0};

    for (const char *at = lines; at && *at; at += strcspn(at, "\n"), at += *at == '\n')
        bn_buf_printf(&b, "%s%.*s", b.n ? "; " : "", (int)strcspn(at, "\n"), at);
    if (b.n)
        bn_profile_add_fact(p, key, b.p);
    bn_buf_free(&b);
}

int bn_part_footer(struct bn_profile *p, struct bn_part_info *info, const char *json, size_t n,
                   struct bn_err *err)
{
    cJSON *root = parse(json, n, "footer", err);
    struct bn_profile_quality *q = &p->quality;

    if (!root)
        return -1;
    const cJSON *limits = member(root, "limits");
    p->exit_status = (int)count(root, "exit_status", 0);
    q->duration_ns = count(root, "duration_ns", 0);
    q->cpu_ns = count(root, "cpu_ns", 0);
    q->unreached_ns = count(root, "unreached_ns", 0);
    q->unreached_ns = q->unreached_ns < q->cpu_ns ? q->unreached_ns : q->cpu_ns;
    q->user_ns = count(root, "user_ns", 0);
    q->system_ns = count(root, "system_ns", 0);
    q->major_faults = count(root, "major_faults", 0);
    q->minor_faults = count(root, "minor_faults", 0);
    q->n_lost = count(root, "lost", 0);
    q->n_throttled = count(root, "throttled", 0);
    q->steal_share = from_0(root, "steal_share", 1);
    q->recorder_cpu_ns = count(root, "recorder_cpu_ns", 0);
    if (text(root, "ran_on"))
        bn_profile_add_fact(p, "ran_on", text(root, "ran_on"));
    add_lines(p, "not_sampled", text(root, "not_sampled"));
    p->model.sha256 = bn_profile_str(p, text(root, "model_sha256"));
    p->limits.threads = count32(limits, "threads");
    p->limits.read_bytes_per_s = real(limits, "read_bytes_per_s");
    p->limits.int8_macs_per_s = real(limits, "int8_macs_per_s");
    p->limits.last_cache_bytes = count(limits, "last_cache_bytes", 0);
    info->has_footer = true;
    cJSON_Delete(root);
    return 0;
}

void bn_part_timers_end(struct bn_profile *p, const struct bn_part_info *info, uint64_t end_ns)
{
    if (info->has_footer || info->timers_until_ns == 0 || info->timers_until_ns >= end_ns)
        return;
    char *text = bn_xasprintf("its timers stand as of %.2f s, its samples go on to %.2f s",
                              (double)info->timers_until_ns / 1e9, (double)end_ns / 1e9);
    bn_profile_add_fact(p, "timers_until", text);
    free(text);
}

void bn_part_config_key(struct bn_profile *p, const struct bn_part_info *info)
{
    const struct bn_profile_run *r = &p->run;
    const char *command = p->command ? p->command : "";
    char *key = NULL;

    if (info->engine && r->known)
        key = bn_xasprintf("sha256:%.16s|%s|t%u|p%u g%u m%u r%u|%s",
                           p->model.sha256 ? p->model.sha256 : "unknown",
                           p->model.format ? p->model.format : "unknown", r->threads, r->prompt_tokens,
                           r->generated_tokens, r->max_tokens, r->rounds, command);
    p->config_key = bn_profile_str(p, key ? key : command);
    free(key);
}
