/* SPDX-License-Identifier: MIT
 * The loop that ties launch, sampler, intake and scope reader together. It shares the machine with the
 * program that it measures, so it sleeps as long as the rings allow. */
#include "profiler/recorder.h"

#include <errno.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <sys/auxv.h>
#include <sys/resource.h>
#include <unistd.h>

#include "profiler/intake.h"
#include "profiler/raw.h"
#include "profiler/recorder_end.h"
#include "profiler/recorder_env.h"
#include "profiler/recorder_json.h"
#include "profiler/scope_intake.h"

enum {
    WAIT_MS = 100, /* the sample rings wake us when half full, the scope rings do not */
    WAIT_MIN_MS = 2,
    WAIT_FIRST_MS = 10,
    FLUSH_MS = 500, /* a recorder that is killed loses less than a second */
    SNAPSHOT_MS = 5000,
    TOTALS_MS = 30000,
};
/* Of the fullest scope ring, which holds the events of up to two rounds: wait less, wait longer. */
static const double fill_high = 0.4, fill_low = 0.2;

struct recording {
    const struct bn_recorder_options *o;
    struct bn_launch launch;
    struct bn_attach attach; /* pid 0 = the program was launched */
    struct bn_perf sampler;
    struct bn_scope_reader scopes; /* region NULL = there are none */
    struct bn_err no_scopes;       /* why, or empty */
    struct bn_raw_writer writer;
    struct bn_intake intake;
    cJSON *facts; /* of this host; taking its time, so it is before t0 */
    struct bn_recorder_env env;
    struct bn_ring **rings;
    struct pollfd *polls;
    bool told;
    int wait_ms;
    uint64_t t0_ns, seen_ns, flushed_ns, snapshot_ns, totals_ns;
    uint64_t horizon_ns;               /* of the last round: up to there samples have been taken */
    uint64_t end_ns;                   /* of the recording */
    struct bn_left_behind left_behind; /* once the last record was read */
};

/* Has the program entered scopes? Until then it is like one that has none; the engine always will. */
static bool has_scopes(const struct recording *rec)
{
    return rec->scopes.region && (rec->o->engine || bn_scope_reader_active(&rec->scopes));
}

static pid_t program_pid(const struct recording *rec)
{
    return rec->o->attach_pid ? rec->o->attach_pid : rec->launch.pid;
}

/* ---- rounds ---- */

static void adapt_wait(struct recording *rec, double fill)
{
    if (fill > fill_high)
        rec->wait_ms /= 2;
    else if (fill < fill_low)
        rec->wait_ms += rec->wait_ms / 4 + 1;
    if (rec->wait_ms < WAIT_MIN_MS)
        rec->wait_ms = WAIT_MIN_MS;
    if (rec->wait_ms > WAIT_MS)
        rec->wait_ms = WAIT_MS;
}

/* Records and events up to the moment at which the round before looked: by now everything of that time has
 * reached its ring, so all rings together can be read in the order of time. */
static void one_round(struct recording *rec, bool last)
{
    uint64_t horizon_ns = last ? UINT64_MAX : rec->seen_ns;
    struct bn_intake *in = &rec->intake;
    const uint8_t *record;

    if (rec->scopes.region)
        bn_scope_intake_owner(&rec->scopes, in);
    rec->horizon_ns = rec->seen_ns;
    rec->seen_ns = bn_now_ns();
    bn_perf_see(&rec->sampler);
    while ((record = bn_rings_next(rec->rings, rec->sampler.n_rings, &in->format, horizon_ns)) != NULL)
        bn_intake_record(in, record);
    bn_perf_release(&rec->sampler);
    if (last) {
        rec->left_behind = bn_left_behind_find(in, program_pid(rec));
        bn_intake_left(in, rec->end_ns);
    }
    if (has_scopes(rec)) {
        adapt_wait(rec, bn_scope_reader_fill(&rec->scopes));
        if (last)
            rec->scopes.end_ns = bn_scope_intake_end(&rec->scopes, in, rec->end_ns);
        bn_scope_intake_place(&rec->scopes, in, horizon_ns);
        bn_scope_reader_emit(&rec->scopes, horizon_ns, &rec->writer);
    }
    bn_intake_write(in, &rec->writer);
}

static void write_snapshot(struct recording *rec, uint64_t now_ns)
{
    uint64_t until_ns[BN_SCOPE_MAX_THREADS];

    bn_scope_intake_ends(&rec->scopes, &rec->intake, now_ns, until_ns);
    char *text = bn_scope_reader_snapshot(&rec->scopes, rec->t0_ns, now_ns, until_ns);

    bn_raw_append(&rec->writer, BN_RAW_SNAPSHOT, text, strlen(text), NULL, 0);
    free(text);
    rec->snapshot_ns = bn_now_ns();
}

/* Line by line, to the user. */
static void tell(const struct recording *rec, const struct bn_buf *notes)
{
    const char *end;

    for (const char *line = notes->p; line && (end = strchr(line, '\n')); line = end + 1) {
        char *text = bn_xasprintf("%.*s", (int)(end - line), line);
        rec->o->note(rec->o->ctx, text);
        free(text);
    }
}

/* Once, when the engine has loaded its model. */
static void hear_engine(struct recording *rec)
{
    if (rec->told || !rec->o->told)
        return;
    char *info = bn_scope_reader_info(&rec->scopes);
    if (!info)
        return;
    rec->told = true;
    tell(rec, &rec->sampler.notes);
    char *path = rec->o->told(rec->o->ctx, info);
    if (path && !rec->writer.failed) {
        free(rec->writer.path);
        rec->writer.path = path;
    } else {
        free(path);
    }
    free(info);
}

/* What counts is the last one: of a recording that is cut off early, too, little is to be missing. But many
 * threads make much of it: no more than some ten kilobytes a second. */
static bool is_due(const struct recording *rec, uint64_t now_ns, uint64_t last_ns, uint64_t most_ms,
                   size_t n_threads)
{
    enum { SHARE = 4, NS_A_THREAD = 1000000 };
    uint64_t wait_ns = (now_ns - rec->t0_ns) / SHARE, least_ns = FLUSH_MS * 1000000ull;

    least_ns = least_ns > n_threads * NS_A_THREAD ? least_ns : n_threads * NS_A_THREAD;
    wait_ns = wait_ns < least_ns ? least_ns : wait_ns;
    return now_ns - last_ns > (wait_ns < most_ms * 1000000 ? wait_ns : most_ms * 1000000);
}

static void housekeeping(struct recording *rec)
{
    uint64_t now_ns = bn_now_ns();

    if (rec->o->engine)
        hear_engine(rec);
    bn_scope_intake_look(&rec->scopes, &rec->intake, rec->seen_ns);
    if (has_scopes(rec) && is_due(rec, now_ns, rec->snapshot_ns, SNAPSHOT_MS, 0))
        write_snapshot(rec, rec->horizon_ns);
    if (is_due(rec, now_ns, rec->totals_ns, TOTALS_MS, rec->intake.n_threads)) {
        bn_intake_write_totals(&rec->intake, &rec->writer);
        rec->totals_ns = now_ns;
    }
    if (now_ns - rec->flushed_ns > FLUSH_MS * 1000000ull) {
        bn_raw_flush(&rec->writer);
        rec->flushed_ns = now_ns;
    }
}

/* Is there nothing more to wait for? *left: the program goes on. */
static bool is_over(struct recording *rec, struct bn_launch_end *end, bool *left)
{
    double s = (double)(bn_now_ns() - rec->t0_ns) / 1e9;

    if (rec->attach.pid) {
        bool gone = bn_attach_ended(&rec->attach);
        *left = !gone;
        return gone || bn_launch_interrupts() > 0 || (rec->o->seconds > 0 && s >= rec->o->seconds);
    }
    *left = false;
    if (bn_launch_ended(&rec->launch, end))
        return true;
    *left = bn_launch_interrupts() > 1;
    return *left;
}

/* How long to sleep: not beyond the asked end. */
static int wait_ms(const struct recording *rec)
{
    double left_ms = rec->o->seconds * 1e3 - (double)(bn_now_ns() - rec->t0_ns) / 1e6;

    if (!rec->attach.pid || rec->o->seconds <= 0 || left_ms > rec->wait_ms)
        return rec->wait_ms;
    return left_ms > 0 ? (int)left_ms + 1 : 0;
}

/* Until the program has ended. After a failed write (full disk) only its end is waited for. */
static struct bn_launch_end run_program(struct recording *rec, bool *left)
{
    struct bn_launch_end end = {0};
    nfds_t n_polls = rec->sampler.n_rings + 1;
    bool stopped = false;

    while (!is_over(rec, &end, left)) {
        if (rec->writer.failed && rec->attach.pid)
            break; /* nobody waits for this program's end */
        if (rec->writer.failed && !stopped) {
            bn_perf_stop(&rec->sampler);
            stopped = true;
        }
        if (stopped)
            poll(rec->polls, 1, WAIT_MS);
        else
            poll(rec->polls, n_polls, wait_ms(rec));
        for (nfds_t i = 1; i < n_polls; i++)
            if (rec->polls[i].revents & (POLLHUP | POLLERR))
                rec->polls[i].fd = -1; /* nobody left who could fill it */
        if (stopped)
            continue;
        one_round(rec, false);
        housekeeping(rec);
    }
    return end;
}

/* ---- before and after ---- */

/* Every program gets a region; only the engine cannot be recorded without. */
static int offer_scopes(struct recording *rec, struct bn_launch_command *command, struct bn_err *err)
{
    if (bn_scope_reader_create(&rec->scopes, BN_SCOPE_RING_EVENTS, err) != 0) {
        rec->no_scopes = *err;
        return rec->o->engine ? -1 : 0;
    }
    rec->scopes.engine = rec->o->engine;
    bn_recorder_env_add(&rec->env, bn_xasprintf("BNPROF_SCOPE_FD=%d", rec->scopes.fd));
    command->keep_fd = rec->scopes.fd;
    return 0;
}

static int start_attached(struct recording *rec, struct bn_err *err)
{
    struct bn_perf_options o = rec->o->sampler;

    o.ladder.attach = true;
    if (bn_attach_begin(&rec->attach, rec->o->attach_pid, NULL, err) != 0)
        return -1;
    rec->t0_ns = bn_now_ns(); /* its events count from when they are opened */
    if (bn_perf_open(&rec->sampler, &o, rec->attach.pid, err) != 0 ||
        bn_attach_threads(&rec->attach, &rec->sampler, err) != 0)
        return -1;
    return 0;
}

static int start_launched(struct recording *rec, struct bn_launch_command *command, struct bn_err *err)
{
    const struct bn_recorder_options *o = rec->o;

    *command = (struct bn_launch_command){
        .file = o->file, .argv = o->argv, .env = (const char *const *)rec->env.words, .keep_fd = -1};
    if (offer_scopes(rec, command, err) != 0 || bn_perf_choose(&rec->sampler, &o->sampler, 0, err) != 0 ||
        (rec->sampler.timer &&
         bn_recorder_env_timers(&rec->env, rec->sampler.timer, o->engine, o->file, err) != 0) ||
        bn_launch_start(&rec->launch, command, err) != 0 ||
        bn_perf_start(&rec->sampler, &o->sampler, rec->launch.pid, err) != 0)
        return -1;
    return 0;
}

static int start(struct recording *rec, struct bn_launch_command *command, struct bn_err *err)
{
    const struct bn_recorder_options *o = rec->o;

    rec->facts = bn_recorder_facts();
    if (bn_raw_create(&rec->writer, o->part_path, err) != 0)
        return -1;
    if ((o->attach_pid ? start_attached(rec, err) : start_launched(rec, command, err)) != 0)
        return -1;
    size_t n = rec->sampler.n_rings;
    rec->rings = bn_xcalloc(n, sizeof(struct bn_ring *));
    rec->polls = bn_xcalloc(n + 1, sizeof *rec->polls);
    rec->polls[0] =
        (struct pollfd){.fd = o->attach_pid ? rec->attach.pidfd : rec->launch.pidfd, .events = POLLIN};
    for (size_t i = 0; i < n; i++) {
        rec->rings[i] = &rec->sampler.rings[i].ring;
        rec->polls[i + 1] = (struct pollfd){.fd = rec->sampler.rings[i].fd, .events = POLLIN};
    }
    rec->wait_ms = o->engine ? WAIT_FIRST_MS : WAIT_MS;
    const struct perf_event_attr *attr = &rec->sampler.ladder.attr;
    bn_intake_begin(&rec->intake, &(struct bn_record_format){attr->sample_type, attr->sample_regs_user},
                    rec->sampler.frame_pointers);
    rec->intake.no_switches = !attr->context_switch;
    return 0;
}

/* The kernel's own little library has no file; the program's copy is the same as ours. */
static void write_vdso(struct recording *rec)
{
    const void *image = (const void *)getauxval(AT_SYSINFO_EHDR); // NOLINT: that is what the kernel gives
    struct bn_raw_module head = {0};
    char line[512];
    FILE *f = fopen("/proc/self/maps", "re");

    while (f && fgets(line, sizeof line, f)) {
        unsigned long long begin, end;
        if (strstr(line, "[vdso]") && sscanf(line, "%llx-%llx", &begin, &end) == 2 &&
            begin == (unsigned long long)(uintptr_t)image)
            head.size_bytes = end - begin;
    }
    if (f)
        fclose(f);
    if (head.size_bytes == 0)
        return;
    bn_intake_set_vdso(&rec->intake, image, head.size_bytes);
    bn_raw_append(&rec->writer, BN_RAW_MODULE, &head, sizeof head, image, head.size_bytes);
}

static uint64_t own_cpu_ns(void)
{
    struct rusage u;

    getrusage(RUSAGE_SELF, &u);
    return (uint64_t)(u.ru_utime.tv_sec + u.ru_stime.tv_sec) * 1000000000u +
           (uint64_t)(u.ru_utime.tv_usec + u.ru_stime.tv_usec) * 1000u;
}

static void write_header(struct recording *rec)
{
    const struct bn_recorder_options *o = rec->o;
    struct bn_recorder_head head = {.run_id = o->run_id,
                                    .started = o->started,
                                    .started_ns = o->started_ns,
                                    .command = o->command,
                                    .engine = o->engine,
                                    .pid = program_pid(rec),
                                    .sampler = &rec->sampler,
                                    .frame_pointers = rec->sampler.frame_pointers};
    cJSON *facts = rec->facts;

    rec->facts = NULL;
    if (rec->no_scopes.msg[0])
        cJSON_AddItemToArray(facts,
                             cJSON_CreateStringArray((const char *[]){"scopes", rec->no_scopes.msg}, 2));
    if (o->attach_pid) {
        char text[32];
        snprintf(text, sizeof text, "process %d", (int)o->attach_pid);
        cJSON_AddItemToArray(facts, cJSON_CreateStringArray((const char *[]){"attached", text}, 2));
    }
    if (!rec->attach.pid)
        rec->t0_ns = bn_now_ns();
    rec->seen_ns = rec->flushed_ns = rec->snapshot_ns = rec->totals_ns = bn_now_ns();
    rec->intake.start_ns = rec->t0_ns;
    head.t0_ns = rec->t0_ns;
    char *text = bn_recorder_header(&head, facts);
    bn_raw_append(&rec->writer, BN_RAW_HEADER, text, strlen(text), NULL, 0);
    free(text);
    write_vdso(rec);
    if (rec->attach.pid)
        bn_attach_tell(&rec->attach, &rec->intake);
}

static void close_file(struct recording *rec, struct bn_recorder_foot *foot)
{
    const struct bn_recorder_options *o = rec->o;
    char *info = o->engine ? bn_scope_reader_info(&rec->scopes) : NULL;

    if (o->engine)
        hear_engine(rec);
    if (has_scopes(rec))
        write_snapshot(rec, rec->t0_ns + foot->duration_ns);
    bn_raw_flush(&rec->writer); /* what follows can take seconds */
    if (o->close && !rec->writer.failed)
        o->close(o->ctx, info, &foot->closing);
    free(info);
    char *text = bn_recorder_footer(foot);
    bn_raw_append(&rec->writer, BN_RAW_FOOTER, text, strlen(text), NULL, 0);
    free(text);
}

/* Of the engine, whose stages are numbered like their enum. */
static bool has_generated(const struct recording *rec)
{
    uint32_t n = atomic_load(&rec->scopes.region->n_nodes);

    for (uint32_t i = 0; i < n && i < BN_SCOPE_MAX_NODES; i++)
        if (rec->scopes.region->nodes[i].stage == BN_STAGE_DECODE ||
            rec->scopes.region->nodes[i].stage == BN_STAGE_PREFILL)
            return true;
    return false;
}

/* What was lost: by the kernel's count, or, where it keeps none, by what its records say; and what came
 * damaged. */
static void settle_loss(struct recording *rec, struct bn_recorder_foot *foot)
{
    uint64_t counted = bn_perf_lost(&rec->sampler), told = rec->intake.n_lost;

    foot->lost = (counted > told ? counted : told) + rec->intake.n_damaged;
    for (size_t i = 0; i < rec->sampler.n_rings; i++)
        foot->lost += rec->rings[i]->n_damaged;
    foot->throttled = rec->intake.n_throttled;
}

static int record(struct recording *rec, struct bn_recorder_result *result, struct bn_err *err)
{
    struct bn_launch_command command;
    struct bn_recorder_foot foot = {0};
    struct bn_recorder_ticks before, after;
    bool left;

    if (start(rec, &command, err) != 0)
        return -1;
    write_header(rec);
    bool ticks = bn_recorder_ticks(&before);
    uint64_t cpu_ns = own_cpu_ns();
    if (rec->attach.pid)
        bn_launch_take_interrupts(&rec->launch);
    else if (bn_launch_release(&rec->launch, &command, err) != 0)
        return -1;
    if (!rec->o->engine) /* what does not start has one thing to say; the engine is heard of later */
        tell(rec, &rec->sampler.notes);
    foot.end = run_program(rec, &left);
    bn_perf_stop(&rec->sampler);
    rec->end_ns = bn_now_ns();
    foot.duration_ns = rec->end_ns - rec->t0_ns;
    foot.recorder_cpu_ns = own_cpu_ns() - cpu_ns;
    foot.steal_share = ticks && bn_recorder_ticks(&after) ? bn_recorder_steal(&before, &after) : -1;
    bn_launch_stop_forwarding(&rec->launch);
    one_round(rec, true);
    bn_intake_write_totals(&rec->intake, &rec->writer);
    settle_loss(rec, &foot);
    foot.cpu = rec->attach.pid
                   ? bn_recorder_cpu_attached(&rec->sampler, &rec->attach, &rec->left_behind, &foot.end)
                   : bn_recorder_cpu_launched(&rec->sampler, &rec->intake, &rec->left_behind,
                                              left ? rec->launch.pid : 0, rec->end_ns, &foot.end);
    foot.ran_on = left ? NULL : bn_left_behind_text(&rec->left_behind, &rec->intake);
    struct bn_buf gaps = {0};
    if (rec->sampler.timer)
        bn_timer_shortcomings(rec->sampler.timer, &gaps);
    tell(rec, &gaps);
    foot.not_sampled = gaps.p;
    close_file(rec, &foot);
    bn_buf_free(&gaps);
    bool ran_on = foot.ran_on;
    if (ran_on)
        rec->o->note(rec->o->ctx, foot.ran_on);
    free(foot.ran_on);
    *result = (struct bn_recorder_result){
        .ran = true,
        .left = left,
        .ran_on = ran_on,
        .kernel_sampled = rec->sampler.ladder.kernel_sampled || rec->sampler.timer,
        .timer = rec->sampler.timer != NULL,
        .rate_hz = rec->sampler.rate_hz,
        .exit_status = foot.end.exit_status,
        .generated = rec->o->engine && has_generated(rec),
        .n_samples = rec->intake.n_total,
        .n_lost = foot.lost,
        .duration_ns = foot.duration_ns,
        .cpu = foot.cpu,
        .recorder_cpu_ns = foot.recorder_cpu_ns,
        .empty_scope_ns = rec->scopes.region ? rec->scopes.region->empty_scope_ns : 0,
    };
    return 0;
}

int bn_record(const struct bn_recorder_options *o, struct bn_recorder_result *result, struct bn_err *err)
{
    struct recording rec = {.o = o, .writer.fd = -1, .env.library_fd = -1};

    rec.launch = (struct bn_launch){.pid = -1, .pidfd = -1, .go_fd = -1, .error_fd = -1};
    *result = (struct bn_recorder_result){0};
    int status = record(&rec, result, err);
    bn_intake_end(&rec.intake);
    free(rec.left_behind.pids);
    cJSON_Delete(rec.facts);
    free(rec.rings);
    free(rec.polls);
    bn_recorder_env_free(&rec.env);
    bn_perf_close(&rec.sampler);
    bn_scope_reader_close(&rec.scopes);
    bn_attach_close(&rec.attach);
    bn_launch_close(&rec.launch);
    if (bn_raw_close(&rec.writer, status == 0 ? err : NULL) != 0)
        status = -1;
    return status;
}
