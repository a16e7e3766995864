/* SPDX-License-Identifier: MIT
 * profile.part: what is written comes back; what is cut off ends the reading at the block before, what is
 * damaged is skipped. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <fcntl.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/resource.h>
#include <unistd.h>

#include "profiler/raw.h"

static char dir[] = "/tmp/bnprof-raw.XXXXXX";
static char path[64];

static int make_dir(void **state)
{
    (void)state;
    if (!mkdtemp(dir))
        return -1;
    snprintf(path, sizeof path, "%s/part", dir);
    return 0;
}

static int drop_dir(void **state)
{
    (void)state;
    return rmdir(dir);
}

static const char *const payloads[] = {"{\"a\":1}", "", "12345678", "a body that is longer than its head"};
static const enum bn_raw_kind kinds[] = {BN_RAW_HEADER, BN_RAW_SAMPLES, BN_RAW_SCOPES, BN_RAW_FOOTER};

/* Four blocks; returns the file's bytes, the caller frees them. ends[i] is where block i ends. */
static uint8_t *write_sample(size_t *n, size_t ends[4])
{
    struct bn_raw_writer w;
    struct bn_err err;
    struct bn_map map;

    assert_int_equal(bn_raw_create(&w, path, &err), 0);
    for (int i = 0; i < 4; i++) {
        size_t head = strlen(payloads[i]) / 2;
        bn_raw_append(&w, kinds[i], payloads[i], head, payloads[i] + head, strlen(payloads[i]) - head);
        bn_raw_flush(&w);
        ends[i] = w.written_bytes;
    }
    assert_int_equal(bn_raw_close(&w, &err), 0);
    assert_int_equal(bn_map_open(&map, path, &err), 0);
    uint8_t *bytes = bn_xmalloc(map.n);
    memcpy(bytes, map.p, map.n);
    *n = map.n;
    bn_map_close(&map);
    assert_int_equal(*n, ends[3]);
    return bytes;
}

static void put_file(const uint8_t *bytes, size_t n)
{
    int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC, 0600);

    assert_true(fd >= 0);
    assert_int_equal(write(fd, bytes, n), n);
    close(fd);
}

/* Number of whole blocks, each checked against what was written; `missing` is not among them (4 = all are).
 */
static int count_blocks(int missing, bool *damaged)
{
    struct bn_raw_reader r;
    struct bn_raw_block block;
    const uint8_t *payload;
    struct bn_err err;
    int n = 0;

    if (bn_raw_open(&r, path, &err) != 0)
        return -1;
    while (bn_raw_next(&r, &block, &payload) == 1) {
        int at = n + (n >= missing);
        assert_true(at < 4);
        assert_int_equal(block.kind, kinds[at]);
        assert_int_equal(block.payload_bytes, strlen(payloads[at]));
        assert_memory_equal(payload, payloads[at], block.payload_bytes);
        assert_int_equal(r.gap_bytes > 0, n == missing);
        assert_int_equal((uintptr_t)payload % 8, 0);
        n++;
    }
    *damaged = r.cut_off || r.skipped_bytes;
    assert_int_equal(bn_raw_next(&r, &block, &payload), 0);
    bn_raw_close_reader(&r);
    return n;
}

static void test_round_trip(void **state)
{
    struct bn_raw_reader r;
    struct bn_raw_block block;
    const uint8_t *payload;
    struct bn_err err;
    size_t n, ends[4];
    bool damaged;

    (void)state;
    free(write_sample(&n, ends));
    assert_int_equal(count_blocks(4, &damaged), 4);
    assert_false(damaged);
    assert_int_equal(bn_raw_open(&r, path, &err), 0);
    assert_int_equal(bn_raw_next(&r, &block, &payload), 1);
    bn_raw_rewind(&r);
    assert_int_equal(bn_raw_next(&r, &block, &payload), 1);
    assert_int_equal(block.kind, BN_RAW_HEADER);
    bn_raw_close_reader(&r);
    unlink(path);
}

static void test_cut_at_every_byte(void **state)
{
    size_t n, ends[4];
    uint8_t *bytes = write_sample(&n, ends);

    (void)state;
    for (size_t cut = 0; cut < n; cut++) {
        int whole = 0;
        bool damaged = false;
        put_file(bytes, cut);
        while (whole < 4 && ends[whole] <= cut)
            whole++;
        assert_int_equal(count_blocks(4, &damaged), cut < 8 ? -1 : whole);
        if (cut >= 8)
            assert_int_equal(damaged, cut != 8 && (whole == 0 || ends[whole - 1] != cut));
    }
    free(bytes);
    unlink(path);
}

/* Every single flipped bit costs its block and no other, except in the padding, where nothing is read. */
static void test_flipped_bits(void **state)
{
    size_t n, ends[4];
    uint8_t *bytes = write_sample(&n, ends);

    (void)state;
    for (size_t bit = 0; bit < n * 8; bit++) {
        size_t at = bit / 8, begin = 8;
        int block = 0;
        bool damaged = false;
        while (block < 4 && ends[block] <= at)
            begin = ends[block++];
        bytes[at] ^= (uint8_t)(1u << bit % 8);
        put_file(bytes, n);
        bool in_block = at >= 8 && at < begin + 16 + strlen(payloads[block < 4 ? block : 3]);
        int got = count_blocks(in_block ? block : 4, &damaged);
        bytes[at] ^= (uint8_t)(1u << bit % 8);
        if (at < 8) {
            assert_int_equal(got, -1);
        } else if (at >= begin + 16 + strlen(payloads[block])) {
            assert_int_equal(got, 4);
        } else {
            assert_int_equal(got, 3);
            assert_true(damaged);
        }
    }
    free(bytes);
    unlink(path);
}

static void test_checksum(void **state)
{
    uint8_t bytes[300];

    (void)state;
    assert_int_equal(bn_raw_crc32c(0, "123456789", 9), 0xe3069283);
    assert_int_equal(bn_raw_crc32c_table(0, "123456789", 9), 0xe3069283);
    for (size_t i = 0; i < sizeof bytes; i++)
        bytes[i] = (uint8_t)(i * 151 + 7);
    for (size_t n = 0; n < sizeof bytes - 8; n++) {
        uint32_t whole = bn_raw_crc32c(0, bytes + n % 8, n);
        assert_int_equal(bn_raw_crc32c_table(0, bytes + n % 8, n), whole);
        assert_int_equal(
            bn_raw_crc32c(bn_raw_crc32c(0, bytes + n % 8, n / 3), bytes + n % 8 + n / 3, n - n / 3), whole);
    }
}

static void test_refuses(void **state)
{
    struct bn_raw_writer w;
    struct bn_raw_reader r;
    struct bn_err err;

    (void)state;
    put_file((const uint8_t *)"hello, world", 12);
    assert_int_equal(bn_raw_open(&r, path, &err), -1);
    assert_non_null(strstr(err.msg, "not a recording"));
    assert_int_equal(bn_raw_create(&w, path, &err), -1);
    assert_non_null(strstr(err.msg, "exists"));
    unlink(path);
    assert_int_equal(bn_raw_create(&w, "/nonexistent/part", &err), -1);
    assert_non_null(strstr(err.msg, "/nonexistent/part"));
}

/* A recording in progress can be told from a left-over by its lock. */
static void test_lock(void **state)
{
    struct bn_raw_writer w;
    struct bn_err err;

    (void)state;
    assert_int_equal(bn_raw_create(&w, path, &err), 0);
    int fd = open(path, O_RDONLY);
    assert_int_equal(flock(fd, LOCK_EX | LOCK_NB), -1);
    assert_int_equal(bn_raw_close(&w, &err), 0);
    assert_int_equal(flock(fd, LOCK_EX | LOCK_NB), 0);
    close(fd);
    unlink(path);
}

/* The file may not grow beyond 64 KiB, as on a full disk: what fitted stays readable, the rest is reported.
 */
static void test_full_disk(void **state)
{
    struct bn_raw_writer w;
    struct bn_raw_reader r;
    struct bn_raw_block block;
    const uint8_t *payload;
    struct rlimit old, limit;
    struct bn_err err;
    char *body = bn_xcalloc(1, 10000);
    int n = 0;

    (void)state;
    signal(SIGXFSZ, SIG_IGN);
    getrlimit(RLIMIT_FSIZE, &old);
    limit = (struct rlimit){.rlim_cur = 65536, .rlim_max = old.rlim_max};
    setrlimit(RLIMIT_FSIZE, &limit);
    assert_int_equal(bn_raw_create(&w, path, &err), 0);
    for (int i = 0; i < 20; i++) {
        bn_raw_append(&w, BN_RAW_SAMPLES, NULL, 0, body, 10000);
        bn_raw_flush(&w);
    }
    assert_true(w.failed);
    assert_int_equal(bn_raw_close(&w, &err), -1);
    setrlimit(RLIMIT_FSIZE, &old);
    assert_non_null(strstr(err.msg, "too large"));
    assert_int_equal(bn_raw_open(&r, path, &err), 0);
    while (bn_raw_next(&r, &block, &payload) == 1)
        n++;
    assert_int_equal(n, 6);
    assert_true(r.cut_off);
    bn_raw_close_reader(&r);
    free(body);
    unlink(path);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_round_trip),   cmocka_unit_test(test_cut_at_every_byte),
        cmocka_unit_test(test_flipped_bits), cmocka_unit_test(test_checksum),
        cmocka_unit_test(test_refuses),      cmocka_unit_test(test_lock),
        cmocka_unit_test(test_full_disk),
    };

    return cmocka_run_group_tests(tests, make_dir, drop_dir);
}
