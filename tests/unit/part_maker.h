/* SPDX-License-Identifier: MIT
 * For tests of the join: profile.part made by hand. Records go through the intake as a recorder's would; the
 * samples' scope nodes come from the events that were put, by a search as plain as can be. */
#ifndef TESTS_UNIT_PART_MAKER_H
#define TESTS_UNIT_PART_MAKER_H

#include <linux/perf_event.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "core/scope.h"
#include "profiler/intake.h"

enum { MAKER_PID = 100, MAKER_T0 = 1000000 };
enum {
    MAKER_TYPE = PERF_SAMPLE_IP | PERF_SAMPLE_TID | PERF_SAMPLE_TIME | PERF_SAMPLE_CPU | PERF_SAMPLE_PERIOD
};

struct maker {
    struct bn_raw_writer w;
    char path[64];
    uint64_t sample_type;
    struct bn_buf records;
    struct maker_placed {
        int32_t tid;
        struct bn_scope_event event;
    } * events; /* of all threads */
    size_t n_events, cap_events;
};

static inline void maker_json(struct maker *m, enum bn_raw_kind kind, const char *text)
{
    bn_raw_append(&m->w, kind, NULL, 0, text, strlen(text));
}

static inline void maker_open(struct maker *m, uint64_t sample_type)
{
    struct bn_err err;

    *m = (struct maker){.sample_type = sample_type};
    snprintf(m->path, sizeof m->path, "/tmp/part_maker.%d", (int)getpid());
    unlink(m->path);
    if (bn_raw_create(&m->w, m->path, &err) != 0) {
        fprintf(stderr, "%s\n", err.msg);
        abort();
    }
}

static inline void maker_header(struct maker *m, const char *more)
{
    char *text = bn_xasprintf(
        "{\"schema\":\"bnprof-part\",\"version\":2,\"run_id\":\"r1\",\"started\":\"2026-11-21 10:15:00 "
        "+0000\","
        "\"t0_ns\":\"%d\",\"command\":\"run\",\"engine\":true,\"pid\":%d,\"event\":\"cpu-clock\",\"asked_"
        "hz\":1000,"
        "\"period_ns\":1000000,\"call_graph\":\"dwarf\",\"stack_dump_bytes\":16384,\"kernel_sampled\":false,"
        "\"ladder\":\"l\",\"ring_bytes\":4096,\"n_cpus\":2,\"page_bytes\":4096,\"sample_type\":\"%llu\","
        "\"regs_user\":\"0\",\"facts\":[[\"cpu_model\",\"C\"],[\"os\",null]]%s}",
        MAKER_T0, MAKER_PID, (unsigned long long)m->sample_type, more);
    maker_json(m, BN_RAW_HEADER, text);
    free(text);
}

static inline void maker_put(struct maker *m, uint32_t type, uint16_t misc, const void *body, size_t n)
{
    static const char zeros[8];
    struct perf_event_header head = {
        .type = type, .misc = misc, .size = (uint16_t)(sizeof head + bn_round_up(n, 8))};

    bn_buf_put(&m->records, &head, sizeof head);
    bn_buf_put(&m->records, body, n);
    bn_buf_put(&m->records, zeros, bn_round_up(n, 8) - n);
}

/* The trailer of every record that is no sample: TID, TIME, CPU. */
static inline void maker_trailer(struct bn_buf *b, int32_t pid, int32_t tid, uint64_t t)
{
    uint64_t time = MAKER_T0 + t, cpu = 0;

    bn_buf_put(b, &pid, 4);
    bn_buf_put(b, &tid, 4);
    bn_buf_put(b, &time, 8);
    bn_buf_put(b, &cpu, 8);
}

static inline void maker_comm(struct maker *m, int32_t pid, int32_t tid, const char *name, bool exec,
                              uint64_t t)
{
    struct bn_buf b = {0};
    char text[16] = "";

    snprintf(text, sizeof text, "%s", name);
    bn_buf_put(&b, &pid, 4);
    bn_buf_put(&b, &tid, 4);
    bn_buf_put(&b, text, sizeof text);
    maker_trailer(&b, pid, tid, t);
    maker_put(m, PERF_RECORD_COMM, exec ? PERF_RECORD_MISC_COMM_EXEC : 0, b.p, b.n);
    bn_buf_free(&b);
}

static inline void maker_task(struct maker *m, uint32_t type, int32_t pid, int32_t ppid, int32_t tid,
                              int32_t ptid, uint64_t t)
{
    struct bn_buf b = {0};
    uint64_t time = MAKER_T0 + t;

    bn_buf_put(&b, &pid, 4);
    bn_buf_put(&b, &ppid, 4);
    bn_buf_put(&b, &tid, 4);
    bn_buf_put(&b, &ptid, 4);
    bn_buf_put(&b, &time, 8);
    maker_trailer(&b, pid, tid, t);
    maker_put(m, type, 0, b.p, b.n);
    bn_buf_free(&b);
}

/* A user sample without registers: ip, who, when. */
static inline void maker_sample(struct maker *m, int32_t pid, int32_t tid, uint64_t t, uint64_t period)
{
    struct bn_buf b = {0};
    uint64_t ip = 0x1234, time = MAKER_T0 + t, cpu = 0;

    bn_buf_put(&b, &ip, 8);
    bn_buf_put(&b, &pid, 4);
    bn_buf_put(&b, &tid, 4);
    bn_buf_put(&b, &time, 8);
    bn_buf_put(&b, &cpu, 8);
    bn_buf_put(&b, &period, 8);
    maker_put(m, PERF_RECORD_SAMPLE, PERF_RECORD_MISC_USER, b.p, b.n);
    bn_buf_free(&b);
}

struct maker_event {
    uint64_t t;
    uint16_t node;
    int16_t layer;
    uint32_t step;
};

static inline void maker_scopes(struct maker *m, int32_t tid, uint32_t slot, uint64_t dropped,
                                const struct maker_event *events, size_t n)
{
    struct bn_raw_scopes head = {.tid = tid, .slot = slot, .dropped = dropped};
    struct bn_scope_event *out = bn_xcalloc(n + 1, sizeof *out);

    bn_grow(&m->events, &m->cap_events, m->n_events + n, sizeof *m->events);
    for (size_t i = 0; i < n; i++) {
        out[i] =
            (struct bn_scope_event){MAKER_T0 + events[i].t, events[i].node, events[i].layer, events[i].step};
        m->events[m->n_events++] = (struct maker_placed){tid, out[i]};
    }
    bn_raw_append(&m->w, BN_RAW_SCOPES, &head, sizeof head, out, n * sizeof *out);
    free(out);
}

static inline void maker_footer(struct maker *m)
{
    maker_json(
        m, BN_RAW_FOOTER,
        "{\"exit_status\":3,\"duration_ns\":10000,\"cpu_ns\":90000,\"unreached_ns\":10,\"user_ns\":80000,"
        "\"system_ns\":10000,\"ran_on\":\"1 process ran on\",\"major_faults\":1,"
        "\"minor_faults\":2,\"lost\":4,\"throttled\":5,\"steal_share\":0.25,\"recorder_cpu_ns\":77,"
        "\"model_sha256\":\"0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef\","
        "\"limits\":{\"threads\":2,\"read_bytes_per_s\":1e9,\"int8_macs_per_s\":2e9,\"last_cache_bytes\":"
        "4096}}");
}

static inline void maker_place(const struct maker *m, struct bn_intake_sample *s)
{
    bool before = false;

    for (size_t i = 0; i < m->n_events; i++) {
        const struct bn_scope_event *e = &m->events[i].event;
        if (m->events[i].tid != s->tid)
            continue;
        if (e->t_ns <= s->t_ns) {
            s->raw.node = e->node;
            s->raw.layer = e->layer;
            s->raw.step = e->step;
        }
        before = true;
    }
    if (before && s->raw.node == BN_RAW_NO_SCOPES)
        s->raw.node = BN_RAW_BEFORE_SCOPES;
}

/* The record of the smallest time not below `from`, and behind `after` among equal ones; NULL = none. */
static inline const uint8_t *maker_next(const struct maker *m, const struct bn_record_format *format,
                                        const uint8_t *after)
{
    const uint8_t *best = NULL, *begin = (const uint8_t *)m->records.p;
    uint64_t from = after ? bn_record_time(format, after) : 0, t, best_t = UINT64_MAX;

    for (size_t at = 0, size; at < m->records.n; at += size) {
        size = bn_record_size(begin + at, m->records.n - at);
        t = bn_record_time(format, begin + at);
        if (t < best_t && (t > from || (t == from && (!after || begin + at > after)))) {
            best = begin + at;
            best_t = t;
        }
    }
    return best;
}

/* Records in the order of time, as the recorder takes them. */
static inline void maker_settle(struct maker *m)
{
    struct bn_record_format format = {.sample_type = m->sample_type};
    struct bn_intake in;

    bn_intake_begin(&in, &format, false);
    for (const uint8_t *r = maker_next(m, &format, NULL); r; r = maker_next(m, &format, r))
        bn_intake_record(&in, r);
    for (size_t i = 0; i < in.n_samples; i++)
        maker_place(m, &in.samples[i]);
    bn_intake_write(&in, &m->w);
    bn_intake_end(&in);
    bn_buf_free(&m->records);
    free(m->events);
}

static inline void maker_close(struct maker *m)
{
    struct bn_err err;

    maker_settle(m);
    if (bn_raw_close(&m->w, &err) != 0) {
        fprintf(stderr, "%s\n", err.msg);
        abort();
    }
}

#endif
