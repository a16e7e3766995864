/* SPDX-License-Identifier: MIT
 * bnprof flags: the red flags and the grade of a recording. */
#include "tools/cmds.h"

#include <argp.h>
#include <cjson/cJSON.h>
#include <ctype.h>
#include <stdlib.h>
#include <string.h>

#include "hotspots/flags.h"
#include "hotspots/report.h"
#include "tools/runs_cli.h"

struct options {
    const char *run, *thresholds;
    bool json, strict, strict_warning;
    char strict_grade;
};

enum { OPT_STRICT = 256, OPT_THRESHOLDS, OPT_JSON };

static const struct argp_option option_list[] = {
    {"strict", OPT_STRICT, "warning|GRADE", OPTION_ARG_OPTIONAL,
     "exit 3 when a critical flag is raised (=warning: or a warning; =A…D: or the record's grade is worse)",
     0},
    {"thresholds", OPT_THRESHOLDS, "FILE", 0, "lines \"id value\" that replace default thresholds", 0},
    {"json", OPT_JSON, NULL, 0, "one JSON object", 0},
    {0}};

static error_t parse(int key, char *arg, struct argp_state *state)
{
    struct options *o = state->input;

    switch (key) {
    case OPT_STRICT:
        o->strict = true;
        if (arg && strcmp(arg, "warning") == 0)
            o->strict_warning = true;
        else if (arg && strlen(arg) == 1 && *arg >= 'A' && *arg <= 'D')
            o->strict_grade = *arg;
        else if (arg)
            argp_error(state, "--strict=%s: warning, A, B, C or D expected", arg);
        return 0;
    case OPT_THRESHOLDS:
        o->thresholds = arg;
        return 0;
    case OPT_JSON:
        o->json = true;
        return 0;
    case ARGP_KEY_ARG:
        if (o->run)
            argp_error(state, "one RUN expected, '%s' is a second", arg);
        o->run = arg;
        return 0;
    }
    return ARGP_ERR_UNKNOWN;
}

static void add_number(cJSON *o, const char *key, double value)
{
    if (isnan(value))
        cJSON_AddNullToObject(o, key);
    else
        cJSON_AddNumberToObject(o, key, value);
}

static void print_json(const struct bn_profile *p)
{
    cJSON *root = cJSON_CreateObject(), *raised = cJSON_AddArrayToObject(root, "flags"),
          *clear = cJSON_AddArrayToObject(root, "clear"),
          *unknown = cJSON_AddArrayToObject(root, "not_computed");
    char grade[2] = {p->quality.grade, '\0'};

    for (size_t i = 0; i < p->n_flags; i++) {
        const struct bn_flag *flag = &p->flags[i];
        cJSON *o = flag->state == BN_FLAG_CLEAR ? cJSON_CreateString(flag->id) : cJSON_CreateObject();
        if (flag->state == BN_FLAG_CLEAR) {
            cJSON_AddItemToArray(clear, o);
            continue;
        }
        cJSON_AddStringToObject(o, "id", flag->id);
        if (flag->state == BN_FLAG_NOT_COMPUTED) {
            cJSON_AddStringToObject(o, "reason", flag->evidence);
            cJSON_AddItemToArray(unknown, o);
            continue;
        }
        cJSON_AddStringToObject(o, "severity", bn_flag_severity_name(flag->severity));
        add_number(o, "value", flag->value);
        add_number(o, "threshold", flag->threshold);
        cJSON_AddStringToObject(o, "unit", flag->unit);
        cJSON_AddStringToObject(o, "evidence", flag->evidence);
        cJSON_AddStringToObject(o, "advice", flag->advice);
        cJSON_AddItemToArray(raised, o);
    }
    cJSON_AddStringToObject(root, "grade", grade);
    char *text = cJSON_Print(root);
    puts(text);
    cJSON_free(text);
    cJSON_Delete(root);
}

static void print_text(const struct bn_profile *p)
{
    size_t n = 0;

    printf("%s: %s\n\n", p->run_id ? p->run_id : "unknown run", p->command ? p->command : "unknown command");
    bn_report_quality(stdout, p, false);
    for (size_t i = 0; i < p->n_flags; i++) {
        const struct bn_flag *flag = &p->flags[i];
        if (flag->state != BN_FLAG_RAISED)
            continue;
        n++;
        printf("RAISED  %-18s %s: %g %s (threshold %g)\n        %s\n        -> %s\n", flag->id,
               bn_flag_severity_name(flag->severity), flag->value, flag->unit, flag->threshold,
               flag->evidence, flag->advice);
    }
    if (n == 0)
        puts("No flag is raised.");
    for (size_t i = 0; i < p->n_flags; i++)
        if (p->flags[i].state == BN_FLAG_CLEAR)
            printf("clear   %-18s %g %s: %s\n", p->flags[i].id, p->flags[i].value, p->flags[i].unit,
                   p->flags[i].evidence);
    for (size_t i = 0; i < p->n_flags; i++)
        if (p->flags[i].state == BN_FLAG_NOT_COMPUTED)
            printf("unknown %-18s not computed: %s\n", p->flags[i].id, p->flags[i].evidence);
}

static int gate(const struct bn_profile *p, const struct options *o)
{
    if (!o->strict)
        return BN_EXIT_DONE;
    for (size_t i = 0; i < p->n_flags; i++) {
        const struct bn_flag *flag = &p->flags[i];
        if (flag->state == BN_FLAG_RAISED &&
            flag->severity >= (o->strict_warning ? BN_FLAG_WARNING : BN_FLAG_CRITICAL))
            return BN_EXIT_GATE;
    }
    return o->strict_grade && p->quality.grade > o->strict_grade ? BN_EXIT_GATE : BN_EXIT_DONE;
}

int cmd_flags(int argc, char **argv)
{
    static const struct argp argp = {
        option_list,
        parse,
        "[RUN]",
        "Red flags of a recording, and its grade.\v"
        "RUN is a folder, a profile file, latest (default), previous, latest~N or a run id.\n"
        "Exit: 0 done, 1 failed, 2 bad command line, 3 --strict found something.",
        NULL,
        NULL,
        NULL};
    struct options o = {0};
    struct bn_thresholds thresholds;
    struct bn_profile p;
    struct bn_err err;

    if (argp_parse(&argp, argc, argv, 0, NULL, &o) != 0)
        return BN_EXIT_USAGE;
    bn_thresholds_default(&thresholds);
    if (o.thresholds && bn_thresholds_read(&thresholds, o.thresholds, &err) != 0)
        return bn_tool_fail(&err);
    if (bn_tool_load_run(o.run, &p, NULL, &err) != 0) {
        bn_profile_free(&p);
        return bn_tool_fail(&err);
    }
    bn_flags_compute(&p, &thresholds);
    if (o.json)
        print_json(&p);
    else
        print_text(&p);
    int status = gate(&p, &o);
    bn_profile_free(&p);
    return status;
}
