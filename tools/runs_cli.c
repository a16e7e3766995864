/* SPDX-License-Identifier: MIT
 * Loading the run that the command line names. */
#include "tools/runs_cli.h"

#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "profiler/runs.h"
#include "tools/finish.h"

/* Finish a recording that was cut off. */
static int finish_if_partial(const char *dir, struct bn_err *err)
{
    char *json = bn_xasprintf("%s/profile.json", dir), *part = bn_xasprintf("%s/profile.part", dir);
    int status = 0;

    if (access(json, F_OK) != 0 && access(part, F_OK) == 0) {
        fprintf(stderr, "bnprof: %s was cut off; finishing it\n", dir);
        status = bn_tool_finish_partial(dir, err);
    }
    free(json);
    free(part);
    return status;
}

int bn_tool_load_run(const char *spec, struct bn_profile *p, char **run_dir, struct bn_err *err)
{
    char *dir, *file;

    bn_profile_init(p);
    if (run_dir)
        *run_dir = NULL;
    int status = bn_runs_resolve(bn_runs_base(NULL), spec, &dir, &file, err);
    if (status == 0 && !file) {
        status = finish_if_partial(dir, err);
        file = bn_xasprintf("%s/profile.json", dir);
    }
    if (status == 0) {
        bn_profile_free(p);
        status = bn_profile_load(p, file, err);
    }
    free(file);
    if (run_dir && status == 0)
        *run_dir = dir;
    else
        free(dir);
    return status;
}

/* Why a run is no match, for people. */
static void explain(const struct bn_profile *current, const struct bn_profile *other)
{
    fprintf(stderr, "  %s: configuration differs\n    there: %s\n    here:  %s\n", other->run_id,
            other->config_key ? other->config_key : "unknown",
            current->config_key ? current->config_key : "unknown");
}

/* Is run `id` older than `current`? Ids begin with date and time; of the same second, the list's order
 * decides. */
static bool is_current(const struct bn_profile *current, const char *id)
{
    return current->run_id && strcmp(current->run_id, id) == 0;
}

int bn_tool_load_previous(const struct bn_profile *current, struct bn_profile *p, struct bn_err *err)
{
    enum { EXPLAINED = 5 };
    struct bn_run_list list;
    const char *base = bn_runs_base(NULL);
    size_t start = 0;
    int explained = 0, found = 0;

    bn_profile_init(p);
    if (bn_runs_list(&list, base, err) != 0)
        return -1;
    for (size_t i = 0; i < list.n; i++) /* those before `current` in the list are newer */
        if (is_current(current, list.entries[i].id))
            start = i + 1;
    for (size_t i = start; i < list.n && !found; i++) {
        char *file = bn_xasprintf("%s/%s/profile.json", base, list.entries[i].id);
        struct bn_err ignored;
        bn_profile_free(p);
        if (bn_profile_load(p, file, &ignored) != 0)
            fprintf(stderr, "  %s\n", ignored.msg);
        else if (current->config_key && p->config_key && strcmp(current->config_key, p->config_key) == 0)
            found = 1;
        else if (explained++ < EXPLAINED)
            explain(current, p);
        free(file);
    }
    if (!found)
        fprintf(stderr, "bnprof: no earlier run of the same configuration: %zu older in %s%s\n",
                list.n - start, base, list.n > start ? ", the newest of them above" : "");
    bn_run_list_free(&list);
    return found;
}
