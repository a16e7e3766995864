/* SPDX-License-Identifier: MIT
 * Loading models: what is read, and that each thing that is wrong with a file is refused with a line that
 * says where. */
#include "core/model.h"

#include <math.h>
#include <regex.h>
#include <setjmp.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "core/builtin.h"
#include "core/gguf_write.h"

/* ---- a small model file with one thing changed ---- */

enum { EMBD = 128, FF = 256, HEADS = 2, HEADS_KV = 1, VOCAB = 16, LAYERS = 2, MAX_TENSORS = 40 };

struct tensor {
    char name[64];
    uint32_t type;
    uint64_t ne0, ne1;
};

struct file {
    const char *arch;
    bool sub_norms;
    /* changes; NULL or 0 = none */
    const char *key; /* this key (without the architecture) … */
    int64_t value;   /* … gets this value; -1: it is left out */
    const char *text_key, *text;
    float rope_scale;   /* rope.scaling.factor */
    uint64_t ff;        /* width of the feed-forward tensors and their key, default FF */
    const char *tensor; /* this tensor … */
    uint32_t type;      /* … has this type plus one */
    uint64_t ne0, ne1;  /* … or these dimensions */
    bool missing;       /* … or is not there */
    const char *extra;  /* one more tensor, F32 … */
    uint64_t extra_n;   /* … of this length … */
    float extra_value;  /* … and value */
    float scale;        /* of the I2_S tensors, default 0.5 */
    float norm;         /* value of the norms, default 1 */
};

struct tensors {
    struct tensor t[MAX_TENSORS];
    size_t n;
};

static void add(struct tensors *all, const struct file *f, const char *name, uint32_t type, uint64_t ne0,
                uint64_t ne1)
{
    struct tensor *t = &all->t[all->n];
    bool changed = f->tensor && strcmp(f->tensor, name) == 0;

    assert_true(all->n < MAX_TENSORS);
    if (changed && f->missing)
        return;
    snprintf(t->name, sizeof t->name, "%s", name);
    t->type = changed && f->type ? f->type - 1 : type;
    t->ne0 = changed && f->ne0 ? f->ne0 : ne0;
    t->ne1 = changed && f->ne1 ? f->ne1 : ne1;
    all->n++;
}

static uint64_t wide(const struct file *f, uint64_t ne)
{
    return ne == FF && f->ff ? f->ff : ne;
}

static void list_tensors(struct tensors *all, const struct file *f)
{
    static const struct {
        const char *name;
        bool sub_norm, matrix;
        uint64_t ne0, ne1;
    } layer[] = {
        {"attn_norm", false, false, EMBD, 1},        {"attn_sub_norm", true, false, EMBD, 1},
        {"ffn_norm", false, false, EMBD, 1},         {"ffn_sub_norm", true, false, FF, 1},
        {"attn_q", false, true, EMBD, EMBD},         {"attn_k", false, true, EMBD, EMBD / HEADS},
        {"attn_v", false, true, EMBD, EMBD / HEADS}, {"attn_output", false, true, EMBD, EMBD},
        {"ffn_gate", false, true, EMBD, FF},         {"ffn_up", false, true, EMBD, FF},
        {"ffn_down", false, true, FF, EMBD},
    };

    add(all, f, "token_embd.weight", BN_TYPE_F16, EMBD, VOCAB);
    for (int i = 0; i < LAYERS; i++) {
        for (size_t k = 0; k < BN_COUNT(layer); k++) {
            char name[64];
            snprintf(name, sizeof name, "blk.%d.%s.weight", i, layer[k].name);
            if (!layer[k].sub_norm || f->sub_norms)
                add(all, f, name, layer[k].matrix ? BN_TYPE_I2_S : BN_TYPE_F32, wide(f, layer[k].ne0),
                    wide(f, layer[k].ne1));
        }
    }
    add(all, f, "output_norm.weight", BN_TYPE_F32, EMBD, 1);
    if (f->extra)
        add(all, f, f->extra, BN_TYPE_F32, f->extra_n, 1);
}

static void write_data(struct bn_gguf_writer *w, const struct file *f, const struct tensor *t)
{
    float value = f->extra && strcmp(t->name, f->extra) == 0 ? f->extra_value : f->norm;
    uint64_t bytes;

    assert_int_equal(bn_type_bytes(t->type, t->ne0, t->ne1, &bytes), 0);
    uint8_t *data = bn_xcalloc(bytes + 1, 1);
    if (t->type == BN_TYPE_I2_S) {
        memset(data, 0x55, bytes - 32);
        memcpy(data + bytes - 32, &f->scale, sizeof f->scale);
    }
    for (uint64_t i = 0; t->type == BN_TYPE_F32 && i < bytes; i += 4)
        memcpy(data + i, &value, 4);
    bn_gguf_write_data(w, data, bytes);
    free(data);
}

static void write_u32(struct bn_gguf_writer *w, const struct file *f, const char *key, uint32_t value)
{
    char full[128];

    snprintf(full, sizeof full, "%s.%s", f->arch, key);
    if (f->key && strcmp(f->key, key) == 0) {
        if (f->value < 0)
            return;
        value = (uint32_t)f->value;
    }
    bn_gguf_write_u32(w, full, value);
}

static bool is_standard(const char *key)
{
    static const char *const keys[] = {
        "vocab_size",          "context_length",       "embedding_length",       "block_count",
        "feed_forward_length", "attention.head_count", "attention.head_count_kv"};

    for (size_t i = 0; i < BN_COUNT(keys); i++) {
        if (strcmp(keys[i], key) == 0)
            return true;
    }
    return false;
}

static void write_keys(struct bn_gguf_writer *w, const struct file *f)
{
    char full[128];

    bn_gguf_write_str(w, "general.architecture", bn_str_from(f->arch));
    write_u32(w, f, "vocab_size", VOCAB);
    write_u32(w, f, "context_length", 32);
    write_u32(w, f, "embedding_length", EMBD);
    write_u32(w, f, "block_count", LAYERS);
    write_u32(w, f, "feed_forward_length", (uint32_t)wide(f, FF));
    write_u32(w, f, "attention.head_count", HEADS);
    write_u32(w, f, "attention.head_count_kv", HEADS_KV);
    snprintf(full, sizeof full, "%s.attention.layer_norm_rms_epsilon", f->arch);
    if (!f->key || strcmp(f->key, "attention.layer_norm_rms_epsilon") != 0)
        bn_gguf_write_f32(w, full, 1e-5f);
    if (f->key && f->value >= 0 && !is_standard(f->key))
        write_u32(w, f, f->key, 0);
    snprintf(full, sizeof full, "%s.rope.scaling.factor", f->arch);
    if (f->rope_scale != 0.0f)
        bn_gguf_write_f32(w, full, f->rope_scale);
    if (f->text_key) {
        snprintf(full, sizeof full, "%s.%s", f->arch, f->text_key);
        bn_gguf_write_str(w, full, bn_str_from(f->text));
    }
}

static const char *write_file(struct file f)
{
    static char path[256];
    struct tensors all = {.n = 0};
    struct bn_err err;
    const char *folder = getenv("TEST_TMP");

    snprintf(path, sizeof path, "%s/test_model-%d.gguf", folder ? folder : "/tmp", (int)getpid());
    f.scale = f.scale == 0.0f ? 0.5f : f.scale;
    f.norm = f.norm == 0.0f ? 1.0f : f.norm;
    list_tensors(&all, &f);
    struct bn_gguf_writer *w = bn_gguf_writer_open(path, &err);
    write_keys(w, &f);
    for (size_t i = 0; i < all.n; i++)
        bn_gguf_write_tensor(w, all.t[i].name, all.t[i].type, all.t[i].ne0, all.t[i].ne1);
    bn_gguf_write_begin_data(w);
    for (size_t i = 0; i < all.n; i++)
        write_data(w, &f, &all.t[i]);
    assert_int_equal(bn_gguf_writer_close(w, &err), 0);
    return path;
}

static void refused(struct file f, const char *pattern)
{
    const char *path = write_file(f);
    struct bn_model m;
    struct bn_err err;
    regex_t re;

    assert_int_equal(bn_model_load(&m, path, &err), -1);
    assert_int_equal(strncmp(err.msg, path, strlen(path)), 0); /* the file comes first */
    assert_int_equal(regcomp(&re, pattern, REG_EXTENDED | REG_NOSUB), 0);
    if (regexec(&re, err.msg + strlen(path), 0, NULL, 0) != 0)
        fail_msg("'%s' does not match /%s/", err.msg, pattern);
    regfree(&re);
    bn_model_close(&m); /* closed already: harmless */
    unlink(path);
}

static void accepted(struct file f, struct bn_model *m)
{
    const char *path = write_file(f);
    struct bn_err err;

    if (bn_model_load(m, path, &err) != 0)
        fail_msg("%s", err.msg);
    unlink(path); /* the mapping stays */
}

#define FILE_OF(...) ((struct file){.arch = "bitnet-b1.58", .sub_norms = true, __VA_ARGS__})

/* ---- what is read ---- */

static void test_builtin(void **state)
{
    struct bn_str bytes = bn_builtin_model();
    struct bn_model m;
    struct bn_err err;

    (void)state;
    assert_int_equal(bn_model_load_memory(&m, bytes.p, bytes.n, BN_BUILTIN_LABEL, &err), 0);
    assert_string_equal(m.arch, "bitnet-b1.58");
    assert_string_equal(m.name, "tiny-bitnet-b1.58");
    assert_string_equal(m.format, "i2s");
    assert_int_equal(m.activation, BN_ACTIVATION_RELU2);
    assert_int_equal(m.rope, BN_ROPE_NEOX);
    assert_int_equal(m.n_layer, 4);
    assert_int_equal(m.n_embd, 256);
    assert_int_equal(m.n_ff, 768);
    assert_int_equal(m.n_head, 4);
    assert_int_equal(m.n_head_kv, 2);
    assert_int_equal(m.head_dim, 64);
    assert_int_equal(m.n_rot, 64);
    assert_int_equal(m.n_vocab, 1024);
    assert_int_equal(m.n_ctx, 256);
    assert_true(m.rope_base == 10000.0f && m.norm_eps == 1e-5f);
    assert_ptr_equal(m.lm_head.data, m.embedding.data);
    assert_int_equal(m.layers[3].down.k, 768);
    assert_int_equal(m.layers[3].down.n_rows, 256);
    assert_true(bn_model_is_ternary(&m));
    /* all weights, the embedding as output matrix, and one row of it as input */
    assert_int_equal(m.bytes_per_token, m.weight_bytes + 512);
    bn_model_close(&m);
    bn_model_close(&m);
}

static void test_architectures(void **state)
{
    struct bn_model m;

    (void)state;
    accepted((struct file){.arch = "bitnet-25", .sub_norms = true}, &m);
    assert_int_equal(m.activation, BN_ACTIVATION_RELU2);
    assert_int_equal(m.rope, BN_ROPE_NEOX);
    bn_model_close(&m);
    accepted((struct file){.arch = "bitnet", .sub_norms = true}, &m);
    assert_int_equal(m.activation, BN_ACTIVATION_SILU);
    assert_int_equal(m.rope, BN_ROPE_NEOX);
    assert_non_null(m.layers[1].ffn_sub_norm);
    bn_model_close(&m);
    accepted((struct file){.arch = "llama"}, &m);
    assert_int_equal(m.activation, BN_ACTIVATION_SILU);
    assert_int_equal(m.rope, BN_ROPE_NORM);
    assert_null(m.layers[1].ffn_sub_norm);
    assert_null(m.layers[1].attn_sub_norm);
    bn_model_close(&m);
    refused((struct file){.arch = "qwen2"},
            "architecture 'qwen2' is not supported \\(bitnet-b1.58.*llama expected");
}

static void test_optional_parts(void **state)
{
    struct bn_model m;

    (void)state;
    accepted(FILE_OF(.extra = "output.weight", .extra_n = EMBD * VOCAB, .tensor = "output.weight",
                     .ne0 = EMBD, .ne1 = VOCAB),
             &m);
    assert_ptr_not_equal(m.lm_head.data, m.embedding.data);
    assert_int_equal(m.lm_head.type, BN_TYPE_F32);
    assert_int_equal(m.bytes_per_token, m.weight_bytes - EMBD * VOCAB * 2 + EMBD * 2);
    bn_model_close(&m);
    accepted(FILE_OF(.extra = "blk.1.attn_q.scale", .extra_n = 1, .extra_value = 0.25f), &m);
    assert_true(m.layers[1].q.extra_scale == 0.25f && m.layers[0].q.extra_scale == 1.0f);
    bn_model_close(&m);
    accepted(FILE_OF(.extra = "blk.0.ffn_down.bias", .extra_n = EMBD, .extra_value = 3.0f), &m);
    assert_true(m.layers[0].down.bias[EMBD - 1] == 3.0f);
    assert_null(m.layers[1].down.bias);
    bn_model_close(&m);
    accepted(FILE_OF(.extra = "rope_freqs.weight", .extra_n = 32, .extra_value = 2.0f), &m);
    assert_true(m.rope_factors[31] == 2.0f);
    bn_model_close(&m);
    accepted(FILE_OF(.key = "rope.dimension_count", .value = 32), &m);
    assert_int_equal(m.n_rot, 32);
    bn_model_close(&m);
    accepted(FILE_OF(.key = "vocab_size", .value = -1), &m);
    assert_int_equal(m.n_vocab, VOCAB);
    bn_model_close(&m);
    accepted(FILE_OF(.text_key = "rope.scaling.type", .text = "linear"), &m);
    assert_true(m.rope_base == 10000.0f);
    bn_model_close(&m);
}

static void test_weight_types(void **state)
{
    static const uint32_t types[] = {BN_TYPE_F16, BN_TYPE_BF16, BN_TYPE_F32, BN_TYPE_I2_S};
    struct bn_model m;

    (void)state;
    for (size_t i = 0; i < BN_COUNT(types); i++) {
        accepted(FILE_OF(.tensor = "blk.1.ffn_up.weight", .type = types[i] + 1), &m);
        assert_int_equal(m.layers[1].up.type, types[i]);
        assert_true(m.layers[1].up.scale == (types[i] == BN_TYPE_I2_S ? 0.5f : 1.0f));
        bn_model_close(&m);
    }
}

/* ---- what is refused ---- */

static void test_bad_keys(void **state)
{
    (void)state;
    refused(FILE_OF(.key = "context_length", .value = -1), ": key bitnet-b1.58.context_length is missing");
    refused(FILE_OF(.key = "attention.layer_norm_rms_epsilon", .value = -1),
            "layer_norm_rms_epsilon is missing");
    refused(FILE_OF(.key = "block_count", .value = 0), "block_count is 0, expected 1 to");
    refused(FILE_OF(.key = "block_count", .value = 3), "tensor blk.2.attn_norm.weight is missing");
    refused(FILE_OF(.key = "block_count", .value = 4000), "4000 blocks in the metadata, but only 24 tensors");
    refused(FILE_OF(.key = "block_count", .value = 1), "tensor blk.1.attn_norm.weight is not known");
    refused(FILE_OF(.key = "embedding_length", .value = 4294967295),
            "embedding_length is 4294967295, expected 1 to");
    refused(FILE_OF(.key = "embedding_length", .value = 256),
            "token_embd.weight: shape 128 x 16, expected 256 x 16");
    refused(FILE_OF(.key = "feed_forward_length", .value = 128),
            "ffn_sub_norm.weight: shape 256 x 1, expected 128");
    refused(FILE_OF(.key = "attention.head_count", .value = 0), "head_count is 0, expected 1 to");
    refused(FILE_OF(.key = "attention.head_count_kv", .value = 3), "head_count_kv is 3, expected 1 to 2");
    refused(FILE_OF(.key = "attention.head_count_kv", .value = -1),
            "attn_k.weight: shape 128 x 64, expected 128 x 128");
    refused(FILE_OF(.key = "attention.head_count", .value = 3),
            "n_sub_norm.weight: shape 128 x 1, expected 126 x 1");
    refused(FILE_OF(.key = "attention.value_length", .value = 32), "values of 32 and keys of 64 a head");
    refused(FILE_OF(.key = "rope.dimension_count", .value = 65), "dimension_count is 65, expected 1 to 64");
    refused(FILE_OF(.key = "rope.dimension_count", .value = 31), "31 is odd");
    refused(FILE_OF(.rope_scale = 4.0f), "RoPE scaling by 4 is not supported");
    refused(FILE_OF(.text_key = "rope.scaling.type", .text = "yarn"),
            "'yarn' is not supported \\(none or linear");
    refused(FILE_OF(.key = "vocab_size", .value = 17), "vocab_size is 17, expected 16 to 16");
    refused(FILE_OF(.key = "expert_count", .value = 8),
            "mixtures of experts are not supported \\(8 experts\\)");
}

static void test_bad_tensors(void **state)
{
    (void)state;
    refused(FILE_OF(.tensor = "blk.1.attn_q.weight", .type = BN_TYPE_Q5_K + 1, .ne0 = 256),
            ": tensor blk.1.attn_q.weight: type Q5_K is not supported \\(I2_S, TQ1_0, TQ2_0, Q8_0, .*F16, "
            "F32 or BF16 "
            "expected\\)");
    refused(FILE_OF(.tensor = "token_embd.weight", .type = BN_TYPE_I2_S + 1),
            ": tensor token_embd.weight: type I2_S is not supported \\(Q8_0, .*F16, F32 or BF16 expected\\)");
    refused(FILE_OF(.tensor = "blk.0.attn_norm.weight", .type = BN_TYPE_F16 + 1),
            "type F16 is not supported \\(F32 exp");
    refused(FILE_OF(.tensor = "blk.1.ffn_down.weight", .missing = true),
            "tensor blk.1.ffn_down.weight is missing");
    refused(FILE_OF(.tensor = "token_embd.weight", .missing = true), "tensor token_embd.weight is missing");
    refused(FILE_OF(.tensor = "output_norm.weight", .missing = true), "tensor output_norm.weight is missing");
    refused(FILE_OF(.tensor = "blk.1.ffn_down.weight", .ne0 = 512), "shape 512 x 128, expected 256 x 128");
    refused((struct file){.arch = "bitnet-b1.58"}, "tensor blk.0.attn_sub_norm.weight is missing");
    refused((struct file){.arch = "llama", .sub_norms = true},
            "attn_sub_norm.weight is not known for architecture llama");
    refused(FILE_OF(.extra = "blk.0.attn_q_norm.weight", .extra_n = 64),
            "blk.0.attn_q_norm.weight is not known");
    refused(FILE_OF(.extra = "blk.0.attn_q.scale", .extra_n = 2),
            "attn_q.scale: shape 2 x 1, expected 1 x 1");
    refused(FILE_OF(.extra = "rope_freqs.weight", .extra_n = 32, .extra_value = -1.0f),
            "element 0 is -1, expected above");
}

static void test_bad_numbers(void **state)
{
    (void)state;
    refused(FILE_OF(.scale = -1.0f),
            "tensor blk.0.attn_q.weight: scale -1, expected a finite number above 0");
    refused(FILE_OF(.scale = NAN), "scale -?nan, expected a finite");
    refused(FILE_OF(.scale = INFINITY), "scale inf, expected a finite");
    refused(FILE_OF(.norm = NAN), "tensor output_norm.weight: element 0 is not finite");
}

/* Rows of ternary weights are whole blocks of 128. */
static void test_rows_of_ternary_weights(void **state)
{
    (void)state;
    refused(FILE_OF(.ff = 192),
            "blk.0.ffn_down.weight: rows of 192 I2_S weights, a multiple of 128 expected");
}

static void test_not_a_model(void **state)
{
    struct bn_model m;
    struct bn_err err;

    (void)state;
    assert_int_equal(bn_model_load(&m, "/nonexistent/model.gguf", &err), -1);
    assert_non_null(strstr(err.msg, "/nonexistent/model.gguf"));
    assert_int_equal(bn_model_load_memory(&m, "GGUF", 4, "short", &err), -1);
    assert_non_null(strstr(err.msg, "short"));
    bn_model_close(&m);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_builtin),        cmocka_unit_test(test_architectures),
        cmocka_unit_test(test_optional_parts), cmocka_unit_test(test_weight_types),
        cmocka_unit_test(test_bad_keys),       cmocka_unit_test(test_bad_tensors),
        cmocka_unit_test(test_bad_numbers),    cmocka_unit_test(test_rows_of_ternary_weights),
        cmocka_unit_test(test_not_a_model),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
