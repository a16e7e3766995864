/* SPDX-License-Identifier: MIT
 * kernels/unpack and kernels/pack: rows written by the formats' definitions come out as the codes that went
 * in, and layouts have every code in its place. */
#include "kernels/pack.h"
#include "kernels/unpack.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

enum { K = 1024 };

static uint64_t state_of_random = 1;

static unsigned below(unsigned n)
{
    state_of_random = state_of_random * 6364136223846793005u + 1442695040888963407u;
    return (unsigned)(state_of_random >> 33) % n;
}

static void random_codes(uint8_t *codes, unsigned n)
{
    for (int i = 0; i < K; i++)
        codes[i] = (uint8_t)below(n);
}

static void test_i2s(void **state)
{
    uint8_t codes[K], out[K], w[K / 4] = {0}, again[K / 4];

    (void)state;
    random_codes(codes, 4);
    for (int e = 0; e < K; e++)
        w[e / 128 * 32 + e % 32] |= (uint8_t)(codes[e] << (6 - e % 128 / 32 * 2));
    bn_unpack_i2s(w, out, K);
    assert_memory_equal(out, codes, K);
    bn_pack_file_row(codes, again, K);
    assert_memory_equal(again, w, sizeof w);
}

static void test_tq2_0(void **state)
{
    uint8_t codes[K], out[K], w[K / 256 * 66] = {0};
    uint16_t scales[K / 256];

    (void)state;
    random_codes(codes, 4);
    for (int e = 0; e < K; e++)
        w[e / 256 * 66 + e % 256 / 128 * 32 + e % 32] |= (uint8_t)(codes[e] << e % 128 / 32 * 2);
    for (int b = 0; b < K / 256; b++)
        w[b * 66 + 64] = (uint8_t)b, w[b * 66 + 65] = (uint8_t)(b + 9);
    bn_unpack_tq2_0(w, out, scales, K);
    assert_memory_equal(out, codes, K);
    for (int b = 0; b < K / 256; b++)
        assert_int_equal(scales[b], b | (b + 9) << 8);
}

/* The codes of one byte, the first the leading digit of a base-3 number of five. */
static uint8_t tq1_byte(const uint8_t *codes, int step, int n)
{
    unsigned number = 0;

    for (int i = 0; i < 5; i++)
        number = number * 3 + (i < n ? codes[i * step] : 0);
    return (uint8_t)((number * 256 + 242) / 243);
}

static void test_tq1_0(void **state)
{
    uint8_t codes[K], out[K], w[K / 256 * 54];
    uint16_t scales[K / 256];

    (void)state;
    for (unsigned round = 0; round < 50; round++) {
        random_codes(codes, 3);
        for (int i = 0; round < 3 && i < K; i++)
            codes[i] = (uint8_t)round;
        for (int b = 0; b < K / 256; b++) {
            uint8_t *p = w + b * 54;
            for (int i = 0; i < 32; i++)
                p[i] = tq1_byte(codes + b * 256 + i, 32, 5);
            for (int i = 0; i < 16; i++)
                p[32 + i] = tq1_byte(codes + b * 256 + 160 + i, 16, 5);
            for (int i = 0; i < 4; i++)
                p[48 + i] = tq1_byte(codes + b * 256 + 240 + i, 4, 4);
            p[52] = (uint8_t)b, p[53] = (uint8_t)round;
        }
        if (round < 3) /* known from the format's description: all -1, 0, +1 */
            assert_int_equal(w[0], ((const int[]){0, 128, 255})[round]);
        bn_unpack_tq1_0(w, out, scales, K);
        assert_memory_equal(out, codes, K);
        for (unsigned b = 0; b < K / 256; b++)
            assert_int_equal(scales[b], b | round << 8);
    }
}

static void test_bitnet32(void **state)
{
    uint8_t codes[K], out[K], w[K / 32 * 10] = {0};
    uint16_t scales[K / 32];

    (void)state;
    random_codes(codes, 4);
    for (int e = 0; e < K; e++)
        w[e / 32 * 10 + e % 32 / 4] |= (uint8_t)(codes[e] << e % 4 * 2);
    for (int b = 0; b < K / 32; b++)
        w[b * 10 + 8] = (uint8_t)b, w[b * 10 + 9] = (uint8_t)(b % 2 ? 0x80 : 0x11);
    bn_unpack_bitnet32(w, out, scales, K);
    for (int e = 0; e < K; e++)
        assert_int_equal(out[e] - 1, -(codes[e] - 2));
    for (int b = 0; b < K / 32; b++)
        assert_int_equal(scales[b], b | (b % 2 ? 0 : 0x91) << 8);
}

static void test_block_tiles(void **state)
{
    enum { BLOCK = 64 };
    uint8_t codes[BN_TILE_ROWS][K];
    uint16_t scales[BN_TILE_ROWS][K / BLOCK], scale;
    size_t bytes = bn_pack_block_bytes(BN_TILE_ROWS, K, BLOCK);
    uint8_t *tile = malloc(bytes);

    (void)state;
    assert_int_equal(bytes, BN_TILE_ROWS * (K / 4 + K / BLOCK * 2));
    assert_int_equal(bn_pack_block_bytes(1, K, BLOCK), bytes);
    assert_int_equal(bn_pack_block_bytes(33, K, BLOCK), 2 * bytes);
    for (size_t r = 0; r < BN_TILE_ROWS; r++) {
        random_codes(codes[r], 4);
        for (size_t b = 0; b < K / BLOCK; b++)
            scales[r][b] = (uint16_t)below(65536);
        bn_pack_block_row(codes[r], scales[r], tile, r, K, BLOCK);
    }
    for (size_t r = 0; r < BN_TILE_ROWS; r++) {
        for (size_t i = 0; i < K; i++) {
            const uint8_t *block = tile + i / BLOCK * (64 + BLOCK / 16 * 128);
            uint8_t byte = block[64 + i % BLOCK / 16 * 128 + 4 * r + i % 4];
            assert_int_equal(byte >> (6 - i % 16 / 4 * 2) & 3, codes[r][i]);
            memcpy(&scale, block + 2 * r, sizeof scale);
            assert_int_equal(scale, scales[r][i / BLOCK]);
        }
    }
    free(tile);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_i2s),      cmocka_unit_test(test_tq2_0),       cmocka_unit_test(test_tq1_0),
        cmocka_unit_test(test_bitnet32), cmocka_unit_test(test_block_tiles),
    };
    return cmocka_run_group_tests_name("unpack", tests, NULL, NULL);
}
