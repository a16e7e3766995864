/* SPDX-License-Identifier: MIT
 * bnprof fingerprint: what this host, build and set-up are. */
#include "tools/cmds.h"

#include <argp.h>
#include <cjson/cJSON.h>
#include <string.h>

#include "core/cores.h"
#include "profiler/fingerprint.h"

enum form { FORM_TEXT, FORM_JSON, FORM_MD };

enum { OPT_JSON = 256, OPT_MD };

static const struct argp_option option_list[] = {
    {"json", OPT_JSON, NULL, 0, "one JSON object", 0},
    {"md", OPT_MD, NULL, 0, "Markdown, for a baseline's folder", 0},
    {0}};

static error_t parse(int key, char *arg, struct argp_state *state)
{
    enum form *form = state->input;

    switch (key) {
    case OPT_JSON:
        *form = FORM_JSON;
        return 0;
    case OPT_MD:
        *form = FORM_MD;
        return 0;
    case ARGP_KEY_ARG:
        argp_error(state, "no argument expected, '%s' is one", arg);
        return 0;
    }
    return ARGP_ERR_UNKNOWN;
}

static void print_text(void *ctx, const char *key, const char *value)
{
    (void)ctx;
    printf("%-22s %s\n", key, value);
}

static void add_json(void *ctx, const char *key, const char *value)
{
    cJSON_AddStringToObject(ctx, key, value);
}

/* The sections of the template: a heading stands before the first key of its section. */
static void print_md(void *ctx, const char *key, const char *value)
{
    static const struct {
        const char *first_key, *heading;
    } headings[] = {{"date", ""},
                    {"cpu_model", "\n## System Configuration\n\n### CPU\n"},
                    {"cache_l1d", "\n### Cache\n"},
                    {"memory", "\n### Software\n"},
                    {"compiler", "\n## Build Configuration\n"},
                    {"git", "\n## Git Context\n"},
                    {"perf_event_paranoid", "\n## Profiling Configuration\n"}};

    (void)ctx;
    for (size_t i = 0; i < BN_COUNT(headings); i++)
        if (strcmp(key, headings[i].first_key) == 0)
            puts(headings[i].heading);
    printf("- **%s**: %s\n", key, value);
}

/* Every fact, and behind the number of cores how many of them are ours. */
struct sink {
    void (*fact)(void *ctx, const char *key, const char *value);
    void *ctx;
};

static void pass_on(void *ctx, const char *key, const char *value)
{
    const struct sink *sink = ctx;
    char usable[16];

    sink->fact(sink->ctx, key, value);
    if (strcmp(key, "cores") != 0)
        return;
    snprintf(usable, sizeof usable, "%u", bn_cores_usable());
    sink->fact(sink->ctx, "usable_cores", usable);
}

int cmd_fingerprint(int argc, char **argv)
{
    static const struct argp argp = {option_list, parse, NULL, "What this host, build and set-up are.",
                                     NULL,        NULL,  NULL};
    enum form form = FORM_TEXT;

    if (argp_parse(&argp, argc, argv, 0, NULL, &form) != 0)
        return BN_EXIT_USAGE;
    if (form == FORM_JSON) {
        cJSON *object = cJSON_CreateObject();
        bn_fingerprint(pass_on, &(struct sink){add_json, object});
        char *text = cJSON_Print(object);
        puts(text);
        cJSON_free(text);
        cJSON_Delete(object);
    } else if (form == FORM_MD) {
        puts("# Host Fingerprint");
        bn_fingerprint(pass_on, &(struct sink){print_md, NULL});
    } else {
        bn_fingerprint(pass_on, &(struct sink){print_text, NULL});
    }
    return BN_EXIT_DONE;
}
