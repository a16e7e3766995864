/* SPDX-License-Identifier: MIT
 * core/limits and its probes: every byte is read, every product made; the numbers exist. */
#include "core/limits.h"
#include "kernels/cpu.h"
#include "kernels/limits_probe.h"

#include <setjmp.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

static const unsigned ladder[] = {0,
                                  BN_CPU_AVX2,
                                  BN_CPU_AVX2 | BN_CPU_AVX512,
                                  BN_CPU_AVX2 | BN_CPU_AVX512 | BN_CPU_AVX512VNNI,
                                  BN_CPU_NEON,
                                  BN_CPU_NEON | BN_CPU_DOTPROD};

/* The probes add 64-bit words, so whatever the order, the sum is that of the buffer. */
static void test_reads_all(void **state)
{
    enum { N = 16384 };
    uint64_t *words = aligned_alloc(64, N), sum = 0;

    (void)state;
    assert_non_null(words);
    for (size_t i = 0; i < N / 8; i++) {
        words[i] = i * 0x9e3779b97f4a7c15u;
        sum += words[i];
    }
    for (size_t i = 0; i < BN_COUNT(ladder); i++) {
        struct bn_probe probe;
        if ((ladder[i] & ~bn_cpu_detect()) != 0)
            continue;
        bn_probe_init(&probe, ladder[i]);
        for (size_t ahead = 0; ahead <= 4096; ahead += 4096) {
            assert_true(bn_probe_read(&probe, (uint8_t *)words, N, BN_PROBE_ONE_STREAM, ahead) == sum);
            assert_true(bn_probe_read(&probe, (uint8_t *)words, N, BN_PROBE_FOUR_STREAMS, ahead) == sum);
        }
    }
    free(words);
}

/* Twice the rounds of 3 x 1 products give twice the sum: no round is left out. (The int16 lanes of the AVX2
 * and AVX-512 probes hold this few rounds.) */
static void test_multiplies_all(void **state)
{
    (void)state;
    for (size_t i = 0; i < BN_COUNT(ladder); i++) {
        struct bn_probe probe;
        if ((ladder[i] & ~bn_cpu_detect()) != 0)
            continue;
        bn_probe_init(&probe, ladder[i]);
        assert_true(probe.int8(1) != 0);
        assert_true(probe.int8(20) == 20 * probe.int8(1));
        assert_true(probe.macs_per_round > 0);
    }
}

static void test_measure(void **state)
{
    struct bn_limits limits;
    struct bn_err err = {""};

    (void)state;
    assert_int_equal(bn_limits_measure(&limits, 2, bn_cpu_detect(), &err), 0);
    assert_int_equal(limits.threads, 2);
    assert_true(limits.int8_macs_per_s > 0);
    assert_true(limits.buffer_bytes > 0 && limits.buffer_bytes <= 512 << 20);
    assert_true(limits.read_bytes_per_s > 0 || limits.buffer_bytes < 2 * limits.last_cache_bytes);
    print_message("# 2 threads: %.1f GB/s read, %.1f int8 GMAC/s\n", limits.read_bytes_per_s * 1e-9,
                  limits.int8_macs_per_s * 1e-9);
    assert_int_equal(bn_limits_measure(&limits, 0, 0, &err), -1);
    assert_non_null(strstr(err.msg, "at least one thread"));
}

/* Looks keep the best, at any number of threads, and the largest cannot be exceeded. */
static void test_looks(void **state)
{
    struct bn_limits_probe *probe;
    struct bn_limits one = {0}, three = {0};
    struct bn_err err = {""};

    (void)state;
    assert_int_equal(bn_limits_open(&probe, 3, bn_cpu_detect(), &err), 0);
    assert_int_equal(bn_limits_look(probe, 1, &one, &err), 0);
    assert_int_equal(bn_limits_look(probe, 3, &three, &err), 0);
    assert_int_equal(one.threads, 1);
    assert_int_equal(three.threads, 3);
    double before = one.int8_macs_per_s;
    assert_true(before > 0 && three.int8_macs_per_s > 0);
    one.int8_macs_per_s = 1e30;
    assert_int_equal(bn_limits_look(probe, 1, &one, &err), 0);
    assert_true(one.int8_macs_per_s == 1e30);
    bn_limits_close(probe);
    bn_limits_close(NULL);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_reads_all),
        cmocka_unit_test(test_multiplies_all),
        cmocka_unit_test(test_measure),
        cmocka_unit_test(test_looks),
    };
    return cmocka_run_group_tests_name("limits", tests, NULL, NULL);
}
