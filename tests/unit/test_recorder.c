/* SPDX-License-Identifier: MIT
 * The recorder's file: blocks in order, everything in the header and the footer that the format promises,
 * times that agree with each other. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <cJSON.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "profiler/raw.h"
#include "profiler/recorder.h"
#include "profiler/recorder_json.h"

static char spin_path[256], part_path[64];
static bool refused;

static int set_up(void **state)
{
    const char *build = getenv("BUILD");
    struct bn_ladder ladder;
    struct bn_ladder_options options = {.event = BN_EVENT_CPU_CLOCK, .rate_hz = 99, .stack_dump_bytes = 4096};
    struct bn_err err;

    (void)state;
    snprintf(spin_path, sizeof spin_path, "%s/tests/data/truth_spin", build ? build : "build/release");
    snprintf(part_path, sizeof part_path, "/tmp/bnprof-part.%ld", (long)getpid());
    refused = bn_ladder_choose(&ladder, &options, 0, &err) != 0;
    if (refused)
        printf("# skipped: %s\n", err.msg);
    return access(spin_path, X_OK);
}

static int tear_down(void **state)
{
    (void)state;
    unlink(part_path);
    return 0;
}

static void no_note(void *ctx, const char *line)
{
    (void)ctx;
    fail_msg("unexpected note: %s", line);
}

static int record(char *const argv[], struct bn_recorder_result *result, struct bn_err *err)
{
    const struct bn_recorder_options o = {
        .sampler.ladder = {.event = BN_EVENT_CPU_CLOCK, .rate_hz = 499, .stack_dump_bytes = 8192},
        .file = argv[0],
        .argv = argv,
        .part_path = part_path,
        .run_id = "20260102-030405-test",
        .started = "2026-01-02 03:04:05 +0000",
        .command = "truth_spin 'a b'",
        .note = no_note,
    };

    unlink(part_path);
    return bn_record(&o, result, err);
}

static double number(const cJSON *json, const char *key)
{
    const cJSON *item = cJSON_GetObjectItem(json, key);

    if (!cJSON_IsNumber(item))
        fail_msg("%s is no number", key);
    return item->valuedouble;
}

static const char *text(const cJSON *json, const char *key)
{
    const cJSON *item = cJSON_GetObjectItem(json, key);

    if (!cJSON_IsString(item))
        fail_msg("%s is no string", key);
    return item->valuestring;
}

static void check_header(const cJSON *json)
{
    assert_string_equal(text(json, "schema"), "bnprof-part");
    assert_int_equal(number(json, "version"), 2);
    assert_string_equal(text(json, "run_id"), "20260102-030405-test");
    assert_string_equal(text(json, "started"), "2026-01-02 03:04:05 +0000");
    assert_string_equal(text(json, "command"), "truth_spin 'a b'");
    assert_true(cJSON_IsFalse(cJSON_GetObjectItem(json, "engine")));
    assert_string_equal(text(json, "event"), "cpu-clock");
    assert_int_equal(number(json, "asked_hz"), 499);
    assert_int_equal(number(json, "period_ns"), 2004008);
    assert_string_equal(text(json, "call_graph"), "dwarf");
    assert_int_equal(number(json, "stack_dump_bytes"), 8192);
    assert_true(cJSON_IsBool(cJSON_GetObjectItem(json, "kernel_sampled")));
    assert_non_null(strstr(text(json, "ladder"), "cpu-clock"));
    assert_true(number(json, "ring_bytes") >= 65536);
    assert_true(number(json, "n_cpus") >= 1);
    assert_int_equal(number(json, "page_bytes"), sysconf(_SC_PAGESIZE));
    const cJSON *facts = cJSON_GetObjectItem(json, "facts");
    assert_true(cJSON_GetArraySize(facts) > 10);
    assert_int_equal(cJSON_GetArraySize(cJSON_GetArrayItem(facts, 0)), 2);
}

static void check_footer(const cJSON *json)
{
    assert_int_equal(number(json, "exit_status"), 9);
    double cpu_ns = number(json, "user_ns") + number(json, "system_ns");
    assert_true(cpu_ns >= 2 * 150e6 && cpu_ns < 2 * 300e6);
    assert_true(number(json, "duration_ns") >= 150e6);
    assert_int_equal(number(json, "lost"), 0);
    assert_int_equal(number(json, "throttled"), 0);
    assert_true(number(json, "minor_faults") > 0);
    assert_true(number(json, "major_faults") >= 0);
    assert_true(number(json, "recorder_cpu_ns") > 0 && number(json, "recorder_cpu_ns") < cpu_ns);
    assert_true(cJSON_IsNull(cJSON_GetObjectItem(json, "model_sha256")));
    assert_true(cJSON_IsNull(cJSON_GetObjectItem(json, "limits")));
}

/* Samples in a block; each lies between first_ns and last_ns and refers to what was written before it. */
static unsigned count_samples(const uint8_t *payload, size_t n, uint64_t first_ns, uint64_t last_ns,
                              uint32_t n_threads, uint32_t n_stacks)
{
    struct bn_raw_samples head;
    struct bn_raw_sample s;
    unsigned samples = 0;

    memcpy(&head, payload, sizeof head);
    for (size_t at = sizeof head; at < n; at += sizeof s, samples++) {
        memcpy(&s, payload + at, sizeof s);
        assert_true(head.base_ns + s.dt_ns >= first_ns && head.base_ns + s.dt_ns <= last_ns);
        assert_true(s.thread < n_threads && s.stack < n_stacks);
        assert_int_equal(s.weight, 2004008);
        assert_int_equal(s.node, BN_RAW_NO_SCOPES);
    }
    return samples;
}

static uint64_t on_cpu_of(const uint8_t *at)
{
    struct bn_raw_on_cpu on;

    memcpy(&on, at, sizeof on);
    return on.ns;
}

static void test_file(void **state)
{
    char *argv[] = {spin_path, "150", "9", "2", NULL};
    struct bn_recorder_result result;
    struct bn_raw_reader r;
    struct bn_raw_block block;
    const uint8_t *payload;
    struct bn_err err;
    unsigned samples = 0, blocks = 0, headers = 0, modules = 0, footers = 0, files = 0;
    uint32_t stacks = 1; /* the empty one */
    size_t threads = 0;
    uint64_t on_cpu_ns = 0;
    uint64_t t0_ns = 0, before_ns = bn_now_ns();

    (void)state;
    if (refused)
        skip();
    assert_int_equal(record(argv, &result, &err), 0);
    uint64_t after_ns = bn_now_ns();
    assert_true(result.ran && !result.generated);
    assert_int_equal(result.exit_status, 9);
    assert_int_equal(bn_raw_open(&r, part_path, &err), 0);
    for (; bn_raw_next(&r, &block, &payload) == 1; blocks++) {
        assert_int_equal(footers, 0); /* it is the last */
        cJSON *json = cJSON_ParseWithLength((const char *)payload, block.payload_bytes);
        if (block.kind == BN_RAW_HEADER) {
            assert_int_equal(blocks, 0);
            check_header(json);
            t0_ns = strtoull(text(json, "t0_ns"), NULL, 10);
            assert_true(t0_ns >= before_ns && t0_ns <= after_ns);
            headers++;
        } else if (block.kind == BN_RAW_FOOTER) {
            check_footer(json);
            footers++;
        } else if (block.kind == BN_RAW_MODULE) {
            assert_memory_equal(payload + sizeof(struct bn_raw_module), "\177ELF", 4);
            modules++;
        } else if (block.kind == BN_RAW_SAMPLES) {
            samples +=
                count_samples(payload, block.payload_bytes, t0_ns, after_ns, (uint32_t)threads, stacks);
        } else if (block.kind == BN_RAW_THREADS) {
            threads += block.payload_bytes / sizeof(struct bn_raw_thread);
        } else if (block.kind == BN_RAW_STACKS) {
            stacks += (uint32_t)((block.payload_bytes - sizeof(struct bn_raw_stacks)) /
                                 sizeof(struct bn_raw_stack));
        } else if (block.kind == BN_RAW_FILE) {
            files++;
        } else if (block.kind == BN_RAW_OFF_CPU) {
            assert_int_equal(block.payload_bytes % sizeof(struct bn_raw_off_cpu), 0);
        } else if (block.kind == BN_RAW_ON_CPU) {
            on_cpu_ns = 0; /* the last one counts */
            for (size_t at = 0; at < block.payload_bytes; at += sizeof(struct bn_raw_on_cpu))
                on_cpu_ns += on_cpu_of(payload + at);
        } else {
            fail_msg("block of kind %u in a program without scopes", block.kind);
        }
        cJSON_Delete(json);
    }
    assert_false(r.cut_off || r.skipped_bytes);
    bn_raw_close_reader(&r);
    assert_int_equal(headers + modules + footers, 3);
    assert_int_equal(samples, result.n_samples);
    assert_true(files >= 2); /* the program, the C library */
    /* The kernel's switch records add up to the CPU time that it accounts, time stolen by a host aside. */
    assert_true((double)on_cpu_ns > 0.95 * (double)result.cpu.cpu_ns);
    assert_true((double)on_cpu_ns < 1.5 * (double)result.cpu.cpu_ns);
    assert_true(samples > 100);
}

static void test_program_that_does_not_start(void **state)
{
    char *argv[] = {"/nonexistent", NULL};
    struct bn_recorder_result result;
    struct bn_err err;

    (void)state;
    if (refused)
        skip();
    assert_int_equal(record(argv, &result, &err), -1);
    assert_false(result.ran);
    assert_string_equal(err.msg, "/nonexistent: No such file or directory");
    assert_int_equal(waitpid(-1, NULL, WNOHANG), -1);
}

static void test_steal(void **state)
{
    struct bn_recorder_ticks now, a = {.total = 1000, .steal = 10}, b = {.total = 1200, .steal = 20};

    (void)state;
    assert_true(bn_recorder_ticks(&now));
    assert_true(now.total > now.steal);
    assert_float_equal(bn_recorder_steal(&a, &b), 0.05, 1e-12);
    assert_float_equal(bn_recorder_steal(&a, &a), 0, 1e-12);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_file),
        cmocka_unit_test(test_program_that_does_not_start),
        cmocka_unit_test(test_steal),
    };

    return cmocka_run_group_tests(tests, set_up, tear_down);
}
