/* SPDX-License-Identifier: MIT
 * Ternary formats and layouts: random models of each format, in each layout, against the double-precision
 * reference; the same bits from every layout; what a layout cannot hold is refused. */
#include "core/scope.h"
#include "core/synth.h"
#include "tests/unit/engine.h"

#include <unistd.h>

static char path[300], patched_path[300];

static const struct bn_synth_shape shape = {.name = "test",
                                            .what = "a test's",
                                            .arch = "bitnet-b1.58",
                                            .model_name = "test",
                                            .n_layer = 2,
                                            .n_embd = 256,
                                            .n_ff = 512,
                                            .n_head = 4,
                                            .n_head_kv = 2,
                                            .n_vocab = 300,
                                            .n_ctx = 64,
                                            .rope_base = 10000.0f,
                                            .tied = true};

static const uint32_t types[] = {BN_TYPE_I2_S, BN_TYPE_QK256, BN_TYPE_BITNET32, BN_TYPE_TQ1_0, BN_TYPE_TQ2_0};
static const char *const formats[] = {"i2s", "qk256", "bitnet32", "tq1_0", "tq2_0"};
static const enum bn_layout layouts[] = {BN_LAYOUT_I2S, BN_LAYOUT_TL1, BN_LAYOUT_TL2, BN_LAYOUT_QK256};
static const char *const layout_names[] = {"i2s", "tl1", "tl2", "qk256"};

static void write_shape(const struct bn_synth_shape *s, uint32_t wtype)
{
    struct bn_err err;

    if (bn_synth_write(path, &(struct bn_synth){.shape = s, .wtype = wtype, .etype = BN_TYPE_F16, .seed = 1},
                       &err) != 0)
        fail_msg("%s", err.msg);
}

static void write_model(uint32_t wtype)
{
    write_shape(&shape, wtype);
}

/* ---- a copy of the model with changed bytes ---- */

/* path -> patched_path; each ternary tensor's data pass through `change`. */
static void patch(void (*change)(const struct bn_tensor *t, uint8_t *data))
{
    struct bn_gguf g;
    struct bn_err err;

    assert_int_equal(bn_gguf_open(&g, path, &err), 0);
    uint8_t *copy = malloc(g.map.n);
    assert_non_null(copy);
    memcpy(copy, g.map.p, g.map.n);
    for (uint64_t i = 0; i < g.n_tensors; i++) {
        if (bn_type_is_ternary(g.tensors[i].type))
            change(&g.tensors[i], copy + (g.tensors[i].data - (const uint8_t *)g.map.p));
    }
    FILE *f = fopen(patched_path, "wb");
    assert_non_null(f);
    assert_int_equal(fwrite(copy, 1, g.map.n, f), g.map.n);
    fclose(f);
    free(copy);
    bn_gguf_close(&g);
}

/* The scale of block b, which stands at the block's end. */
static uint8_t *scale_of(const struct bn_tensor *t, uint8_t *data, uint64_t b)
{
    uint64_t bytes = bn_type_row_bytes(t->type, t->type == BN_TYPE_BITNET32 ? 32 : 256);

    return data + (b + 1) * bytes - 2;
}

static uint64_t n_blocks(const struct bn_tensor *t)
{
    return t->size_bytes / bn_type_row_bytes(t->type, t->type == BN_TYPE_BITNET32 ? 32 : 256);
}

/* Up to an eighth more, up to a half less; some negative. */
static void vary_scales(const struct bn_tensor *t, uint8_t *data)
{
    for (uint64_t b = 0; b < n_blocks(t); b++) {
        uint8_t *p = scale_of(t, data, b);
        uint16_t half = (uint16_t)(p[0] | p[1] << 8);
        half = (uint16_t)(half - b * 37 % 1024 + b * 11 % 128);
        half ^= b % 7 == 3 ? 0x8000 : 0;
        memcpy(p, &half, sizeof half);
    }
}

static void equal_scales(const struct bn_tensor *t, uint8_t *data)
{
    for (uint64_t b = 1; b < n_blocks(t); b++)
        memcpy(scale_of(t, data, b), scale_of(t, data, 0), 2);
}

static void infinite_scale(const struct bn_tensor *t, uint8_t *data)
{
    if (memmem(t->name.p, t->name.n, "blk.1.ffn_up", 12))
        memcpy(scale_of(t, data, n_blocks(t) - 1), "\x00\xfc", 2);
}

static void one_code3(const struct bn_tensor *t, uint8_t *data)
{
    if (memmem(t->name.p, t->name.n, "blk.1.ffn_up", 12))
        data[12345] |= 0x0c;
}

static void nothing(const struct bn_tensor *t, uint8_t *data)
{
    (void)t;
    (void)data;
}

/* ---- against the reference, and the same bits from every layout ---- */

/* Logits of the patched model after 40 tokens in batches, in a layout. */
static float *logits_in(enum bn_layout layout, unsigned cpu_flags, unsigned threads, size_t batch)
{
    uint32_t tokens[40];
    struct engine e;

    open_engine_as(&e, patched_path, cpu_flags, threads, layout);
    fill_tokens(tokens, BN_COUNT(tokens), e.model.n_vocab);
    float *logits = logits_after(&e, tokens, BN_COUNT(tokens), batch);
    close_engine(&e);
    return logits;
}

/* Every instruction set, layout, batch and number of threads gives the same bits: the kernels' exact sums. */
static void check_same_bits(size_t n_layouts)
{
    float *expected = logits_in(layouts[0], bn_cpu_detect(), 1, 1);

    for (size_t l = 0; l < n_layouts; l++) {
        static const size_t batches[] = {1, 2, 7, 40};
        for (size_t b = 0; b < BN_COUNT(batches); b++) {
            float *logits = logits_in(layouts[l], bn_cpu_detect(), 1 + (unsigned)b, batches[b]);
            assert_memory_equal(logits, expected, shape.n_vocab * sizeof *logits);
            free(logits);
        }
    }
    free(expected);
}

static void check_model(const char *what, const char *format, size_t n_layouts)
{
    struct bn_model model;
    struct bn_err err;

    if (bn_model_load(&model, patched_path, &err) != 0)
        fail_msg("%s", err.msg);
    assert_string_equal(model.format, format);
    assert_true(bn_model_is_ternary(&model));
    bn_model_close(&model);
    for (size_t l = 0; l < n_layouts; l++) {
        print_message("# %s, %s, kernel %s\n", format, what, layout_names[l]);
        check_error_as(patched_path, 16, ternary_bound, layouts[l]);
    }
    check_same_bits(n_layouts);
}

static void test_formats(void **state)
{
    (void)state;
    for (size_t t = 0; t < BN_COUNT(types); t++) {
        write_model(types[t]);
        patch(nothing);
        if (types[t] == BN_TYPE_BITNET32)
            check_model("blocks of their own scales", formats[t], 1);
        else
            check_model("one scale a tensor", formats[t], BN_COUNT(layouts));
    }
}

/* Of BITNET32's weights -2 to 1 only three: what look-up kernels can express. */
static void three_weights(const struct bn_tensor *t, uint8_t *data)
{
    equal_scales(t, data);
    for (uint64_t i = 0; i < t->size_bytes; i++) {
        if (i % 10 < 8)
            data[i] = (uint8_t)(data[i] | (~data[i] >> 1 & ~data[i] & 0x55));
    }
}

static void test_scales_of_blocks(void **state)
{
    (void)state;
    for (size_t t = 2; t < BN_COUNT(types); t++) {
        write_model(types[t]);
        patch(vary_scales);
        check_model("blocks of their own scales", formats[t], 1);
        patch(equal_scales);
        if (types[t] == BN_TYPE_BITNET32) {
            check_model("one scale a tensor", formats[t], 1);
            patch(three_weights);
        }
        check_model("one scale a tensor", formats[t], BN_COUNT(layouts));
    }
}

/* Widths that are no multiples of 128, 64 or 48: what is left of a row, and of the last tile. */
static void test_odd_widths(void **state)
{
    struct bn_synth_shape odd = shape;

    (void)state;
    odd.n_embd = 160;
    odd.n_ff = 352;
    odd.n_head = 5;
    odd.n_head_kv = 1;
    write_shape(&odd, BN_TYPE_BITNET32);
    patch(vary_scales);
    check_error(patched_path, 16, ternary_bound);
    patch(equal_scales);
    check_error(patched_path, 16, ternary_bound);
    patch(three_weights);
    check_error_as(patched_path, 16, ternary_bound, BN_LAYOUT_TL1);
    check_error_as(patched_path, 16, ternary_bound, BN_LAYOUT_TL2);
}

/* ---- what cannot be ---- */

static void refused(enum bn_layout layout, const char *expected)
{
    struct bn_model model;
    struct bn_kernels kernels;
    struct bn_pool *pool;
    struct bn_err err = {""};

    bn_kernels_init(&kernels, bn_cpu_detect());
    assert_int_equal(bn_pool_open(&pool, 2, &err), 0);
    if (bn_model_load(&model, patched_path, &err) != 0)
        fail_msg("%s", err.msg);
    assert_int_equal(bn_model_prepare(&model, &kernels, pool, layout, &err), -1);
    if (!strstr(err.msg, expected))
        fail_msg("\"%s\" where \"%s\" was expected", err.msg, expected);
    bn_model_close(&model);
    bn_pool_close(pool);
}

static void test_refused(void **state)
{
    struct bn_synth_shape odd = shape;

    (void)state;
    for (size_t t = 2; t < BN_COUNT(types); t++) {
        write_model(types[t]);
        patch(infinite_scale);
        refused(BN_LAYOUT_I2S, "tensor blk.1.ffn_up.weight: a block's scale is not finite");
        patch(vary_scales);
        for (size_t l = 1; l < BN_COUNT(layouts); l++)
            refused(layouts[l],
                    "tensor blk.0.attn_q.weight: its blocks have scales of their own: --kernel i2s expected");
    }
    write_model(BN_TYPE_I2_S);
    patch(one_code3);
    refused(BN_LAYOUT_TL1, "tensor blk.1.ffn_up.weight: it has a code of 3, which look-up kernels cannot");
    refused(BN_LAYOUT_TL2, "tensor blk.1.ffn_up.weight: it has a code of 3, which look-up kernels cannot");
    odd.n_ff = 352;
    write_shape(&odd, BN_TYPE_BITNET32);
    patch(equal_scales);
    refused(BN_LAYOUT_QK256,
            "tensor blk.0.ffn_down.weight: its rows are no whole blocks of 128: --kernel i2s expected");
}

static int remove_files(void **state)
{
    (void)state;
    unlink(path);
    unlink(patched_path);
    return 0;
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_formats),
        cmocka_unit_test(test_scales_of_blocks),
        cmocka_unit_test(test_odd_widths),
        cmocka_unit_test(test_refused),
    };
    const char *folder = getenv("TEST_TMP") ? getenv("TEST_TMP") : "/tmp";

    snprintf(path, sizeof path, "%s/ternary-%d.gguf", folder, (int)getpid());
    snprintf(patched_path, sizeof patched_path, "%s/ternary-%d-patched.gguf", folder, (int)getpid());
    bn_scope_init();
    return cmocka_run_group_tests(tests, NULL, remove_files);
}
