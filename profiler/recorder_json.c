/* SPDX-License-Identifier: MIT
 * What is known before the start and at the end, as JSON. */
#include "profiler/recorder_json.h"

#include <inttypes.h>
#include <unistd.h>

#include "profiler/fingerprint.h"

static void add_u64_text(cJSON *object, const char *key, uint64_t value)
{
    char text[24];

    snprintf(text, sizeof text, "%" PRIu64, value);
    cJSON_AddStringToObject(object, key, text);
}

static void add_fact(void *ctx, const char *key, const char *value)
{
    cJSON *pair = cJSON_CreateArray();

    cJSON_AddItemToArray(pair, cJSON_CreateString(key));
    cJSON_AddItemToArray(pair, value ? cJSON_CreateString(value) : cJSON_CreateNull());
    cJSON_AddItemToArray(ctx, pair);
}

cJSON *bn_recorder_facts(void)
{
    cJSON *facts = cJSON_CreateArray();

    bn_fingerprint(add_fact, facts);
    return facts;
}

static char *print_and_delete(cJSON *root)
{
    char *text = cJSON_PrintUnformatted(root);

    cJSON_Delete(root);
    return text;
}

char *bn_recorder_header(const struct bn_recorder_head *head, cJSON *facts)
{
    const struct bn_perf *s = head->sampler;
    const struct perf_event_attr *attr = &s->ladder.attr;
    cJSON *root = cJSON_CreateObject();

    cJSON_AddStringToObject(root, "schema", "bnprof-part");
    cJSON_AddNumberToObject(root, "version", 2);
    cJSON_AddStringToObject(root, "run_id", head->run_id);
    cJSON_AddStringToObject(root, "started", head->started);
    add_u64_text(root, "started_ns", head->started_ns);
    add_u64_text(root, "t0_ns", head->t0_ns);
    cJSON_AddStringToObject(root, "command", head->command);
    cJSON_AddBoolToObject(root, "engine", head->engine);
    cJSON_AddNumberToObject(root, "pid", head->pid);
    cJSON_AddStringToObject(root, "event", bn_ladder_event_name(s->ladder.event));
    cJSON_AddNumberToObject(root, "asked_hz", s->rate_hz);
    cJSON_AddNumberToObject(root, "period_ns", attr->freq ? 0 : (double)attr->sample_period);
    cJSON_AddStringToObject(root, "call_graph", head->frame_pointers ? "fp" : "dwarf");
    cJSON_AddNumberToObject(root, "stack_dump_bytes", attr->sample_stack_user);
    cJSON_AddBoolToObject(root, "kernel_sampled", s->ladder.kernel_sampled);
    cJSON_AddStringToObject(root, "ladder", s->ladder.sentence);
    cJSON_AddNumberToObject(root, "ring_bytes", (double)s->ring_bytes);
    cJSON_AddNumberToObject(root, "n_cpus", (double)s->n_rings);
    cJSON_AddNumberToObject(root, "page_bytes", (double)sysconf(_SC_PAGESIZE));
    cJSON_AddItemToObject(root, "facts", facts);
    return print_and_delete(root);
}

char *bn_recorder_footer(const struct bn_recorder_foot *foot)
{
    const struct bn_recorder_closing *c = &foot->closing;
    cJSON *root = cJSON_CreateObject();

    cJSON_AddNumberToObject(root, "exit_status", foot->end.exit_status);
    cJSON_AddNumberToObject(root, "duration_ns", (double)foot->duration_ns);
    cJSON_AddNumberToObject(root, "cpu_ns", (double)foot->cpu.cpu_ns);
    cJSON_AddNumberToObject(root, "unreached_ns", (double)foot->cpu.unreached_ns);
    cJSON_AddNumberToObject(root, "user_ns", (double)foot->cpu.user_ns);
    cJSON_AddNumberToObject(root, "system_ns", (double)foot->cpu.system_ns);
    cJSON_AddNumberToObject(root, "major_faults", (double)foot->end.major_faults);
    cJSON_AddNumberToObject(root, "minor_faults", (double)foot->end.minor_faults);
    cJSON_AddNumberToObject(root, "lost", (double)foot->lost);
    cJSON_AddNumberToObject(root, "throttled", (double)foot->throttled);
    cJSON_AddItemToObject(root, "steal_share",
                          foot->steal_share < 0 ? cJSON_CreateNull() : cJSON_CreateNumber(foot->steal_share));
    cJSON_AddNumberToObject(root, "recorder_cpu_ns", (double)foot->recorder_cpu_ns);
    cJSON_AddItemToObject(root, "model_sha256",
                          c->model_sha256[0] ? cJSON_CreateString(c->model_sha256) : cJSON_CreateNull());
    if (foot->ran_on)
        cJSON_AddStringToObject(root, "ran_on", foot->ran_on);
    if (foot->not_sampled)
        cJSON_AddStringToObject(root, "not_sampled", foot->not_sampled);
    cJSON *limits = cJSON_CreateNull();
    if (c->limit_threads) {
        cJSON_Delete(limits);
        limits = cJSON_CreateObject();
        cJSON_AddNumberToObject(limits, "threads", c->limit_threads);
        cJSON_AddNumberToObject(limits, "read_bytes_per_s", c->read_bytes_per_s);
        cJSON_AddNumberToObject(limits, "int8_macs_per_s", c->int8_macs_per_s);
        cJSON_AddNumberToObject(limits, "last_cache_bytes", (double)c->last_cache_bytes);
    }
    cJSON_AddItemToObject(root, "limits", limits);
    return print_and_delete(root);
}

bool bn_recorder_ticks(struct bn_recorder_ticks *ticks)
{
    enum {
        FIELDS = 8,
        STEAL = 7
    }; /* user nice system idle iowait irq softirq steal; guests are part of user */
    uint64_t v[FIELDS] = {0};
    FILE *f = fopen("/proc/stat", "re");

    *ticks = (struct bn_recorder_ticks){0};
    if (!f)
        return false;
    int n = fscanf(
        f, "cpu %" SCNu64 " %" SCNu64 " %" SCNu64 " %" SCNu64 " %" SCNu64 " %" SCNu64 " %" SCNu64 " %" SCNu64,
        &v[0], &v[1], &v[2], &v[3], &v[4], &v[5], &v[6], &v[7]);
    fclose(f);
    for (int i = 0; i < FIELDS; i++)
        ticks->total += v[i];
    ticks->steal = v[STEAL];
    return n == FIELDS;
}

double bn_recorder_steal(const struct bn_recorder_ticks *before, const struct bn_recorder_ticks *after)
{
    uint64_t total = after->total - before->total, steal = after->steal - before->steal;

    return total > 0 && steal <= total ? (double)steal / (double)total : 0;
}
