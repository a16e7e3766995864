/* SPDX-License-Identifier: MIT
 * bnprof record: run the engine or any program under the profiler, leave a finished recording behind. */
#include <cJSON.h>
#include <inttypes.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "core/limits.h"
#include "hotspots/flags.h"
#include "kernels/cpu.h"
#include "profiler/attach.h"
#include "profiler/debuginfod.h"
#include "profiler/recorder.h"
#include "profiler/runs.h"
#include "tools/cmds.h"
#include "tools/finish.h"
#include "tools/model_hash.h"
#include "tools/record_options.h"

struct job {
    struct bn_record_options options;
    bool engine;
    const char *base;
    bool made_base; /* the data folder is ours, and goes again if nothing stays in it */
    time_t when;
    uint64_t started_ns; /* the same, UTC since 1970 */
    char *run_dir, *run_id;
};

static void note(void *ctx, const char *line)
{
    (void)ctx;
    fprintf(stderr, "bnprof: %s\n", line);
}

/* ---- names ---- */

/* What may stand in a folder's name; anything else becomes '_'. The caller frees. */
static char *file_word(const char *s)
{
    enum { MAX = 40 };
    char *word = bn_xmalloc(MAX + 1);
    size_t n = 0;

    for (; *s && n < MAX; s++) {
        bool plain = (*s >= 'a' && *s <= 'z') || (*s >= 'A' && *s <= 'Z') || (*s >= '0' && *s <= '9') ||
                     (n > 0 && (*s == '.' || *s == '-'));
        word[n++] = plain ? *s : '_';
    }
    word[n] = '\0';
    return word;
}

/* As a shell would need it to run the same again. */
static void quote(struct bn_buf *out, const char *word)
{
    static const char plain[] = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_-./=:,+@%";

    if (*word && word[strspn(word, plain)] == '\0') {
        bn_buf_puts(out, word);
        return;
    }
    bn_buf_putc(out, '\'');
    for (; *word; word++) {
        if (*word == '\'')
            bn_buf_puts(out, "'\\''");
        else
            bn_buf_putc(out, *word);
    }
    bn_buf_putc(out, '\'');
}

static char *command_line(char *const *command)
{
    struct bn_buf out = {0};

    for (size_t i = 0; command[i]; i++) {
        if (i)
            bn_buf_putc(&out, ' ');
        quote(&out, command[i]);
    }
    return out.p;
}

/* ---- the folder ---- */

static int make_folder(struct job *job, struct bn_err *err)
{
    char *command = job->options.command[0];
    const char *slash = strrchr(command, '/');
    char *format = job->engine ? bn_xstrdup("run") : file_word(slash && slash[1] ? slash + 1 : command);

    job->base = bn_runs_base(job->options.dir);
    job->made_base = access(job->base, F_OK) != 0;
    struct timespec now;
    clock_gettime(CLOCK_REALTIME, &now);
    job->when = now.tv_sec;
    job->started_ns = (uint64_t)now.tv_sec * 1000000000u + (uint64_t)now.tv_nsec;
    int status = bn_runs_create_dir(job->base, format, job->when, &job->run_dir, &job->run_id, err);
    free(format);
    return status;
}

static void remove_folder(const struct job *job)
{
    char *part = bn_xasprintf("%s/profile.part", job->run_dir);

    unlink(part);
    rmdir(job->run_dir);
    if (job->made_base)
        rmdir(job->base); /* fails if another recording has moved in */
    free(part);
}

/* The engine has loaded its model: give the folder the model's format for a name. An empty folder of the new
 * name is made first, so that no other recording can take it, and then replaced. */
static char *rename_folder(void *ctx, const char *info)
{
    struct job *job = ctx;
    cJSON *json = cJSON_Parse(info);
    const cJSON *format =
        cJSON_GetObjectItemCaseSensitive(cJSON_GetObjectItemCaseSensitive(json, "model"), "format");
    char *word = cJSON_IsString(format) && format->valuestring[0] ? file_word(format->valuestring) : NULL;
    char *dir = NULL, *id = NULL, *part = NULL;
    struct bn_err err;

    if (word && bn_runs_create_dir(job->base, word, job->when, &dir, &id, &err) == 0) {
        if (rename(job->run_dir, dir) == 0) {
            free(job->run_dir);
            free(job->run_id);
            job->run_dir = dir;
            job->run_id = id;
            part = bn_xasprintf("%s/profile.part", dir);
        } else {
            rmdir(dir);
            free(dir);
            free(id);
        }
    }
    free(word);
    cJSON_Delete(json);
    return part;
}

/* ---- after the run ---- */

static void measure_limits(const cJSON *config, struct bn_recorder_closing *closing)
{
    const cJSON *threads = cJSON_GetObjectItemCaseSensitive(config, "threads");
    const cJSON *used = cJSON_GetObjectItemCaseSensitive(config, "cpu_used");
    struct bn_limits limits;
    struct bn_err err;
    char bad[64];
    unsigned flags = bn_cpu_detect(), wanted;

    if (!cJSON_IsNumber(threads) || threads->valueint < 1)
        return;
    if (cJSON_IsString(used) && bn_cpu_parse(used->valuestring, flags, &wanted, bad, sizeof bad) == 0)
        flags = wanted;
    if (bn_limits_measure(&limits, (uint32_t)threads->valueint, flags, &err) != 0) {
        fprintf(stderr, "bnprof: this machine's limits could not be measured: %s\n", err.msg);
        return;
    }
    closing->limit_threads = limits.threads;
    closing->read_bytes_per_s = limits.read_bytes_per_s;
    closing->int8_macs_per_s = limits.int8_macs_per_s;
    closing->last_cache_bytes = limits.last_cache_bytes;
}

static void after_run(void *ctx, const char *info, struct bn_recorder_closing *closing)
{
    cJSON *json = info ? cJSON_Parse(info) : NULL;
    const cJSON *model = cJSON_GetObjectItemCaseSensitive(json, "model");
    const cJSON *path = cJSON_GetObjectItemCaseSensitive(model, "path");
    struct bn_err err;

    (void)ctx;
    /* Without a result the run failed: nobody will compare it. */
    if (cJSON_HasObjectItem(json, "result")) {
        if (cJSON_IsString(path) && bn_model_sha256(path->valuestring, closing->model_sha256, &err) != 0)
            fprintf(stderr, "bnprof: the model's hash is unknown: %s\n", err.msg);
        measure_limits(cJSON_GetObjectItemCaseSensitive(json, "config"), closing);
    }
    cJSON_Delete(json);
}

static void print_number(FILE *f, uint64_t n)
{
    if (n >= 1000) {
        print_number(f, n / 1000);
        fprintf(f, ",%03" PRIu64, n % 1000);
    } else {
        fprintf(f, "%" PRIu64, n);
    }
}

static void print_closing(const struct job *job, const struct bn_profile *p)
{
    const struct bn_profile_quality *q = &p->quality;

    fprintf(stderr, "bnprof: %s: ", job->run_dir);
    print_number(stderr, q->n_samples);
    fprintf(stderr, " samples");
    if (!isnan(q->achieved_hz))
        fprintf(stderr, ", %.0f Hz of %.0f asked", q->achieved_hz, q->asked_hz);
    fprintf(stderr, ", ");
    print_number(stderr, q->n_lost);
    fprintf(stderr, " lost, %.1f s", (double)q->duration_ns / 1e9);
    if (q->grade)
        fprintf(stderr, ", grade %c", q->grade);
    fputc('\n', stderr);
    for (size_t i = 0; i < p->n_flags; i++) {
        const struct bn_flag *flag = &p->flags[i];
        if (flag->state != BN_FLAG_RAISED)
            continue;
        fprintf(stderr, "bnprof: %s: %s", bn_flag_severity_name(flag->severity), flag->id);
        if (flag->evidence)
            fprintf(stderr, ": %s", flag->evidence);
        if (flag->advice)
            fprintf(stderr, "; %s", flag->advice);
        fputc('\n', stderr);
    }
}

/* The disk is full, or the like: what has been recorded until then is worth its place. */
static int fail_but_keep(const struct job *job, const struct bn_err *err)
{
    if (bn_tool_has_samples(job->run_dir)) {
        fprintf(stderr,
                "bnprof: %s; what was recorded until then is kept and can be read: bnprof hotspots %s\n",
                err->msg, job->run_dir);
    } else {
        remove_folder(job); /* fails where there is more than an empty profile.part */
        fprintf(stderr, "bnprof: %s; nothing had been recorded until then\n", err->msg);
    }
    return BN_EXIT_FAILED;
}

/* Why there can be no sample, and what helps. */
static void explain_nothing(const struct bn_recorder_result *result)
{
    const struct bn_cpu_time *t = &result->cpu;
    double period_ns = 1e9 / result->rate_hz;
    const char *reason = "", *remedy = "";

    if (t->unreached_ns > t->cpu_ns / 2) {
        reason = ", where the source of samples cannot be (a setuid, setgid or otherwise privileged program)";
        remedy = "; record it as root";
    } else if (result->ran_on) {
        reason = " before the program ended and left others behind";
        remedy = "; let it stay in the foreground, or follow the others with -p";
    } else if (!result->kernel_sampled && t->system_ns > t->cpu_ns / 2) {
        reason = ", most of it in the kernel, which may not be sampled";
    } else if ((double)t->cpu_ns < 2 * period_ns) {
        reason = ", hardly a period of the sampling";
    } else if (result->timer) {
        reason = ", none of it where CPU timers could be (not in static and setuid programs)";
        remedy = "; allow perf events";
    }
    fprintf(stderr, "bnprof: no samples in %.1f ms of CPU time%s, so there is no recording%s\n",
            (double)t->cpu_ns / 1e6, reason, remedy);
}

/* The program has ended and profile.part is whole. */
static int finish(const struct job *job, const struct bn_recorder_result *result)
{
    struct bn_profile p;
    struct bn_err err;

    if (job->engine && !result->generated) { /* a failed start says so itself */
        remove_folder(job);
        if (result->exit_status == 0)
            note(NULL, "nothing was generated, so there is no recording");
        return result->exit_status;
    }
    if (result->left && !job->options.pid)
        note(NULL, "interrupted twice: the recording ends here, the program goes on");
    if (result->n_samples == 0) {
        remove_folder(job);
        explain_nothing(result);
        return job->options.pid ? BN_EXIT_FAILED
                                : result->exit_status; /* a command has a status of its own */
    }
    /* An impatient second ^C must not cost the recording; a size limit is an error, not the end. */
    signal(SIGINT, SIG_IGN);
    signal(SIGXFSZ, SIG_IGN);
    if (job->options.debuginfod) {
        note(NULL, "asking the servers in DEBUGINFOD_URLS for missing debug information");
        bn_debuginfod_allow();
    }
    bn_profile_init(&p);
    int status = bn_finish_recording(job->run_dir, &p, &err);
    if (status == 0)
        print_closing(job, &p);
    bn_profile_free(&p);
    return status == 0 ? result->exit_status : fail_but_keep(job, &err);
}

static int record(struct job *job, struct bn_err *err)
{
    char *const *command = job->options.command;
    char *own = bn_tool_own_path(), *part = bn_xasprintf("%s/profile.part", job->run_dir),
         *text = command_line(command);
    char *name = NULL, started[64];
    struct bn_recorder_result result;
    struct tm local;

    strftime(started, sizeof started, "%Y-%m-%d %H:%M:%S %z", localtime_r(&job->when, &local));
    size_t n = 0;
    while (command[n])
        n++;
    char **argv = bn_xcalloc(n + 2, sizeof *argv);
    if (job->engine)
        argv[0] = name = bn_xstrdup("bnprof");
    memcpy(argv + job->engine, command, n * sizeof *argv);
    const struct bn_recorder_options options = {
        .sampler.ladder = job->options.ladder,
        .file = job->engine ? own : command[0],
        .argv = argv,
        .attach_pid = job->options.pid,
        .seconds = job->options.seconds,
        .engine = job->engine,
        .part_path = part,
        .run_id = job->run_id,
        .started = started,
        .started_ns = job->started_ns,
        .command = text,
        .ctx = job,
        .note = note,
        .told = job->engine ? rename_folder : NULL,
        .close = job->engine ? after_run : NULL,
    };
    int status = bn_record(&options, &result, err);
    if (status == 0)
        status = finish(job, &result);
    else {
        status = result.ran ? fail_but_keep(job, err) : bn_tool_fail(err);
        if (!result.ran)
            remove_folder(job);
    }
    free(argv);
    free(name);
    free(own);
    free(part);
    free(text);
    return status;
}

/* The command line of the running process, or its name, as if it were to be started. `text` holds the words,
 * job->options.command the list of them: the caller frees both. */
static int words_of_process(struct job *job, struct bn_buf *text, struct bn_err *err)
{
    struct bn_attach attach;
    size_t n = 0, capacity = 0;

    if (bn_attach_begin(&attach, job->options.pid, text, err) != 0)
        return -1;
    bn_attach_close(&attach);
    if (text->n == 0)
        bn_buf_printf(text, "process-%d", (int)job->options.pid);
    bn_buf_putc(text, '\0');
    for (char *word = text->p; word < text->p + text->n - 1; word += strlen(word) + 1) {
        bn_grow(&job->options.command, &capacity, n + 2, sizeof(char *));
        job->options.command[n++] = word;
        job->options.command[n] = NULL;
    }
    return 0;
}

/* Into the run's own folder. Returns an exit status. */
static int record_run(struct job *job, struct bn_err *err)
{
    struct bn_ladder_options *ladder = &job->options.ladder;

    if (ladder->stack_dump_bytes == 0) {
        ladder->stack_dump_bytes = job->engine ? BN_STACK_DUMP_ENGINE : BN_STACK_DUMP_DEFAULT;
        ladder->copy_only = job->engine;
    }
    if (job->options.debuginfod && bn_debuginfod_load(err) != 0)
        return bn_tool_fail(err);
    if (make_folder(job, err) != 0)
        return bn_tool_fail(err);
    int status = record(job, err);
    free(job->run_dir);
    free(job->run_id);
    return status;
}

/* A process that runs already, named by its command line. Returns an exit status. */
static int record_process(struct job *job, struct bn_err *err)
{
    struct bn_buf text = {0};
    int status = words_of_process(job, &text, err) == 0 ? record_run(job, err) : bn_tool_fail(err);

    free(job->options.command);
    bn_buf_free(&text);
    return status;
}

int cmd_record(int argc, char **argv)
{
    struct job job = {0};
    struct bn_err err;

    bn_record_options_parse(&job.options, argc, argv);
#ifndef __x86_64__
    bn_err_set(&err, "record: stacks can be unwound on x86-64 only");
    return bn_tool_fail(&err);
#endif
    if (job.options.pid)
        return record_process(&job, &err);
    job.engine = strcmp(job.options.command[0], "run") == 0;
    return record_run(&job, &err);
}
