/* SPDX-License-Identifier: MIT
 * CPU flag lists: what they imply, what they refuse, how flags are named; and the table that flags choose. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "kernels/cpu.h"
#include "kernels/kernels.h"

enum { ALL = BN_CPU_AVX2 | BN_CPU_AVX512 | BN_CPU_AVX512VNNI, ALL_ARM = BN_CPU_NEON | BN_CPU_DOTPROD };

static void assert_flags(const char *list, unsigned detected, unsigned expected)
{
    unsigned flags = 0xffff;
    char bad[32] = "";

    if (bn_cpu_parse(list, detected, &flags, bad, sizeof bad) != 0)
        fail_msg("\"%s\" was refused because of \"%s\"", list, bad);
    if (flags != expected)
        fail_msg("\"%s\" is 0x%x, expected 0x%x", list, flags, expected);
}

static void assert_refused(const char *list, unsigned detected, const char *word)
{
    unsigned flags = 0xffff;
    char bad[32] = "?";

    assert_int_equal(bn_cpu_parse(list, detected, &flags, bad, sizeof bad), -1);
    assert_string_equal(bad, word);
    assert_int_equal(flags, 0xffff); /* untouched */
}

static void test_names_imply_what_is_below(void **state)
{
    (void)state;
    assert_flags("avx2", ALL, BN_CPU_AVX2);
    assert_flags("avx512", ALL, BN_CPU_AVX2 | BN_CPU_AVX512);
    assert_flags("avx512vnni", ALL, ALL);
    assert_flags("avx512,avx2", ALL, BN_CPU_AVX2 | BN_CPU_AVX512);
    assert_flags("c", ALL, 0);
    assert_flags("c,avx2", ALL, BN_CPU_AVX2);
    assert_flags("c", 0, 0);
    assert_flags("neon", ALL_ARM, BN_CPU_NEON);
    assert_flags("dotprod", ALL_ARM, ALL_ARM);
}

static void test_drops_take_along_what_is_above(void **state)
{
    (void)state;
    assert_flags("-avx512vnni", ALL, BN_CPU_AVX2 | BN_CPU_AVX512);
    assert_flags("-avx512", ALL, BN_CPU_AVX2);
    assert_flags("-avx2", ALL, 0);
    assert_flags("-avx512vnni,-avx512", ALL, BN_CPU_AVX2);
    assert_flags("avx512vnni,-avx512", ALL, BN_CPU_AVX2);
    assert_flags("-dotprod", ALL_ARM, BN_CPU_NEON);
    assert_flags("-neon", ALL_ARM, 0);
}

static void test_unknown_words_are_refused(void **state)
{
    (void)state;
    assert_refused("sse", ALL, "sse");
    assert_refused("avx2,neon", ALL, "neon");
    assert_refused("avx", ALL, "avx");
    assert_refused("avx5120", ALL, "avx5120");
    assert_refused("AVX2", ALL, "AVX2");
    assert_refused("-c", ALL, "-c");
    assert_refused("--avx2", ALL, "--avx2");
    assert_refused(" avx2", ALL, " avx2");
    assert_refused("", ALL, "");
    assert_refused("avx2,", ALL, "");
    assert_refused(",avx2", ALL, "");
    assert_refused("-", ALL, "-");
}

static void test_absent_flags_are_refused(void **state)
{
    (void)state;
    assert_refused("avx2", 0, "avx2");
    assert_refused("avx512", BN_CPU_AVX2, "avx512");
    assert_refused("avx2,avx512vnni", BN_CPU_AVX2 | BN_CPU_AVX512, "avx512vnni");
    assert_refused("-avx512vnni", BN_CPU_AVX2, "-avx512vnni");
    assert_refused("dotprod", BN_CPU_NEON, "dotprod");
    assert_refused("avx2", ALL_ARM, "avx2");
    assert_refused("neon", ALL, "neon");
}

static void test_bad_word_is_cut_to_its_buffer(void **state)
{
    unsigned flags;
    char bad[5] = "????";

    (void)state;
    assert_int_equal(bn_cpu_parse("a-long-word", ALL, &flags, bad, sizeof bad), -1);
    assert_string_equal(bad, "a-lo");
}

static void test_flags_have_names(void **state)
{
    char buf[64];

    (void)state;
    assert_string_equal(bn_cpu_names(0, buf, sizeof buf), "c");
    assert_string_equal(bn_cpu_names(BN_CPU_AVX2, buf, sizeof buf), "avx2");
    assert_string_equal(bn_cpu_names(ALL, buf, sizeof buf), "avx2,avx512,avx512vnni");
    assert_string_equal(bn_cpu_names(ALL, buf, 8), "avx2,av");
    assert_string_equal(bn_cpu_names(ALL_ARM, buf, sizeof buf), "neon,dotprod");
}

/* What names say is read back as the same flags. */
static void test_names_round_trip(void **state)
{
    static const unsigned ladder[] = {0, BN_CPU_AVX2, BN_CPU_AVX2 | BN_CPU_AVX512, ALL};
    char buf[64];

    (void)state;
    for (size_t i = 0; i < 4; i++)
        assert_flags(bn_cpu_names(ladder[i], buf, sizeof buf), ALL, ladder[i]);
}

static void test_detection_is_a_rung_of_the_ladder(void **state)
{
    unsigned flags = bn_cpu_detect();

    (void)state;
    assert_true(flags == 0 || flags == BN_CPU_AVX2 || flags == (BN_CPU_AVX2 | BN_CPU_AVX512) ||
                flags == ALL || flags == BN_CPU_NEON || flags == ALL_ARM);
    assert_int_equal(flags, bn_cpu_detect());
}

/* ---- the table ---- */

/* Each slot has a function, and its symbol is its name and the instruction set's. */
static void assert_complete(const struct bn_kernels *kernels, const char *const *suffixes, size_t n)
{
#define FUNCTION(slot, ret, args) assert_non_null(kernels->slot);
    BN_KERNEL_SLOTS(FUNCTION)
#undef FUNCTION
    for (int slot = 0; slot < BN_KERNEL_COUNT; slot++) {
        const char *name = bn_kernel_slot_name((enum bn_kernel_slot)slot), *symbol = kernels->symbol[slot];
        int known = 0;

        assert_int_equal(strncmp(symbol, name, strlen(name)), 0);
        for (size_t i = 0; i < n; i++)
            known |= strcmp(symbol + strlen(name), suffixes[i]) == 0;
        if (!known)
            fail_msg("slot %s has symbol %s", name, symbol);
    }
}

static void test_every_rung_fills_every_slot(void **state)
{
#ifdef __aarch64__
    static const char *const suffixes[] = {"_c", "_neon", "_dotprod"};
#else
    static const char *const suffixes[] = {"_c", "_avx2", "_avx512", "_avx512vnni"};
#endif
    struct bn_kernels kernels;

    (void)state;
    bn_kernels_init(&kernels, 0);
    assert_complete(&kernels, suffixes, 1);
    assert_string_equal(kernels.symbol[BN_KERNEL_i2s_gemv], "i2s_gemv_c");
#ifdef __x86_64__
    bn_kernels_init(&kernels, BN_CPU_AVX2);
    assert_complete(&kernels, suffixes, 2);
    bn_kernels_init(&kernels, BN_CPU_AVX2 | BN_CPU_AVX512);
    assert_complete(&kernels, suffixes, 3);
    bn_kernels_init(&kernels, ALL);
    assert_complete(&kernels, suffixes, 4);
    assert_string_equal(kernels.symbol[BN_KERNEL_i2s_gemv], "i2s_gemv_avx512vnni");
    assert_string_equal(kernels.symbol[BN_KERNEL_i2s_gemm], "i2s_gemm_avx512vnni");
    assert_string_equal(kernels.symbol[BN_KERNEL_f16_gemv], "f16_gemv_avx512");
#elif defined __aarch64__
    bn_kernels_init(&kernels, BN_CPU_NEON);
    assert_complete(&kernels, suffixes, 2);
    assert_string_equal(kernels.symbol[BN_KERNEL_f16_gemv], "f16_gemv_neon");
    bn_kernels_init(&kernels, ALL_ARM);
    assert_complete(&kernels, suffixes, 3);
    assert_string_equal(kernels.symbol[BN_KERNEL_i2s_gemv], "i2s_gemv_dotprod");
#endif
}

/* The mock takes the place of all products and of nothing else, and its results are not the products. */
static void test_mock_replaces_the_products(void **state)
{
    uint8_t w[32];
    int8_t x[128];
    int32_t y;
    struct bn_kernels kernels;

    (void)state;
    bn_kernels_init(&kernels, 0);
    bn_kernels_init_mock(&kernels);
    for (int slot = 0; slot < BN_KERNEL_COUNT; slot++) {
        const char *name = bn_kernel_slot_name((enum bn_kernel_slot)slot);
        /* screening decides which rows a product is for: the products behind it are mock */
        int product = (strstr(name, "gemv") || strstr(name, "gemm")) && strncmp(name, "screen_", 7) != 0;

        assert_int_equal(strstr(kernels.symbol[slot], "mock") != NULL, product);
    }
    memset(w, 0xaa, sizeof w);
    memset(x, 1, sizeof x);
    kernels.i2s_gemv(w, x, 128, &y, 1, 128);
    assert_int_not_equal(y, 128);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_names_imply_what_is_below),
        cmocka_unit_test(test_drops_take_along_what_is_above),
        cmocka_unit_test(test_unknown_words_are_refused),
        cmocka_unit_test(test_absent_flags_are_refused),
        cmocka_unit_test(test_bad_word_is_cut_to_its_buffer),
        cmocka_unit_test(test_flags_have_names),
        cmocka_unit_test(test_names_round_trip),
        cmocka_unit_test(test_detection_is_a_rung_of_the_ladder),
        cmocka_unit_test(test_every_rung_fills_every_slot),
        cmocka_unit_test(test_mock_replaces_the_products),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
