/* SPDX-License-Identifier: MIT
 * Records in, tables and samples out. */
#include "profiler/intake.h"

#include <errno.h>
#include <linux/perf_event.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>

/* A thread that was heard of. */
struct bn_intake_thread {
    int32_t pid, tid;
    bool ended;
    uint64_t end_ns;
    char name[16];
    struct bn_off_cpu_thread times;
    uint64_t told_ns; /* its CPU time, where the source says that; 0 = it does not */
};

void bn_intake_begin(struct bn_intake *in, const struct bn_record_format *format, bool frame_pointers)
{
    *in = (struct bn_intake){.format = *format, .exec_ns = UINT64_MAX};
    bn_maps_init(&in->maps);
    bn_callstack_begin(&in->stacks, &in->maps, frame_pointers);
}

void bn_intake_end(struct bn_intake *in)
{
    if (!in->stacks.unwinder)
        return;
    bn_callstack_end(&in->stacks);
    bn_maps_free(&in->maps);
    bn_idmap_free(&in->thread_of_tid);
    bn_off_cpu_free(&in->off_cpu);
    free(in->threads);
    free(in->news);
    free(in->samples);
    *in = (struct bn_intake){0};
}

void bn_intake_set_vdso(struct bn_intake *in, const void *bytes, size_t n)
{
    bn_maps_set_vdso(&in->maps, bytes, n);
}

/* ---- threads ---- */

static void tell_thread(struct bn_intake *in, uint32_t index, int32_t tid)
{
    struct bn_raw_thread told = {.index = index, .pid = in->threads[index].pid, .tid = tid};

    memcpy(told.name, in->threads[index].name, sizeof in->threads[index].name);
    bn_grow(&in->news, &in->cap_news, in->n_news + 1, sizeof *in->news);
    in->news[in->n_news++] = told;
}

static void set_name(struct bn_intake_thread *t, const char *name)
{
    snprintf(t->name, sizeof t->name, "%s", name);
}

static uint32_t new_thread(struct bn_intake *in, int32_t pid, int32_t tid, const char *name)
{
    uint32_t index = (uint32_t)in->n_threads++;

    bn_grow(&in->threads, &in->cap_threads, in->n_threads, sizeof *in->threads);
    in->threads[index] = (struct bn_intake_thread){.pid = pid, .tid = tid};
    set_name(&in->threads[index], name);
    bn_idmap_put(&in->thread_of_tid, (uint32_t)tid, 0, index);
    tell_thread(in, index, tid);
    return index;
}

/* The living thread of that number, made if it was never heard of. A sample may come a moment after the end.
 */
static uint32_t thread_of(struct bn_intake *in, int32_t pid, int32_t tid)
{
    const uint32_t *known = bn_idmap_get(&in->thread_of_tid, (uint32_t)tid, 0);

    return known && in->threads[*known].pid == pid ? *known : new_thread(in, pid, tid, "");
}

static void end_thread(struct bn_intake_thread *t, uint64_t t_ns)
{
    t->ended = true;
    t->end_ns = t_ns;
    bn_off_cpu_ends(&t->times, t_ns);
}

void bn_intake_off_cpu_so_far(struct bn_intake *in, int32_t pid, int32_t tid, uint64_t until_ns)
{
    const uint32_t *known = bn_idmap_get(&in->thread_of_tid, (uint32_t)tid, 0);

    if (known && !in->threads[*known].ended && in->threads[*known].pid == pid)
        bn_off_cpu_so_far(&in->off_cpu, &in->threads[*known].times, tid, until_ns);
}

uint64_t bn_intake_thread_end(const struct bn_intake *in, int32_t pid, int32_t tid)
{
    const uint32_t *known = bn_idmap_get(&in->thread_of_tid, (uint32_t)tid, 0);

    return known && in->threads[*known].ended && in->threads[*known].pid == pid ? in->threads[*known].end_ns
                                                                                : UINT64_MAX;
}

/* exec leaves one thread, and that has the process's number, whichever called it. If the first one did not,
 * its end was told before, and nothing is ever told of the caller's number again. */
static uint32_t thread_after_exec(struct bn_intake *in, const struct bn_record *r)
{
    const uint32_t *known = bn_idmap_get(&in->thread_of_tid, (uint32_t)r->tid, 0);

    if (!known || !in->threads[*known].ended || in->threads[*known].pid != r->pid)
        return thread_of(in, r->pid, r->tid);
    for (size_t i = 0; i < in->n_threads; i++)
        if (in->threads[i].pid == r->pid && !in->threads[i].ended)
            end_thread(&in->threads[i], r->t_ns);
    return new_thread(in, r->pid, r->tid, "");
}

static void apply_to_threads(struct bn_intake *in, const struct bn_record *r)
{
    bool exec = r->type == PERF_RECORD_COMM && r->misc & PERF_RECORD_MISC_COMM_EXEC;
    const uint32_t *known = bn_idmap_get(&in->thread_of_tid, (uint32_t)r->tid, 0), *parent;
    char name[sizeof in->threads->name] = "";
    uint32_t thread;

    switch (r->type) {
    case PERF_RECORD_FORK:
        parent = bn_idmap_get(&in->thread_of_tid, (uint32_t)r->parent_tid, 0);
        if (parent)
            memcpy(name, in->threads[*parent].name, sizeof name); /* the table may move */
        if (known && !in->threads[*known].ended && in->threads[*known].pid == r->pid)
            break;
        thread = new_thread(in, r->pid, r->tid, name);
        in->threads[thread].times.born = true;
        break;
    case PERF_RECORD_COMM:
        if (exec && r->pid == in->scopes_pid && r->t_ns > in->scopes_ns && r->t_ns < in->exec_ns)
            in->exec_ns = r->t_ns;
        thread = exec ? thread_after_exec(in, r) : thread_of(in, r->pid, r->tid);
        set_name(&in->threads[thread], r->text);
        tell_thread(in, thread, r->tid);
        if (exec)
            bn_off_cpu_runs(&in->threads[thread].times, r->t_ns);
        break;
    case PERF_RECORD_EXIT:
        if (known)
            end_thread(&in->threads[*known], r->t_ns);
        break;
    case PERF_RECORD_READ: /* of sources that tell no switches */
        thread = thread_of(in, r->pid, r->tid);
        if (r->value > in->threads[thread].told_ns)
            in->threads[thread].told_ns = r->value;
        break;
    case PERF_RECORD_SWITCH:
        thread = thread_of(in, r->pid, r->tid);
        if (!in->threads[thread].ended)
            bn_off_cpu_switch(&in->off_cpu, &in->threads[thread].times, r, in->start_ns);
        break;
    default:
        break;
    }
}

void bn_intake_find(struct bn_intake *in, const struct bn_intake_found *found)
{
    bn_intake_apply(in,
                    &(struct bn_record){
                        .type = PERF_RECORD_COMM, .pid = found->pid, .tid = found->tid, .text = found->name});
    in->threads[thread_of(in, found->pid, found->tid)].times.at_start = found->state;
}

size_t bn_intake_living(const struct bn_intake *in, int32_t **pids)
{
    struct bn_idmap seen = {0};
    size_t n = 0, capacity = 0;

    *pids = NULL;
    for (size_t i = 0; i < in->n_threads; i++) {
        const struct bn_intake_thread *t = &in->threads[i];
        if (t->ended || bn_idmap_get(&seen, (uint32_t)t->pid, 0))
            continue;
        bn_idmap_put(&seen, (uint32_t)t->pid, 0, 1);
        bn_grow(pids, &capacity, n + 1, sizeof **pids);
        (*pids)[n++] = t->pid;
    }
    bn_idmap_free(&seen);
    return n;
}

const char *bn_intake_name(const struct bn_intake *in, int32_t pid)
{
    const uint32_t *first = bn_idmap_get(&in->thread_of_tid, (uint32_t)pid, 0);

    return first && in->threads[*first].pid == pid ? in->threads[*first].name : "";
}

void bn_intake_left(struct bn_intake *in, uint64_t t_ns)
{
    for (size_t i = 0; i < in->n_threads; i++) {
        struct bn_intake_thread *t = &in->threads[i];
        if (t->ended)
            continue;
        bn_off_cpu_left(&in->off_cpu, &t->times, t->tid, in->start_ns, t_ns);
        t->ended = true;
        t->end_ns = t_ns;
    }
}

/* ---- records ---- */

static void add_sample(struct bn_intake *in, const struct bn_record *r)
{
    struct bn_callstack_found found = bn_callstack_of(&in->stacks, bn_maps_process(&in->maps, r->pid), r);
    uint32_t thread = thread_of(in, r->pid, r->tid);

    bn_off_cpu_sampled(&in->threads[thread].times, r->t_ns);
    bn_grow(&in->samples, &in->cap_samples, in->n_samples + 1, sizeof *in->samples);
    in->samples[in->n_samples++] = (struct bn_intake_sample){
        .t_ns = r->t_ns,
        .pid = r->pid,
        .tid = r->tid,
        .raw = {.weight = r->period,
                .thread = thread,
                .stack = found.stack,
                .node = BN_RAW_NO_SCOPES,
                .layer = -1,
                .flags = found.flags},
    };
    in->n_total++;
}

void bn_intake_apply(struct bn_intake *in, const struct bn_record *r)
{
    bn_maps_apply(&in->maps, r);
    apply_to_threads(in, r);
}

void bn_intake_record(struct bn_intake *in, const uint8_t *record)
{
    struct bn_record r;

    if (bn_record_decode(&in->format, record, &r, NULL) != 0) {
        in->n_damaged++;
        return;
    }
    in->last_ns = r.t_ns > in->last_ns ? r.t_ns : in->last_ns;
    in->n_lost += r.lost;
    if (r.lost) /* perhaps switches */
        for (size_t i = 0; i < in->n_threads; i++)
            bn_off_cpu_lost(&in->threads[i].times);
    in->n_throttled += r.type == PERF_RECORD_THROTTLE;
    if (r.type == PERF_RECORD_SAMPLE)
        add_sample(in, &r);
    else
        bn_intake_apply(in, &r);
}

/* ---- writing ---- */

static void write_files(struct bn_intake *in, struct bn_raw_writer *w)
{
    for (; in->n_files_written < in->maps.n_files; in->n_files_written++) {
        const struct bn_mapped_file *f = &in->maps.files[in->n_files_written];
        struct bn_raw_file head = {.index = (uint32_t)in->n_files_written,
                                   .build_id_bytes = f->build_id_bytes};
        memcpy(head.build_id, f->build_id, f->build_id_bytes);
        bn_raw_append(w, BN_RAW_FILE, &head, sizeof head, f->path, strlen(f->path));
    }
}

static void write_samples(struct bn_intake *in, struct bn_raw_writer *w)
{
    struct bn_raw_samples head = {0};
    struct bn_raw_sample *raw;
    size_t begin = 0, end;

    for (; begin < in->n_samples; begin = end) {
        head.base_ns = in->samples[begin].t_ns;
        raw = bn_xmalloc((in->n_samples - begin) * sizeof *raw);
        for (end = begin; end < in->n_samples; end++) { /* as far as 32 bits of nanoseconds reach */
            uint64_t dt_ns = in->samples[end].t_ns - head.base_ns;
            if (dt_ns > UINT32_MAX)
                break;
            raw[end - begin] = in->samples[end].raw;
            raw[end - begin].dt_ns = (uint32_t)dt_ns;
        }
        bn_raw_append(w, BN_RAW_SAMPLES, &head, sizeof head, raw, (end - begin) * sizeof *raw);
        free(raw);
    }
    in->n_samples = 0;
}

void bn_intake_write_totals(struct bn_intake *in, struct bn_raw_writer *w)
{
    bn_off_cpu_write(&in->off_cpu, w);
    struct bn_raw_on_cpu *on = bn_xcalloc(in->n_threads + 1, sizeof *on);
    for (size_t i = 0; i < in->n_threads; i++) {
        struct bn_off_cpu_thread times = in->threads[i].times;
        bn_off_cpu_ends(&times, in->last_ns);
        on[i] = (struct bn_raw_on_cpu){.thread = (uint32_t)i,
                                       .ns = in->no_switches ? in->threads[i].told_ns : times.on_ns};
    }
    bn_raw_append(w, BN_RAW_ON_CPU, on, in->n_threads * sizeof *on, NULL, 0);
    free(on);
}

static bool is_gone(int32_t pid)
{
    return kill(pid, 0) != 0 && errno == ESRCH;
}

void bn_intake_write(struct bn_intake *in, struct bn_raw_writer *w)
{
    enum { GRACE_NS = 2000000000 }; /* a sample may come a little after the end of its process */

    if (in->last_ns > GRACE_NS)
        bn_maps_forget(&in->maps, in->last_ns - GRACE_NS, is_gone);
    bn_off_cpu_settle(&in->off_cpu);
    write_files(in, w);
    if (in->n_news)
        bn_raw_append(w, BN_RAW_THREADS, in->news, in->n_news * sizeof *in->news, NULL, 0);
    in->n_news = 0;
    bn_callstack_write(&in->stacks, w);
    write_samples(in, w);
}
