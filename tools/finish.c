/* SPDX-License-Identifier: MIT
 * The lock on profile.part decides who finishes: a recorder holds it while it records. */
#include "tools/finish.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <libgen.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <unistd.h>

#include "hotspots/flags.h"
#include "profiler/join.h"
#include "profiler/raw.h"
#include "profiler/run_start.h"
#include "profiler/runs.h"

struct place {
    char *run_dir, *base, *run_id; /* base/run_id */
    char *part, *json;
};

static struct place place_of(const char *run_dir)
{
    struct place at = {.run_dir = bn_xstrdup(run_dir)};
    char *a = bn_xstrdup(run_dir), *b = bn_xstrdup(run_dir);

    at.base = bn_xstrdup(dirname(a));
    at.run_id = bn_xstrdup(basename(b));
    at.part = bn_xasprintf("%s/profile.part", run_dir);
    at.json = bn_xasprintf("%s/profile.json", run_dir);
    free(a);
    free(b);
    return at;
}

static void free_place(struct place *at)
{
    free(at->run_dir);
    free(at->base);
    free(at->run_id);
    free(at->part);
    free(at->json);
}

/* The run that `latest` names is newer. */
static bool latest_is_newer(const struct place *at)
{
    char *latest = bn_runs_latest(at->base);
    bool newer = false;

    if (latest) {
        char *dir = bn_xasprintf("%s/%s", at->base, latest);
        struct bn_run_entry own = {.id = at->run_id,
                                   .started_ns = bn_run_start_read(at->run_dir, at->run_id)},
                            other = {.id = latest, .started_ns = bn_run_start_read(dir, latest)};
        newer = bn_runs_compare(&other, &own) > 0;
        free(dir);
    }
    free(latest);
    return newer;
}

/* Percent on a terminal; -1 = nothing shown. */
struct progress {
    int shown;
};

static void show_progress(void *ctx, size_t done, size_t total)
{
    struct progress *progress = ctx;
    int percent = total ? (int)(100.0 * (double)done / (double)total) : 100;

    if (percent == progress->shown)
        return;
    progress->shown = percent;
    fprintf(stderr, "\rbnprof: unwinding and naming the samples: %d %%", percent);
}

/* What failed its checksum is lost; nobody shall delete what is left of it. */
static void tell_damage(const struct place *at, const struct bn_profile *p)
{
    if (p->quality.damaged_bytes)
        fprintf(stderr,
                "bnprof: %s is damaged: %" PRIu64 " bytes fail their checksum and were ignored, all else was "
                "read; the file is kept\n",
                at->part, p->quality.damaged_bytes);
}

static int store(const struct place *at, const struct bn_profile *p, bool live, struct bn_err *err)
{
    if (bn_profile_save(p, at->json, err) != 0)
        return -1;
    if (p->quality.damaged_bytes == 0)
        unlink(at->part);
    struct bn_err link;
    if ((live || !latest_is_newer(at)) && bn_runs_set_latest(at->base, at->run_id, &link) != 0)
        fprintf(stderr, "bnprof: warning: %s; the recording is whole: %s\n", link.msg, at->run_dir);
    return 0;
}

/* With the lock held. live: by who recorded it, for whom a record that is not stored is a failure. */
static int join_and_save(const struct place *at, struct bn_profile *p, bool live, struct bn_err *err)
{
    struct progress progress = {.shown = -1};
    const struct bn_join_watch watch = {.ctx = &progress, .progress = show_progress};

    int joined = bn_join(p, at->part, isatty(STDERR_FILENO) ? &watch : NULL, err);
    if (progress.shown >= 0)
        fprintf(stderr, "\r\033[K");
    if (joined != 0)
        return -1;
    p->run_id =
        bn_profile_str(p, at->run_id); /* the folder can have been renamed after the header was written */
    bn_flags_compute(p, NULL);
    tell_damage(at, p);
    int status = store(at, p, live, err);
    if (status != 0 && !live) {
        fprintf(stderr, "bnprof: %s; the finished record could not be stored and is used from memory\n",
                err->msg);
        status = 0;
    }
    return status;
}

/* 0 and *fd locked, or -1. */
static int lock_part(const struct place *at, bool wait, int *fd, struct bn_err *err)
{
    *fd = open(at->part, O_RDONLY | O_CLOEXEC);
    if (*fd < 0)
        return bn_err_set(err, "%s: %s", at->part, strerror(errno));
    if (flock(*fd, LOCK_EX | (wait ? 0 : LOCK_NB)) == 0 || errno != EWOULDBLOCK)
        return 0; /* no locks on this file system: nobody else can be told apart */
    close(*fd);
    return bn_err_set(err, "%s: still being recorded", at->run_dir);
}

static int finish(const char *run_dir, bool live, struct bn_profile *p, struct bn_err *err)
{
    struct place at = place_of(run_dir);
    int fd, status = lock_part(&at, live, &fd, err);

    signal(SIGXFSZ, SIG_IGN); /* beyond ulimit -f: an error of write, not the end */

    if (status == 0) {
        if (!live)
            fprintf(stderr, "bnprof: %s was cut off; finishing it\n", run_dir);
        bool done_by_another = access(at.part, F_OK) != 0 && access(at.json, F_OK) == 0;
        status = done_by_another ? bn_profile_load(p, at.json, err) : join_and_save(&at, p, live, err);
        close(fd);
    } else if (live && access(at.json, F_OK) == 0) {
        status = bn_profile_load(p, at.json, err);
    }
    free_place(&at);
    return status;
}

int bn_finish_recording(const char *run_dir, struct bn_profile *p, struct bn_err *err)
{
    return finish(run_dir, true, p, err);
}

int bn_tool_finish_partial(const char *run_dir, struct bn_profile *p, struct bn_err *err)
{
    bn_profile_init(p);
    return finish(run_dir, false, p, err);
}

bool bn_tool_has_samples(const char *run_dir)
{
    char *part = bn_xasprintf("%s/profile.part", run_dir);
    bool header = false, samples = false;
    struct bn_raw_reader reader;
    struct bn_raw_block block;
    const uint8_t *payload;
    struct bn_err err;

    if (bn_raw_open(&reader, part, &err) == 0) {
        while (!(header && samples) && bn_raw_next(&reader, &block, &payload) == 1) {
            header = header || block.kind == BN_RAW_HEADER;
            samples = samples || block.kind == BN_RAW_SAMPLES;
        }
        bn_raw_close_reader(&reader);
    }
    free(part);
    return header && samples;
}
