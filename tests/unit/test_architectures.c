/* SPDX-License-Identifier: MIT
 * Random models of every architecture, weight type and option against the double-precision reference. */
#include "core/gguf_write.h"
#include "core/scope.h"
#include "core/synth.h"
#include "tests/unit/engine.h"

#include <unistd.h>

static char path[300], changed_path[300];

static const struct bn_synth_shape shape = {.name = "test",
                                            .what = "a test's",
                                            .model_name = "test",
                                            .n_layer = 2,
                                            .n_embd = 256,
                                            .n_ff = 512,
                                            .n_head = 4,
                                            .n_head_kv = 2,
                                            .n_vocab = 300,
                                            .n_ctx = 64,
                                            .rope_base = 10000.0f};

static void write_model(const char *arch, uint32_t wtype, uint32_t etype, bool tied)
{
    struct bn_synth_shape s = shape;
    struct bn_err err;

    s.arch = arch;
    s.tied = tied;
    s.wtype = wtype;
    if (bn_synth_write(path, &(struct bn_synth){.shape = &s, .wtype = wtype, .etype = etype, .seed = 1},
                       &err) != 0)
        fail_msg("%s", err.msg);
}

static void test_architectures_and_types(void **state)
{
    static const char *const archs[] = {"bitnet-b1.58", "bitnet-25", "bitnet", "llama"};
    static const uint32_t types[] = {BN_TYPE_I2_S, BN_TYPE_F16, BN_TYPE_BF16, BN_TYPE_F32};

    (void)state;
    for (size_t a = 0; a < BN_COUNT(archs); a++) {
        for (size_t t = 0; t < BN_COUNT(types); t++) {
            uint32_t etype = types[1 + (a + t) % 3]; /* embedding and output matrix: no I2_S */
            write_model(archs[a], types[t], etype, (a + t) % 2);
            print_message("# %s, %s, embedding %s\n", archs[a], bn_type_name(types[t]), bn_type_name(etype));
            check_error(path, 16, types[t] == BN_TYPE_I2_S ? ternary_bound : float_bound);
        }
    }
}

/* Weights in blocks take activations of 8 bits a block. Most runs agree to 1e-6; where one code is rounded to
 * the other side those after it are, too, and the difference is as large as the quantisation's own noise,
 * some tenths of a percent a product, for the worst of all logits (measured: 4.2e-2 at most). */
static const double block_bound = 1e-1;

static void test_block_formats(void **state)
{
    static const uint32_t types[] = {BN_TYPE_Q8_0, BN_TYPE_Q4_0, BN_TYPE_Q6_K, BN_TYPE_Q4_K};

    (void)state;
    for (size_t t = 0; t < BN_COUNT(types); t++) {
        for (size_t e = 0; e < BN_COUNT(types); e++) {
            write_model(e % 2 ? "llama" : "bitnet-b1.58", types[t], types[(t + e) % BN_COUNT(types)], e < 2);
            print_message("# %s, embedding %s\n", bn_type_name(types[t]),
                          bn_type_name(types[(t + e) % BN_COUNT(types)]));
            check_error(path, 16, block_bound);
        }
    }
}

/* ---- options: a copy of a model with something added ---- */

struct addition {
    const char *key; /* u32, after the architecture */
    uint32_t value;
    const char *tensor; /* F32 … */
    uint64_t n;         /* … of this length … */
    float from, step;   /* … with these values */
};

static void copy_key(struct bn_gguf_writer *w, const struct bn_gguf *g, const struct bn_gguf_kv *kv)
{
    char key[200];
    uint32_t u32;
    float f32;
    bool boolean;
    struct bn_str text;

    snprintf(key, sizeof key, "%.*s", (int)kv->key.n, kv->key.p);
    if (kv->kind == BN_GGUF_U32 && bn_gguf_get_u32(g, key, &u32, NULL) == 1)
        bn_gguf_write_u32(w, key, u32);
    if (kv->kind == BN_GGUF_F32 && bn_gguf_get_f32(g, key, &f32, NULL) == 1)
        bn_gguf_write_f32(w, key, f32);
    if (kv->kind == BN_GGUF_BOOL && bn_gguf_get_bool(g, key, &boolean, NULL) == 1)
        bn_gguf_write_bool(w, key, boolean);
    if (kv->kind == BN_GGUF_STRING && bn_gguf_get_str(g, key, &text, NULL) == 1)
        bn_gguf_write_str(w, key, text);
}

static bool replaced(const struct bn_gguf_kv *kv, const char *key)
{
    char name[200];

    snprintf(name, sizeof name, "%.*s", (int)kv->key.n, kv->key.p);
    return key && strcmp(name, key) == 0;
}

/* path -> changed_path; arrays (the vocabulary) stay behind, the model does not need them. */
static void copy_with(const struct addition *add)
{
    struct bn_gguf g;
    struct bn_err err;
    struct bn_str arch = {"", 0};
    char key[200] = "";

    assert_int_equal(bn_gguf_open(&g, path, &err), 0);
    bn_gguf_get_str(&g, "general.architecture", &arch, &err);
    if (add->key)
        snprintf(key, sizeof key, "%.*s.%s", (int)arch.n, arch.p, add->key);
    struct bn_gguf_writer *w = bn_gguf_writer_open(changed_path, &err);
    for (uint64_t i = 0; i < g.n_kv; i++) {
        if (!replaced(&g.kv[i], key))
            copy_key(w, &g, &g.kv[i]);
    }
    if (add->key)
        bn_gguf_write_u32(w, key, add->value);
    for (uint64_t i = 0; i < g.n_tensors; i++) {
        const struct bn_tensor *t = &g.tensors[i];
        char name[200];
        snprintf(name, sizeof name, "%.*s", (int)t->name.n, t->name.p);
        bn_gguf_write_tensor(w, name, t->type, t->ne[0], t->ne[1]);
    }
    if (add->tensor)
        bn_gguf_write_tensor(w, add->tensor, BN_TYPE_F32, add->n, 1);
    bn_gguf_write_begin_data(w);
    for (uint64_t i = 0; i < g.n_tensors; i++)
        bn_gguf_write_data(w, g.tensors[i].data, g.tensors[i].size_bytes);
    for (uint64_t i = 0; add->tensor && i < add->n; i++) {
        float value = add->from + add->step * (float)i;
        bn_gguf_write_data(w, &value, sizeof value);
    }
    if (bn_gguf_writer_close(w, &err) != 0)
        fail_msg("%s", err.msg);
    bn_gguf_close(&g);
}

/* The same model with the addition agrees with the reference, and the addition makes a difference. */
static void check_addition(const char *what, struct addition add, double bound)
{
    struct engine plain, changed;
    uint32_t tokens[24];

    copy_with(&add);
    print_message("# %s\n", what);
    check_error(changed_path, 16, bound);
    open_engine(&plain, path, bn_cpu_detect(), 1);
    open_engine(&changed, changed_path, bn_cpu_detect(), 1);
    fill_tokens(tokens, BN_COUNT(tokens), plain.model.n_vocab);
    float *a = logits_after(&plain, tokens, BN_COUNT(tokens), 64),
          *b = logits_after(&changed, tokens, 24, 64);
    assert_memory_not_equal(a, b, plain.model.n_vocab * sizeof *a);
    free(a);
    free(b);
    close_engine(&plain);
    close_engine(&changed);
}

static void test_options(void **state)
{
    (void)state;
    write_model("bitnet", BN_TYPE_I2_S, BN_TYPE_F16, true);
    check_addition("a scale tensor",
                   (struct addition){.tensor = "blk.1.attn_output.scale", .n = 1, .from = 1.75f},
                   ternary_bound);
    check_addition("a bias",
                   (struct addition){.tensor = "blk.0.ffn_down.bias", .n = 256, .from = -1.0f, .step = 0.01f},
                   ternary_bound);
    write_model("bitnet-b1.58", BN_TYPE_F32, BN_TYPE_F32, false);
    check_addition("half of a head rotated", (struct addition){.key = "rope.dimension_count", .value = 32},
                   float_bound);
    write_model("llama", BN_TYPE_F16, BN_TYPE_F32, false);
    check_addition("half of a head rotated, interleaved",
                   (struct addition){.key = "rope.dimension_count", .value = 32}, float_bound);
    check_addition("rotation slowed down",
                   (struct addition){.tensor = "rope_freqs.weight", .n = 32, .from = 1.0f, .step = 0.25f},
                   float_bound);
    check_addition("biased keys",
                   (struct addition){.tensor = "blk.1.attn_k.bias", .n = 128, .from = -0.5f, .step = 0.01f},
                   float_bound);
}

/* A batch and single tokens, one thread and three: the same bits also for these. */
static void test_same_bits(void **state)
{
    static const uint32_t types[] = {BN_TYPE_I2_S, BN_TYPE_BF16, BN_TYPE_F32, BN_TYPE_Q8_0,
                                     BN_TYPE_Q4_0, BN_TYPE_Q6_K, BN_TYPE_Q4_K};
    uint32_t tokens[64];
    struct engine e;

    (void)state;
    for (size_t t = 0; t < BN_COUNT(types); t++) {
        write_model("llama", types[t], t < 3 ? BN_TYPE_BF16 : types[t], false);
        open_engine(&e, path, bn_cpu_detect(), 1);
        fill_tokens(tokens, BN_COUNT(tokens), e.model.n_vocab);
        float *one = logits_after(&e, tokens, BN_COUNT(tokens), 1), *all = logits_after(&e, tokens, 64, 64);
        assert_memory_equal(one, all, e.model.n_vocab * sizeof *one);
        free(all);
        close_engine(&e);
        open_engine(&e, path, bn_cpu_detect(), 3);
        all = logits_after(&e, tokens, BN_COUNT(tokens), 17);
        assert_memory_equal(one, all, e.model.n_vocab * sizeof *one);
        free(one);
        free(all);
        close_engine(&e);
    }
}

static int remove_files(void **state)
{
    (void)state;
    unlink(path);
    unlink(changed_path);
    return 0;
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_architectures_and_types),
        cmocka_unit_test(test_block_formats),
        cmocka_unit_test(test_options),
        cmocka_unit_test(test_same_bits),
    };
    const char *folder = getenv("TEST_TMP") ? getenv("TEST_TMP") : "/tmp";

    snprintf(path, sizeof path, "%s/architectures-%d.gguf", folder, (int)getpid());
    snprintf(changed_path, sizeof changed_path, "%s/architectures-%d-changed.gguf", folder, (int)getpid());
    bn_scope_init();
    return cmocka_run_group_tests(tests, NULL, remove_files);
}
