/* SPDX-License-Identifier: MIT
 * The report for programs. NaN is null. */
#include "hotspots/report.h"

#include <cjson/cJSON.h>
#include <stdlib.h>

#include "hotspots/coverage.h"
#include "hotspots/report_text.h"
#include "hotspots/roofline.h"
#include "profiler/stats.h"

static void number(cJSON *object, const char *key, double value)
{
    if (isnan(value))
        cJSON_AddNullToObject(object, key);
    else
        cJSON_AddNumberToObject(object, key, value);
}

static void text(cJSON *object, const char *key, const char *value)
{
    if (value)
        cJSON_AddStringToObject(object, key, value);
    else
        cJSON_AddNullToObject(object, key);
}

static void roofline(cJSON *o, const struct bn_roofline *r)
{
    number(o, "gbytes_per_second", r->gbytes_per_s);
    number(o, "gops_per_second", r->gops_per_s);
    number(o, "share_of_limit", r->share);
    text(o, "bound", r->bound);
}

static cJSON *hotspot(const struct bn_profile *p, const struct bn_ranking *r, const struct bn_rank_item *item)
{
    cJSON *o = cJSON_CreateObject(), *path = cJSON_AddArrayToObject(o, "call_path");
    struct bn_interval ci = bn_sampled_interval(&item->self, &r->total, BN_Z95);
    struct bn_roofline roof;
    uint64_t calls = r->by == BN_RANK_STAGE ? p->stages[item->stage].calls : 0;
    uint32_t n_stages;
    char stage[1024];

    text(o, "name", item->name);
    text(o, "module", item->module);
    if (r->by == BN_RANK_LINE && item->stack)
        text(o, "function", p->frames[p->stacks[item->stack].frame].function);
    text(o, "stage", bn_profile_stage_path(p, item->stage, stage, sizeof stage));
    for (uint32_t e = item->stack; r->by != BN_RANK_STAGE && e; e = p->stacks[e].parent)
        cJSON_InsertItemInArray(path, 0, cJSON_CreateString(p->frames[p->stacks[e].frame].function));
    number(o, "self_samples", (double)item->self.n);
    number(o, "inclusive_samples", (double)item->inclusive.n);
    number(o, "self_share", bn_sampled_share(&item->self, &r->total));
    number(o, "self_share_low", ci.low);
    number(o, "self_share_high", ci.high);
    number(o, "inclusive_share", bn_sampled_share(&item->inclusive, &r->total));
    number(o, "self_ns", (double)item->self.ns);
    number(o, "ns_per_token", bn_ns_per_token(r, item->decode_self_ns));
    if (r->by == BN_RANK_STAGE)
        roof = bn_roofline_stage(p, item->stage);
    else if (r->by == BN_RANK_FUNCTION)
        roof = bn_roofline_function(p, item, &calls, &n_stages);
    else
        roof = (struct bn_roofline){BN_UNKNOWN, BN_UNKNOWN, BN_UNKNOWN,
                                    BN_UNKNOWN, BN_UNKNOWN, "a line has none"};
    number(o, "calls", calls ? (double)calls : BN_UNKNOWN);
    for (size_t i = 0; i < p->n_kernels; i++)
        if (p->kernels[i].symbol == item->name)
            number(o, "dispatches", (double)p->kernels[i].calls);
    roofline(o, &roof);
    cJSON *lines = cJSON_AddArrayToObject(o, "lines");
    for (int i = 0; i < BN_RANK_LINES && item->lines[i].self.n; i++) {
        cJSON *line = cJSON_CreateObject();
        text(line, "file", item->lines[i].file);
        number(line, "line", item->lines[i].line);
        number(line, "samples", (double)item->lines[i].self.n);
        if (!bn_sampled_equal(&r->total))
            number(line, "self_ns", (double)item->lines[i].self.ns);
        cJSON_AddItemToArray(lines, line);
    }
    return o;
}

static void add_modules(cJSON *quality, const struct bn_profile *p)
{
    static const char *const states[] = {"read", "other_file", "unreadable"};
    cJSON *list = cJSON_AddArrayToObject(quality, "modules");
    struct bn_sampled all = bn_coverage_modules(p), own;

    for (size_t i = 0; i < p->n_modules; i++) {
        const struct bn_profile_module *m = &p->modules[i];
        cJSON *o = cJSON_CreateObject();
        text(o, "name", m->name);
        text(o, "path", m->path);
        text(o, "build_id", m->build_id);
        text(o, "state", states[m->state]);
        cJSON_AddBoolToObject(o, "symbols", m->symbols);
        cJSON_AddBoolToObject(o, "debug_info", m->debug_info);
        number(o, "samples", (double)m->samples);
        own = bn_coverage_module(m);
        number(o, "share", all.n ? bn_sampled_share(&own, &all) : BN_UNKNOWN);
        text(o, "fault", bn_report_module_fault(m));
        text(o, "advice", bn_report_module_advice(m));
        cJSON_AddItemToArray(list, o);
    }
}

/* A recording that was cut off does not know what is told at the end. */
static void at_the_end(cJSON *o, const struct bn_profile_quality *q, const char *key, uint64_t value)
{
    number(o, key, q->partial ? BN_UNKNOWN : (double)value);
}

static void add_coverage(cJSON *o, const struct bn_profile *p)
{
    const struct bn_profile_quality *q = &p->quality;
    struct bn_coverage c = bn_coverage_of(p);

    number(o, "sampled_ns", (double)c.sampled_ns);
    number(o, "coverage", c.seen_ns ? (double)c.sampled_ns / (double)c.seen_ns : BN_UNKNOWN);
    number(o, "threads_never_sampled", (double)c.n_short);
    number(o, "threads_never_sampled_ns", (double)c.short_ns);
    cJSON_AddBoolToObject(o, "coverage_impossible", c.impossible);
    at_the_end(o, q, "cpu_ns", bn_profile_cpu_ns(q));
    at_the_end(o, q, "unreached_ns", q->unreached_ns);
    number(o, "user_ns", q->partial || !bn_profile_divided(q) ? BN_UNKNOWN : (double)q->user_ns);
    number(o, "system_ns", q->partial || !bn_profile_divided(q) ? BN_UNKNOWN : (double)q->system_ns);
    text(o, "ran_on", bn_profile_fact(p, "ran_on"));
    text(o, "not_sampled", bn_profile_fact(p, "not_sampled"));
    at_the_end(o, q, "major_faults", q->major_faults);
    at_the_end(o, q, "minor_faults", q->minor_faults);
    number(o, "sleeps", (double)q->n_sleeps);
    number(o, "asleep_ns", (double)q->asleep_ns);
    number(o, "preemptions", (double)q->n_preemptions);
    number(o, "preempted_ns", (double)q->preempted_ns);
}

cJSON *bn_report_quality_json(const struct bn_profile *p)
{
    const struct bn_profile_quality *q = &p->quality;
    cJSON *o = cJSON_CreateObject();
    struct bn_sampled all = bn_profile_sampled(p, 0);
    char grade[2] = {q->grade, '\0'};

    text(o, "grade", q->grade ? grade : NULL);
    text(o, "event", q->event);
    text(o, "permissions", q->ladder);
    number(o, "asked_hz", q->asked_hz);
    number(o, "achieved_hz", q->achieved_hz);
    number(o, "samples", (double)q->n_samples);
    if (!bn_sampled_equal(&all))
        number(o, "effective_samples", bn_sampled_effective(&all));
    at_the_end(o, q, "lost", q->n_lost);
    number(o, "throttle_records", (double)q->n_throttled);
    number(o, "truncated", (double)q->n_truncated);
    number(o, "unnamed", (double)q->n_unnamed);
    number(o, "joined", (double)q->n_joined);
    cJSON_AddBoolToObject(o, "kernel_sampled", q->kernel_sampled);
    number(o, "steal_share", q->steal_share);
    at_the_end(o, q, "recorder_cpu_ns", q->recorder_cpu_ns);
    cJSON_AddBoolToObject(o, "partial", q->partial);
    number(o, "duration_ns", (double)q->duration_ns);
    add_coverage(o, p);
    number(o, "empty_scope_ns", q->empty_scope_ns);
    number(o, "scope_events", (double)q->scope_events);
    add_modules(o, p);
    return o;
}

static void add_opportunities(cJSON *root, const struct bn_profile *p)
{
    cJSON *list = cJSON_AddArrayToObject(root, "opportunities");
    size_t n;
    struct bn_opportunity *all = bn_roofline_opportunities(p, &n);
    char path[1024];

    for (size_t i = 0; i < n; i++) {
        cJSON *o = cJSON_CreateObject();
        text(o, "stage", bn_profile_stage_path(p, all[i].stage, path, sizeof path));
        number(o, "time_ns", (double)bn_roofline_time_ns(p, all[i].stage));
        number(o, "limit_ns", all[i].roofline.limit_ns);
        number(o, "recoverable_ns", all[i].roofline.recoverable_ns);
        roofline(o, &all[i].roofline);
        cJSON_AddItemToArray(list, o);
    }
    free(all);
}

static void add_comparison(cJSON *root, const struct bn_profile *previous, const struct bn_comparison *c)
{
    if (!c) {
        cJSON_AddNullToObject(root, "comparison");
        return;
    }
    cJSON *o = cJSON_AddObjectToObject(root, "comparison"), *rows = cJSON_AddArrayToObject(o, "rows");
    text(o, "previous", previous->run_id);
    text(o, "unit", c->per_token ? "ns per decoded token" : "ns per run");
    text(o, "notes", c->notes.p ? c->notes.p : "");
    for (size_t i = 0; i < c->n; i++) {
        const struct bn_compare_row *row = &c->rows[i];
        cJSON *r = cJSON_CreateObject();
        text(r, "name", row->name);
        number(r, "previous_ns_per_token", row->previous);
        number(r, "current_ns_per_token", row->current);
        number(r, "low", row->low);
        number(r, "high", row->high);
        text(r, "verdict", bn_verdict_name(row->verdict));
        number(r, "previous_share", row->previous_share);
        number(r, "current_share", row->current_share);
        number(r, "more_tokens_factor", row->more);
        cJSON_AddItemToArray(rows, r);
    }
}

void bn_report_json(FILE *f, const struct bn_profile *p, const struct bn_report_options *o,
                    const struct bn_ranking *r, const struct bn_comparison *c)
{
    cJSON *root = cJSON_CreateObject(), *list, *classes;

    text(root, "run_id", p->run_id);
    text(root, "started", p->started);
    text(root, "command", p->command);
    text(root, "model", p->model.name);
    text(root, "format", p->model.format);
    cJSON_AddItemToObject(root, "quality", bn_report_quality_json(p));
    list = cJSON_AddArrayToObject(root, "hotspots");
    for (size_t i = 0; i < o->top && i < r->n && r->items[i].self.n; i++)
        cJSON_AddItemToArray(list, hotspot(p, r, &r->items[i]));
    number(root, "wait_share", r->total.n ? bn_sampled_share(&r->wait, &r->total) : BN_UNKNOWN);
    classes = cJSON_AddObjectToObject(root, "classes");
    for (int i = 0; i < BN_CLASS_COUNT; i++)
        if (bn_class_applies(p, i))
            number(classes, bn_class_name(i),
                   r->total.ns ? (double)r->class_ns[i] / (double)r->total.ns : BN_UNKNOWN);
    add_opportunities(root, p);
    add_comparison(root, o->previous, o->compare ? c : NULL);
    char *printed = cJSON_Print(root);
    if (printed)
        fprintf(f, "%s\n", printed);
    cJSON_free(printed);
    cJSON_Delete(root);
}
