/* SPDX-License-Identifier: MIT
 * core/synth: order, metadata and vocabulary of random models, repeatable, and nothing left behind when
 * stopped. */
#include "core/synth.h"

#include <math.h>
#include <setjmp.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

#include "core/block.h"
#include "core/tokenizer.h"
#include "kernels/kernels.h"
#include "kernels/unpack.h"

static char folder[] = "/tmp/bnprof-test-synth.XXXXXX";
static char path[64], other_path[64];

/* Twelve narrow blocks: enough for the order of their numbers. */
static const struct bn_synth_shape narrow = {.name = "narrow",
                                             .arch = "bitnet-b1.58",
                                             .model_name = "narrow",
                                             .n_layer = 12,
                                             .n_embd = 128,
                                             .n_ff = 256,
                                             .n_head = 2,
                                             .n_head_kv = 1,
                                             .n_vocab = 300,
                                             .n_ctx = 64,
                                             .rope_base = 10000,
                                             .tied = true};

static void write_model(const char *to, const struct bn_synth *synth)
{
    struct bn_err err;

    if (bn_synth_write(to, synth, &err) != 0)
        fail_msg("%s", err.msg);
}

static void open_model(struct bn_gguf *g, const char *from)
{
    struct bn_err err;

    if (bn_gguf_open(g, from, &err) != 0)
        fail_msg("%s", err.msg);
}

/* docs/formats.md: the published file's tensors in their order. */
static void test_order(void **state)
{
    static const char *const in_block[] = {"attn_norm",   "ffn_down", "ffn_sub_norm",  "ffn_gate",
                                           "ffn_up",      "ffn_norm", "attn_sub_norm", "attn_k",
                                           "attn_output", "attn_q",   "attn_v"};
    static const int blocks[] = {0, 1, 10, 11, 2, 3, 4, 5, 6, 7, 8, 9};
    struct bn_gguf g;
    char name[64];

    (void)state;
    write_model(path, &(struct bn_synth){.shape = &narrow, .wtype = BN_TYPE_I2_S, .etype = BN_TYPE_F16});
    open_model(&g, path);
    assert_int_equal(g.n_tensors, 2 + 12 * 11);
    assert_true(bn_str_is(g.tensors[0].name, "token_embd.weight"));
    for (size_t i = 0; i < 12 * 11; i++) {
        snprintf(name, sizeof name, "blk.%d.%s.weight", blocks[i / 11], in_block[i % 11]);
        assert_true(bn_str_is(g.tensors[1 + i].name, name));
    }
    assert_true(bn_str_is(g.tensors[g.n_tensors - 1].name, "output_norm.weight"));
    assert_int_equal(bn_gguf_tensor(&g, "blk.3.attn_k.weight")->ne[1], 64);
    assert_int_equal(bn_gguf_tensor(&g, "blk.3.attn_k.weight")->type, BN_TYPE_I2_S);
    bn_gguf_close(&g);
}

static void test_keys(void **state)
{
    static const char *const keys[] = {"general.architecture",
                                       "general.name",
                                       "bitnet-b1.58.vocab_size",
                                       "bitnet-b1.58.context_length",
                                       "bitnet-b1.58.embedding_length",
                                       "bitnet-b1.58.block_count",
                                       "bitnet-b1.58.feed_forward_length",
                                       "bitnet-b1.58.rope.dimension_count",
                                       "bitnet-b1.58.attention.head_count",
                                       "bitnet-b1.58.attention.head_count_kv",
                                       "tokenizer.ggml.add_bos_token",
                                       "bitnet-b1.58.attention.layer_norm_rms_epsilon",
                                       "bitnet-b1.58.rope.freq_base",
                                       "general.file_type",
                                       "tokenizer.ggml.model",
                                       "tokenizer.ggml.tokens",
                                       "tokenizer.ggml.scores",
                                       "tokenizer.ggml.token_type",
                                       "tokenizer.ggml.merges",
                                       "tokenizer.ggml.bos_token_id",
                                       "tokenizer.ggml.eos_token_id",
                                       "tokenizer.ggml.padding_token_id",
                                       "tokenizer.chat_template",
                                       "general.quantization_version"};
    struct bn_synth_shape shape = narrow; /* the published vocabulary on next to no weights */
    struct bn_gguf g;
    struct bn_err err;
    uint32_t file_type = 0;

    (void)state;
    shape.n_vocab = 128256;
    shape.n_embd = shape.n_ff = 8;
    shape.n_layer = 1;
    write_model(path, &(struct bn_synth){.shape = &shape, .wtype = BN_TYPE_F16, .etype = BN_TYPE_F16});
    open_model(&g, path);
    assert_int_equal(g.n_kv, BN_COUNT(keys));
    for (size_t i = 0; i < BN_COUNT(keys); i++)
        assert_true(bn_str_is(g.kv[i].key, keys[i]));
    assert_int_equal(bn_gguf_get_u32(&g, "general.file_type", &file_type, &err), 1);
    assert_int_equal(file_type, 1);
    bn_gguf_close(&g);
}

/* Text through the made-up vocabulary: bytes one by one, fillers whole, special tokens at their published
 * ids. */
static void test_made_up_vocabulary(void **state)
{
    struct bn_synth_shape shape = narrow;
    struct bn_tokenizer *tok;
    struct bn_ids ids = {0};
    struct bn_buf text = {0};
    struct bn_gguf g;
    struct bn_err err = {""};
    static const char sample[] = "Aa 1\n\xc3\xa9\x7f\x01\xff";

    (void)state;
    shape.n_vocab = 128256;
    shape.n_embd = shape.n_ff = 8;
    shape.n_layer = 1;
    write_model(path, &(struct bn_synth){.shape = &shape, .wtype = BN_TYPE_F16, .etype = BN_TYPE_F16});
    open_model(&g, path);
    if (bn_tokenizer_load(&tok, &g, &err) != 0)
        fail_msg("%s", err.msg);
    assert_int_equal(bn_tokenizer_find(tok, "<|begin_of_text|>"), 128000);
    assert_int_equal(bn_tokenizer_find(tok, "<|end_of_text|>"), 128001);
    assert_int_equal(bn_tokenizer_find(tok, "<|eot_id|>"), 128009);
    assert_int_equal(bn_tokenizer_bos(tok), 128000);
    assert_int_equal(bn_tokenizer_eos(tok), 128001);
    struct bn_str all = {sample, sizeof sample - 1};
    assert_int_equal(bn_tokenizer_encode(tok, all, false, false, &ids, &err), 0);
    assert_int_equal(ids.n, all.n);
    for (size_t i = 0; i < ids.n; i++) {
        assert_int_equal(ids.p[i], (unsigned char)sample[i]);
        bn_tokenizer_decode(tok, ids.p[i], i == 0, false, &text);
    }
    assert_int_equal(text.n, all.n);
    assert_memory_equal(text.p, sample, all.n);
    text.n = 0;
    bn_tokenizer_decode(tok, 1000, false, false, &text);
    assert_string_equal(text.p, " filler1000");
    bn_tokenizer_free(tok);
    bn_ids_free(&ids);
    bn_buf_free(&text);
    bn_gguf_close(&g);
}

static void test_copied_vocabulary(void **state)
{
    struct bn_gguf demo, stories, g;
    struct bn_err err;
    struct bn_synth synth = {.shape = &narrow, .wtype = BN_TYPE_I2_S, .etype = BN_TYPE_F16};
    uint32_t id = 0;

    (void)state;
    open_model(&demo, "core/tiny-bitnet-i2s.gguf");
    synth.vocabulary = &demo;
    write_model(path, &synth);
    open_model(&g, path);
    const struct bn_gguf_kv *from = bn_gguf_find(&demo, "tokenizer.ggml.merges"),
                            *to = bn_gguf_find(&g, "tokenizer.ggml.merges");
    assert_int_equal(to->count, from->count);
    assert_memory_equal(to->value, from->value, 4096);
    assert_int_equal(bn_gguf_tensor(&g, "token_embd.weight")->ne[1], 1024);
    assert_int_equal(bn_gguf_get_u32(&g, "tokenizer.ggml.bos_token_id", &id, &err), 1);
    assert_int_equal(id, 1022);
    bn_gguf_close(&g);

    open_model(&stories, "tests/data/stories260k-f16.gguf"); /* SentencePiece: scores, no merges */
    synth.vocabulary = &stories;
    write_model(path, &synth);
    open_model(&g, path);
    assert_null(bn_gguf_find(&g, "tokenizer.ggml.merges"));
    assert_memory_equal(bn_gguf_find(&g, "tokenizer.ggml.scores")->value,
                        bn_gguf_find(&stories, "tokenizer.ggml.scores")->value, 4 * 512);
    synth.vocabulary = &g; /* fine as well */
    write_model(other_path, &synth);
    bn_gguf_close(&g);
    bn_gguf_close(&stories);
    bn_gguf_close(&demo);
}

static void test_repeatable(void **state)
{
    struct bn_synth synth = {.shape = &narrow, .wtype = BN_TYPE_BF16, .etype = BN_TYPE_F32, .seed = 7};
    struct bn_map a, b;
    struct bn_err err;

    (void)state;
    write_model(path, &synth);
    write_model(other_path, &synth);
    assert_int_equal(bn_map_open(&a, path, &err), 0);
    assert_int_equal(bn_map_open(&b, other_path, &err), 0);
    assert_int_equal(a.n, b.n);
    assert_memory_equal(a.p, b.p, a.n);
    bn_map_close(&b);
    synth.seed = 8;
    write_model(other_path, &synth);
    assert_int_equal(bn_map_open(&b, other_path, &err), 0);
    assert_int_equal(a.n, b.n);
    assert_true(memcmp(a.p, b.p, a.n) != 0);
    bn_map_close(&b);
    bn_map_close(&a);
}

/* Codes 0, 1, 2 as a quarter, a half and a quarter; 3 never. */
static void test_codes(void **state)
{
    uint64_t counts[4] = {0};
    struct bn_gguf g;

    (void)state;
    write_model(path, &(struct bn_synth){.shape = &narrow, .wtype = BN_TYPE_I2_S, .etype = BN_TYPE_F16});
    open_model(&g, path);
    const struct bn_tensor *t = bn_gguf_tensor(&g, "blk.0.ffn_up.weight");
    for (uint64_t i = 0; i < t->size_bytes - 32; i++)
        for (int shift = 0; shift < 8; shift += 2)
            counts[t->data[i] >> shift & 3]++;
    assert_int_equal(counts[0] + counts[1] + counts[2], 128 * 256);
    assert_int_equal(counts[3], 0);
    assert_in_range(counts[0], 7000, 9400);
    assert_in_range(counts[1], 15200, 17600);
    float scale;
    memcpy(&scale, t->data + t->size_bytes - 32, sizeof scale);
    assert_true(scale > 0.01f && scale < 10);
    bn_gguf_close(&g);
}

/* The root mean square of a tensor's weights, by the formats' definitions. */
static double deviation_of(const struct bn_gguf *g, const char *name)
{
    const struct bn_tensor *t = bn_gguf_tensor(g, name);
    uint64_t n = t->ne[0] * t->ne[1];
    uint8_t *codes = malloc(n);
    uint16_t *scales = malloc(n / 32 * sizeof *scales);
    bool whole = t->type == BN_TYPE_I2_S || t->type == BN_TYPE_QK256;
    size_t block = t->type == BN_TYPE_BITNET32 ? 32 : 256;
    struct bn_kernels kernels;
    float scale = 1;
    double sum = 0;

    bn_kernels_init(&kernels, 0);
    if (whole)
        bn_unpack_i2s(t->data, codes, n);
    else
        (t->type == BN_TYPE_BITNET32 ? bn_unpack_bitnet32
         : t->type == BN_TYPE_TQ1_0  ? bn_unpack_tq1_0
                                     : bn_unpack_tq2_0)(t->data, codes, scales, n);
    if (t->type == BN_TYPE_I2_S)
        memcpy(&scale, t->data + n / 4, sizeof scale);
    if (t->type == BN_TYPE_QK256)
        memcpy(&scale, bn_gguf_tensor(g, "blk.0.ffn_up.scale")->data, sizeof scale);
    for (uint64_t i = 0; i < n; i++) {
        assert_true(codes[i] < (t->type == BN_TYPE_BITNET32 ? 4 : 3));
        if (!whole)
            kernels.f16_to_f32(&scales[i / block], &scale, 1);
        sum += pow((codes[i] - 1) * (double)scale, 2);
    }
    free(scales);
    free(codes);
    return sqrt(sum / (double)n);
}

/* All ternary formats have weights of the same size. */
static void test_ternary_formats(void **state)
{
    static const uint32_t types[] = {BN_TYPE_QK256, BN_TYPE_BITNET32, BN_TYPE_TQ1_0, BN_TYPE_TQ2_0};
    struct bn_gguf g;

    (void)state;
    struct bn_synth_shape wide = narrow;
    wide.n_embd = 512;
    wide.n_ff = 256;
    write_model(path, &(struct bn_synth){.shape = &wide, .wtype = BN_TYPE_I2_S, .etype = BN_TYPE_F16});
    open_model(&g, path);
    double expected = deviation_of(&g, "blk.0.ffn_up.weight");
    bn_gguf_close(&g);
    for (size_t i = 0; i < BN_COUNT(types); i++) {
        write_model(path, &(struct bn_synth){.shape = &wide, .wtype = types[i], .etype = BN_TYPE_F16});
        open_model(&g, path);
        assert_int_equal(bn_gguf_tensor(&g, "blk.0.ffn_up.weight")->type, types[i]);
        double deviation = deviation_of(&g, "blk.0.ffn_up.weight");
        print_message("# %s: %.4f, I2_S %.4f\n", bn_type_name(types[i]), deviation, expected);
        /* the scale tensor of QK256 draws a size of its own: 0.85 ... 1.15 */
        assert_true(fabs(deviation / expected - 1) < (types[i] == BN_TYPE_QK256 ? 0.4 : 0.03));
        bn_gguf_close(&g);
    }
}

static bool stop_at_once(void *ctx, uint64_t done, uint64_t total)
{
    *(int *)ctx += done <= total;
    return false;
}

/* Blocks hold values of the deviation that floats have; the same file on every CPU is checkkernel's affair.
 */
static void test_blocks(void **state)
{
    static const uint32_t types[] = {BN_TYPE_F32, BN_TYPE_Q8_0, BN_TYPE_Q6_K, BN_TYPE_Q4_K, BN_TYPE_Q4_0};
    struct bn_synth_shape shape = narrow;
    struct bn_kernels kernels;
    double expected = 0;

    (void)state;
    shape.n_embd = 256;
    bn_kernels_init(&kernels, 0);
    for (size_t t = 0; t < BN_COUNT(types); t++) {
        struct bn_gguf g;
        write_model(path, &(struct bn_synth){.shape = &shape, .wtype = types[t], .etype = types[t]});
        open_model(&g, path);
        const struct bn_tensor *tensor = bn_gguf_tensor(&g, "token_embd.weight");
        size_t n = tensor->ne[0] * tensor->ne[1];
        float *values = bn_xcalloc(n, sizeof *values);
        assert_int_equal(tensor->type, types[t]);
        if (types[t] == BN_TYPE_F32)
            memcpy(values, tensor->data, n * sizeof *values);
        else
            bn_block_to_f32(&kernels, types[t], tensor->data, values, n);
        double sum = 0, square = 0;
        for (size_t i = 0; i < n; i++) {
            sum += (double)values[i];
            square += (double)values[i] * (double)values[i];
        }
        double deviation = sqrt(square / (double)n);
        expected = t == 0 ? deviation : expected;
        assert_true(fabs(deviation / expected - 1) < 0.02); /* 76,800 values: 0.3 % by chance */
        assert_true(fabs(sum / (double)n) < 0.02 * deviation);
        assert_int_equal(bn_gguf_tensor(&g, "blk.3.ffn_down.weight")->type, types[t]);
        free(values);
        bn_gguf_close(&g);
    }
}

static void test_refused(void **state)
{
    struct bn_synth synth = {.shape = bn_synth_shape("3b"), .wtype = BN_TYPE_I2_S, .etype = BN_TYPE_F16};
    struct bn_err err;
    struct stat st;
    struct bn_gguf empty;
    static const char no_keys[] = "GGUF\3\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0";
    int calls = 0;

    (void)state;
    unlink(path);
    assert_int_equal(bn_synth_write(path, &synth, &err), -1);
    assert_non_null(strstr(err.msg, "8640 values, but i2_s needs multiples of 128"));
    synth.shape = &narrow;
    synth.etype = BN_TYPE_I2_S;
    assert_int_equal(bn_synth_check(&synth, &err), -1);
    synth.etype = BN_TYPE_F32;
    synth.wtype = BN_TYPE_Q5_0;
    assert_int_equal(bn_synth_check(&synth, &err), -1);
    synth.wtype = BN_TYPE_Q4_K;
    assert_int_equal(bn_synth_check(&synth, &err), -1);
    assert_non_null(strstr(err.msg, "rows of 128 values, but q4_k needs multiples of 256"));
    synth.wtype = BN_TYPE_F32;
    assert_int_equal(bn_gguf_open_memory(&empty, no_keys, sizeof no_keys, "empty.gguf", &err), 0);
    synth.vocabulary = &empty;
    assert_int_equal(bn_synth_write(path, &synth, &err), -1);
    assert_string_equal(err.msg,
                        "empty.gguf: key tokenizer.ggml.tokens expected: the file has no vocabulary");
    bn_gguf_close(&empty);
    synth.vocabulary = NULL;
    synth.progress = stop_at_once;
    synth.ctx = &calls;
    assert_int_equal(bn_synth_write(path, &synth, &err), -1);
    assert_non_null(strstr(err.msg, "stopped after"));
    assert_true(calls > 0);
    assert_int_equal(stat(path, &st), -1);
}

static void test_shapes(void **state)
{
    (void)state;
    assert_int_equal(bn_synth_shape("2b4t")->n_ff, 6912);
    assert_null(bn_synth_shape("4b"));
    assert_ptr_equal(bn_synth_shape_at(0), bn_synth_shape("2b4t"));
    assert_null(bn_synth_shape_at(5));
}

static int set_up(void **state)
{
    (void)state;
    if (!mkdtemp(folder))
        return -1;
    snprintf(path, sizeof path, "%s/a.gguf", folder);
    snprintf(other_path, sizeof other_path, "%s/b.gguf", folder);
    return 0;
}

static int tear_down(void **state)
{
    (void)state;
    unlink(path);
    unlink(other_path);
    return rmdir(folder); /* fails when a test left something behind */
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_order),
        cmocka_unit_test(test_keys),
        cmocka_unit_test(test_made_up_vocabulary),
        cmocka_unit_test(test_copied_vocabulary),
        cmocka_unit_test(test_repeatable),
        cmocka_unit_test(test_codes),
        cmocka_unit_test(test_blocks),
        cmocka_unit_test(test_ternary_formats),
        cmocka_unit_test(test_refused),
        cmocka_unit_test(test_shapes),
    };
    return cmocka_run_group_tests_name("synth", tests, set_up, tear_down);
}
