/* SPDX-License-Identifier: MIT
 * Loading the run that the command line names. */
#include "tools/runs_cli.h"

#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "profiler/run_start.h"
#include "profiler/runs.h"
#include "tools/finish.h"

/* Finish a recording that was cut off; says so on stderr. 1: *p holds it, since it could not be stored. 0:
 * profile.json is there. *p is initialised in any case. */
static int finish_if_partial(const char *dir, struct bn_profile *p, struct bn_err *err)
{
    char *json = bn_xasprintf("%s/profile.json", dir), *part = bn_xasprintf("%s/profile.part", dir);
    int status = 0;

    bn_profile_init(p);
    if (access(json, F_OK) != 0 && access(part, F_OK) == 0) {
        bn_profile_free(p);
        status = bn_tool_finish_partial(dir, p, err);
        if (status == 0)
            status = access(json, F_OK) != 0;
    }
    free(json);
    free(part);
    return status;
}

/* What stands at dir, whole or its summary, or in `file` if the user named a file of another name. *p is a
 * record already. */
static int load_at(const char *dir, const char *file, bool summary, struct bn_profile *p, struct bn_err *err)
{
    char *json = file ? bn_xstrdup(file) : bn_xasprintf("%s/profile.json", dir);
    int status = 0;

    bn_profile_free(p);
    if (file)
        bn_profile_init(p);
    else
        status = finish_if_partial(dir, p, err);
    if (status == 0) {
        bn_profile_free(p);
        status = summary ? bn_profile_load_summary(p, json, err) : bn_profile_load(p, json, err);
    }
    free(json);
    return status < 0 ? -1 : 0;
}

/* RUN is "previous". */
static int load_before_latest(struct bn_profile *p, char **run_dir, struct bn_err *err)
{
    struct bn_profile latest;
    char *dir;

    bn_profile_init(p);
    if (bn_tool_load_run(NULL, &latest, &dir, err) != 0) {
        bn_profile_free(&latest);
        return -1;
    }
    bn_profile_free(p);
    int found = bn_tool_load_previous(&latest, dir, p, run_dir, err);
    if (found == 0)
        bn_err_set(err, "previous: no run older than %s has its configuration",
                   latest.run_id ? latest.run_id : "the latest");
    bn_profile_free(&latest);
    free(dir);
    return found == 1 ? 0 : -1;
}

int bn_tool_load_run(const char *spec, struct bn_profile *p, char **run_dir, struct bn_err *err)
{
    char *dir, *file;

    if (run_dir)
        *run_dir = NULL;
    if (spec && strcmp(spec, "previous") == 0)
        return load_before_latest(p, run_dir, err);
    bn_profile_init(p);
    int status = bn_runs_resolve(bn_runs_base(NULL), spec, &dir, &file, err);
    if (status == 0)
        status = load_at(dir, file, false, p, err);
    free(file);
    if (run_dir && status == 0)
        *run_dir = dir;
    else
        free(dir);
    return status;
}

/* Why a run is no match, for people. */
static void explain(const struct bn_profile *current, const struct bn_profile *other, const char *id)
{
    fprintf(stderr, "  %s: configuration differs\n    there: %s\n    here:  %s\n", id,
            other->config_key ? other->config_key : "unknown",
            current->config_key ? current->config_key : "unknown");
}

/* The folder that holds run_dir, and the run's id: its folder's name, since a folder can have been copied or
 * renamed. A record that lies elsewhere (a lone file) is taken for one of the usual folder. */
static void place_of(const struct bn_profile *current, const char *run_dir, char **base, char **id)
{
    char *whole = realpath(run_dir, NULL); /* "latest" is a link */
    char *slash = whole ? strrchr(whole, '/') : NULL;

    if (slash && bn_runs_is_id(slash + 1)) {
        *base = bn_xasprintf("%.*s", (int)(slash - whole) + (slash == whole), whole);
        *id = bn_xstrdup(slash + 1);
    } else {
        *base = bn_xstrdup(bn_runs_base(NULL));
        *id = bn_xstrdup(current->run_id ? current->run_id : "~");
    }
    free(whole);
}

/* 1 if the run in dir has current's configuration, 0 if not (*p holds its head), -1 if it cannot be read. */
static int matches(const struct bn_profile *current, const char *dir, struct bn_profile *p,
                   struct bn_err *err)
{
    if (load_at(dir, NULL, true, p, err) != 0)
        return -1;
    return current->config_key && p->config_key && strcmp(current->config_key, p->config_key) == 0;
}

/* What follows the run in the list; a record that is not in it goes by its start. */
static size_t first_older(const struct bn_run_list *list, const char *id, const struct bn_profile *current)
{
    uint64_t ns = bn_run_start_of(current, id);
    const struct bn_run_entry own = {.id = (char *)id, .started_ns = ns ? ns : UINT64_MAX};
    size_t i = 0;

    while (i < list->n && strcmp(list->entries[i].id, id) != 0)
        i++;
    if (i < list->n)
        return i + 1;
    for (i = 0; i < list->n && bn_runs_compare(&list->entries[i], &own) >= 0;)
        i++;
    return i;
}

int bn_tool_load_previous(const struct bn_profile *current, const char *run_dir, struct bn_profile *p,
                          char **previous_dir, struct bn_err *err)
{
    enum { EXPLAINED = 5 };
    struct bn_run_list list;
    char *base, *id;
    int explained = 0, found = 0, older = 0;

    bn_profile_init(p);
    place_of(current, run_dir, &base, &id);
    if (bn_runs_list(&list, base, err) != 0)
        found = -1;
    size_t first = first_older(&list, id, current);
    for (size_t i = first; i < list.n && found == 0; i++) {
        const struct bn_run_entry *entry = &list.entries[i];
        if (entry->recording)
            continue;
        char *dir = bn_xasprintf("%s/%s", base, entry->id);
        struct bn_err why;
        int match = matches(current, dir, p, &why);
        older++;
        if (match == 1 && p->n_samples > 0) /* whole already, from memory */
            found = 1;
        else if (match == 1)
            found = load_at(dir, NULL, false, p, err) == 0 ? 1 : -1;
        else if (explained++ < EXPLAINED && match == 0)
            explain(current, p, entry->id);
        else if (match < 0)
            fprintf(stderr, "  %s\n", why.msg);
        if (found == 1 && previous_dir)
            *previous_dir = bn_xstrdup(dir);
        free(dir);
    }
    if (found == 0)
        fprintf(stderr, "bnprof: no earlier run of the same configuration: %d older in %s%s\n", older, base,
                older ? ", the newest of them above" : "");
    bn_run_list_free(&list);
    free(base);
    free(id);
    return found;
}
