/* SPDX-License-Identifier: MIT
 * The record: find-or-add, clean strings, the same bytes after a round trip, hostile files refused with their
 * place. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "profiler/profile.h"

static char folder[] = "/tmp/bn-profile.XXXXXX";

static const char *in_folder(const char *name)
{
    static char path[256];
    snprintf(path, sizeof path, "%s/%s", folder, name);
    return path;
}

static int make_folder(void **state)
{
    (void)state;
    return mkdtemp(folder) ? 0 : -1;
}

static int remove_folder(void **state)
{
    (void)state;
    unlink(in_folder("a.json"));
    unlink(in_folder("b.json"));
    return rmdir(folder);
}

static uint32_t frame(struct bn_profile *p, const char *function, uint32_t line)
{
    struct bn_frame f = {
        .function = function, .module = "bnprof", .file = "a.c", .line = line, .kind = BN_FRAME_USER};
    return bn_profile_add_frame(p, &f);
}

/* A record with something of everything, and the awkward values. */
static void fill(struct bn_profile *p, size_t n_samples)
{
    bn_profile_init(p);
    p->run_id = bn_profile_str(p, "20261121-101500-i2s");
    p->started = bn_profile_str(p, "2026-11-21 10:15:00 +0000");
    p->command = bn_profile_str(p, "run --prompt 'a \"b\" \\ ünï'");
    p->config_key = bn_profile_str(p, "k");
    p->exit_status = 139;
    p->model.arch = bn_profile_str(p, "bitnet-b1.58");
    p->model.file_bytes = (uint64_t)1 << 53;
    p->run.known = true;
    p->run.load_ms = 0.1;
    p->run.decode_tokens_per_second = 1.0 / 3.0;
    p->run.decode_allocations = 0;
    p->quality.achieved_hz = 998.7654321;
    p->quality.n_samples = n_samples;
    p->quality.grade = 'A';
    p->limits.read_bytes_per_s = 35.1e9;
    bn_profile_add_fact(p, "cpu_model", "some <CPU> & co");
    bn_profile_add_kernel(p, "i2s_gemv_c", UINT64_MAX - 2); /* more than a double holds */
    bn_profile_add_flag(p, &(struct bn_flag){.id = "few-samples",
                                             .severity = BN_FLAG_WARNING,
                                             .state = BN_FLAG_CLEAR,
                                             .value = 12,
                                             .threshold = BN_UNKNOWN,
                                             .unit = "samples"});
    bn_profile_add_thread(p, &(struct bn_profile_thread){.tid = 77, .pid = 76, .name = "main"});
    uint32_t generate = bn_profile_add_stage(p, 0, "generate");
    uint32_t decode = bn_profile_add_stage(p, generate, "decode");
    p->stages[decode].calls = 12;
    p->stages[decode].total_ns = 123456789;
    bn_profile_add_token(p, &(struct bn_token){.start_ns = 5, .end_ns = 9, .step = 1, .prefill = true});
    p->n_tokens_total = 1;
    for (size_t i = 0; i < n_samples; i++) {
        char name[32];
        snprintf(name, sizeof name, "f%zu", i % 50);
        uint32_t stack = bn_profile_add_stack(p, 0, frame(p, "main", 3));
        stack = bn_profile_add_stack(p, stack, frame(p, name, (uint32_t)(i % 7)));
        bn_profile_add_sample(p, &(struct bn_sample){.t_ns = i * 1001,
                                                     .weight_ns = 1001001,
                                                     .stack = stack,
                                                     .stage = i % 2 ? decode : generate,
                                                     .layer = i % 3 ? -1 : 4,
                                                     .step = (uint32_t)i,
                                                     .flags = BN_SAMPLE_JOINED});
    }
}

static char *read_all(const char *path, size_t *n)
{
    struct bn_map map;
    struct bn_err err;

    assert_int_equal(bn_map_open(&map, path, &err), 0);
    char *s = bn_xmalloc(map.n + 1);
    memcpy(s, map.p, map.n);
    s[map.n] = '\0';
    *n = map.n;
    bn_map_close(&map);
    return s;
}

static void write_all(const char *path, const char *s, size_t n)
{
    FILE *f = fopen(path, "w");
    assert_non_null(f);
    assert_int_equal(fwrite(s, 1, n, f), n);
    fclose(f);
}

static void test_find_or_add(void **state)
{
    struct bn_profile p;
    (void)state;

    bn_profile_init(&p);
    assert_int_equal(p.n_stacks, 1);
    assert_int_equal(p.n_stages, 1);
    assert_string_equal(p.stages[0].name, "all");
    uint32_t a = frame(&p, "a", 1), b = frame(&p, "b", 1);
    assert_int_not_equal(a, b);
    assert_int_not_equal(frame(&p, "a", 2), a);
    assert_int_equal(frame(&p, "a", 1), a);
    struct bn_frame inlined = p.frames[a];
    inlined.inlined = true;
    assert_int_not_equal(bn_profile_add_frame(&p, &inlined), a);
    uint32_t sa = bn_profile_add_stack(&p, 0, a), sab = bn_profile_add_stack(&p, sa, b);
    assert_int_not_equal(bn_profile_add_stack(&p, 0, b), sab);
    assert_int_equal(bn_profile_add_stack(&p, 0, a), sa);
    assert_int_equal(bn_profile_add_stack(&p, sa, b), sab);
    for (uint32_t i = 0; i < 20000; i++)
        bn_profile_add_stack(&p, 0, frame(&p, "many", i));
    for (uint32_t i = 0; i < 20000; i += 997)
        assert_int_equal(p.frames[p.stacks[bn_profile_add_stack(&p, 0, frame(&p, "many", i))].frame].line, i);
    assert_int_equal(p.n_frames, 20000 + 4);
    assert_ptr_equal(bn_profile_str(&p, "x y"), bn_profile_str(&p, "x y"));
    assert_null(bn_profile_str(&p, NULL));
    bn_profile_add_fact(&p, "k", "1");
    bn_profile_add_fact(&p, "k", "2");
    assert_string_equal(bn_profile_fact(&p, "k"), "2");
    assert_null(bn_profile_fact(&p, "absent"));
    bn_profile_free(&p);
    bn_profile_free(&p);
}

static void test_strings_are_clean(void **state)
{
    struct bn_profile p;
    (void)state;

    bn_profile_init(&p);
    assert_string_equal(bn_profile_str(&p, "grün 日本 \U0001F600"), "grün 日本 \U0001F600");
    assert_string_equal(bn_profile_str(&p, "a\nb\x1b[31m\x7f"), "a?b?[31m?");
    assert_string_equal(bn_profile_str(&p, "\xff\xc0\xafx\xe2\x82"), "???x??");
    assert_string_equal(bn_profile_str(&p, "\xed\xa0\x80|\xf4\x90\x80\x80|\xc2\x85|\xef\xbf\xbe"),
                        "???|????|??|???");
    bn_profile_free(&p);
}

static void test_stage_paths(void **state)
{
    struct bn_profile p;
    char buf[64], tiny[9];
    (void)state;

    bn_profile_init(&p);
    uint32_t g = bn_profile_add_stage(&p, 0, "generate"), d = bn_profile_add_stage(&p, g, "decode");
    uint32_t w = bn_profile_add_stage(&p, 0, "wait");
    assert_string_equal(bn_profile_stage_path(&p, 0, buf, sizeof buf), "all");
    assert_string_equal(bn_profile_stage_path(&p, g, buf, sizeof buf), "generate");
    assert_string_equal(bn_profile_stage_path(&p, d, buf, sizeof buf), "generate;decode");
    assert_string_equal(bn_profile_stage_path(&p, d, tiny, sizeof tiny), "generate");
    assert_string_equal(bn_profile_stage_path(&p, d, buf, 11), "generate;d");
    assert_int_equal(bn_profile_add_stage(&p, g, "decode"), d);
    assert_int_equal(bn_profile_find_stage(&p, g, "decode"), d);
    assert_int_equal(bn_profile_find_stage(&p, 0, "decode"), BN_NONE);
    assert_true(bn_profile_stage_within(&p, d, g));
    assert_true(bn_profile_stage_within(&p, d, d));
    assert_true(bn_profile_stage_within(&p, w, 0));
    assert_false(bn_profile_stage_within(&p, w, g));
    assert_false(bn_profile_stage_within(&p, g, d));
    bn_profile_free(&p);
}

static void test_round_trip(void **state)
{
    struct bn_profile p, q;
    struct bn_err err = {""};
    size_t na, nb;
    (void)state;

    fill(&p, 1000);
    assert_int_equal(bn_profile_save(&p, in_folder("a.json"), &err), 0);
    if (bn_profile_load(&q, in_folder("a.json"), &err) != 0)
        fail_msg("%s", err.msg);
    assert_int_equal(bn_profile_save(&q, in_folder("b.json"), &err), 0);
    char *a = read_all(in_folder("a.json"), &na), *b = read_all(in_folder("b.json"), &nb);
    assert_int_equal(na, nb);
    assert_memory_equal(a, b, na);
    assert_memory_equal(a, "{\"schema\":\"bnprof-profile\",\"version\":2,", 39);
    assert_string_equal(q.command, p.command);
    assert_true(q.run.decode_tokens_per_second == 1.0 / 3.0);
    assert_true(isnan(q.run.token_ms_p99));
    assert_true(isnan(q.flags[0].threshold));
    assert_true(q.kernels[0].calls == UINT64_MAX - 2);
    assert_true(q.run.decode_allocations == 0);
    assert_int_equal(q.quality.grade, 'A');
    assert_int_equal(q.n_stacks, p.n_stacks);
    assert_int_equal(q.stacks[0].frame, BN_NONE);
    assert_memory_equal(q.samples, p.samples, p.n_samples * sizeof *p.samples);
    /* what was loaded can go on growing: equal content is still found */
    assert_int_equal(bn_profile_add_stage(&q, 1, "decode"), 2);
    assert_int_equal(frame(&q, "main", 3), frame(&p, "main", 3));
    assert_int_equal(bn_profile_add_stack(&q, 0, frame(&q, "main", 3)), 1);
    assert_int_equal(q.n_stacks, p.n_stacks);
    free(a);
    free(b);
    bn_profile_free(&p);
    bn_profile_free(&q);
}

static void test_summary(void **state)
{
    struct bn_profile p, q;
    struct bn_err err = {""};
    size_t n;
    (void)state;

    fill(&p, 100);
    bn_profile_add_fact(&p, "awkward", "x,\n\"tokens\":{");
    assert_int_equal(bn_profile_save(&p, in_folder("a.json"), &err), 0);
    char *text = read_all(in_folder("a.json"), &n);
    for (int i = 0; i < 2; i++) {
        if (bn_profile_load_summary(&q, in_folder(i ? "b.json" : "a.json"), &err) != 0)
            fail_msg("%s", err.msg);
        assert_string_equal(q.config_key, "k");
        assert_int_equal(q.quality.n_samples, 100);
        assert_int_equal(q.n_stages, 3);
        assert_int_equal(q.n_facts, 2);
        assert_int_equal(q.n_samples, 0);
        assert_int_equal(q.n_frames, 0);
        assert_int_equal(q.n_stacks, 1);
        bn_profile_free(&q);
        for (char *c = text; i == 0 && *c; c++) /* laid out differently: parsed whole */
            *c = *c == '\n' ? ' ' : *c;
        write_all(in_folder("b.json"), text, n);
    }
    assert_int_equal(bn_profile_load_summary(&q, in_folder("absent"), &err), -1);
    bn_profile_free(&q);
    write_all(in_folder("b.json"), text, n / 3);
    assert_int_equal(bn_profile_load_summary(&q, in_folder("b.json"), &err), -1);
    bn_profile_free(&q);
    char *good = read_all(in_folder("a.json"), &n);
    write_all(in_folder("b.json"), good, n - 3); /* its head is whole */
    assert_int_equal(bn_profile_load_summary(&q, in_folder("b.json"), &err), -1);
    assert_non_null(strstr(err.msg, "does not end like a profile"));
    free(good);
    bn_profile_free(&q);
    free(text);
    bn_profile_free(&p);
}

/* The file with the first `from` replaced by `to`. */
static char *with(const char *file, const char *from, const char *to)
{
    const char *at = strstr(file, from);

    if (!at)
        fail_msg("the file has no %s", from);
    return bn_xasprintf("%.*s%s%s", (int)(at - file), file, to, at + strlen(from));
}

/* What naming leaves behind: symbols as the files spell them, modules, addresses. */
static void fill_names(struct bn_profile *p)
{
    fill(p, 3);
    uint32_t part = bn_profile_add_frame(
        p, &(struct bn_frame){.function = "f0", .raw = "f0.part.0", .module = "x", .line = 0});
    uint32_t module = bn_profile_add_module(
        p, &(struct bn_profile_module){
               .name = "x", .path = "/x", .build_id = "00ff", .symbols = true, .modified_s = 1795272586});
    bn_profile_add_module(
        p,
        &(struct bn_profile_module){
            .name = "gone", .path = "/gone", .state = BN_MODULE_OTHER_FILE, .why = "replaced", .samples = 7});
    bn_profile_add_address(p, &(struct bn_profile_address){module, part, 0x1000, 0, 0});
    bn_profile_add_address(p, &(struct bn_profile_address){module, part, 0x1004, 2, 0});
    bn_profile_add_address(p, &(struct bn_profile_address){module, part, 0x1000, 3, 0});
}

static void test_names(void **state)
{
    static const struct {
        const char *from, *to, *message; /* NULL = it loads */
    } cases[] = {
        {"\"module\":[0,0],\n\"frame\":4", "\"module\":[0,2],\n\"frame\":4",
         "addresses[1].module: index 2 out of 2"},
        {"\"vaddr\":[4096", "\"vaddr\":[-1", "addresses[0].vaddr: expected an integer"},
        {"\"module\":[0,0],\n\"frame\":4", "\"module\":[0,0],\n\"frame\":5",
         "addresses[0].frame: index 5 out of 5"},
        {"\"module\":[0,0],\n\"frame\":4", "\"module\":[0,0],\n\"frame\":[4]",
         "addresses.frame: 1 values where module has 2"},
        {"\"raw\":[-1", "\"raw\":[99", "frames[0].raw: index 99 out of 8"},
        {"\"other_file\"", "\"another\"", "modules[1].state: not one of the 3 known words"},
        {"\"modified_s\":1795272586", "\"modified_s\":-5",
         "modules[0].modified_s: expected an integer from 0"},
        {"\"modules\":[", "\"modules\":{\"x\":[", "no JSON"},
        /* an older bnprof wrote none of these */
        {"\"raw\":[", "\"war\":[", NULL},
        {"\"addresses\":{", "\"x\":{", NULL},
    };
    struct bn_profile p, q;
    struct bn_err err = {""};
    size_t n;
    (void)state;

    fill_names(&p);
    assert_int_equal(p.n_addresses, 2);
    assert_int_equal(p.addresses[0].samples, 3);
    assert_int_equal(bn_profile_save(&p, in_folder("a.json"), &err), 0);
    char *file = read_all(in_folder("a.json"), &n);
    if (bn_profile_load(&q, in_folder("a.json"), &err) != 0)
        fail_msg("%s", err.msg);
    assert_string_equal(q.frames[4].raw, "f0.part.0");
    assert_null(q.frames[0].raw);
    assert_string_equal(q.modules[0].build_id, "00ff");
    assert_true(q.modules[0].modified_s == 1795272586 && q.modules[0].symbols && !q.modules[0].debug_info);
    assert_int_equal(q.modules[1].state, BN_MODULE_OTHER_FILE);
    assert_int_equal(q.modules[1].samples, 7);
    assert_memory_equal(q.addresses, p.addresses, 2 * sizeof *p.addresses);
    bn_profile_free(&q);
    for (size_t i = 0; i < BN_COUNT(cases); i++) {
        char *changed = with(file, cases[i].from, cases[i].to);
        write_all(in_folder("b.json"), changed, strlen(changed));
        int status = bn_profile_load(&q, in_folder("b.json"), &err);
        if (status != (cases[i].message ? -1 : 0) || (cases[i].message && !strstr(err.msg, cases[i].message)))
            fail_msg("case %zu: %d, %s", i, status, err.msg);
        bn_profile_free(&q);
        free(changed);
    }
    free(file);
    bn_profile_free(&p);
}

static void test_hostile_files(void **state)
{
    static const struct {
        const char *from, *to, *message;
    } cases[] = {
        {"{\"schema\"", "", "no JSON"},
        {"bnprof-profile", "other", "no profile: expected \"schema\": \"bnprof-profile\""},
        {"\"version\":2", "\"version\":1", "version: expected 2"},
        {"\"stack\":[2,", "\"stack\":[99,", "samples[0].stack: index 99 out of 5"},
        {"\"stack\":[2,", "\"stack\":[1.5,", "samples[0].stack: expected an integer"},
        {"\"stack\":[2,", "\"stack\":[-1,", "samples[0].stack: expected an integer"},
        {"\"stack\":[2,", "\"stack\":[1e300,", "samples[0].stack: expected an integer"},
        {"\"stack\":[2,", "\"stack\":[null,", "samples[0].stack: expected an integer"},
        {"\"stack\":[2,", "\"stack\":[2,2,", "samples.stack: 4 values where dt_ns has 3"},
        {"\"stack\":[2,", "\"stack\":[", "samples.stack: 2 values where dt_ns has 3"},
        {"\"stack\":[2,", "\"stacks\":[2,", "samples.stack: expected an array"},
        {"\"dt_ns\":[0,", "\"dt_ns\":[\"18446744073709551615\",", "samples.dt_ns: add up to more than 2^64"},
        {"\"dt_ns\":[0,", "\"dt_ns\":[-1,", "samples[0].dt_ns: expected an integer"},
        {"\"dt_ns\":[0,1001,1001]", "\"dt_ns\":7", "samples.dt_ns: expected an array"},
        {"\"weight_ns\":1001001", "\"weight_ns\":\"x\"", "samples[0].weight_ns: expected an integer"},
        {"\"thread\":0", "\"thread\":1", "samples[0].thread: index 1 out of 1"},
        {"\"frame\":[-1,0", "\"frame\":[0,0", "stacks[0].frame: expected -1"},
        {"\"frame\":[-1,0", "\"frame\":[-1,-1", "stacks[1].frame: expected an integer"},
        {"\"frame\":[-1,0", "\"frame\":[-1,88", "stacks[1].frame: index 88 out of 4"},
        {"\"parent\":[0,0", "\"parent\":[0,1", "stacks[1].parent: parent 1 does not come before entry 1"},
        {"\"function\":[0", "\"function\":[77", "frames[0].function: index 77 out of 6"},
        {"\"function\":[0", "\"function\":[-1", "frames[0].function: expected an integer"},
        {"\"kind\":0", "\"kind\":9", "frames[0].kind: expected an integer from 0 to 3"},
        {"\"inlined\":0", "\"inlined\":2", "frames[0].inlined: expected an integer from 0 to 1"},
        {"\"prefill\":[1", "\"prefill\":[\"x\"", "tokens[0].prefill: expected an integer from 0 to 1"},
        {"\"end_ns\":[9", "\"end_ns\":[1", "tokens[0].end_ns: earlier than its start"},
        {"\"parent\":1,", "\"parent\":2,", "stages[2].parent: parent 2 does not come before entry 2"},
        {"\"name\":\"decode\"", "\"name\":null", "stages[2].name: expected a string"},
        {"\"name\":\"decode\"", "\"eman\":null", "stages[2].name: is missing"},
        {"\"clear\"", "\"bright\"", "flags[0].state: not one of the 3 known words"},
        {"\"exit_status\":139", "\"exit_status\":\"x\"", "exit_status: expected an integer"},
        {"\"load_ms\":0.1", "\"load_ms\":1e999", "run.load_ms: expected a number or null"},
        {"\"known\":true", "\"known\":1", "run.known: expected true or false"},
        {"\"grade\":\"A\"", "\"grade\":\"AB\"", "quality.grade: expected one character or null"},
        {"\"limits\":{", "\"limits\":[],\"x\":{", "limits: expected an object"},
        {"\"stages\":[", "\"stages\":[],\"x\":[", "stages: expected at least one entry"},
        {"\"threads\":[", "\"threads\":[7,", "threads[0]: expected an object"},
        {"\"strings\":[", "\"strings\":[7,", "strings[0]: expected a string"},
        {"\"n_samples\":3,", "\"n_samples\":4,", "quality.n_samples: 4, but there are 3 samples"},
        {"\"n_samples\":3,", "\"n_samples\":2,", "quality.n_samples: 2, but there are 3 samples"},
        {"\"n_truncated\":0", "\"n_truncated\":4", "quality.n_truncated: 4 of 3 samples"},
        {"\"n_unnamed\":0", "\"n_unnamed\":4", "quality.n_unnamed: 4 of 3 samples"},
        {"\"n_joined\":0", "\"n_joined\":9", "quality.n_joined: 9 of 3 samples"},
        {"\"n_stack_full\":0", "\"n_stack_full\":4", "quality.n_stack_full: 4 of 3 samples"},
        {"\"n_edge\":0", "\"n_edge\":4", "quality.n_edge: 4 of 3 samples"},
        {"\"steal_share\":null", "\"steal_share\":5.0",
         "quality.steal_share: 5, expected a share from 0 to 1"},
        {"\"steal_share\":null", "\"steal_share\":-0.1",
         "quality.steal_share: -0.1, expected a share from 0 to 1"},
        {"\"asked_hz\":null", "\"asked_hz\":-1", "quality.asked_hz: -1, expected nothing below 0"},
        {"\"achieved_hz\":998", "\"achieved_hz\":-998",
         "quality.achieved_hz: -998.765, expected nothing below 0"},
        {"\"grade\":\"A\"", "\"grade\":\"E\"", "quality.grade: 'E', expected A, B, C, D or null"},
        {"\"weight_ns\":1001001", "\"weight_ns\":0", "samples[0].weight_ns: 0, but a sample stands"},
        {"\"weight_ns\":1001001", "\"weight_ns\":[1,1,0]", "samples[2].weight_ns: 0, but a sample stands"},
    };
    struct bn_profile p, q;
    struct bn_err err;
    size_t n;
    (void)state;

    fill(&p, 3);
    assert_int_equal(bn_profile_save(&p, in_folder("a.json"), &err), 0);
    char *good = read_all(in_folder("a.json"), &n);
    for (size_t i = 0; i < BN_COUNT(cases); i++) {
        char *text = with(good, cases[i].from, cases[i].to);
        write_all(in_folder("b.json"), text, strlen(text));
        assert_int_equal(bn_profile_load(&q, in_folder("b.json"), &err), -1);
        if (!strstr(err.msg, cases[i].message) || strncmp(err.msg, folder, strlen(folder)) != 0)
            fail_msg("case %zu: \"%s\" instead of \"%s\"", i, err.msg, cases[i].message);
        assert_int_equal(q.n_samples, 0);
        bn_profile_free(&q);
        free(text);
    }
    for (size_t cut = 0; cut < n - 2; cut += 7) {
        write_all(in_folder("b.json"), good, cut);
        assert_int_equal(bn_profile_load(&q, in_folder("b.json"), &err), -1);
        bn_profile_free(&q);
    }
    /* whole, but not alone; blanks do not matter */
    static const struct {
        const char *tail, *message;
    } tails[] = {{"x", "1 bytes behind the end"},
                 {"\n{}", "2 bytes behind the end"},
                 {"]}", "2 bytes behind"},
                 {" \t\r\n", NULL}};
    for (size_t i = 0; i < BN_COUNT(tails); i++) {
        char *text = bn_xasprintf("%s%s", good, tails[i].tail);
        write_all(in_folder("b.json"), text, strlen(text));
        assert_int_equal(bn_profile_load(&q, in_folder("b.json"), &err), tails[i].message ? -1 : 0);
        if (tails[i].message && !strstr(err.msg, tails[i].message))
            fail_msg("tail %zu: %s", i, err.msg);
        bn_profile_free(&q);
        free(text);
    }
    char *nul = bn_xasprintf("%sx", good);
    nul[strlen(good)] = '\0';
    write_all(in_folder("b.json"), nul, strlen(good) + 1);
    assert_int_equal(bn_profile_load(&q, in_folder("b.json"), &err), -1);
    bn_profile_free(&q);
    free(nul);
    assert_int_equal(bn_profile_load(&q, in_folder("absent"), &err), -1);
    bn_profile_free(&q);
    free(good);
    bn_profile_free(&p);
}

/* Single bytes replaced at random: refused or loaded, never a crash (ASan watches). */
static void test_damaged_bytes(void **state)
{
    struct bn_profile p, q;
    struct bn_err err;
    size_t n;
    uint64_t random = 7;
    (void)state;

    fill(&p, 20);
    assert_int_equal(bn_profile_save(&p, in_folder("a.json"), &err), 0);
    char *text = read_all(in_folder("a.json"), &n);
    int refused = 0;
    for (int i = 0; i < 2000; i++) {
        random = random * 6364136223846793005u + 1442695040888963407u;
        size_t at = (size_t)(random >> 20) % n;
        char saved = text[at];
        text[at] = "0123456789,[]{}\"-e"[(random >> 12) % 18];
        write_all(in_folder("b.json"), text, n);
        refused += bn_profile_load(&q, in_folder("b.json"), &err) != 0;
        bn_profile_free(&q);
        text[at] = saved;
    }
    assert_in_range(refused, 1, 2000);
    free(text);
    bn_profile_free(&p);
}

static void test_deep_stacks_are_refused(void **state)
{
    struct bn_profile p, q;
    struct bn_err err;
    (void)state;

    fill(&p, 0);
    uint32_t f = frame(&p, "recurse", 1), stack = 0;
    for (int i = 0; i < BN_PROFILE_MAX_DEPTH; i++)
        stack = bn_profile_add_stack(&p, stack, f);
    assert_int_equal(bn_profile_save(&p, in_folder("a.json"), &err), 0);
    assert_int_equal(bn_profile_load(&q, in_folder("a.json"), &err), 0);
    bn_profile_free(&q);
    bn_profile_add_stack(&p, stack, f);
    assert_int_equal(bn_profile_save(&p, in_folder("a.json"), &err), 0);
    assert_int_equal(bn_profile_load(&q, in_folder("a.json"), &err), -1);
    assert_non_null(strstr(err.msg, "lies deeper than 16384 entries"));
    bn_profile_free(&q);
    bn_profile_free(&p);
}

static void test_unwritable(void **state)
{
    struct bn_profile p;
    struct bn_err err = {""};
    (void)state;

    fill(&p, 1);
    assert_int_equal(bn_profile_save(&p, in_folder("no/such/a.json"), &err), -1);
    assert_non_null(strstr(err.msg, "no/such/a.json"));
    bn_profile_free(&p);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_find_or_add),
        cmocka_unit_test(test_strings_are_clean),
        cmocka_unit_test(test_stage_paths),
        cmocka_unit_test(test_round_trip),
        cmocka_unit_test(test_summary),
        cmocka_unit_test(test_names),
        cmocka_unit_test(test_hostile_files),
        cmocka_unit_test(test_damaged_bytes),
        cmocka_unit_test(test_deep_stacks_are_refused),
        cmocka_unit_test(test_unwritable),
    };
    return cmocka_run_group_tests_name("profile", tests, make_folder, remove_folder);
}
