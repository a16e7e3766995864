/* SPDX-License-Identifier: MIT
 * core/encode: matrices made smaller at load are what the C definitions make of them, on any number of
 * threads. */
#include "core/encode.h"

#include <math.h>
#include <setjmp.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#include <cmocka.h>

#include "core/block.h"
#include "core/scope.h"
#include "kernels/cpu.h"

enum { K = 512, ROWS = 77 };

static const uint32_t block_types[] = {BN_TYPE_Q8_0, BN_TYPE_Q6_K, BN_TYPE_Q4_K, BN_TYPE_Q4_0};

/* ROWS rows of values that differ in size from row to row; the caller frees them. */
static float *new_values(void)
{
    float *values = bn_xcalloc((size_t)K * ROWS, sizeof *values);

    for (size_t i = 0; i < (size_t)K * ROWS; i++)
        values[i] = (float)sin((double)i * 0.7) * (1.0f + (float)(i / K)) * 0.01f;
    return values;
}

/* The values in `type`, and what that makes of them; the caller frees *data. */
static struct bn_weight new_weight(const struct bn_kernels *c, uint32_t type, float *values, void **data)
{
    struct bn_weight w = {.type = type, .n_rows = ROWS, .k = K, .scale = 1.0f, .extra_scale = 1.0f};
    size_t n = (size_t)K * ROWS;

    w.layout = bn_block_of(type) ? BN_LAYOUT_FILE : BN_LAYOUT_FLOAT;
    w.size_bytes = ROWS * bn_weight_row_bytes(&w);
    w.data = w.packed = *data = bn_xmalloc(w.size_bytes);
    if (bn_block_of(type)) {
        bn_block_encode(c, type, values, *data, n);
        bn_block_to_f32(c, type, *data, values, n);
    } else if (type == BN_TYPE_F16) {
        c->f32_to_f16(values, *data, n);
        c->f16_to_f32(*data, values, n);
    } else if (type == BN_TYPE_BF16) {
        for (size_t i = 0; i < n; i++)
            memcpy((uint16_t *)*data + i, (const char *)(values + i) + 2, 2);
        c->bf16_to_f32(*data, values, n);
    } else {
        memcpy(*data, values, w.size_bytes);
    }
    return w;
}

static void check(uint32_t from, uint32_t to, unsigned n_threads)
{
    struct bn_kernels c, best;
    struct bn_weight made;
    struct bn_pool *pool;
    struct bn_err err;
    void *memory, *data;
    size_t memory_bytes, tiles_bytes;
    float *values = new_values();

    bn_kernels_init(&c, 0);
    bn_kernels_init(&best, bn_cpu_detect());
    assert_int_equal(bn_pool_open(&pool, n_threads, &err), 0);
    struct bn_weight w = new_weight(&c, from, values, &data);
    assert_int_equal(bn_encode_matrix(&w, to, &best, pool, &made, &memory, &memory_bytes, "test", &err), 0);
    assert_int_equal(made.layout, BN_LAYOUT_BLOCKS);
    assert_int_equal(made.type, to);
    assert_ptr_equal(made.packed, memory);
    assert_int_equal(made.size_bytes, ROWS * bn_weight_row_bytes(&made));
    tiles_bytes = 96 * bn_weight_row_bytes(&made);
    assert_int_equal(memory_bytes, tiles_bytes);
    uint8_t *rows = bn_xmalloc(made.size_bytes), *expected = bn_xmalloc(tiles_bytes);
    bn_block_encode(&c, to, values, rows, (size_t)K * ROWS);
    bn_block_pack(&c, to, rows, expected, ROWS, K);
    assert_memory_equal(memory, expected, tiles_bytes);
    free(rows);
    free(expected);
    free(values);
    free(data);
    munmap(memory, memory_bytes);
    bn_pool_close(pool);
}

static void test_formats(void **state)
{
    static const uint32_t from[] = {BN_TYPE_F16, BN_TYPE_BF16, BN_TYPE_F32, BN_TYPE_Q8_0, BN_TYPE_Q6_K};

    (void)state;
    for (size_t f = 0; f < BN_COUNT(from); f++) {
        for (size_t t = 0; t < BN_COUNT(block_types); t++)
            check(from[f], block_types[t], 1 + (unsigned)(f + t) % 3);
    }
}

static void test_refused(void **state)
{
    static const float values[96 * 2];
    struct bn_weight w = {.data = values, .packed = values, .type = BN_TYPE_F32, .n_rows = 2, .k = 96}, made;
    struct bn_kernels kernels;
    struct bn_pool *pool;
    struct bn_err err;
    void *memory = NULL;
    size_t memory_bytes = 0;

    (void)state;
    bn_kernels_init(&kernels, 0);
    assert_int_equal(bn_pool_open(&pool, 1, &err), 0);
    assert_int_equal(
        bn_encode_matrix(&w, BN_TYPE_Q6_K, &kernels, pool, &made, &memory, &memory_bytes, "m.gguf", &err),
        -1);
    assert_string_equal(err.msg, "m.gguf: rows of 96 values, but q6_k needs multiples of 256");
    assert_null(memory);
    bn_pool_close(pool);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_formats), cmocka_unit_test(test_refused)};

    bn_scope_init();
    return cmocka_run_group_tests(tests, NULL, NULL);
}
