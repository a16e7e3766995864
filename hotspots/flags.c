/* SPDX-License-Identifier: MIT
 * The table of red flags and what decides each. */
#include "hotspots/flags.h"

#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "hotspots/flags_private.h"

/* The order is PRODUCT's: what is wrong with the run, then what is wrong with the record (from `quality` on:
 * these make the grade). */
static const struct bn_flag_rule rules[BN_FLAG_IDS] = {
    {"mock-kernel", BN_FLAG_CRITICAL, 0, "samples and dispatches", false, bn_flag_mock_kernel},
    {"kernel-share-low", BN_FLAG_CRITICAL, 5, "%", false, bn_flag_kernel_share_low},
    {"memcpy-share", BN_FLAG_WARNING, 10, "%", false, bn_flag_memcpy_share},
    {"allocator-share", BN_FLAG_WARNING, 5, "%", false, bn_flag_allocator_share},
    {"forward-share-low", BN_FLAG_WARNING, 80, "%", false, bn_flag_forward_share_low},
    {"impossible-speed", BN_FLAG_CRITICAL, 115, "% of read bandwidth", false, bn_flag_impossible_speed},
    {"scalar-fallback", BN_FLAG_WARNING, 0, "dispatches", false, bn_flag_scalar_fallback},
    {"lazy-loading", BN_FLAG_WARNING, 3, "times the median token", false, bn_flag_lazy_loading},
    {"slow-load", BN_FLAG_WARNING, 1000, "ms", false, bn_flag_slow_load},
    {"wait-share", BN_FLAG_WARNING, 15, "%", false, bn_flag_wait_share},
    {"few-samples", BN_FLAG_WARNING, 1000, "samples", true, bn_flag_few_samples},
    {"lost-samples", BN_FLAG_WARNING, 1, "%", true, bn_flag_lost_samples},
    {"truncated-stacks", BN_FLAG_WARNING, 2, "%", true, bn_flag_truncated_stacks},
    {"unknown-symbols", BN_FLAG_WARNING, 2, "%", true, bn_flag_unknown_symbols},
    {"throttled", BN_FLAG_WARNING, 95, "% of the asked rate", true, bn_flag_throttled},
    {"kernel-not-sampled", BN_FLAG_WARNING, 5, "%", true, bn_flag_kernel_not_sampled},
    {"noisy-host", BN_FLAG_WARNING, 2, "%", true, bn_flag_noisy_host},
};

const char *bn_flag_id(size_t i)
{
    return i < BN_FLAG_IDS ? rules[i].id : NULL;
}

const char *bn_flag_severity_name(enum bn_flag_severity severity)
{
    static const char *const names[] = {"info", "warning", "critical"};

    return names[severity];
}

void bn_thresholds_default(struct bn_thresholds *t)
{
    for (size_t i = 0; i < BN_FLAG_IDS; i++)
        t->value[i] = rules[i].threshold;
}

static int read_line(struct bn_thresholds *t, char *line, const char *path, int number, struct bn_err *err)
{
    char *save, *id = strtok_r(line, " \t\r\n=:", &save), *value = strtok_r(NULL, " \t\r\n=:", &save);

    if (!id || *id == '#')
        return 0;
    for (size_t i = 0; i < BN_FLAG_IDS; i++) {
        if (strcmp(id, rules[i].id) != 0)
            continue;
        if (!value || strtok_r(NULL, " \t\r\n", &save) || bn_parse_double(value, 0, 1e15, &t->value[i]) != 0)
            return bn_err_set(err, "%s:%d: one number from 0 on expected after %s", path, number, id);
        return 0;
    }
    return bn_err_set(err, "%s:%d: no flag is called '%s' (see docs/red-flags.md)", path, number, id);
}

int bn_thresholds_read(struct bn_thresholds *t, const char *path, struct bn_err *err)
{
    FILE *f = fopen(path, "re");
    char *line = NULL;
    size_t size = 0;
    int number = 0, status = 0;

    if (!f)
        return bn_err_set(err, "%s: %s", path, strerror(errno));
    errno = 0;
    while (status == 0 && getline(&line, &size, f) >= 0)
        status = read_line(t, line, path, ++number, err);
    if (status == 0 && ferror(f))
        status = bn_err_set(err, "%s: %s", path, strerror(errno));
    free(line);
    fclose(f);
    return status;
}

/* How far over its threshold, as a factor: up to 1 is within. */
static double excess(const struct bn_flag *flag)
{
    bool below = strcmp(flag->id, "few-samples") == 0 || strcmp(flag->id, "throttled") == 0;
    double over = below ? flag->threshold / flag->value : flag->value / flag->threshold;

    return over;
}

static char grade(const struct bn_profile *p)
{
    int n = 0;
    double worst = 0;
    bool unknown = false;

    for (size_t i = 0; i < BN_FLAG_IDS; i++) {
        unknown = unknown || (rules[i].quality && p->flags[i].state == BN_FLAG_NOT_COMPUTED);
        if (!rules[i].quality || p->flags[i].state != BN_FLAG_RAISED)
            continue;
        n++;
        worst = fmax(worst, excess(&p->flags[i]));
    }
    if (n == 0 && !(unknown && p->quality.partial)) /* what was cut off has not shown that it is good */
        return 'A';
    if (n <= 2 && worst < 2)
        return 'B';
    return worst < 5 ? 'C' : 'D';
}

void bn_flags_compute(struct bn_profile *p, const struct bn_thresholds *t)
{
    struct bn_thresholds defaults;

    if (!t) {
        bn_thresholds_default(&defaults);
        t = &defaults;
    }
    p->n_flags = 0;
    for (size_t i = 0; i < BN_FLAG_IDS; i++) {
        struct bn_flag flag = {.id = rules[i].id,
                               .severity = rules[i].severity,
                               .state = BN_FLAG_CLEAR,
                               .value = BN_UNKNOWN,
                               .threshold = t->value[i],
                               .unit = rules[i].unit};
        rules[i].compute(p, &flag);
        bn_profile_add_flag(p, &flag);
    }
    p->quality.grade = grade(p);
}
