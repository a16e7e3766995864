/* SPDX-License-Identifier: MIT
 * Read profile.part: its tables become threads and stacks of the record, its samples get their stages. */
#include "profiler/join.h"

#include <stdlib.h>
#include <string.h>

#include "profiler/callpath.h"
#include "profiler/cpu_time.h"
#include "profiler/idle.h"
#include "profiler/part_info.h"
#include "profiler/timeline.h"
#include "profiler/tokens.h"
#include "profiler/weigh.h"

enum { MAX_TOKENS = 10000 };

_Static_assert(sizeof(struct bn_raw_sample) == BN_PROFILE_RAW_SAMPLE_BYTES, "what reports go by");

struct block {
    const uint8_t *p;
    uint32_t n;
};

struct join {
    struct bn_profile *p;
    struct bn_part_info info;
    struct bn_raw_reader reader;
    struct block snapshot, footer, off_cpu, on_cpu;

    struct bn_timeline timeline;
    struct bn_kallsyms kallsyms;
    struct bn_callpath callpath;
    uint32_t *threads; /* of the record, by the recording's numbers */
    size_t n_threads, cap_threads;
    struct bn_idmap thread_of_tid; /* the latest thread of that number */

    uint32_t startup, shutdown; /* stages; BN_NONE = there is no such time */
    const struct bn_timeline_thread *main;
    uint64_t damaged, last_ns;
    uint64_t lost_bytes; /* that can have told of threads */
    bool unsorted;
};

/* ---- reading the file ---- */

static void add_scopes_block(struct join *j, const uint8_t *payload, size_t n)
{
    struct bn_raw_scopes head;

    if (n < sizeof head)
        return;
    memcpy(&head, payload, sizeof head);
    /* Payloads are 8-byte aligned, and so is what follows the head. */
    const struct bn_scope_event *events = (const void *)(payload + sizeof head);
    bn_timeline_add(&j->timeline, &head, events, (n - sizeof head) / sizeof *events);
}

/* The time of the latest sample, for recordings that broke off. */
static void note_end(struct join *j, const uint8_t *payload, size_t n)
{
    struct bn_raw_samples head;
    struct bn_raw_sample s;

    if (n < sizeof head + sizeof s)
        return;
    memcpy(&head, payload, sizeof head);
    memcpy(&s, payload + sizeof head + ((n - sizeof head) / sizeof s - 1) * sizeof s, sizeof s);
    if (head.base_ns + s.dt_ns > j->last_ns)
        j->last_ns = head.base_ns + s.dt_ns;
}

static int read_header(struct join *j, struct bn_err *err)
{
    struct bn_raw_block block;
    const uint8_t *payload;

    while (bn_raw_next(&j->reader, &block, &payload) == 1)
        if (block.kind == BN_RAW_HEADER)
            return bn_part_header(j->p, &j->info, (const char *)payload, block.payload_bytes, err);
    if (j->reader.skipped_bytes)
        return bn_err_set(err, "the header block fails its checksum: without it the rest cannot be read");
    return bn_err_set(err, "has no whole header block: the recording broke off at once");
}

static int read_blocks(struct join *j, struct bn_err *err)
{
    struct bn_raw_block block;
    const uint8_t *payload;

    if (read_header(j, err) != 0)
        return -1;
    bn_raw_rewind(&j->reader);
    while (bn_raw_next(&j->reader, &block, &payload) == 1) {
        if (j->reader.gap_bytes)
            bn_timeline_lose(&j->timeline);
        switch (block.kind) {
        case BN_RAW_SCOPES:
            add_scopes_block(j, payload, block.payload_bytes);
            break;
        case BN_RAW_SNAPSHOT:
            j->snapshot = (struct block){payload, block.payload_bytes};
            break;
        case BN_RAW_MODULE:
            if (block.payload_bytes > sizeof(struct bn_raw_module))
                bn_callpath_set_vdso(&j->callpath, payload + sizeof(struct bn_raw_module),
                                     block.payload_bytes - sizeof(struct bn_raw_module));
            break;
        case BN_RAW_FOOTER:
            j->footer = (struct block){payload, block.payload_bytes};
            break;
        case BN_RAW_OFF_CPU:
            j->off_cpu = (struct block){payload, block.payload_bytes};
            break;
        case BN_RAW_ON_CPU:
            j->on_cpu = (struct block){payload, block.payload_bytes};
            break;
        case BN_RAW_SAMPLES:
            note_end(j, payload, block.payload_bytes);
            break;
        default:
            break;
        }
    }
    if (j->snapshot.p &&
        bn_part_snapshot(j->p, &j->info, (const char *)j->snapshot.p, j->snapshot.n, err) != 0)
        return -1;
    if (j->footer.p && bn_part_footer(j->p, &j->info, (const char *)j->footer.p, j->footer.n, err) != 0)
        return -1;
    bn_timeline_settle(&j->timeline);
    return 0;
}

static uint64_t since_start(const struct join *j, uint64_t t_ns)
{
    return t_ns > j->info.t0_ns ? t_ns - j->info.t0_ns : 0;
}

/* ---- threads ---- */

/* Threads up to, but without, number `index`, of which a damaged part of the recording told. */
static bool fill_threads(struct join *j, uint32_t index)
{
    uint64_t n = index > j->n_threads ? index - j->n_threads : 0;

    if (n > j->lost_bytes / sizeof(struct bn_raw_thread))
        return false;
    j->lost_bytes -= n * sizeof(struct bn_raw_thread);
    bn_grow(&j->threads, &j->cap_threads, j->n_threads + n, sizeof *j->threads);
    for (; n > 0; n--)
        j->threads[j->n_threads++] = bn_profile_add_thread(
            j->p, &(struct bn_profile_thread){.pid = j->info.pid, .name = bn_profile_str(j->p, "[lost]")});
    return true;
}

static void add_threads(struct join *j, const uint8_t *payload, size_t n)
{
    struct bn_raw_thread t;

    for (; n >= sizeof t; n -= sizeof t, payload += sizeof t) {
        memcpy(&t, payload, sizeof t);
        t.name[sizeof t.name - 1] = '\0';
        if (!fill_threads(j, t.index)) {
            j->damaged++;
            continue;
        }
        if (t.index == j->n_threads) {
            bn_grow(&j->threads, &j->cap_threads, j->n_threads + 1, sizeof *j->threads);
            j->threads[j->n_threads++] =
                bn_profile_add_thread(j->p, &(struct bn_profile_thread){.tid = t.tid, .pid = t.pid});
            bn_idmap_put(&j->thread_of_tid, (uint32_t)t.tid, 0, j->threads[t.index]);
        }
        if (t.name[0])
            j->p->threads[j->threads[t.index]].name = bn_profile_str(j->p, t.name);
    }
}

static uint32_t thread_of_tid(struct join *j, int32_t tid)
{
    const uint32_t *known = bn_idmap_get(&j->thread_of_tid, (uint32_t)tid, 0);

    if (known)
        return *known;
    uint32_t thread =
        bn_profile_add_thread(j->p, &(struct bn_profile_thread){.tid = tid, .pid = j->info.pid});
    bn_idmap_put(&j->thread_of_tid, (uint32_t)tid, 0, thread);
    return thread;
}

/* Names and counts that the engine gave its threads. */
static void name_threads(struct join *j)
{
    struct bn_part_thread *threads;
    size_t n = 0;

    if (!j->snapshot.p)
        return;
    n = bn_part_threads(j->p, (const char *)j->snapshot.p, j->snapshot.n, &threads);
    for (size_t i = 0; i < n; i++) {
        uint32_t thread = thread_of_tid(j, threads[i].tid);
        struct bn_profile_thread *t = &j->p->threads[thread];
        if (threads[i].name && threads[i].name[0])
            t->name = threads[i].name;
        t->events += threads[i].events;
        t->dropped += threads[i].dropped;
        j->p->quality.scope_events += threads[i].events;
        j->p->quality.scope_events_dropped += threads[i].dropped;
    }
    free(threads);
}

/* ---- stages ---- */

static uint32_t stage_of(const struct join *j, uint16_t node)
{
    return node < j->info.n_nodes ? j->info.stage_of_node[node] : 0;
}

/* Time of the engine that no scope covers, as a stage with one call. The engine's own scope of that name
 * comes first. */
static uint32_t edge_stage(struct join *j, const char *name, uint64_t duration_ns)
{
    uint32_t stage = bn_profile_add_stage(j->p, 0, name);
    struct bn_stage_node *s = &j->p->stages[stage];

    if (s->calls == 0) {
        s->calls = 1;
        s->total_ns = s->self_ns = s->min_ns = s->max_ns = s->p50_ns = s->p95_ns = s->p99_ns = duration_ns;
    }
    return stage;
}

static void find_edges(struct join *j, uint64_t duration_ns)
{
    j->startup = j->shutdown = BN_NONE;
    j->main = j->info.engine ? bn_timeline_thread(&j->timeline, j->info.pid) : NULL;
    if (!j->main || j->main->n == 0)
        return;
    const struct bn_timeline_event *first = &j->main->events[0], *last = &j->main->events[j->main->n - 1];
    uint64_t start_ns = since_start(j, first->t_ns), end_ns = since_start(j, last->t_ns);
    j->startup = edge_stage(j, "startup", start_ns);
    if (last->node == 0 && !last->unknown && !last->lost_after)
        j->shutdown = edge_stage(j, "shutdown", duration_ns > end_ns ? duration_ns - end_ns : 0);
}

/* Stage, layer and step of a sample, by the scope node that its thread was in. */
static void place_sample(struct join *j, const struct bn_raw_sample *raw, uint64_t t_ns, struct bn_sample *s)
{
    const struct bn_profile_thread *t = &j->p->threads[s->thread];
    bool is_main = j->main && t->tid == j->info.pid && t->pid == j->info.pid;

    s->layer = -1;
    if (raw->node == BN_RAW_BEFORE_SCOPES && is_main)
        s->stage = j->startup == BN_NONE ? 0 : j->startup;
    if (raw->node >= BN_SCOPE_MAX_NODES)
        return;
    s->step = raw->step;
    bool after = is_main && raw->node == 0 && t_ns >= j->main->events[j->main->n - 1].t_ns;
    s->stage = after && j->shutdown != BN_NONE ? j->shutdown : stage_of(j, raw->node);
    if (raw->flags & BN_RAW_SAMPLE_IDLE && j->info.n_nodes)
        s->stage = bn_idle_stage(j->p, s->stage);
    if (raw->node != 0 && s->stage)
        s->layer = raw->layer;
}

/* ---- tokens ---- */

static void add_tokens(struct join *j)
{
    struct bn_token *tokens;
    size_t n = bn_tokens_find(j->p, &j->info, &j->timeline, &tokens), kept = bn_min_size(n, MAX_TOKENS);

    for (size_t i = 0; i < kept; i++)
        bn_profile_add_token(j->p, &tokens[i * n / kept]);
    j->p->n_tokens_total = n;
    free(tokens);
}

/* ---- samples ---- */

/* In ns, but in cycles with that event: bn_weigh_by_cycles makes them ns once all are known. */
static uint64_t weight_of(const struct join *j, const struct bn_raw_sample *raw)
{
    if (raw->weight || j->info.period_ns || j->info.cycles)
        return raw->weight ? raw->weight : j->info.period_ns;
    return j->p->quality.asked_hz > 0 ? (uint64_t)fmin(1e18, 1e9 / j->p->quality.asked_hz) : 0;
}

static void add_sample(struct join *j, const struct bn_raw_sample *raw, uint64_t t_ns)
{
    struct bn_profile_quality *q = &j->p->quality;
    struct bn_sample s = {.t_ns = since_start(j, t_ns), .weight_ns = weight_of(j, raw)};

    if (raw->thread == UINT32_MAX || !fill_threads(j, raw->thread + (raw->thread >= j->n_threads))) {
        j->damaged++;
        return;
    }
    s.thread = j->threads[raw->thread];
    const struct bn_profile_thread *t = &j->p->threads[s.thread];
    bool same_table = raw->flags >> BN_RAW_SAMPLE_EPOCH_SHIFT == (uint16_t)j->callpath.epoch;
    struct bn_callpath_found found =
        bn_callpath_of(&j->callpath, same_table ? raw->stack : BN_NONE, t->tid == t->pid, s.weight_ns);
    s.stack = found.stack;
    s.flags = found.flags | (raw->flags & BN_RAW_SAMPLE_KERNEL ? BN_SAMPLE_KERNEL : 0);
    place_sample(j, raw, t_ns, &s);
    s.flags |= s.stage ? BN_SAMPLE_JOINED : 0;
    q->n_samples++;
    q->n_truncated += (s.flags & BN_SAMPLE_TRUNCATED) != 0;
    q->n_unnamed += (s.flags & BN_SAMPLE_UNNAMED) != 0;
    q->n_joined += (s.flags & BN_SAMPLE_JOINED) != 0;
    q->n_stack_full += (raw->flags & BN_RAW_SAMPLE_DUMP_SHORT) != 0;
    q->n_edge += (raw->flags & BN_RAW_SAMPLE_EDGE) != 0;
    j->unsorted = j->unsorted || (j->p->n_samples && s.t_ns < j->p->samples[j->p->n_samples - 1].t_ns);
    bn_profile_add_sample(j->p, &s);
}

static void add_samples(struct join *j, const uint8_t *payload, size_t n)
{
    struct bn_raw_samples head;
    struct bn_raw_sample raw;

    if (n < sizeof head)
        return;
    memcpy(&head, payload, sizeof head);
    for (size_t at = sizeof head; n - at >= sizeof raw; at += sizeof raw) {
        memcpy(&raw, payload + at, sizeof raw);
        add_sample(j, &raw, head.base_ns + raw.dt_ns);
    }
}

static int by_time(const void *a, const void *b)
{
    const struct bn_sample *x = a, *y = b;

    return (x->t_ns > y->t_ns) - (x->t_ns < y->t_ns);
}

/* Tables and samples, in the order of the file. */
static void read_samples(struct join *j, const struct bn_join_watch *watch)
{
    struct bn_raw_block block;
    const uint8_t *payload;

    bn_raw_rewind(&j->reader);
    while (bn_raw_next(&j->reader, &block, &payload) == 1) {
        if (watch && watch->progress)
            watch->progress(watch->ctx, j->reader.pos, j->reader.map.n);
        if (j->reader.gap_bytes) {
            bn_callpath_lose(&j->callpath, j->reader.gap_bytes);
            j->lost_bytes += j->reader.gap_bytes;
        }
        switch (block.kind) {
        case BN_RAW_FILE:
            j->damaged += bn_callpath_add_file(&j->callpath, payload, block.payload_bytes) != 0;
            break;
        case BN_RAW_THREADS:
            add_threads(j, payload, block.payload_bytes);
            break;
        case BN_RAW_STACKS:
            j->damaged += bn_callpath_add_stacks(&j->callpath, payload, block.payload_bytes) != 0;
            break;
        case BN_RAW_SAMPLES:
            add_samples(j, payload, block.payload_bytes);
            break;
        default:
            break;
        }
    }
    j->p->quality.damaged_bytes = j->reader.skipped_bytes;
    if (j->unsorted)
        qsort(j->p->samples, j->p->n_samples, sizeof *j->p->samples, by_time);
}

/* ---- time on and off the CPUs ---- */

static void add_off_cpu(struct join *j)
{
    struct bn_profile_quality *q = &j->p->quality;
    struct bn_raw_off_cpu off;

    for (size_t at = 0; j->off_cpu.n - at >= sizeof off && at < j->off_cpu.n; at += sizeof off) {
        memcpy(&off, j->off_cpu.p + at, sizeof off);
        q->n_sleeps += off.n_asleep;
        q->n_preemptions += off.n_preempted;
        q->asleep_ns += off.asleep_ns;
        q->preempted_ns += off.preempted_ns;
        struct bn_stage_node *s =
            &j->p->stages[off.node < BN_SCOPE_MAX_NODES ? stage_of(j, (uint16_t)off.node) : 0];
        s->asleep_ns += off.asleep_ns;
        s->preempted_ns += off.preempted_ns;
    }
}

static void add_on_cpu(struct join *j)
{
    struct bn_raw_on_cpu on;

    for (size_t at = 0; j->on_cpu.n - at >= sizeof on && at < j->on_cpu.n; at += sizeof on) {
        memcpy(&on, j->on_cpu.p + at, sizeof on);
        if (on.thread < j->n_threads)
            j->p->threads[j->threads[on.thread]].cpu_ns = on.ns;
    }
}

/* ---- closing ---- */

/* Samples of user code prove user time; the kernel's accounting tells it from its own by ticks alone. */
static void settle_division(struct join *j)
{
    struct bn_profile_quality *q = &j->p->quality;
    struct bn_cpu_time t = {bn_profile_cpu_ns(q), q->unreached_ns, q->user_ns, q->system_ns};

    if (q->kernel_sampled || bn_profile_by_timer(q) || j->info.cycles)
        return;
    bn_cpu_time_correct(&t, bn_profile_sampled(j->p, 0).ns);
    q->user_ns = t.user_ns;
    q->system_ns = t.system_ns;
}

static void settle_quality(struct join *j, uint64_t duration_ns)
{
    struct bn_profile_quality *q = &j->p->quality;
    settle_division(j);
    uint64_t seen_ns = bn_profile_seen_ns(q);

    q->partial = !j->info.has_footer;
    if (q->partial) {
        q->duration_ns = duration_ns;
        j->p->exit_status = -1;
    }
    q->n_lost += j->damaged;
    if (seen_ns > 0)
        q->achieved_hz = (double)q->n_samples * 1e9 / (double)seen_ns;
    if (j->info.cycles)
        bn_weigh_by_cycles(j->p, seen_ns > q->unreached_ns ? seen_ns - q->unreached_ns : 0);
    bn_weigh_close(j->p);
}

/* Why stacks broke off, in one line: counts by reason, and the file at the break of the latest one. */
static void add_failures(struct join *j)
{
    const struct bn_callpath *c = &j->callpath;
    struct bn_buf line = {0};

    for (int end = 0; end < BN_UNWIND_END_COUNT; end++) {
        if (end == BN_UNWIND_COMPLETE || c->ends[end] == 0)
            continue;
        bn_buf_printf(&line, "%s%llu: %s", line.n ? "; " : "", (unsigned long long)c->ends[end],
                      bn_unwind_end_text((enum bn_unwind_end)end));
        const char *file = bn_callpath_file_name(c, c->last_file[end]);
        if (file)
            bn_buf_printf(&line, " (last in %s)", file);
    }
    if (line.n)
        bn_profile_add_fact(j->p, "stacks_broken_off", line.p);
    line.n = 0;
    for (size_t i = 0; i < c->n_files; i++)
        if (c->files[i].image && c->files[i].image->other_file)
            bn_buf_printf(&line, "%s%s", line.n ? "; " : "", c->files[i].image->why.msg);
    if (line.n)
        bn_profile_add_fact(j->p, "files_not_named", line.p);
    bn_buf_free(&line);
}

static void join_all(struct join *j, const struct bn_join_watch *watch)
{
    uint64_t duration_ns = j->p->quality.duration_ns;

    if (!j->info.has_footer)
        duration_ns = since_start(j, j->last_ns);
    if (j->p->quality.kernel_sampled)
        bn_kallsyms_read_for(&j->kallsyms, j->p);
    find_edges(j, duration_ns);
    j->callpath.frame_pointers = j->info.frame_pointers;
    read_samples(j, watch);
    add_off_cpu(j);
    bn_idle_divide(j->p, &j->info);
    add_on_cpu(j);
    name_threads(j);
    add_tokens(j);
    settle_quality(j, duration_ns);
    add_failures(j);
    bn_part_timers_end(j->p, &j->info, duration_ns);
    bn_part_config_key(j->p, &j->info);
}

int bn_join(struct bn_profile *p, const char *part_path, const struct bn_join_watch *watch,
            struct bn_err *err)
{
    struct join j = {.p = p};

    if (bn_raw_open(&j.reader, part_path, err) != 0)
        return -1;
    bn_callpath_begin(&j.callpath, p, &j.kallsyms, false);
    int status = read_blocks(&j, err);
    if (status == 0)
        join_all(&j, watch);
    else
        bn_err_prefix(err, "%s", part_path);
    bn_callpath_end(&j.callpath);
    bn_kallsyms_free(&j.kallsyms);
    bn_timeline_free(&j.timeline);
    bn_idmap_free(&j.thread_of_tid);
    free(j.threads);
    bn_raw_close_reader(&j.reader);
    return status;
}
