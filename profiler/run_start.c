/* SPDX-License-Identifier: MIT
 * The start of a recording from its record, from what was spooled of it, or from its name. */
#include "profiler/run_start.h"

#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "profiler/part_info.h"
#include "profiler/raw.h"

static uint64_t ns_of(int64_t seconds)
{
    return seconds > 0 && seconds < INT64_MAX / 1000000000 ? (uint64_t)seconds * 1000000000u : 0;
}

static uint64_t by_record(const struct bn_profile *p)
{
    struct tm tm = {0};

    if (p->started_ns)
        return p->started_ns;
    if (!p->started || !strptime(p->started, "%Y-%m-%d %H:%M:%S %z", &tm))
        return 0;
    long east_s = tm.tm_gmtoff; /* timegm forgets it */
    return ns_of(timegm(&tm) - east_s);
}

static uint64_t by_name(const char *id)
{
    struct tm tm = {.tm_isdst = -1};

    return strptime(id, "%Y%m%d-%H%M%S", &tm) ? ns_of(mktime(&tm)) : 0;
}

uint64_t bn_run_start_of(const struct bn_profile *p, const char *id)
{
    uint64_t ns = by_record(p);

    return ns ? ns : by_name(id);
}

/* The start stands right behind the version, so that a list of many runs need not read them whole. */
static uint64_t at_the_top(const char *json)
{
    static const char before[] = "{\"schema\":\"" BN_PROFILE_SCHEMA "\",\"version\":%d,\n\"started_ns\":\"";
    char text[160] = "", *want = bn_xasprintf(before, BN_PROFILE_VERSION);
    FILE *f = fopen(json, "re");
    size_t n = strlen(want);
    uint64_t ns = 0;

    if (f && fread(text, 1, sizeof text - 1, f) > n && strncmp(text, want, n) == 0) {
        text[n + strcspn(text + n, "\"")] = '\0';
        if (bn_parse_u64(text + n, 0, UINT64_MAX, &ns) != 0)
            ns = 0;
    }
    if (f)
        fclose(f);
    free(want);
    return ns;
}

static uint64_t of_record(const char *json)
{
    uint64_t ns = at_the_top(json);
    struct bn_profile p;
    struct bn_err err;

    if (ns)
        return ns;
    if (bn_profile_load_summary(&p, json, &err) == 0)
        ns = by_record(&p);
    bn_profile_free(&p);
    return ns;
}

static uint64_t of_part(const char *part)
{
    struct bn_part_info info = {0};
    struct bn_raw_reader reader;
    struct bn_raw_block block;
    const uint8_t *payload;
    struct bn_profile p;
    struct bn_err err;
    uint64_t ns = 0;

    if (bn_raw_open(&reader, part, &err) != 0)
        return 0;
    bn_profile_init(&p);
    if (bn_raw_next(&reader, &block, &payload) == 1 && block.kind == BN_RAW_HEADER &&
        bn_part_header(&p, &info, (const char *)payload, block.payload_bytes, &err) == 0)
        ns = by_record(&p);
    bn_profile_free(&p);
    bn_raw_close_reader(&reader);
    return ns;
}

uint64_t bn_run_start_read(const char *dir, const char *id)
{
    char *json = bn_xasprintf("%s/profile.json", dir), *part = bn_xasprintf("%s/profile.part", dir);
    uint64_t ns = of_record(json);

    if (ns == 0)
        ns = of_part(part);
    free(json);
    free(part);
    return ns ? ns : by_name(id);
}
